"""How results look in a terminal: tables on standard output, notices and the next step on standard error."""

import json
import shutil
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Bar
from rich.table import Table

from seqdiffrec.data import Corpus
from seqdiffrec.evaluation import Progress
from seqdiffrec.reports import chosen_metric
from seqdiffrec.training import RunFolder

OUT = Console(highlight=False, soft_wrap=True, emoji=False)
ERR = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)

PROTOCOLS = {"seen_kept": "all items ranked", "seen_removed": "seen items removed"}


def error(message: str) -> None:
    """What went wrong."""
    ERR.print(f"[bold red]error:[/] {escape(message)}")


def notice(message: str) -> None:
    """Something to know."""
    ERR.print(escape(message))


def next_step(command: str, label: str = "Next") -> None:
    """The command to try next, as it can be typed here: seqdiffrec may not be on the PATH."""
    if shutil.which("seqdiffrec") is None and command.startswith("seqdiffrec "):
        started = Path(sys.argv[0])
        here = str(started) if started.name == "seqdiffrec" else f"{sys.executable} -m seqdiffrec"
        command = here + command.removeprefix("seqdiffrec")
    ERR.print(f"{label}: [bold]{escape(command)}[/]")


def overlap(index: Mapping[str, Any]) -> str:
    """What an index finds, in words, by its facts."""
    return f"{index['overlap@10']:.1%} of the exact first ten are found, by {index['histories']:,} histories"


def facts(values: Mapping[str, Any]) -> None:
    """Names and values, a line each."""
    width = max(map(len, values))
    for name, value in values.items():
        shown = f"{value:,}" if isinstance(value, int) else str(value)
        OUT.print(f"{name:<{width}}  {escape(shown)}")


def lines(rows: Sequence[Mapping[str, str | None]]) -> None:
    """Rows of cells below each other, a line each, however wide."""
    cells = [[value or "-" for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def corpus(of: Corpus, folder: Path | None, *, as_json: bool) -> None:
    """Size of a corpus, and where it lies."""
    if as_json:
        sizes = {"users": of.num_users, "items": of.num_items, "actions": of.num_actions}
        place = {} if folder is None else {"folder": str(folder)}
        print(json.dumps({"name": of.name, **sizes, "content_hash": of.content_hash, **place}))
    else:
        print(f"{folder or of.name}: {of.size}")


def metrics(of: Mapping[str, Mapping[str, float]]) -> None:
    """A row a protocol, a column a metric."""
    table = Table()
    table.add_column("")
    names = [name for name in next(iter(of.values())) if not name.startswith("MRR@")]
    for name in names:
        table.add_column(name, justify="right")
    for protocol, values in of.items():
        table.add_row(PROTOCOLS[protocol], *(f"{values[name]:.4f}" for name in names))
    OUT.print(table)


def frame(rows: pl.DataFrame) -> None:
    """A frame as a table; scores as percentages."""
    table = Table()
    for name, kind in rows.schema.items():
        table.add_column("probability" if name == "score" else name, justify="right" if kind.is_numeric() else "left")
    for row in rows.iter_rows(named=True):
        cells = [_cell(name, value) for name, value in row.items()]
        table.add_row(*map(escape, cells))
    OUT.print(table)


def _cell(name: str, value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.2%}" if name in ("score", "score_std") else f"{value:.4f}"


def toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables of plain values as TOML, which has no null: unset ones are left out."""
    blocks: list[str] = []
    for name, values in tables.items():
        lines = [f"{key} = {_toml(value)}" for key, value in values.items() if value is not None]
        blocks.append("\n".join([f"[{name}]", *lines]))
    return "\n\n".join(blocks)


def run(folder: RunFolder) -> None:
    """A run's settings, data, versions and course."""
    record = folder.record
    history = folder.state().history
    corpus = record["corpus"]
    size = f"{corpus['users']:,} users, {corpus['items']:,} items, {corpus['actions']:,} actions"
    facts(
        {
            "run": str(folder.path),
            "status": record["status"],
            "model": record["settings"]["model"],
            "data": f"{corpus['name']}: {size}",
            "corpus hash": corpus["content_hash"],
            "command": record.get("command", "(from Python)"),
            "revision": record["revision"] or "(not from a checkout)",
            "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        }
    )
    metric = chosen_metric(record)
    print(toml({"model": record["settings"]["model_settings"], "training": record["settings"]["training"]}))
    for row in history:
        parts = [f"epoch {row['epoch']:>3}", *(f"{name} {value:.4f}" for name, value in row["train"].items())]
        if row["validation"]:
            parts.append(f"validation {metric} {row['validation']['seen_kept'][metric]:.4f}")
        mark = " *" if row["epoch"] == (record["best"] or {}).get("epoch") else ""
        print("  ".join(parts) + mark)


@contextmanager
def progress(what: str) -> Generator[Progress | None]:
    """A bar with time left, for work that tells how far it is; none where nobody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    with Bar(console=ERR, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def waiting(what: str) -> Generator[None]:
    """A sign of life, for work that does not tell how far it is; none where nobody looks."""
    if not sys.stderr.isatty():
        yield
        return
    with ERR.status(what):
        yield


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
