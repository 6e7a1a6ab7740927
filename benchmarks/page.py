"""docs/benchmarks.md: its tables and plots are made from benchmarks/results/ alone, its prose is written by hand.

A table stands between the lines ``<!-- made: NAME -->`` and ``<!-- end -->``; NAME is the benchmark's, with its parts
behind it where a record is of some of them: ``endurance-kill``.
"""

import argparse
import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.plots import Panel, Plot, Points, draw
from benchmarks.tables import MATMUL_RATES, columns_of, shown
from benchmarks.workers import ROOT, BenchmarkError
from seqdiffrec.data.storage import replace_file

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
IMAGES = Path("images") / "benchmarks"  # from the page's folder
BLOCK = re.compile(r"(<!-- made: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
# How to record what is not there yet.
COMMANDS = {
    "training": "python -m benchmarks training --peers --save",
    "epoch": "python -m benchmarks epoch --save",
    "models": "python -m benchmarks models --save",
    "memory": "python -m benchmarks memory --save",
    "ranking": "python -m benchmarks ranking --save",
    "draws": "python -m benchmarks draws --hidden-size 64 --save",
    "requests": "python -m benchmarks requests --save",
    "index": "python -m benchmarks index --save",
    "exported": "python -m benchmarks exported --save",
    "quality": "python -m benchmarks quality --peers --save",
    "growth": "python -m benchmarks growth --save",
    "prepare": "python -m benchmarks prepare --save",
    "fit": "python -m benchmarks fit --save",
    "updates": "python -m benchmarks updates --models SASRec --hidden-size 32 --epochs 5 --precision float32 "
    "--cases 1000 --save",
    "serving": "python -m benchmarks serving --save",
    "endurance": "python -m benchmarks endurance --save",
}
MIB = {"peak_memory_mib": "peak memory, MiB", "padded_peak_memory_mib": "padded peak memory, MiB"}
MIB |= {"training_peak_memory_mib": "peak memory of the steps, MiB"}
HEADS = {"": "", **MIB, "p50_ms": "p50, ms", "p99_ms": "p99, ms", "best_ndcg": "best NDCG@10"}
# Said by the row's name, or for plots alone.
LEFT_OUT = {"growth": ("axis", "value", "system", "loss", "laps"), "requests": ("turns",)}

Record = dict[str, Any]


def add_page_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where something is out of date"
    )


def run_page(options: argparse.Namespace, words: list[str]) -> int:
    """Write the page and its plots, or say what is out of date."""
    found = build(PAGE, RESULTS, check=options.check)
    print("\n".join(found) or "docs/benchmarks.md is what its results give")
    return 1 if options.check and found else 0


def build(page: Path, results: Path, *, check: bool = False) -> list[str]:
    """Fill in the page's tables and draw its plots.

    Returns the files written; with `check` a line for each that is not what the results give.
    Raises BenchmarkError where the page has no place for a result, or one for what is no benchmark.
    """
    old = page.read_text(encoding="utf-8")
    records = {path.stem: json.loads(path.read_bytes()) for path in sorted(results.glob("*.json"))}
    named = [found[2] for found in BLOCK.finditer(old)]
    lost = [name for name in records if name not in named]
    lost += [name for name in named if name.partition("-")[0] not in COMMANDS]
    if lost:
        raise BenchmarkError(f"{page.name} and {results.name}/ do not go together: {', '.join(lost)}")
    plots = {name: PLOTS[name](record) for name, record in records.items() if name in PLOTS}

    def block(found: re.Match[str]) -> str:
        name = found[2]
        lines = filled(name, records[name], plots.get(name, [])) if name in records else empty(name)
        return f"{found[1]}\n{lines}\n\n{found[3]}"

    text = BLOCK.sub(block, old)
    files = {page.parent / IMAGES / f"{plot.name}.svg": plot for drawn in plots.values() for plot in drawn}
    stale = [file for file, plot in files.items() if plot.fingerprint().encode() not in content(file)]
    left = [file for file in (page.parent / IMAGES).glob("*.svg") if file not in files]
    if check:
        wrong = [*([page] if text != old else []), *stale, *left]
        return [f"{file.name} is not what benchmarks/results gives: python -m benchmarks page" for file in wrong]
    (page.parent / IMAGES).mkdir(parents=True, exist_ok=True)
    for file in left:
        file.unlink()
    for file in stale:
        replace_file(file, draw(files[file]))
    replace_file(page, text.encode())
    return [file.name for file in [*stale, page]]


def content(path: Path) -> bytes:
    """Of a file; nothing where there is none."""
    return path.read_bytes() if path.is_file() else b""


def empty(name: str) -> str:
    """What stands where nothing is recorded yet."""
    benchmark, *parts = name.split("-")
    words = f"python -m benchmarks {benchmark} --parts {' '.join(parts)} --save" if parts else COMMANDS[benchmark]
    return f"Not recorded yet: `{words}`."


