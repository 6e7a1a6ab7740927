"""A survey of a log on one screen: what is there, two plots, what is odd."""

from typing import Any

from rich.columns import Columns
from rich.markup import escape
from rich.table import Table

from seqdiffrec.data.survey import Survey
from seqdiffrec.show import OUT, facts

BAR = 16
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def screen(found: Survey) -> None:
    """Print it."""
    columns = ", ".join(f"{kind} {column!r}" for kind, column in found.columns.items())
    left_out = "" if found.rows == found.actions else f" of {found.rows:,} rows"
    facts(
        {
            "log": f"{found.source} ({columns})",
            "size": f"{found.users:,} users, {found.items:,} items, {found.actions:,} actions{left_out}",
            "times": _times(found.times),
            "a user": _spread(found.lengths),
            "an item": _spread(found.popularity),
        }
    )
    OUT.print()
    plots = [_plot("users by actions", found.lengths["bins"]), _plot("items by actions", found.popularity["bins"])]
    OUT.print(Columns(plots, padding=(0, 2)))
    if not found.oddities:
        OUT.print("nothing odd was found")
    for one in found.oddities:
        mark = "[bold red]refused[/]" if one.refused else "[yellow]odd[/]"
        examples = f" ({'; '.join(_short(str(example)) for example in one.examples)})" if one.examples else ""
        OUT.print(f"{mark}: {escape(one.says + examples)}. {escape(one.remedy[:1].upper() + one.remedy[1:])}.")


def _times(times: dict[str, Any] | None) -> str:
    if times is None:
        return "none that can be used; the order of the rows counts"
    unit = times["unit"]
    told = "numbers that are no dates" if unit is None else unit if unit == "dates" else f"dates in {unit} since 1970"
    return f"{times['from']} to {times['to']} ({told})"


def _spread(of: dict[str, Any]) -> str:
    middle = f"{of['median']:,g} in the middle, {of['mean']:,} on average, {of['p90']:,g} at nine of ten"
    return f"{of['least']:,} to {of['most']:,} actions: {middle}"


def _plot(title: str, bins: list[dict[str, int]]) -> Table:
    """A bar a bin, as long as the share of the fullest one."""
    table = Table(title=title, title_justify="left", box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(justify="right")
    table.add_column(width=BAR, no_wrap=True)
    table.add_column(justify="right")
    fullest = max(one["count"] for one in bins)
    for one in bins:
        label = f"{one['to']:,}" if one["from"] == one["to"] else f"to {one['to']:,}"
        table.add_row(label, _bar(one["count"] / fullest), f"{one['count']:,}")
    return table


def _bar(share: float) -> str:
    eighths = max(round(share * BAR * 8), 1 if share else 0)
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
