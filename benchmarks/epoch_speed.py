"""Seconds of an epoch of Beauty and of ML-1M: DiffRec with a shared history, and SASRec.

All targets of the training split, in as many laps as there are rounds, in which the systems take turns; ranking for
validation is not counted. Each system has a process of its own. Operations are counted (`benchmarks.operations`).
"""

import argparse
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.machine import as_facts, matmul_rates, mean_rates, shares
from benchmarks.own_worker import MODULE
from benchmarks.pairs import Laps, Spread, add_rounds, take_turns
from benchmarks.ranking_speed import add_datasets, chosen_datasets
from benchmarks.training_speed import common_spec
from benchmarks.workers import Worker, kept
from benchmarks.workload import load
from seqdiffrec.models.device import pick_device, use_bfloat16

SYSTEMS = ("SASRec", "DiffRec shared_history")
BATCH_TARGETS = 1024
WARM_UP_STEPS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_rounds(parser)
    add_datasets(parser)
    parser.add_argument("--share", type=share, default=1.0, help="time this share of an epoch only, and scale it up")


def share(text: str) -> float:
    """A share from the command line."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share: above 0, up to 1")
    return value


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Time an epoch of each system on each dataset."""
    device, rows = pick_device("auto"), dict[str, dict[str, Any]]()
    loads = {name: load(options.data_root, name) for name in chosen_datasets(options)}
    before = matmul_rates(device)
    for dataset, load_ in loads.items():
        with TemporaryDirectory() as folder, kept() as workers:
            load_.log.write(Path(folder) / "log.npz")
            spec = {**common_spec(Path(folder) / "log.npz", options), "rows": BATCH_TARGETS}
            for name in SYSTEMS:
                workers[name] = Worker(name, MODULE, {**spec, "model": name}, threads=torch.get_num_threads())
                told = workers[name].ask("train", steps=WARM_UP_STEPS)
                wanted = options.share * load_.log.num_targets / options.rounds
                workers[name].steps = math.ceil(wanted * told["steps"] / told["targets"])
            laps = take_turns(workers, options.rounds)
            rows |= {f"{dataset}, {name}": row(one, laps, load_.log.num_targets) for name, one in workers.items()}
    rates = mean_rates(before, device)
    for one in rows.values():
        one |= shares(one["gflop_per_second"] * 1e9, rates)
    settings = {**options.size, "tied_output": True, "batch_targets": BATCH_TARGETS, "share": options.share}
    settings |= {"rounds": options.rounds, "bfloat16": use_bfloat16(options.precision, device)}
    record = {"data": "; ".join(load_.source for load_ in loads.values()), "settings": settings}
    return record | as_facts(rates) | {"rows": rows}


def row(worker: Worker, laps: Laps, num_targets: int) -> dict[str, Any]:
    """A system's figures; the operations are those of its batches so far, by target."""
    own = laps[worker.name]
    speed = sum(lap.units for lap in own) / sum(lap.seconds for lap in own)
    flop = worker.told["flop"] / worker.told["all_targets"]
    return {
        "targets": num_targets,
        "seconds": round(num_targets / speed, 1),
        "targets_per_second": vars(Spread.of([lap.rate for lap in own])),
        "mflop_per_target": round(flop / 1e6, 1),
        "gflop_per_second": round(speed * flop / 1e9, 1),
        "peak_memory_mib": round(worker.told["peak"] / 2**20),
    }
