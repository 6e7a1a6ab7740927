"""Any log of (user, item, time) as one checked frame.

Columns are found by name: `user_id`, `item_id` and, where there is one, `timestamp` or `datetime`; other names are
given with `user`, `item` and `time`, and `split` names a column that says which part of the data an action belongs to.
Further columns are left alone. Ids keep their type; ids of a text file are int64 when all of them are whole numbers
written the usual way, else texts.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import narwhals as nw
import polars as pl

from seqdiffrec.data.columns import check_columns
from seqdiffrec.data.errors import DataError
from seqdiffrec.data.readers import SourceFile
from seqdiffrec.data.sources import (
    SEQUENCES,
    RawLog,
    Where,
    ending,
    first_line,
    open_frame,
    open_path,
    open_sequences,
    open_table,
)
from seqdiffrec.data.timestamps import as_numbers

TIME_NAMES = ("timestamp", "datetime")
PARTS = {"train": 0, "validation": 1, "test": 2}
"""What a column of a split of one's own may say, and its code in a corpus."""

_LOOK = 1000
_OURS = {"user": "user_id", "item": "item_id", "time": "timestamp", "split": "part"}


@dataclass(frozen=True, eq=False)
class Interactions:
    """A checked log, in the order it was given.

    frame: `user_id`, `item_id` (any plain type, no nulls), where the log had times `timestamp` (int64 or float64;
        datetimes as microseconds since 1970 UTC), and where it has a split of its own `part` (uint8, a code of
        `PARTS`). A row an action, repeats kept.
    source: the file, or "the frame": what errors call the log.
    where: says where a row stands, for errors.
    split: the column that `part` comes from.
    """

    frame: pl.DataFrame
    source: str
    where: Where
    split: str | None = None

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        user: str = "user_id",
        item: str = "item_id",
        time: str | None = None,
        split: str | None = None,
    ) -> "Interactions":
        """Read a file by its ending, or a folder of Parquet files.

        Endings: .csv, .tsv, .tab (text in UTF-8 with a header line), .parquet, .pq, .arrow, .feather, .ipc (Arrow file
        or stream, Feather 2), and .txt ("user id, then that user's items in order", a line a user, no columns to
        name). The texts may be packed: .gz or .zst behind. In a folder also the folders below count, and those called
        name=value hold a column of that name.
        Raises DataError, with line or row, for all that cannot be used.
        """
        log = open_path(Path(path))
        if ending(Path(path)) in SEQUENCES:  # it has no columns to name
            return cls.from_log(log, split=split)
        return cls.from_log(log, user=user, item=item, time=time, split=split)

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        user: str = "user_id",
        item: str = "item_id",
        time: str | None = None,
        split: str | None = None,
    ) -> "Interactions":
        """Take a pandas or Polars frame (also lazy), an Arrow table, a DuckDB relation, or what else Narwhals knows.

        user, item, time, split: names of the columns; time None takes `timestamp` or `datetime` where there is one.
        Raises DataError for a missing column (it says which are there), a null id, or a time that is not understood,
        with the row counted from 1.
        """
        source = "the frame"
        try:
            narwhal = nw.from_native(frame)
        except TypeError as error:
            kinds = "pandas, Polars, an Arrow table or a DuckDB relation"
            raise DataError(f"{type(frame).__name__} is not a frame; give {kinds}") from error
        columns = _columns(source, narwhal.columns, {}, user, item, time, split)
        wanted = narwhal.select(list(dict.fromkeys(columns.values())))
        try:
            polars = wanted.collect("polars").to_native() if isinstance(wanted, nw.LazyFrame) else wanted.to_polars()
        except Exception as error:  # each library has errors of its own, and a lazy frame is computed only now
            if isinstance(wanted, nw.LazyFrame):
                raise DataError(
                    f"{source} could not be computed: {type(error).__name__}: {first_line(error)}"
                ) from error
            why = first_line(error)
            raise DataError(f"{source}: a column holds values of more than one type ({why})") from error
        return cls.from_log(open_frame(source, polars), user=user, item=item, time=time, split=split)

    @classmethod
    def from_table(
        cls,
        file: SourceFile,
        separator: str,
        *,
        user: str = "user_id",
        item: str = "item_id",
        time: str | None = None,
        names: list[str] | None = None,
    ) -> "Interactions":
        """Delimited text in memory; `names` are the columns of a text without a header line."""
        return cls.from_log(open_table(file, separator, names), user=user, item=item, time=time)

    @classmethod
    def from_sequences(cls, file: SourceFile) -> "Interactions":
        """A line a user in memory: the user's id, then that user's items in order."""
        return cls.from_log(open_sequences(file))

    @classmethod
    def from_log(
        cls,
        log: RawLog,
        *,
        user: str = "user_id",
        item: str = "item_id",
        time: str | None = None,
        split: str | None = None,
    ) -> "Interactions":
        """Read and check the columns of a log that was opened."""
        columns = _columns(log.label, log.columns, log.uneven, user, item, time, split)
        frame = read_columns(log, columns)
        if len(frame) == 0:
            raise DataError(f"{log.label} has columns but no rows; it must hold at least one action")
        for kind in ("user_id", "item_id"):
            _check_ids(frame[kind], columns[kind], log.where)
        if "timestamp" in frame.columns:
            frame = frame.with_columns(as_numbers(frame["timestamp"], log.where).alias("timestamp"))
        if split is not None:
            frame = frame.with_columns(_as_parts(frame["part"], split, log.where).alias("part"))
        return cls(frame, log.label, log.where, split)


