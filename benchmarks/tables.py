"""Records as tables on the terminal."""

import shlex
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

# Their values are places on one machine.
PLACES = ("--data-root", "--environments")
# What a record may tell of the machine's rate of matrix products.
MATMUL_RATES = {"float32": "matmul_gflop_per_second", "bfloat16": "bfloat16_matmul_gflop_per_second"}


def command(words: list[str]) -> str:
    """What to type for a benchmark again; folders, which are places on one machine, without their names."""
    said: list[str] = []
    for word in words:
        name, equals, _ = word.partition("=")
        said.append("DIR" if said and said[-1] in PLACES else f"{name}=DIR" if equals and name in PLACES else word)
    return shlex.join(["python", "-m", "benchmarks", *said])


def show(record: dict[str, Any]) -> None:
    """Print a record as a table; a figure with a spread is its median, then least to greatest."""
    table = Table(title=f"{record['benchmark']}, on {record['data']}", title_justify="left")
    columns = columns_of(record["rows"])
    for column in ("", *columns):
        table.add_column(column.replace("_", " "), justify="right" if column else "left")
    for name, row in record["rows"].items():
        table.add_row(name, *(shown(row.get(column)) for column in columns))
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    facts = {"settings": record["settings"], **record["machine"], "revision": record["revision"]}
    for kind, key in MATMUL_RATES.items():
        if key in record:
            facts[f"{kind} matmul"] = f"{record[key]} GFLOP/s"
    facts |= record.get("peer_versions", {})
    console.print(*(f"{key}: {value}" for key, value in facts.items()), sep="\n", highlight=False, soft_wrap=True)
    console.print(*record.get("notes", []), sep="\n", highlight=False, soft_wrap=True)


def columns_of(rows: dict[str, dict[str, Any]]) -> list[str]:
    """What the rows have between them, but for curves, which are for plots."""
    columns = dict.fromkeys(column for row in rows.values() for column in row)
    return [column for column in columns if column != "curve"]


def shown(value: Any) -> str:
    """A number, a median with its spread, three digits that count, or a mean with its interval; a dash for none."""
    if isinstance(value, dict) and "mean" in value:
        return f"{value['mean']:.4f} ({value['low']:.4f} to {value['high']:.4f})"
    if isinstance(value, dict):
        median, least, greatest = (f"{float(f'{value[name]:.3g}'):,.10g}" for name in ("median", "least", "greatest"))
        return f"{median} ({least} to {greatest})"
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
