"""Milliseconds of one request of a model, by torch and by its exported file: the top 10 after a history of 49 items.

Each has a process of its own. They take turns after every twenty requests and a pause: ONNX Runtime's threads go on
spinning for a while after the last one, on the cores of the other. The model is DiffRec as the recipes `plus` have it,
untrained; of more than half a million items it scores by the plain product, since a file of two float32 tables would be
larger than ONNX allows. torch is the reference.
"""

import argparse
import time
from typing import Any

import numpy as np
import torch

from benchmarks import exported_worker, request_worker
from benchmarks.request_speed import ADDITIONS, TOP, WARM_UP
from benchmarks.workers import Worker, kept

MODEL = "DiffRec shared_history"
CATALOGUES = (12_101, 100_000, 1_000_000)
MOST_COSINE = 500_000
MODULES = {"torch": request_worker.MODULE, "exported": exported_worker.MODULE}
SEEDS = (1, 10)
TURN, PAUSE = 20, 0.1
REFERENCE = "torch"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--requests", type=int, default=200, help="requests of each for each size of catalogue")
    parser.add_argument("--catalogues", type=int, nargs="+", default=CATALOGUES, metavar="ITEMS")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Time both on ``--requests`` requests each, for each size of the catalogue."""
    rows: dict[str, dict[str, Any]] = {}
    for num_items in options.catalogues:
        rows |= ask(num_items, options)
    settings = {**options.size, **ADDITIONS, "top": TOP, "requests": options.requests}
    return {"data": "random histories", "settings": settings, "reference": REFERENCE, "rows": rows}


def ask(num_items: int, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The rows of a catalogue."""
    cosine = num_items <= MOST_COSINE
    more = {**ADDITIONS, "history_skip": True, "cosine_output": cosine}
    spec = {"model": MODEL, "num_items": num_items, "size": options.size, "top": TOP, "settings": more}
    with kept() as workers:
        for name, module in MODULES.items():
            workers[name] = Worker(f"{name}, {num_items:,} items", module, spec, threads=torch.get_num_threads())
        seconds = {(name, seeds): [] for name in workers for seeds in SEEDS}
        last = WARM_UP + options.requests
        for first in range(0, last, TURN):
            for name, seeds in seconds:
                time.sleep(PAUSE)
                for number in range(first, min(first + TURN, last)):
                    told = workers[name].ask("request", number=number, seeds=seeds)
                    seconds[name, seeds].append(told["seconds"])
        peaks = {name: round(worker.told["peak"] / 2**20) for name, worker in workers.items()}
        compared = workers["exported"].ask("compare")
    rows: dict[str, dict[str, Any]] = {}
    for (name, seeds), spent in seconds.items():
        own, base = (np.array(one[WARM_UP:]) for one in (spent, seconds[REFERENCE, seeds]))
        rows[f"{num_items:,} items, {name}, {seeds} seed{'s' * (seeds > 1)}"] = {
            "p50_ms": round(1e3 * float(np.percentile(own, 50)), 2),
            "p99_ms": round(1e3 * float(np.percentile(own, 99)), 2),
            "times_reference": round(float(np.median(own / base)), 3),
            "output": "cosine" if cosine else "product",
            "overlap@10": None if name == REFERENCE else round(compared["overlap"], 4),
            "peak_memory_mib": peaks[name],
        }
    return rows
