"""Time the code, beside other libraries where they are set up; print a table each, and keep the figures with --save."""

import argparse
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import (
    draws_speed,
    endurance,
    epoch_speed,
    exported_speed,
    fitting,
    growth,
    index_speed,
    model_speed,
    prepare_speed,
    quality,
    ranking_speed,
    recipe_memory,
    request_speed,
    serving,
    training_speed,
    updates,
)
from benchmarks.machine import describe
from benchmarks.page import RESULTS, add_page_arguments, run_page
from benchmarks.peers.environments import FOLDER, PEERS, set_up
from benchmarks.tables import command, show
from benchmarks.workers import BenchmarkError
from benchmarks.workload import SIZE
from seqdiffrec.data import DataError
from seqdiffrec.data.datasets import DATA_ROOT_VARIABLE
from seqdiffrec.data.storage import replace_file
from seqdiffrec.models.device import pick_device
from seqdiffrec.models.settings import SettingError

BENCHMARKS: dict[str, ModuleType] = {
    "training": training_speed,
    "epoch": epoch_speed,
    "models": model_speed,
    "memory": recipe_memory,
    "ranking": ranking_speed,
    "draws": draws_speed,
    "requests": request_speed,
    "index": index_speed,
    "exported": exported_speed,
    "quality": quality,
    "growth": growth,
    "prepare": prepare_speed,
    "fit": fitting,
    "updates": updates,
    "serving": serving,
    "endurance": endurance,
}
# What runs without a name: minutes, where the others take hours.
SHORT = ("training", "ranking", "requests")


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print; the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        return max(main([name, *words]) for name in SHORT)
    options = make_parser().parse_args(words)
    try:
        return options.carry_out(options, words)
    except (BenchmarkError, DataError, SettingError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def make_parser() -> argparse.ArgumentParser:
    """A subcommand for each benchmark, and those that set up and show."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=f"Without a name: {', '.join(SHORT)}. What is measured and how: docs/benchmarks.md.",
    )
    commands = parser.add_subparsers(required=True, metavar="NAME")
    setup = commands.add_parser("setup", help="make an environment of its own for each of the other libraries")
    setup.description = (
        "Makes an environment of its own for each peer and installs the pinned versions of benchmarks/peers/NAME.txt. "
        "What is there already is left as it is. Some minutes and 1.5 GB on disk each."
    )
    setup.add_argument("names", nargs="*", metavar="PEER", help=f"of {', '.join(PEERS)}; all without")
    setup.add_argument(
        "--environments", type=Path, default=FOLDER, metavar="DIR", help="folder to put them in; default build/peers"
    )
    setup.add_argument("--python", help="the interpreter to make them with; default: the first that will do")
    setup.set_defaults(carry_out=run_setup)
    for name, module in BENCHMARKS.items():
        assert module.__doc__ is not None
        one = commands.add_parser(name, help=module.__doc__.splitlines()[0], description=module.__doc__)
        with_parts = ", with --parts also these in its name" * hasattr(module, "PARTS")
        one.add_argument("--save", action="store_true", help=f"write benchmarks/results/{name}.json{with_parts}")
        one.add_argument("--data-root", default=os.environ.get(DATA_ROOT_VARIABLE), help="folder with the datasets")
        one.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
        one.add_argument("--hidden-size", type=int, default=SIZE["hidden_size"], help="less than %(default)s for a try")
        module.add_arguments(one)
        one.set_defaults(carry_out=run_benchmark, name=name, module=module)
    page = commands.add_parser("page", help="build the tables and plots of docs/benchmarks.md from the results")
    add_page_arguments(page)
    page.set_defaults(carry_out=run_page)
    return parser


def run_setup(options: argparse.Namespace, words: list[str]) -> int:
    """Make environments."""
    unknown = [name for name in options.names if name not in PEERS]
    if unknown:
        raise BenchmarkError(f"there is no peer {', '.join(unknown)}; there are {', '.join(PEERS)}")
    return 0 if set_up(options.names or list(PEERS), options.environments, options.python) else 1


def run_benchmark(options: argparse.Namespace, words: list[str]) -> int:
    """Time, print, keep."""
    options.size = {**SIZE, "hidden_size": options.hidden_size}
    record = {"benchmark": options.name, "command": command(words), **describe(pick_device("auto"))}
    record |= options.module.run(options)
    show(record)
    if options.save:
        save(record, record_name(options))
    return 0


def save(record: dict[str, Any], name: str) -> None:
    """Write a record; beside the one that is there, and said so, where that has what this run was not asked for."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    if path.exists() and (lacks := lacking(record, json.loads(path.read_bytes()))):
        path = RESULTS / f"{name}-part.json"
        print(f"{name}.json stays, since this run lacks {lacks}: it is in {path.name}", file=sys.stderr)
    replace_file(path, json.dumps(record, indent=2).encode() + b"\n")


def lacking(record: dict[str, Any], before: dict[str, Any]) -> str:
    """What an earlier record has and this one has not, in words: rows, or the models' size."""
    sizes = [one.get("settings", {}).get("hidden_size") for one in (record, before)]
    if sizes[0] != sizes[1]:
        return f"d {sizes[1]} (it has {sizes[0]})"
    rows = [name for name in before["rows"] if name not in record["rows"]]
    return f"{len(rows)} of its rows, such as {rows[0]!r}" if rows else ""


def record_name(options: argparse.Namespace) -> str:
    """The benchmark's, with the parts that were run where these are not all: a record is of one run."""
    every = getattr(options.module, "PARTS", ())
    ran = [part for part in every if part in options.parts]
    return "-".join([options.name, *(ran if len(ran) < len(every) else [])])


if __name__ == "__main__":
    sys.exit(main())
