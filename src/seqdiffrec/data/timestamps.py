"""Times of any kind as int64 or float64 that sort the same way."""

from datetime import UTC, datetime, timedelta

import polars as pl

from seqdiffrec.data.errors import DataError
from seqdiffrec.data.sources import Where

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_USUAL = ("%Y-%m-%d", *(f"%Y-%m-%d{gap}%H:%M:%S%.f{zone}" for gap in "T " for zone in ("", "%#z")))
"""Forms of ISO 8601 in which nearly all logs are written; a column in one of them is read at once."""


def as_numbers(times: pl.Series, where: Where) -> pl.Series:
    """Turn a column of times into numbers.

    Integers stay int64, floats float64; datetimes, dates and ISO 8601 texts become int64 microseconds since 1970 UTC
    (times without a zone count as UTC). Texts that hold whole numbers or decimals count as those.
    where: says where a row stands, for errors.
    Raises DataError with the place of a time that is missing, not finite or not understood.
    """
    missing = times.is_null().arg_max()
    if times.null_count() and missing is not None:
        raise DataError(f"{where(missing)}: no timestamp; fill it in, or leave the time column out for the log's order")
    if times.dtype == pl.String:
        times = _parse(times, where)
    if times.dtype == pl.Date:
        times = times.cast(pl.Datetime("us"))
    if times.dtype == pl.Datetime:
        return times.dt.cast_time_unit("us").to_physical()
    if times.dtype.is_integer():
        return _as_int64(times, where)
    if times.dtype.is_float() or times.dtype.is_decimal():
        return _finite(times.cast(pl.Float64), where)
    raise DataError(
        f"{where(0)}: timestamps of type {times.dtype} are not understood; give whole numbers, decimals, "
        "ISO texts or datetimes"
    )


def _as_int64(times: pl.Series, where: Where) -> pl.Series:
    numbers = times.cast(pl.Int64, strict=False)
    if numbers.null_count():
        row = numbers.is_null().arg_max() or 0
        raise DataError(f"{where(row)}: timestamp {times[row]} does not fit into 64 bits")
    return numbers


def _finite(times: pl.Series, where: Where) -> pl.Series:
    row = (~times.is_finite()).arg_max() or 0
    if not times.is_finite().all():
        raise DataError(f"{where(row)}: timestamp {times[row]} is not a finite number")
    return times


def _parse(texts: pl.Series, where: Where) -> pl.Series:
    """Read all texts as whole numbers, else all as decimals, else all as ISO 8601."""
    numbers = [texts.cast(kind, strict=False) for kind in (pl.Int64, pl.Float64)]
    for parsed in numbers:
        if not parsed.null_count():
            return parsed
    decimals = numbers[-1]
    if decimals.null_count() < len(decimals) - decimals.null_count():
        # Most are numbers, so the one that is not is the mistake, not the format.
        row = decimals.is_null().arg_max() or 0
        raise DataError(f"{where(row)}: timestamp {texts[row]!r} is not a number, as the others are")
    return _parse_iso(texts, where)


def _parse_iso(texts: pl.Series, where: Where) -> pl.Series:
    for form in _USUAL:
        # The first row says whether it is worth a try.
        for some in (texts[:1], texts):
            times = some.str.to_datetime(form, time_unit="us", strict=False)
            if times.null_count():
                break
        else:
            return times.to_physical()
    microseconds: list[int] = []
    zoned_first: bool | None = None
    for row, text in enumerate(texts):
        try:
            time = datetime.fromisoformat(text.strip())
        except ValueError as error:
            raise DataError(
                f"{where(row)}: timestamp {text!r} does not parse; give whole numbers, decimals or ISO 8601 "
                "such as 2024-05-31T18:30:00"
            ) from error
        zoned = time.tzinfo is not None
        zoned_first = zoned if zoned_first is None else zoned_first
        if zoned != zoned_first:
            raise DataError(
                f"{where(row)}: timestamp {text!r} has {'a' if zoned else 'no'} time zone, unlike the ones before it; "
                "give all times with a zone, or all without"
            )
        aware = time if zoned else time.replace(tzinfo=UTC)
        microseconds.append((aware - _EPOCH) // timedelta(microseconds=1))
    return pl.Series(microseconds, dtype=pl.Int64)
