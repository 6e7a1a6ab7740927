"""Milliseconds of one request: the top 10 after a history of 49 items, in process, on untrained models of paper size.

The systems take turns request by request. SASRec draws no noise and is the reference.
"""

import time
from typing import Any

import numpy as np
import torch

from benchmarks.machine import finish, peak_memory
from benchmarks.workload import SIZE
from seqdiffrec.data import Sequences
from seqdiffrec.models import DiffRec, DiffRecConfig, SASRec, SASRecConfig, SequenceModel
from seqdiffrec.models.device import pick_device

CATALOGUES = (12_101, 100_000, 1_000_000)
TOP = 10
REFERENCE = "SASRec"
WARM_UP = 5


def systems(num_items: int) -> dict[str, tuple[SequenceModel, int]]:
    """Each system's model and noise draws; DiffRec as the recipes `plus` have it."""
    additions = {"cosine_output": True, "seen_bias": True, "filter_share": 0.5}
    config = DiffRecConfig(**SIZE, **additions, tied_output=True, attention="shared_history", history_skip=True)
    diffrec = DiffRec(config, num_items).eval()
    sasrec = SASRec(SASRecConfig(**SIZE, **additions), num_items).eval()
    return {REFERENCE: (sasrec, 1), "DiffRec, 1 seed": (diffrec, 1), "DiffRec, 10 seeds": (diffrec, 10)}


def request(model: SequenceModel, num_seeds: int, history: Sequences, allowed: torch.Tensor) -> float:
    """Seconds of one request."""
    started = time.perf_counter()
    model.top_of_histories(history, TOP, allowed, filter_viewed=True, num_seeds=num_seeds)
    finish(allowed.device)
    return time.perf_counter() - started


def run(*, requests: int) -> dict[str, Any]:
    """Time all systems on ``requests`` requests each, for each size of the catalogue."""
    device = pick_device("auto")
    rows: dict[str, dict[str, Any]] = {}
    for num_items in CATALOGUES:
        found = systems(num_items)
        for model, _ in found.values():
            model.to(device)
        rng, allowed = np.random.default_rng(0), torch.ones(num_items, dtype=torch.bool, device=device)
        length = SIZE["max_length"] - 1
        seconds: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(WARM_UP + requests):
            items = rng.integers(1, num_items + 1, length).astype(np.int32)
            history = Sequences(items, np.array([0]), np.array([length]))
            for name, (model, num_seeds) in found.items():
                seconds[name].append(request(model, num_seeds, history, allowed))
        for name, own in seconds.items():
            base = np.array(seconds[REFERENCE][WARM_UP:])
            kept = np.array(own[WARM_UP:])
            rows[f"{num_items:,} items, {name}"] = {
                "p50_ms": round(1e3 * float(np.percentile(kept, 50)), 2),
                "p99_ms": round(1e3 * float(np.percentile(kept, 99)), 2),
                "times_reference": round(float(np.median(kept / base)), 3),
                "peak_memory_mib": peak_memory(device) >> 20,
            }
    settings = {**SIZE, "top": TOP, "history": SIZE["max_length"] - 1, "requests": requests}
    return {"settings": settings, "reference": REFERENCE, "rows": rows}
