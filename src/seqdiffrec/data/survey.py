"""`survey`: what a log holds and what is odd about it, before anything is trained on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from seqdiffrec.data import oddities
from seqdiffrec.data.columns import check_columns
from seqdiffrec.data.errors import DataError
from seqdiffrec.data.interactions import read_columns
from seqdiffrec.data.oddities import Oddity
from seqdiffrec.data.prepare import in_order
from seqdiffrec.data.sources import RawLog
from seqdiffrec.data.timestamps import as_numbers
from seqdiffrec.data.vocabulary import number_ids

BINS = 9
"""A plot is to fit on a screen."""
MOST_COMPARED = 1_000_000
"""Rows that are read again as a whole, to tell copies of a row from two actions at one time."""


@dataclass(frozen=True)
class Survey:
    """What is in a log.

    columns: which of its columns hold `user`, `item` and, where there is one, `time`.
    rows: all that there are; all else counts only those that have a user, an item and a time: the `actions`.
    times: `from`, `to` (ISO texts where they are dates, else numbers) and `unit` ("dates", "seconds", "milliseconds",
        "microseconds", "nanoseconds", or None: no dates); None without times that could be read.
    lengths, popularity: actions of a user and of an item: `least`, `median`, `mean`, `p90`, `p99`, `most`, and `bins`:
        how many have from `from` to `to` actions.
    """

    source: str
    columns: dict[str, str]
    rows: int
    users: int
    items: int
    actions: int
    times: dict[str, Any] | None
    lengths: dict[str, Any]
    popularity: dict[str, Any]
    oddities: list[Oddity]


@dataclass(frozen=True)
class _Times:
    """missing: rows without one. is_dates: whether they were dates rather than numbers. found: what is odd."""

    missing: pl.Series
    is_dates: bool
    found: list[Oddity]


def survey(log: RawLog, columns: Mapping[str, str]) -> Survey:
    """Read a log and look at it.

    columns: the names of its columns `user`, `item` and, if there is one, `time`.
    Raises DataError where the log cannot be read, lacks a column or has no row that could be used.
    """
    raw = _read(log, columns)
    times, about_times = _times_of(raw, log, columns)
    missing = {kind: _missing(raw[kind]) for kind in ("user", "item")}
    if times is not None:
        missing["time"] = about_times.missing
    found = about_times.found + [
        oddities.no_value(kind, columns[kind], raw[kind], rows, log.where)
        for kind, rows in missing.items()
        if rows.any()
    ]
    lacks = np.logical_or.reduce([rows.to_numpy() for rows in missing.values()])
    rows = np.flatnonzero(~lacks) if lacks.any() else None
    if rows is not None and len(rows) == 0:
        kinds = " and ".join(f"{kind} (column {columns[kind]!r})" for kind in missing)
        raise DataError(f"{log.label}: no row has {kinds}; check which columns hold them")
    (user_ids, users), (item_ids, items) = (
        number_ids(raw[kind] if rows is None else raw[kind][rows]) for kind in ("user", "item")
    )
    total = len(raw)
    del raw
    lengths, counts = np.bincount(users), np.bincount(items)
    found += oddities.of_ids(columns["user"], "user", user_ids) + oddities.of_ids(columns["item"], "item", item_ids)
    found += oddities.of_counts(columns, user_ids, lengths, counts)
    about = None
    if times is not None:
        numbers = (times if rows is None else times[rows]).to_numpy()
        about, odd = oddities.of_times(numbers, about_times.is_dates)
        order = in_order(users, numbers, len(user_ids))
        ties, extra, places = oddities.same_time(users[order], items[order], numbers[order])
        again = order[places] if rows is None else rows[order[places]]
        found += odd + oddities.of_order(numbers, ties) + oddities.of_copies(extra, _same_rows(log, again))
    return Survey(
        source=log.label,
        columns=dict(columns),
        rows=total,
        users=len(user_ids),
        items=len(item_ids),
        actions=len(users),
        times=about,
        lengths=_spread(lengths),
        popularity=_spread(counts),
        oddities=sorted(found, key=lambda one: not one.refused),
    )


def _read(log: RawLog, columns: Mapping[str, str]) -> pl.DataFrame:
    check_columns(log.label, log.columns, log.uneven, columns)
    raw = read_columns(log, dict(columns))
    if len(raw) == 0:
        raise DataError(f"{log.label} has columns but no rows; it must hold at least one action")
    for kind in ("user", "item"):
        if raw[kind].dtype.is_nested() or raw[kind].dtype == pl.Object:
            raise DataError(f"{log.label}: ids of type {raw[kind].dtype} in column {columns[kind]!r}; make them texts")
    return raw


def _times_of(raw: pl.DataFrame, log: RawLog, columns: Mapping[str, str]) -> tuple[pl.Series | None, _Times]:
    """The times as numbers, with any value where there is none; None where there are none that could be read."""
    times = raw["time"] if "time" in columns else pl.Series([None])
    is_dates = times.dtype.is_temporal()
    if times.dtype == pl.String:
        numbers = times.cast(pl.Float64, strict=False)
        is_dates = 2 * (numbers.null_count() - times.null_count()) > times.count()
        times = numbers if numbers.null_count() == times.null_count() else times
    if times.dtype.is_decimal():
        times = times.cast(pl.Float64)
    if times.dtype.is_float():
        times = pl.select(pl.when(times.is_finite()).then(times)).to_series()
    missing = times.is_null()
    if missing.all():
        odd = [oddities.no_value("time", columns["time"], raw["time"], missing, log.where)] if "time" in columns else []
        return None, _Times(missing, is_dates, odd)
    try:
        return as_numbers(times.fill_null(times.drop_nulls()[0]), log.where), _Times(missing, is_dates, [])
    except DataError as error:
        return None, _Times(missing, is_dates, [oddities.unread_times(columns["time"], str(error))])


def _missing(values: pl.Series) -> pl.Series:
    return values.is_null() | values.is_nan() if values.dtype.is_float() else values.is_null()


def _same_rows(log: RawLog, places: NDArray[np.integer[Any]]) -> int | None:
    """How many of these rows are copies of another one of them in all columns; None where there are too many to see."""
    if len(places) == 0 or len(places) > MOST_COMPARED:
        return None if len(places) else 0
    plain = [name for name, kind in log.frame.collect_schema().items() if not kind.is_nested() and kind != pl.Object]
    wanted = pl.LazyFrame({"row": np.sort(places)}, schema={"row": pl.UInt32})
    rows = (
        log.frame.select(plain)
        .with_row_index("row of the log")
        .join(wanted, left_on="row of the log", right_on="row", how="semi")
    )
    return len(places) - log.collect(rows.select(plain).unique().select(pl.len())).item()


def _spread(counts: NDArray[np.int64]) -> dict[str, Any]:
    middle, p90, p99 = np.quantile(counts, (0.5, 0.9, 0.99))
    # 1, 2, 3 to 4, 5 to 8, ...: the number of the bin is the logarithm, rounded up. Longer tails get wider bins.
    base = next(base for base in (2, 4, 10, 100) if counts.max() <= base**BINS or base == 100)
    edges = np.array([0, *(base**number for number in range(BINS + 1))])
    edges = edges[: np.searchsorted(edges, counts.max()) + 1]
    bins = np.diff(np.searchsorted(np.sort(counts), edges, side="right"))
    return {
        "least": int(counts.min()),
        "median": float(middle),
        "mean": round(float(counts.mean()), 2),
        "p90": float(p90),
        "p99": float(p99),
        "most": int(counts.max()),
        "bins": [
            {"from": low + 1, "to": high, "count": count}
            for low, high, count in zip(edges[:-1].tolist(), edges[1:].tolist(), bins.tolist(), strict=True)
        ],
    }
