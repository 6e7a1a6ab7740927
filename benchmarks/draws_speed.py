"""Seconds of a full-ranking test, and of an epoch, by the number of noise draws; of an untrained DiffRec.

Beauty's test set, and its training targets at 1,024 a batch, of which some steps are timed. The model has a shared
history and the additions of studies/decides.toml; at its size with --hidden-size 64. No draws are zeros in place of
noise. Ranking has float32 products, training those of --precision.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.epoch_speed import BATCH_TARGETS
from benchmarks.own_worker import MODULE
from benchmarks.pairs import Laps, Spread, add_rounds, ratios, take_turns
from benchmarks.ranking_speed import WARM_UP_CASES, ranker
from benchmarks.training_speed import common_spec
from benchmarks.workers import Worker, kept
from benchmarks.workload import load

DRAWS = (0, 1, 2, 5, 10, 20)
TRAINING_DRAWS = (1, 2, 4)
MODEL = "DiffRec shared_history"
ADDITIONS = {"cosine_output": True, "seen_bias": True, "history_skip": True, "filter_share": 0.5}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_rounds(parser)
    parser.add_argument("--cases", type=int, help="rank the first so many test cases only")
    parser.add_argument("--steps", type=int, default=20, help="of training in a round; default %(default)s")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """A row for each number of draws, of ranking and of training; in each of the two they take turns."""
    load_ = load(options.data_root)
    with TemporaryDirectory() as folder:
        load_.log.write(Path(folder) / "log.npz")
        spec = {**common_spec(Path(folder) / "log.npz", options), "model": MODEL, "rows": BATCH_TARGETS}
        ranked, trained = ranking(spec, options), training(spec, options)
    settings = {**options.size, **ADDITIONS, "cases": options.cases or "all", "rounds": options.rounds}
    settings |= {"batch_targets": BATCH_TARGETS, "steps": options.steps}
    rows = rows_of(ranked, label(1), None) | rows_of(trained, training_label(1), load_.log.num_targets)
    return {"data": load_.source, "settings": settings, "reference": label(1), "rows": rows}


def ranking(spec: dict[str, Any], options: argparse.Namespace) -> Laps:
    """Tests by one process, one model."""
    with kept() as workers:
        worker = workers[MODEL] = Worker(
            MODEL, MODULE, {**spec, "settings": ADDITIONS}, threads=torch.get_num_threads()
        )
        ranker(worker, max(DRAWS), min(WARM_UP_CASES, options.cases or WARM_UP_CASES), "float32")()
        tasks = {label(draws): ranker(worker, draws, options.cases, "float32") for draws in DRAWS}
        return take_turns(tasks, options.rounds)


def training(spec: dict[str, Any], options: argparse.Namespace) -> Laps:
    """Training steps, a process for each number of draws."""
    with kept() as workers:
        for draws in TRAINING_DRAWS:
            name, own = training_label(draws), {**spec, "settings": {**ADDITIONS, "noise_draws": draws}}
            workers[name] = Worker(name, MODULE, own, steps=options.steps, threads=torch.get_num_threads())
            workers[name]()  # a lap to warm up
        return take_turns(dict(workers), options.rounds)


def label(draws: int) -> str:
    """A number of draws in words."""
    return "1 draw" if draws == 1 else f"{draws} draws"


def training_label(draws: int) -> str:
    """The same of training, where they are of each target."""
    return f"training, {label(draws)}"


def rows_of(laps: Laps, reference: str, an_epoch: int | None) -> dict[str, dict[str, Any]]:
    """A row for each; seconds are those of a lap, or of so many targets."""
    against = ratios(laps, reference)
    return {
        name: {
            "seconds": vars(Spread.of([an_epoch / lap.rate if an_epoch else lap.seconds for lap in own])),
            "cases_per_second": vars(Spread.of([lap.rate for lap in own])),
            "times_reference": vars(against[name]),
        }
        for name, own in laps.items()
    }
