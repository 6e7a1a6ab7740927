"""Milliseconds of one request by the approximate index, beside the pass over all items: the top 10, ten noise draws.

The model is DiffRec as the recipes `plus` have it, untrained; the vectors of its items are made up in groups of a
hundred, for something to find. The index is to find at least 0.99 of the exact first ten. Both are asked in turns in
one process; the exact pass is the reference. A catalogue that does not fit the memory has a row that says so.
"""

import argparse
from typing import Any

import numpy as np
import torch

from benchmarks.machine import available_memory
from benchmarks.request_speed import ADDITIONS, CATALOGUES, SHARE_OF_MEMORY, TOP, WARM_UP, needed
from benchmarks.request_worker import MODULE
from benchmarks.workers import Worker, kept
from seqdiffrec.models.device import has_bfloat16, pick_device

MODEL, SEEDS = "DiffRec shared_history", 10
REFERENCE = "exact"
# The share of the exact lists that the index is to find, and the users by whom it is measured.
OVERLAP, OVERLAP_USERS = 0.99, 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--requests", type=int, default=40, help="requests of each for each size of catalogue")
    parser.add_argument("--catalogues", type=int, nargs="+", default=CATALOGUES[1:], metavar="ITEMS")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Build an index of each catalogue, and time ``--requests`` requests with and without it."""
    rows: dict[str, dict[str, Any]] = {}
    rough = has_bfloat16(pick_device("auto"))
    for num_items in options.catalogues:
        memory = available_memory()
        need = needed(num_items, hidden_size=options.hidden_size, rough=rough, index=True)
        if memory is not None and need > SHARE_OF_MEMORY * memory:
            said = f"needs {need / 2**30:.0f} GiB, there are {memory / 2**30:.0f}"
            rows[f"{num_items:,} items"] = {"not_asked": said}
        else:
            rows |= ask(num_items, options)
    settings = {**options.size, **ADDITIONS, "top": TOP, "seeds": SEEDS, "requests": options.requests}
    settings |= {"overlap": OVERLAP, "overlap_users": OVERLAP_USERS}
    return {"data": "random histories", "settings": settings, "reference": REFERENCE, "rows": rows}


def ask(num_items: int, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The rows of a catalogue."""
    spec = {"model": MODEL, "num_items": num_items, "size": options.size, "top": TOP}
    spec["settings"] = {**ADDITIONS, "history_skip": True}
    with kept() as workers:
        worker = workers[MODEL] = Worker(f"{num_items:,} items", MODULE, spec, threads=torch.get_num_threads())
        told = worker.ask("index", users=OVERLAP_USERS, overlap=OVERLAP)
        found = {name: told[name] for name in ("build_seconds", "overlap@10", "breadth", "cells")}
        found["overlap@10"] = round(found["overlap@10"], 4)
        seconds: dict[str, list[float]] = {REFERENCE: [], "index": []}
        for number in range(WARM_UP + options.requests):
            for name, taken in seconds.items():
                told = worker.ask("request", number=number, seeds=SEEDS, by_index=name != REFERENCE)
                taken.append(told["seconds"])
        peak = round(worker.told["peak"] / 2**20)
    base = np.array(seconds[REFERENCE][WARM_UP:])
    rows: dict[str, dict[str, Any]] = {}
    for name, taken in seconds.items():
        own = np.array(taken[WARM_UP:])
        rows[f"{num_items:,} items, {name}"] = {
            "p50_ms": round(1e3 * float(np.percentile(own, 50)), 2),
            "p99_ms": round(1e3 * float(np.percentile(own, 99)), 2),
            "times_reference": round(float(np.median(own / base)), 3),
            "peak_memory_mib": peak,
            **({} if name == REFERENCE else found),
        }
    return rows
