"""What may be odd about a log: each kind of it with how often it occurs, examples, and what to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from seqdiffrec.data.prepare import SHORTEST_USEFUL
from seqdiffrec.data.sources import Where
from seqdiffrec.data.words import counted

MANY_EVENTS = 10_000
"""A user with so many is rarely a person."""
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
FIRST_YEAR = 1990
_EXAMPLES = 3
_DAY = 86_400
_SINCE = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC).timestamp()


@dataclass(frozen=True)
class Oddity:
    """Something to look at before training.

    name: of its kind, for programs. count: how many rows, users, items or ids it is about. says: what it is; remedy:
    what to do. examples: a few ids or values. refused: whether training refuses the log for it.
    """

    name: str
    count: int
    says: str
    remedy: str
    examples: list[Any] = field(default_factory=list[Any])
    refused: bool = False


def no_value(kind: str, column: str, values: pl.Series, missing: pl.Series, where: Where) -> Oddity:
    """Rows that have no user, item or finite time; `missing` is true there. Said as training says it of the first.

    values: what the column holds. where: says where a row stands.
    """
    first, what = missing.arg_max() or 0, f"no id in column {column!r}"
    if kind == "time":
        what = f"no timestamp in column {column!r}"
        if values.null_count():
            first = values.is_null().arg_max() or 0
        else:
            what = f"timestamp {values[first]} is not a finite number"
    more = int(missing.sum()) - 1
    also = f" (and {counted(more, 'more row')})" if more else ""
    return Oddity(f"no_{kind}", more + 1, f"{where(first)}: {what}{also}", "fill it in or drop the row", refused=True)


def unread_times(column: str, why: str) -> Oddity:
    """A column of times that are not understood."""
    return Oddity(
        "times_not_read",
        1,
        f"column {column!r}: {why}",
        "mend it; or rename the column, and the order of the rows is the order of time",
        refused=True,
    )


def of_ids(column: str, kind: str, ids: pl.Series) -> list[Oddity]:
    """Ids that are one and the same to a person, or that are no ids. ids: each once."""
    found: list[Oddity] = []
    if ids.dtype.is_float():
        remedy = "make them whole numbers or texts: pandas makes decimals of whole numbers where some are missing"
        found.append(Oddity(f"decimal_{kind}s", len(ids), f"{kind} ids in {column!r} are decimals", remedy))
    if ids.dtype != pl.String:
        return found
    plain = ids.str.replace_all(r"\s+", "").str.to_lowercase()
    if plain.n_unique() < len(ids):
        groups = pl.DataFrame({"plain": plain, "id": ids}).group_by("plain", maintain_order=True).agg("id")
        alike = groups.filter(pl.col("id").list.len() > 1)["id"]
        examples = [" and ".join(map(repr, one[:2])) for one in alike.head(_EXAMPLES).to_list()]
        says = f"{kind}s written in more than one way, by white space or case alone: {len(alike):,}"
        found.append(Oddity(f"alike_{kind}s", len(alike), says, "write each in one way", examples))
    numbers = ids.str.contains(r"^-?\d+(\.0)?$")
    count = int(numbers.sum())
    if 0 < count < len(ids):
        few = ids.filter(numbers if 2 * count <= len(ids) else ~numbers)
        says = f"{kind} ids of two kinds: {count:,} whole numbers, {len(ids) - count:,} other texts"
        remedy = "see if they are of one column, and all are meant"
        found.append(Oddity(f"mixed_{kind}s", len(few), says, remedy, few.head(_EXAMPLES).to_list()))
    return found


def of_counts(
    columns: Mapping[str, str], user_ids: pl.Series, lengths: NDArray[np.int64], counts: NDArray[np.int64]
) -> list[Oddity]:
    """What the numbers of actions of users and items tell. lengths: (U,) of users, counts: (I,) of items."""
    found: list[Oddity] = []
    for kind, number in (("user", lengths), ("item", counts)):
        column = columns[kind]
        if len(number) == 1 or len(number) == number.sum():
            what = "holds one value only" if len(number) == 1 else "has another value in each row"
            says = f"column {column!r} {what}, so it is hardly that of {kind}s"
            found.append(Oddity(f"no_{kind}_column", len(number), says, f"name the right one: --{kind}", refused=True))
    if found:
        return found
    many = np.flatnonzero(lengths >= MANY_EVENTS)
    if len(many):
        most = many[np.argsort(-lengths[many], kind="stable")[:_EXAMPLES]]
        examples = [f"{user_ids[int(user)]} with {lengths[user]:,}" for user in most]
        says = f"users with {MANY_EVENTS:,} actions or more, robots or shared accounts perhaps: {len(many):,}"
        found.append(Oddity("many_events", len(many), says, "leave them out if they are no people", examples))
    short = int(np.sum(lengths < SHORTEST_USEFUL))
    if short:
        says = f"users with fewer than {SHORTEST_USEFUL} actions: {_share(short, len(lengths))}"
        remedy = "they only train; --set data.min_user=3 drops them"
        found.append(Oddity("short_users", short, says, remedy, refused=short == len(lengths)))
    once = int(np.sum(counts == 1))
    if once:
        says = f"items that occur once: {_share(once, len(counts))}"
        found.append(Oddity("items_once", once, says, "little can be said of them; --set data.min_item=5 drops such"))
    return found


def of_times(times: NDArray[Any], is_dates: bool) -> tuple[dict[str, Any], list[Oddity]]:
    """First and last, the unit, and times that cannot be right.

    times: numbers of a unit not known, or, with `is_dates`, microseconds. The unit is the one in which most of them lie
    between 1990 and tomorrow; where that is not so for half of them they are no dates, and nothing is said of them.
    """
    now = datetime.now(UTC).timestamp() + _DAY
    fit = {unit: int(np.sum((times >= _SINCE * per) & (times <= now * per))) for unit, per in UNITS.items()}
    unit = "microseconds" if is_dates else max(fit, key=lambda one: fit[one])
    least, greatest = times.min().item(), times.max().item()
    if not is_dates and 2 * fit[unit] < len(times):
        return {"from": least, "to": greatest, "unit": None}, []
    found: list[Oddity] = []
    per = UNITS[unit]
    others = {name: count for name, count in fit.items() if name != unit and count}
    if others and not is_dates:
        also = " and ".join(f"{count:,} in {name}" for name, count in others.items())
        says = f"times in more than one unit: {fit[unit]:,} in {unit}, {also}"
        found.append(Oddity("mixed_units", sum(others.values()), says, "bring all to one, or their order is wrong"))
    early = int(np.sum(times < _SINCE * per)) - sum(c for n, c in others.items() if UNITS[n] < per and not is_dates)
    late = int(np.sum(times > now * per)) - sum(c for n, c in others.items() if UNITS[n] > per and not is_dates)
    for name, count, when, value in (
        ("before_1990", early, f"before {FIRST_YEAR}", least),
        ("in_future", late, "in the future", greatest),
    ):
        if count > 0:
            says = f"times {when}: {count:,}"
            found.append(Oddity(name, count, says, "mend them, or drop those rows", [as_date(value, per)]))
    shown = {"from": as_date(least, per), "to": as_date(greatest, per), "unit": "dates" if is_dates else unit}
    return shown, found


def _share(count: int, of: int) -> str:
    share = 100 * count / of
    return f"{count:,} ({'under 1' if share < 1 else round(share)} %)"


def as_date(time: float, per: int) -> str | float:
    """A time as ISO text in UTC, or as the number where no calendar has it. per: how many a second has, see `UNITS`."""
    try:
        return datetime.fromtimestamp(time / per, UTC).isoformat(timespec="seconds").removesuffix("+00:00")
    except (OverflowError, ValueError, OSError):
        return time


def of_order(times: NDArray[Any], ties: int) -> list[Oddity]:
    """Rows before earlier ones, and actions of a user at one time. times: as the log has them."""
    found: list[Oddity] = []
    back = int(np.sum(times[1:] < times[:-1]))
    if back:
        says = f"rows earlier than the row before them: {_share(back, len(times))}"
        found.append(Oddity("out_of_order", back, says, "nothing to do: they are put in order of time"))
    if ties:
        says = f"actions at the same time as another of their user: {_share(ties, len(times))}"
        found.append(Oddity("ties", ties, says, "the order of the rows counts there: see that it means something"))
    return found


def same_time(
    users: NDArray[np.int32], items: NDArray[np.int32], times: NDArray[Any]
) -> tuple[int, int, NDArray[np.int64]]:
    """Actions at the time of another one of the user; those that repeat its item too; and the places of all of these.

    All (M,), by user and then by time.
    """
    same = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    tied = np.zeros(len(users), dtype=bool)
    tied[1:] |= same
    tied[:-1] |= same
    places = np.flatnonzero(tied)
    group = np.cumsum(np.concatenate(([True], ~same)), dtype=np.int32)[places].astype(np.int64)
    key = group * (int(items.max()) + 1) + items[places]
    _, inverse, count = np.unique(key, return_inverse=True, return_counts=True)
    return len(places), len(places) - len(count), places[count[inverse] > 1]


def of_copies(extra: int, copies: int | None) -> list[Oddity]:
    """Actions that repeat user, item and time of another, and how many of them repeat the whole row, if known."""
    if extra == 0:
        return []
    also = "" if copies is None else f", of which in all columns {copies:,}"
    says = f"actions that repeat user, item and time of another: {extra:,}{also}"
    return [Oddity("copies", extra, says, "drop them if the log was written twice; each counts as an action")]
