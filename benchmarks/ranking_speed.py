"""Seconds of a full-ranking test, with 1 and with 10 noise draws, on untrained models of the paper's size.

The test sets of Beauty and, where the data root has it, ML-1M. What training teaches does not change the time. Each
system has a process of its own; they take turns. SASRec draws no noise and is the reference. Operations are counted
(`benchmarks.operations`). Products are float32; on a CPU with AMX ten draws are ranked in bfloat16, too.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.machine import as_facts, matmul_rates, mean_rates, shares
from benchmarks.own_worker import MODULE
from benchmarks.pairs import Spread, add_rounds, ratios, take_turns
from benchmarks.training_speed import common_spec
from benchmarks.workers import Worker, kept
from benchmarks.workload import SYSTEMS, Workload, load
from seqdiffrec.models.device import Precision, pick_device, rounds_factors

REFERENCE = "SASRec"
DATASETS = ("beauty", "ml-1m")
WARM_UP_CASES = 512


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_rounds(parser)
    parser.add_argument("--cases", type=int, help="rank the first so many test cases only")
    add_datasets(parser)


def add_datasets(parser: argparse.ArgumentParser) -> None:
    """Which datasets."""
    parser.add_argument(
        "--datasets", nargs="+", choices=DATASETS, help="default: those of the data root; made-up ones without"
    )


def chosen_datasets(options: argparse.Namespace) -> Sequence[str]:
    """Those that were named; without, all that there are."""
    return options.datasets or (DATASETS if options.data_root else DATASETS[:1])


def ranker(worker: Worker, seeds: int, cases: int | None, precision: Precision) -> Callable[[], int]:
    """A lap: rank the test cases, and return their number."""
    how = {"part": "test", "seeds": seeds, "cases": cases, "precision": precision}
    return lambda: worker.ask("rank", list_ranks=False, **how)["cases"]


def ways(name: str) -> list[tuple[str, int, Precision]]:
    """The rows of a system: label, noise draws and precision."""
    if name == REFERENCE:
        return [(name, 1, "float32")]
    rows: list[tuple[str, int, Precision]] = [(f"{name}, 1 seed", 1, "float32"), (f"{name}, 10 seeds", 10, "float32")]
    return rows + [(f"{name}, 10 seeds, bfloat16", 10, "bfloat16")] * rounds_factors(pick_device("auto"))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Time all systems on the test cases of each dataset, or on the first ``--cases`` of them."""
    loads = {name: load(options.data_root, name) for name in chosen_datasets(options)}
    rows: dict[str, Any] = {}
    device = pick_device("auto")
    before = matmul_rates(device)
    for name, load_ in loads.items():
        rows |= {f"{name}, {label}": row for label, row in run_on(load_, options).items()}
    rates = mean_rates(before, device)
    for row in rows.values():
        row |= shares(1e12 * row["tflop"] / row["seconds"]["median"], rates)
    settings = {**options.size, "cases": options.cases or "all", "block_size": 256, "rounds": options.rounds}
    data = "; ".join(load_.source for load_ in loads.values())
    record = {"data": data, "settings": settings, "reference": REFERENCE}
    return record | as_facts(rates) | {"rows": rows}


def run_on(load_: Workload, options: argparse.Namespace) -> dict[str, Any]:
    """A row for each system and number of draws."""
    tasks: dict[str, Callable[[], int]] = {}
    asked: dict[str, dict[str, Any]] = {}
    with TemporaryDirectory() as folder, kept() as workers:
        load_.log.write(Path(folder) / "log.npz")
        spec = common_spec(Path(folder) / "log.npz", options)
        for name in SYSTEMS:
            for label, seeds, precision in ways(name):  # each its own process, so that memory is its own
                worker = Worker(label, MODULE, {**spec, "model": name}, threads=torch.get_num_threads())
                workers[label] = worker
                ranker(worker, seeds, min(WARM_UP_CASES, options.cases or WARM_UP_CASES), precision)()
                asked[label] = {"part": "test", "seeds": seeds, "cases": options.cases}
                tasks[label] = ranker(worker, seeds, options.cases, precision)
        laps = take_turns(tasks, options.rounds)
        against = ratios(laps, REFERENCE)
        peaks = {name: worker.told["peak"] for name, worker in workers.items()}
        # Not along with a lap, whose time and memory it would be part of.
        flop = {name: workers[name].ask("count", **how)["flop"] for name, how in asked.items()}
        return {
            name: {
                "seconds": vars(Spread.of([lap.seconds for lap in own])),
                "cases_per_second": vars(Spread.of([lap.rate for lap in own])),
                "times_reference": vars(against[name]),
                "tflop": float(f"{flop[name] / 1e12:.4g}"),
                "peak_memory_mib": round(peaks[name] / 2**20),
            }
            for name, own in laps.items()
        }
