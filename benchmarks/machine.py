"""What the machine is, how much memory it has left, and how fast it multiplies."""

import os
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.process import finish
from seqdiffrec.models.device import has_amx, has_bfloat16
from seqdiffrec.training.provenance import code_revision, machine, versions

HERE = Path(__file__).parent


def describe(device: torch.device) -> dict[str, Any]:
    """Machine, versions, code revision, and how busy the machine was before the run."""
    return {
        "machine": {
            **machine(),
            "torch_threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            # One name stands for processors with other instructions.
            "instructions": torch.backends.cpu.get_cpu_capability() + " and AMX" * has_amx(),
            "bfloat16": has_bfloat16(device),
            "load_before": round(os.getloadavg()[0], 2),
        },
        "versions": versions(),
        "revision": code_revision(HERE, records=HERE / "results"),
    }


def matmul_rate(device: torch.device, size: int = 1536, repeats: int = 9, dtype: torch.dtype = torch.float32) -> float:
    """FLOP/s of a product of two matrices, size x size: the median of some, after a warm-up."""
    left, right = torch.randn(2, size, size, device=device).to(dtype)
    seconds: list[float] = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        left @ right
        finish()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / median(seconds[2:])


def matmul_rates(device: torch.device) -> dict[str, float]:
    """`matmul_rate` in float32, and in bfloat16 where the machine has instructions for it."""
    rates = {"matmul": matmul_rate(device)}
    return rates | ({"bfloat16_matmul": matmul_rate(device, dtype=torch.bfloat16)} if has_bfloat16(device) else {})


def mean_rates(before: dict[str, float], device: torch.device) -> dict[str, float]:
    """`matmul_rates` before a run and now, after it, averaged."""
    return {key: (before[key] + now) / 2 for key, now in matmul_rates(device).items()}


def as_facts(rates: dict[str, float]) -> dict[str, float]:
    """Rates as a record tells them."""
    return {f"{key}_gflop_per_second": round(rate / 1e9, 1) for key, rate in rates.items()}


def shares(speed: float | None, rates: dict[str, float]) -> dict[str, float | None]:
    """What a system's FLOP/s are of each rate, as a row tells it; None where its operations are not counted."""
    return {f"share_of_{key}_rate": None if speed is None else round(speed / rate, 3) for key, rate in rates.items()}


def available_memory() -> int | None:
    """Bytes that a new process could take without others being pushed out; None where the system does not say."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    line = next(line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024
