"""The C library's allocator, set for work that takes the same large blocks again and again."""

import ctypes
import platform
from functools import cache

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3


@cache
def keep_freed_memory() -> None:
    """Have freed memory kept for what comes next, for as long as the process runs; nothing where there is no glibc.

    By default glibc hands blocks of a few MiB back to the system when they are freed. Each training step, and each
    block of a test, then gets its tensors in fresh pages, which the system has to clear: docs/adr/0007.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    if not libc.mallopt(M_MMAP_THRESHOLD, 2**30):  # older versions take no more than 32 MiB
        libc.mallopt(M_MMAP_THRESHOLD, 2**25)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(M_TOP_PAD, 2**26)
