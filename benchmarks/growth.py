"""How training speed and memory grow with the length of histories, the catalogue, the users, and the threads.

Ours and the padded reference on made-up logs, each size of each system in a process of its own, one after the other.
One size is varied at a time: histories (all of full length T), catalogue, users (both with Beauty's lengths), threads
of torch. A lap lasts at least some seconds and one step; where memory does not suffice, the row says so.
"""

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.machine import available_memory
from benchmarks.own_worker import MODULE, REFERENCE
from benchmarks.pairs import Spread
from benchmarks.protocol import Log
from benchmarks.training_speed import common_spec
from benchmarks.workers import Worker, WorkerError, kept
from benchmarks.workload import BATCH_TARGETS, NUM_ITEMS, SYSTEMS, generated
from seqdiffrec.models.device import pick_device, use_bfloat16

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
AXES: dict[str, tuple[int, ...]] = {
    "length": (10, 20, 50, 100, 200, 500, 1000),
    "catalogue": SIZES,
    "users": SIZES,
    "threads": tuple(sorted({1, 2, os.cpu_count() or 1})),
}
# Actions of a log whose histories are all of one length: enough for all laps, and few to make.
ACTIONS = 300_000
# From this catalogue on the loss over drawn items is timed, too.
SAMPLED_FROM = 100_000
SHARE_OF_MEMORY = 0.9
# What torch, or the system, says when memory does not suffice.
TOO_MUCH = ("can't allocate memory", "Cannot allocate memory", "MemoryError", "bad_alloc", "out of memory")


@dataclass(frozen=True)
class Point:
    """One size of one system. loss: over all items, or over drawn ones."""

    axis: str
    value: int
    system: str
    loss: str

    @property
    def name(self) -> str:
        """Of its row."""
        return f"{self.axis} {self.value:,}, {self.system}{', sampled loss' * (self.loss != 'full')}"

    def log(self) -> Log:
        """Made-up sequences of the size."""
        if self.axis == "length":
            return generated(max(300, ACTIONS // self.value), length=self.value)
        users = {"num_users": self.value} if self.axis == "users" else {}
        return generated(**users, num_items=self.value if self.axis == "catalogue" else NUM_ITEMS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES), help="what to vary; default all")
    parser.add_argument("--values", nargs="+", type=int, help="of the one axis, in place of those that it has")
    parser.add_argument("--laps", type=int, default=5, help="laps of a system at a size")
    parser.add_argument("--seconds", type=float, default=2.0, help="a lap lasts at least so long")
    parser.add_argument("--limit", type=float, default=60.0, help="no further lap of a row after so many seconds")


def points(axes: list[str], values: list[int] | None) -> Iterator[Point]:
    """All rows. Raises ValueError for values of several axes at once."""
    if values and len(axes) != 1:
        raise ValueError("--values are of one axis: name it, for example --axes length --values 10 50")
    for axis in axes:
        for value in values or AXES[axis]:
            for system in (REFERENCE, *SYSTEMS):
                yield Point(axis, value, system, "full")
                if axis == "catalogue" and value >= SAMPLED_FROM and system != REFERENCE:
                    yield Point(axis, value, system, "sampled")


def measure(point: Point, spec: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """A row: the speed of some laps after a step to warm up, and memory; or that memory did not suffice."""
    threads = point.value if point.axis == "threads" else torch.get_num_threads()
    row: dict[str, Any] = {"axis": point.axis, "value": point.value, "system": point.system, "loss": point.loss}
    try:
        with kept() as workers:
            worker = workers[point.name] = Worker(point.name, MODULE, spec, threads=threads)
            worker.ask("train", steps=1)
            rates: list[float] = []
            spent = 0.0
            while len(rates) < options.laps and (not rates or spent < options.limit):
                told = worker.ask("train", seconds=options.seconds)
                rates.append(told["targets"] / told["seconds"])
                spent += told["seconds"]
            peak = round(worker.told["peak"] / 2**20)
            return row | {"targets_per_second": vars(Spread.of(rates)), "peak_memory_mib": peak, "laps": len(rates)}
    except WorkerError as error:
        if not any(sign in str(error) for sign in TOO_MUCH):
            raise
        return row | {"peak_memory_mib": f"more than {spec.get('memory_gib', 0):.0f} GiB"}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all sizes."""
    rows: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "log.npz"
        made: tuple[str, int] | None = None
        for point in points(options.axes, options.values):
            if made != (point.axis, point.value):
                point.log().write(path)
                made = point.axis, point.value
            size = options.size | ({"max_length": point.value} if point.axis == "length" else {})
            settings = {} if point.loss == "full" else {"loss": point.loss}
            spec = common_spec(path, options) | {"model": point.system, "size": size, "settings": settings}
            memory = available_memory()
            if memory is not None:
                spec["memory_gib"] = round(SHARE_OF_MEMORY * memory / 2**30, 1)
            rows[point.name] = row = measure(point, spec, options)
            speed = row.get("targets_per_second", {}).get("median")
            print(f"{point.name}: {'-' if speed is None else f'{speed:,.0f} targets/s'}", flush=True)
    settings = {**options.size, "batch_targets": BATCH_TARGETS, "laps": options.laps, "seconds": options.seconds}
    settings["bfloat16"] = use_bfloat16(options.precision, pick_device("auto"))
    return {"data": "made-up logs", "settings": settings, "reference": REFERENCE, "rows": rows}