def filled(name: str, record: Record, plots: list[Plot]) -> str:
    """Where the figures come from, the plots, and the table."""
    machine, versions = record["machine"], record["versions"]
    peers = "; ".join(
        ", ".join(f"{package} {version}" for package, version in own.items())
        for own in record.get("peer_versions", {}).values()
    )
    rates = ", ".join(f"{kind} {record[key]} GFLOP/s" for kind, key in MATMUL_RATES.items() if key in record)
    revision, changes, _ = (record["revision"] or "unknown").partition("+changes")
    where = [machine["processor"], *([machine["instructions"]] if "instructions" in machine else [])]
    where += [f"{machine['cores']} cores", f"{machine['torch_threads']} threads", machine["device"]]
    where += [f"load before the run {machine['load_before']}"]
    said = (
        f"[Record](../benchmarks/results/{name}.json): `{record['command']}`, on {record['data']}. "
        f"{', '.join(where)}; Python {versions['python']}, torch {versions['torch']}, "
        f"revision `{revision[:10]}{changes}`.{f' Peers: {peers}.' if peers else ''}"
        f"{f' A product of two matrices: {rates}.' if rates else ''}"
    )
    lines = [line for plot in plots for line in (f"![{plot.alt}]({IMAGES.as_posix()}/{plot.name}.svg)", "")]
    # Right before the table: docs/check.py looks for a figure's record there.
    lines += textwrap.wrap(said, 120, break_long_words=False, break_on_hyphens=False)
    columns = [one for one in columns_of(record["rows"]) if one not in LEFT_OUT.get(name, ())]
    heads = [HEADS.get(one, one.replace("_", " ").replace("per second", "a second")) for one in ("", *columns)]
    lines += ["", f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * len(columns)}"]
    for label, row in record["rows"].items():
        lines.append(f"| {' | '.join([label, *(shown(row.get(one)) for one in columns)])} |")
    return "\n".join([*lines, *(f"\n{note}" for note in record.get("notes", []))])


def training_plots(record: Record) -> list[Plot]:
    """A bar a system."""
    speeds = {name: row["targets_per_second"] for name, row in record["rows"].items()}
    bars = {name: (one["median"], one["least"], one["greatest"]) for name, one in speeds.items()}
    alt = f"Training targets a second of {', '.join(bars)}"
    return [Plot("training", alt, [Panel("targets a second (least to greatest of the rounds)", bars=bars)])]


def quality_plots(record: Record) -> list[Plot]:
    """NDCG@10 over seconds of training."""
    lines: dict[str, Points] = {
        name: [(point["seconds"], point["ndcg"]) for point in row["curve"]] for name, row in record["rows"].items()
    }
    alt = f"Validation NDCG@10 by seconds of training: {', '.join(lines)}"
    level = record["settings"]["figure"]
    return [Plot("quality", alt, [Panel("seconds of training", "NDCG@10", lines, log_y=False, level=level)])]


def growth_plots(record: Record) -> list[Plot]:
    """For each axis, speed and memory by its value."""
    rows = list(record["rows"].values())
    labels = {
        "length": "places of a sequence, T",
        "catalogue": "items",
        "users": "users",
        "threads": "threads",
    }
    plots: list[Plot] = []
    for axis in dict.fromkeys(row["axis"] for row in rows):
        speed: dict[str, Points] = {}
        memory: dict[str, Points] = {}
        for row in rows:
            if row["axis"] == axis and "targets_per_second" in row:
                name = row["system"] + (f", {row['loss']} loss" if row["loss"] != "full" else "")
                speed.setdefault(name, []).append((row["value"], row["targets_per_second"]["median"]))
                memory.setdefault(name, []).append((row["value"], row["peak_memory_mib"]))
        panels = [Panel(labels[axis], "targets a second", speed), Panel(labels[axis], "peak memory, MiB", memory)]
        plots.append(Plot(f"growth-{axis}", f"Training speed and memory by {labels[axis]}: {', '.join(speed)}", panels))
    return plots


def requests_plots(record: Record) -> list[Plot]:
    """Milliseconds by the size of the catalogue."""
    lines: dict[str, Points] = {}
    for name, row in record["rows"].items():
        if "p50_ms" in row:
            size, _, system = name.partition(" items, ")
            lines.setdefault(system, []).append((int(size.replace(",", "")), row["p50_ms"]))
    alt = f"Milliseconds of one request by items of the catalogue: {', '.join(lines)}"
    return [Plot("requests", alt, [Panel("items", "p50 of one request, ms", lines)])]


PLOTS: dict[str, Callable[[Record], list[Plot]]] = {
    "training": training_plots,
    "quality": quality_plots,
    "growth": growth_plots,
    "requests": requests_plots,
}
