"""Seconds of a full-ranking test by the number of noise draws, none to twenty, of an untrained DiffRec.

The test set of Beauty. The model has a shared history and the additions of studies/decides.toml; at its size with
--hidden-size 64. No draws are zeros in place of noise. Products are float32.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.own_worker import MODULE
from benchmarks.pairs import Spread, add_rounds, ratios, take_turns
from benchmarks.ranking_speed import WARM_UP_CASES, ranker
from benchmarks.training_speed import common_spec
from benchmarks.workers import Worker, kept
from benchmarks.workload import load

DRAWS = (0, 1, 2, 5, 10, 20)
REFERENCE = "1 draw"
ADDITIONS = {"cosine_output": True, "seen_bias": True, "history_skip": True, "filter_share": 0.5}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_rounds(parser)
    parser.add_argument("--cases", type=int, help="rank the first so many test cases only")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """A row for each number of draws; one model, they take turns."""
    load_ = load(options.data_root)
    with TemporaryDirectory() as folder, kept() as workers:
        load_.log.write(Path(folder) / "log.npz")
        spec = {**common_spec(Path(folder) / "log.npz", options), "settings": ADDITIONS}
        model = "DiffRec shared_history"
        worker = workers[model] = Worker(model, MODULE, {**spec, "model": model}, threads=torch.get_num_threads())
        ranker(worker, max(DRAWS), min(WARM_UP_CASES, options.cases or WARM_UP_CASES), "float32")()
        labels = {draws: "1 draw" if draws == 1 else f"{draws} draws" for draws in DRAWS}
        tasks = {label: ranker(worker, draws, options.cases, "float32") for draws, label in labels.items()}
        laps = take_turns(tasks, options.rounds)
    against = ratios(laps, REFERENCE)
    settings = {**options.size, **ADDITIONS, "cases": options.cases or "all", "rounds": options.rounds}
    rows = {
        name: {
            "seconds": vars(Spread.of([lap.seconds for lap in own])),
            "cases_per_second": vars(Spread.of([lap.rate for lap in own])),
            "times_reference": vars(against[name]),
        }
        for name, own in laps.items()
    }
    return {"data": load_.source, "settings": settings, "reference": REFERENCE, "rows": rows}
