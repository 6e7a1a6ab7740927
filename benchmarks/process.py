"""What this process has held and done. Needs torch alone: the workers of other libraries import it, too."""

import resource
import sys
from pathlib import Path

import torch


def finish() -> None:
    """Wait until a GPU, where there is one, has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_memory() -> int:
    """Most bytes that this process has held at once: of the GPU's memory, or of the machine's without one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would count what the parent held before it started this process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def limit_memory(gib: float) -> None:
    """Have torch fail with an error, rather than the machine run out, when this process holds more; on Linux only.

    What counts is private memory that can be written to, so not the libraries.
    """
    if sys.platform == "linux":
        limit = int(gib * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
