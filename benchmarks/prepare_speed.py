"""Seconds and memory to prepare a log and to check it, for made-up events in a folder of Parquet files, and as CSV.

Users, items and times are random whole numbers, in no order, so that everything has to be sorted; a user has some
20 actions, a few items are popular. Each task runs in a process of its own. Preparing is all that a first `train` does
before the model: reading, numbering, sorting, writing the corpus to an empty cache, and reading it back to verify it.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from benchmarks.workers import Worker, kept

MODULE = "benchmarks.prepare_worker"
PART = 2_500_000
ACTIONS_OF_A_USER = 20
NUM_ITEMS = 200_000
FIRST, LAST = 1_600_000_000, 1_700_000_000  # seconds since 1970
# Larger ones as Parquet alone: nobody keeps so much as text.
MOST_CSV = 10_000_000
MOST_CHECKED = 20_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    sizes = [MOST_CSV, MOST_CHECKED, 100_000_000]
    parser.add_argument("--events", nargs="+", type=int, default=sizes, help="how many; default 10, 20, 100 million")


def write_log(events: int, folder: Path) -> None:
    """Parts of made-up events."""
    rng = np.random.default_rng(0)
    users = max(events // ACTIONS_OF_A_USER, 2)
    folder.mkdir()
    for number, start in enumerate(range(0, events, PART)):
        size = min(PART, events - start)
        columns = {
            "user_id": 10_000_000 + (users * rng.random(size) ** 1.5).astype(np.int64),
            "item_id": 1_000 + (NUM_ITEMS * rng.random(size) ** 3).astype(np.int64),
            "timestamp": rng.integers(FIRST, LAST, size),
        }
        pl.DataFrame(columns).write_parquet(folder / f"part-{number:03}.parquet")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All tasks on all sizes."""
    rows: dict[str, dict[str, Any]] = {}
    for events in options.events:
        with TemporaryDirectory() as place:
            log = Path(place) / "log"
            write_log(events, log)
            tasks = {"prepare, Parquet": ("prepare", log)}
            if events <= MOST_CSV:
                text = Path(place) / "log.csv"
                pl.scan_parquet(log).sink_csv(text)
                tasks["prepare, CSV"] = ("prepare", text)
            if events <= MOST_CHECKED:
                tasks["check, Parquet"] = ("check", log)
            for name, (order, path) in tasks.items():
                rows[f"{events:,} events, {name}"] = row = measure(order, path, events)
                print(f"{events:,} events, {name}: {row['seconds']} s", flush=True)
    settings = {"num_items": NUM_ITEMS, "actions_of_a_user": ACTIONS_OF_A_USER, "events_of_a_part": PART}
    return {"data": "made-up events", "settings": settings, "rows": rows}


def measure(order: str, path: Path, events: int) -> dict[str, Any]:
    """A row: one task in a new process, from the files to the end."""
    with kept() as workers:
        worker = workers[order] = Worker(f"{order} {path.name}", MODULE, {})
        told = worker.ask(order, path=str(path))
    return {
        "seconds": round(told["seconds"], 1),
        "processor_seconds": round(told["processor_seconds"], 1),
        "events_per_second": round(events / told["seconds"]),
        "peak_memory_mib": round(told["peak"] / 2**20),
    }