def read_columns(log: RawLog, columns: dict[str, str]) -> pl.DataFrame:
    """Columns of a log under our names. Whole numbers in a text become int64 where every one is written the usual way.

    "7" may become 7, but "007" must stay a text or it would not come back as it went in.
    """
    wanted = log.frame.select(**{ours: pl.col(theirs) for ours, theirs in columns.items()})
    if not log.is_text:
        return log.collect(wanted)
    # A look at the first rows says which columns hold numbers, so that only those of texts are read as texts.
    first = log.collect(wanted.head(_LOOK))
    numbers = [name for name in columns if not first.select(_is_odd(name)).to_series().any()]
    texts = [pl.col(name) for name in columns if name not in numbers]
    odd = [_is_odd(name).alias(f"{name} is odd") for name in numbers]
    frame = log.collect(wanted.select(*texts, *(pl.col(name).cast(pl.Int64, strict=False) for name in numbers), *odd))
    wrong = [name for name in numbers if frame[f"{name} is odd"].any()]
    if wrong:
        frame = frame.with_columns(log.collect(wanted.select(wrong)))
    frame = frame.select(columns.keys())
    is_text = [name for name, kind in frame.schema.items() if kind == pl.String]
    return frame.with_columns(pl.col(name).replace("", None) for name in is_text if (frame[name] == "").any())


def _is_odd(name: str) -> pl.Expr:
    """Whether a text is anything but a whole number of 64 bits as one writes it."""
    text = pl.col(name)
    is_padded = text.str.starts_with("0") & (text != "0")
    has_sign = text.str.starts_with("+") | text.str.starts_with("-0")
    return text.cast(pl.Int64, strict=False).is_null() | is_padded | has_sign


def _columns(
    source: str,
    present: list[str] | Any,
    uneven: Any,
    user: str,
    item: str,
    time: str | None,
    split: str | None,
) -> dict[str, str]:
    """Our column name to the log's. Raises DataError when one that was asked for is not there."""
    times = [time] if time is not None else [name for name in TIME_NAMES if name in present]
    wanted = {"user": user, "item": item, "time": times[0] if times else None, "split": split}
    named = {kind: column for kind, column in wanted.items() if column is not None}
    check_columns(source, present, uneven, named)
    return {_OURS[kind]: column for kind, column in named.items()}


def _check_ids(ids: pl.Series, column: str, where: Where) -> None:
    if ids.dtype.is_nested() or ids.dtype == pl.Object:
        raise DataError(f"{where(0)}: ids of type {ids.dtype} in column {column!r} are not usable; make them texts")
    missing = ids.is_null() | ids.is_nan() if ids.dtype.is_float() else ids.is_null()
    row = missing.arg_max()
    if row is not None and missing[row]:
        raise DataError(f"{where(row)}: no id in column {column!r}; fill it in or drop the row")


def _as_parts(values: pl.Series, column: str, where: Where) -> pl.Series:
    """Codes of `PARTS`. Raises DataError with the row of a value that is none of them."""
    known = values.dtype == pl.String or isinstance(values.dtype, (pl.Categorical, pl.Enum))
    texts = values.cast(pl.String) if known else pl.Series([None], dtype=pl.String).new_from_index(0, len(values))
    parts = texts.replace_strict(PARTS, default=None, return_dtype=pl.UInt8)
    row = parts.is_null().arg_max()
    if row is not None and parts.null_count():
        said = "says nothing" if values[row] is None else f"says {values[row]!r}"
        raise DataError(f"{where(row)}: column {column!r} {said}; each row must say train, validation or test")
    return parts
