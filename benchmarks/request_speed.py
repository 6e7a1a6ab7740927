"""Milliseconds of one request, and users a second in bulk: the top 10 after a history of 49 items, untrained models.

Each system has a process of its own; they take turns request by request. SASRec draws no noise and is the reference.
Models are as the recipes `plus` have them. Where a catalogue is so big that the two models do not fit the machine's
memory together, they are asked one after the other; where one does not fit alone, its row says so.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.machine import available_memory
from benchmarks.pairs import Spread, add_rounds, take_turns
from benchmarks.request_worker import BLOCK, MODULE
from benchmarks.workers import Worker, kept
from seqdiffrec.models.device import has_bfloat16, pick_device
from seqdiffrec.models.packed import LARGEST_BYTES

CATALOGUES = (12_101, 100_000, 1_000_000, 10_000_000)
TOP = 10
REFERENCE = "SASRec"
# Each system's model, and its noise draws.
SYSTEMS = {
    REFERENCE: (REFERENCE, 1),
    "DiffRec, 1 seed": ("DiffRec shared_history", 1),
    "DiffRec, 10 seeds": ("DiffRec shared_history", 10),
}
ADDITIONS = {"seen_bias": True, "filter_share": 0.5, "cosine_output": True}
WARM_UP = 5
# What a process needs besides its tables: torch, and the scores of ten draws.
BESIDES = 2**30
# Bytes of an index for each number of an item: an eighth for its codes, twice while they are laid out, and its column.
INDEXED = 3 / 8
SHARE_OF_MEMORY = 0.93


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_rounds(parser)
    parser.add_argument("--requests", type=int, default=100, help="requests of a system for each size of catalogue")
    parser.add_argument("--catalogues", type=int, nargs="+", default=CATALOGUES, metavar="ITEMS")
    parser.add_argument("--bulk", type=int, default=1024, help="users of a bulk request; fewer for big catalogues")


def needed(num_items: int, *, hidden_size: int, rough: bool, index: bool = False) -> int:
    """Bytes that a model needs: the table in float32, copies to score by, codes of an index, scores of ten draws."""
    copy = 2 if rough else 4 * (4 * num_items * hidden_size <= LARGEST_BYTES)
    each = hidden_size * (4 + copy + index * INDEXED) + 10 * (2 if rough else 4) + 20
    return int(num_items * each) + BESIDES


def bulk_users(num_items: int, most: int) -> int:
    """Users asked for in bulk: fewer the bigger the catalogue, since the time grows with it."""
    return min(most, max(8, 25_000_000 // num_items))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Time all systems on ``--requests`` requests each, for each size of the catalogue."""
    rows: dict[str, dict[str, Any]] = {}
    rough = has_bfloat16(pick_device("auto"))
    for num_items in options.catalogues:
        memory = available_memory()
        need = needed(num_items, hidden_size=options.hidden_size, rough=rough)
        if memory is not None and need > SHARE_OF_MEMORY * memory:
            rows[f"{num_items:,} items"] = {
                "not_asked": f"needs {need / 2**30:.0f} GiB, there are {memory / 2**30:.0f}"
            }
            continue
        together = memory is None or 2 * need <= SHARE_OF_MEMORY * memory
        models = list(dict.fromkeys(model for model, _ in SYSTEMS.values()))
        found: dict[str, dict[str, Any]] = {}
        for group in [models] if together else [[model] for model in models]:
            found |= ask(num_items, group, options)
        base = np.array(found[REFERENCE]["seconds"])
        for name, row in found.items():
            row["times_reference"] = round(float(np.median(np.array(row.pop("seconds")) / base)), 3)
            row["turns"] = "taken" if together else "one after the other"
            rows[f"{num_items:,} items, {name}"] = row
    settings = {
        **options.size,
        **ADDITIONS,
        "top": TOP,
        "history": options.size["max_length"] - 1,
        "requests": options.requests,
    }
    settings |= {"bulk_block": BLOCK, "rounds": options.rounds}
    return {"data": "random histories", "settings": settings, "reference": REFERENCE, "rows": rows}


def ask(num_items: int, models: list[str], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The figures of all systems over these models, in turns."""
    with kept() as workers:
        for model in models:
            more = {} if model == REFERENCE else {"history_skip": True}
            spec = {"model": model, "num_items": num_items, "size": options.size, "top": TOP}
            spec["settings"] = {**ADDITIONS, **more}
            workers[model] = Worker(f"{model}, {num_items:,} items", MODULE, spec, threads=torch.get_num_threads())
        systems = {
            name: (workers[model], {"seeds": seeds}) for name, (model, seeds) in SYSTEMS.items() if model in models
        }
        seconds: dict[str, list[float]] = {name: [] for name in systems}
        for number in range(WARM_UP + options.requests):
            # Round by round the other way round; and none right after another process, whose threads may still wait
            # for work, on the same cores, and have taken the caches.
            for name, (worker, how) in list(systems.items())[:: 1 - 2 * (number % 2)]:
                worker.ask("request", number=-1, **how)
                seconds[name].append(worker.ask("request", number=number, **how)["seconds"])
        users = bulk_users(num_items, options.bulk)
        tasks = {name: bulk(worker, users, how) for name, (worker, how) in systems.items()}
        laps = take_turns(tasks, options.rounds)
        return {
            name: {
                "seconds": seconds[name][WARM_UP:],
                "p50_ms": round(1e3 * float(np.percentile(seconds[name][WARM_UP:], 50)), 2),
                "p99_ms": round(1e3 * float(np.percentile(seconds[name][WARM_UP:], 99)), 2),
                "times_reference": None,
                "bulk_users": users,
                "bulk_users_per_second": vars(Spread.of([lap.rate for lap in laps[name]])),
                "peak_memory_mib": round(worker.told["peak"] / 2**20),
            }
            for name, (worker, _) in systems.items()
        }


def bulk(worker: Worker, users: int, how: dict[str, Any]) -> Callable[[], int]:
    """A lap: the lists of so many users."""

    def lap() -> int:
        worker.ask("request", number=0, users=users, **how)
        return users

    return lap
