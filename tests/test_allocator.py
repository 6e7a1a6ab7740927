"""Freed memory is found again, and not asked of the system anew."""

import platform
import subprocess
import sys

import pytest

# Blocks larger than 32 MiB: below that glibc learns to keep them by itself.
COUNT_FAULTS = """
import resource
import numpy as np
import torch
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.data.split import Cases
from seqdiffrec.evaluation import rank_targets

def work():
    torch.empty(12 * 2**20).fill_(1.0)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

work()
at_first = faults()
histories = Sequences(np.array([1], np.int32), np.array([0]), np.array([1]))
rank_targets(lambda _: torch.zeros(1, 2), Cases(np.array([0]), histories, np.array([2], np.int32)), 2)
work()
print(at_first, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such setting")
def test_after_a_ranking_freed_blocks_are_used_again() -> None:
    ran = subprocess.run([sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True)
    at_first, afterwards = map(int, ran.stdout.split())
    # Four times 48 MiB in pages of 4 KiB, or in fewer larger ones where the system gives such.
    assert afterwards < at_first / 4
