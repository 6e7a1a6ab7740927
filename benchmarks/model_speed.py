"""Training speed of every model on Beauty, beside its own padded form with one target a row.

The same model, loss, optimiser and step; what differs is how the training data reach it. As the library trains:
histories without padding, shared by the targets of a stretch where the model shares them. Padded: a row for each
target, T - 1 places, the history at their end. The two take turns, each in a process of its own.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.model_worker import MODULE
from benchmarks.pairs import Laps, Spread, add_rounds, ratios, take_turns
from benchmarks.training_speed import common_spec
from benchmarks.workers import BenchmarkError, Worker, kept
from benchmarks.workload import load
from seqdiffrec.models import MODELS
from seqdiffrec.models.device import pick_device, use_bfloat16
from seqdiffrec.models.item_table import TableModel

OWN, PADDED = "as trained", "padded"
HIDDEN_SIZE = 64
# Of a lap, however long they take: a model of two sides has some of both.
LEAST_STEPS = 4
# Models that train in more than one way.
WAYS: dict[str, dict[str, dict[str, Any]]] = {
    "diffrec": {
        f"diffrec, {attention}": {"attention": attention, "tied_output": True}
        for attention in ("bidirectional", "shared_history")
    }
}
NOTES = [
    "The padded form runs through the model's own code and training step, so it keeps what else a model spares, such "
    "as places of a last layer that nobody reads. Padding enters as zeros, goes through all layers and is not masked.",
    "A target is a (history, next item) pair that gets a gradient. For bert4rec it is a masked place: a share of those "
    "of a stretch as it is trained, the last one of a padded row. mfgan's generator and discriminators take turns by "
    "batches, and a batch of either counts.",
    "What a model does once for a stretch, as cl4srec's contrast and mfgan's verdicts, it does for every padded row, "
    "since each is a history of its own.",
]


def trained() -> list[str]:
    """The models of the registry that have weights to train."""
    return sorted(name for name, kind in MODELS.items() if issubclass(kind, TableModel))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.set_defaults(hidden_size=HIDDEN_SIZE)
    add_rounds(parser)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a system in a round; default %(default)s")
    parser.add_argument("--models", nargs="+", choices=trained(), default=trained(), help="default all that train")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Time one model after the other. Returns data, settings, and a row a model, or a way of it."""
    if options.seconds <= 0:
        raise BenchmarkError(f"--seconds {options.seconds:g} is no time to train in")
    load_ = load(options.data_root)
    rows: dict[str, dict[str, Any]] = {}
    with TemporaryDirectory() as folder:
        load_.log.write(Path(folder) / "log.npz")
        spec = common_spec(Path(folder) / "log.npz", options)
        for model in options.models:
            for name, settings in WAYS.get(model, {model: {}}).items():
                rows[name] = row = measure(name, {**spec, "model": model, "settings": settings}, options)
                print(f"{name}: {row['times_padded']['median']:.2f} times padded", flush=True)
    settings = {**options.size, "batch_targets": spec["rows"], "seconds": options.seconds, "rounds": options.rounds}
    settings |= {"bfloat16": use_bfloat16(options.precision, pick_device("auto"))}
    return {"data": load_.source, "settings": settings, "reference": PADDED, "rows": rows, "notes": NOTES}


def measure(name: str, spec: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """A row: a model beside its padded form."""
    with kept() as workers:
        for form in (OWN, PADDED):
            own = {**spec, "padded": form == PADDED}
            workers[form] = Worker(f"{name}, {form}", MODULE, own, threads=torch.get_num_threads())
        tasks = {
            form: lambda worker=worker: worker.ask("train", seconds=options.seconds, steps=LEAST_STEPS)["targets"]
            for form, worker in workers.items()
        }
        for task in tasks.values():
            task()  # a lap to warm up
        laps = take_turns(tasks, options.rounds)
        peaks = {form: round(worker.told["peak"] / 2**20) for form, worker in workers.items()}
    return row(laps, peaks)


def row(laps: Laps, peaks: dict[str, int]) -> dict[str, Any]:
    """Speed and memory of both forms, and how many times as fast the first is."""
    speed = {form: vars(Spread.of([lap.rate for lap in own])) for form, own in laps.items()}
    return {
        "targets_per_second": speed[OWN],
        "padded_targets_per_second": speed[PADDED],
        "times_padded": vars(ratios(laps, PADDED)[OWN]),
        "peak_memory_mib": peaks[OWN],
        "padded_peak_memory_mib": peaks[PADDED],
    }
