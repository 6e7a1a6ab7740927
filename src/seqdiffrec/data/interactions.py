"""Any log of (user, item, time) as one checked frame.

Columns are found by name: `user_id`, `item_id` and, where there is one, `timestamp` or `datetime`; other names are
given with `user`, `item` and `time`. Further columns are left alone. Ids keep their type; ids of a text file are
int64 when all of them are whole numbers written the usual way, else texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import narwhals as nw
import polars as pl

from seqdiffrec.data.errors import DataError
from seqdiffrec.data.readers import (
    SourceFile,
    Where,
    read_arrow,
    read_parquet,
    read_sequences,
    read_source,
    read_table,
    whole_numbers_where_exact,
)
from seqdiffrec.data.timestamps import as_numbers

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather", ".ipc")
SEQUENCES = (".txt",)
TIME_NAMES = ("timestamp", "datetime")


@dataclass(frozen=True, eq=False)
class Interactions:
    """A checked log, in the order it was given.

    frame: `user_id`, `item_id` (any plain type, no nulls) and, where the log had times, `timestamp` (int64 or
        float64; datetimes as microseconds since 1970 UTC). A row an action, repeats kept.
    source: the file, or "the frame": what errors call the log.
    """

    frame: pl.DataFrame
    source: str

    @classmethod
    def read(
        cls, path: str | Path, *, user: str = "user_id", item: str = "item_id", time: str | None = None
    ) -> "Interactions":
        """Read a file by its ending: .csv, .tsv, .tab (also .gz of these), .parquet, .arrow, .feather, .ipc, or .txt.

        .txt is the format of `from_sequences_file`, which has no columns to name.
        Raises DataError for an unknown ending and for all that the readers refuse.
        """
        path = Path(path)
        suffix = (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
        if suffix in SEPARATORS:
            return cls.from_csv(path, user=user, item=item, time=time, separator=SEPARATORS[suffix])
        if suffix in PARQUET:
            return cls.from_parquet(path, user=user, item=item, time=time)
        if suffix in ARROW:
            return cls.from_arrow(path, user=user, item=item, time=time)
        if suffix in SEQUENCES:
            return cls.from_sequences_file(path)
        known = ", ".join((*SEPARATORS, *PARQUET, *ARROW, *SEQUENCES))
        raise DataError(f"{path}: the ending {suffix!r} is not known; rename the file to one of {known}")

    @classmethod
    def from_frame(
        cls, frame: Any, *, user: str = "user_id", item: str = "item_id", time: str | None = None
    ) -> "Interactions":
        """Take a pandas or Polars frame, an Arrow table, or any other frame that Narwhals knows.

        user, item, time: names of the columns; time None takes `timestamp` or `datetime` where there is one.
        Raises DataError for a missing column (it says which are there), a null id, or a time that is not understood,
        with the row counted from 1.
        """
        source = "the frame"
        try:
            narwhal = nw.from_native(frame)
        except TypeError as error:
            raise DataError(f"{type(frame).__name__} is not a frame; give pandas, Polars or an Arrow table") from error
        if isinstance(narwhal, nw.LazyFrame):
            narwhal = narwhal.collect()
        columns = _columns(source, narwhal.columns, user, item, time)
        try:
            polars = narwhal.select(list(dict.fromkeys(columns.values()))).to_polars()
        except (TypeError, ValueError) as error:
            raise DataError(f"{source}: a column holds values of more than one type ({error})") from error
        return _checked(polars, columns, source, lambda row: f"{source}, row {row + 1} (counted from 1)")

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        *,
        user: str = "user_id",
        item: str = "item_id",
        time: str | None = None,
        separator: str = ",",
    ) -> "Interactions":
        """Read a delimited UTF-8 text with a header line, also gzipped.

        Raises DataError, with the line (from 1, the header counted), for a file that is missing, empty, binary or
        cut off, a missing column, a null id or a time that does not parse.
        """
        return cls.from_table(read_source(Path(path)), separator, user=user, item=item, time=time)

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
        """The same for bytes in memory; `names` are the columns of a text without a header line."""
        frame, where = read_table(file, separator, names)
        columns = _columns(file.label, frame.columns, user, item, time)
        ids = [whole_numbers_where_exact(frame[columns[key]]) for key in ("user_id", "item_id")]
        return _checked(frame.with_columns(ids), columns, file.label, where)

    @classmethod
    def from_parquet(
        cls, path: str | Path, *, user: str = "user_id", item: str = "item_id", time: str | None = None
    ) -> "Interactions":
        """Read a Parquet file. Raises DataError as `from_frame` does, and for a file that is no Parquet."""
        return _from_binary(read_parquet(Path(path)), path, user, item, time)

    @classmethod
    def from_arrow(
        cls, path: str | Path, *, user: str = "user_id", item: str = "item_id", time: str | None = None
    ) -> "Interactions":
        """Read an Arrow file (IPC file or stream, Feather 2). Raises DataError as `from_frame` does, and for others."""
        return _from_binary(read_arrow(Path(path)), path, user, item, time)

    @classmethod
    def from_sequences_file(cls, path: str | Path) -> "Interactions":
        """Read "user id, then that user's items in order", a line a user, white space between, no times.

        Raises DataError with the line for a user without items or a user who occurs twice.
        """
        return cls.from_sequences(read_source(Path(path)))

    @classmethod
    def from_sequences(cls, file: SourceFile) -> "Interactions":
        """The same for bytes in memory."""
        frame = read_sequences(file)
        return cls(frame.with_columns(whole_numbers_where_exact(ids) for ids in frame), file.label)


def _from_binary(frame: pl.DataFrame, path: str | Path, user: str, item: str, time: str | None) -> Interactions:
    columns = _columns(str(path), frame.columns, user, item, time)
    return _checked(frame, columns, str(path), lambda row: f"{path}, row {row + 1} (counted from 1)")


def _columns(source: str, present: Sequence[str], user: str, item: str, time: str | None) -> dict[str, str]:
    """Our column name to the log's. Raises DataError when one that was asked for is not there."""
    columns = {"user_id": user, "item_id": item}
    times = [time] if time is not None else [name for name in TIME_NAMES if name in present]
    if times:
        columns["timestamp"] = times[0]
    for ours, theirs in columns.items():
        if theirs not in present:
            raise DataError(
                f"{source}: no column {theirs!r} (wanted as {ours}); the columns are {', '.join(map(repr, present))}. "
                "Say which column holds the user, the item and the time"
            )
    return columns


def _checked(frame: pl.DataFrame, columns: dict[str, str], source: str, where: Where) -> Interactions:
    frame = frame.select(**{ours: pl.col(theirs) for ours, theirs in columns.items()})
    if len(frame) == 0:
        raise DataError(f"{source} has columns but no rows; it must hold at least one action")
    for kind in ("user_id", "item_id"):
        _check_ids(frame[kind], columns[kind], where)
    if "timestamp" in frame.columns:
        frame = frame.with_columns(as_numbers(frame["timestamp"], where).alias("timestamp"))
    return Interactions(frame, source)


def _check_ids(ids: pl.Series, column: str, where: Where) -> None:
    if ids.dtype.is_nested() or ids.dtype == pl.Object:
        raise DataError(f"{where(0)}: ids of type {ids.dtype} in column {column!r} are not usable; make them texts")
    missing = ids.is_null() | ids.is_nan() if ids.dtype.is_float() else ids.is_null()
    row = missing.arg_max()
    if row is not None and missing[row]:
        raise DataError(f"{where(row)}: no id in column {column!r}; fill it in or drop the row")
