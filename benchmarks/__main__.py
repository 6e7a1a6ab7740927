"""Run the benchmarks, print a table each, and keep the figures with --save."""

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import ranking_speed, request_speed, training_speed
from benchmarks.machine import describe
from benchmarks.pairs import LEAST_ROUNDS
from benchmarks.workload import load
from seqdiffrec.data.datasets import DATA_ROOT_VARIABLE
from seqdiffrec.data.storage import replace_file
from seqdiffrec.models.device import pick_device

NAMES = ("training", "ranking", "requests")
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=NAMES, help="one benchmark; all without")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/NAME.json")
    parser.add_argument("--data-root", default=os.environ.get(DATA_ROOT_VARIABLE), help="folder with Beauty")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--rounds", type=int, default=LEAST_ROUNDS, help="how often the systems take turns")
    parser.add_argument("--steps", type=int, default=20, help="training steps of a system in a round")
    parser.add_argument("--cases", type=int, help="rank the first so many test cases only")
    parser.add_argument("--requests", type=int, default=100, help="requests of a system for each size of catalogue")
    parser.add_argument("--worker", metavar="SYSTEM", help=argparse.SUPPRESS)
    options = parser.parse_args()
    workload = load(options.data_root)
    if options.worker:
        training_speed.work(workload, options.precision, options.steps, options.worker)
        return
    for name in [options.name] if options.name else NAMES:
        record = {"benchmark": name, "command": command(name), **describe(pick_device("auto")), "data": workload.source}
        if name == "training":
            data = ["--data-root", options.data_root] if options.data_root else []
            record |= training_speed.run(
                precision=options.precision, steps=options.steps, rounds=options.rounds, data_arguments=data
            )
        elif name == "requests":
            record |= request_speed.run(requests=options.requests) | {"data": "random histories"}
        else:
            record |= ranking_speed.run(workload, rounds=options.rounds, num_cases=options.cases)
        show(record)
        if options.save:
            RESULTS.mkdir(exist_ok=True)
            replace_file(RESULTS / f"{name}.json", json.dumps(record, indent=2).encode() + b"\n")


def command(name: str) -> str:
    """What to type for this benchmark again; without the data root, which is a place on one machine."""
    shown = [word for word in sys.argv[1:] if word not in NAMES]
    if "--data-root" in shown:
        place = shown.index("--data-root")
        shown[place + 1 : place + 2] = ["DIR"]
    return shlex.join(["python", "-m", "benchmarks", name, *shown])


def show(record: dict[str, Any]) -> None:
    """Print a record as a table; a figure with a spread is its median, then least to greatest."""
    table = Table(title=f"{record['benchmark']}, on {record['data']}", title_justify="left")
    columns = list(next(iter(record["rows"].values())))
    for column in ("", *columns):
        table.add_column(column.replace("_", " "), justify="right" if column else "left")
    for name, row in record["rows"].items():
        table.add_row(name, *(shown(row[column]) for column in columns))
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    facts = {"settings": record["settings"], **record["machine"], "revision": record["revision"]}
    if "matmul_gflop_per_second" in record:
        facts["float32 matmul"] = f"{record['matmul_gflop_per_second']} GFLOP/s"
    console.print(*(f"{key}: {value}" for key, value in facts.items()), sep="\n", highlight=False, soft_wrap=True)


def shown(value: Any) -> str:
    """A number, or a median with its spread; three digits that count."""
    if isinstance(value, dict):
        median, least, greatest = (f"{float(f'{value[name]:.3g}'):,.10g}" for name in ("median", "least", "greatest"))
        return f"{median} ({least} to {greatest})"
    return str(value)


if __name__ == "__main__":
    main()
