"""What the machine is, how fast it multiplies, and what a process takes of its memory."""

import os
import resource
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from seqdiffrec.training.provenance import code_revision, machine, versions


def describe(device: torch.device) -> dict[str, Any]:
    """Machine, versions, code revision, and how busy the machine was before the run."""
    return {
        "machine": {
            **machine(),
            "torch_threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "load_before": round(os.getloadavg()[0], 2),
        },
        "versions": versions(),
        "revision": code_revision(),
    }


def finish(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_rate(device: torch.device, size: int = 1536, repeats: int = 9) -> float:
    """FLOP/s of a product of two float32 matrices, size x size: the median of some, after a warm-up."""
    left, right = torch.randn(2, size, size, device=device)
    seconds: list[float] = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        left @ right
        finish(device)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / median(seconds[2:])


def peak_memory(device: torch.device) -> int:
    """Most bytes that this process has held at once: of the GPU's memory, or of the machine's without one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would count what the parent held before it started this process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
