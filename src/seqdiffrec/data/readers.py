"""Files as frames: text with errors that name the line, Parquet and Arrow."""

import csv
import gzip
import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl

from seqdiffrec.data.errors import DataError

Where = Callable[[int], str]
"""Says where row r (from 0) of a frame stands for a person: "log.csv, line 3"."""


@dataclass(frozen=True)
class SourceFile:
    """The bytes of one file, unpacked, and the name that errors call it by."""

    label: str
    data: bytes


def read_source(path: Path) -> SourceFile:
    """Read a file whole, unpacking gzip. Raises DataError when it is missing, empty, cut off or not a file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the path") from error
    except OSError as error:
        raise DataError(f"{path} could not be read: {error.strerror}") from error
    return unpacked(str(path), data)


def unpacked(label: str, data: bytes) -> SourceFile:
    """Bytes as a source file, gzip undone. Raises DataError when they are empty or the gzip is cut off."""
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{label} is a broken or cut-off gzip file ({error}); get it again") from error
    if not data.strip():
        raise DataError(f"{label} is empty; it must hold at least one action")
    return SourceFile(label, data)


def decode(file: SourceFile) -> str:
    """The file as UTF-8 text. Raises DataError with the line when it is binary or in another encoding."""
    nul = file.data.find(b"\0")
    if nul >= 0:
        line = file.data.count(b"\n", 0, nul) + 1
        raise DataError(f"{file.label}, line {line}: a zero byte, so this is a binary file and not a text table")
    try:
        return file.data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = file.data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{file.label}, line {line}: byte 0x{file.data[error.start]:02x} is not UTF-8; the file is binary "
            "or in another encoding, convert it to UTF-8"
        ) from error


def read_table(file: SourceFile, separator: str, names: list[str] | None = None) -> tuple[pl.DataFrame, Where]:
    """Parse a delimited text into a frame of texts (empty fields are null) and a function that finds a row's line.

    names: the columns of a file without a header; None when the first line names them.
    Raises DataError with the line for a line with too many fields, an open quote, or a last line that is cut off.
    """
    text = decode(file).rstrip("\r\n")
    width = len(names or _first_record(text, separator))
    _check_last_line(file.label, text, separator, width)
    try:
        frame = pl.read_csv(
            text.encode(), separator=separator, has_header=names is None, new_columns=names, infer_schema=False
        )
    except pl.exceptions.PolarsError as error:
        line = _first_uneven_line(text, separator, width)
        raise DataError(
            f"{file.label}, line {line}: not {width} fields as in the first line, or a quote that is never closed "
            f"({str(error).splitlines()[0]})"
        ) from error
    frame = frame.with_columns(pl.all().replace("", None))
    first_row = 0 if names else 1
    return frame, lambda row: f"{file.label}, line {_line_of_record(text, separator, row + first_row)}"


def _first_record(text: str, separator: str) -> list[str]:
    return next(csv.reader(io.StringIO(text, newline=""), delimiter=separator))


def _check_last_line(label: str, text: str, separator: str, width: int) -> None:
    last = text[text.rfind("\n") + 1 :]
    # A quote may close a field that began lines above; the parser judges that.
    fields = last.count(separator) + 1
    if '"' not in last and fields < width:
        line = text.count("\n") + 1
        raise DataError(
            f"{label}, line {line}: the last line has {fields} of {width} fields, so the file is cut off; get it again"
        )


def _line_of_record(text: str, separator: str, record: int) -> int:
    """Line (from 1) on which a record (from 0) begins; quoted fields may span lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    for _ in islice(reader, record):
        pass
    return reader.line_num + 1


def _first_uneven_line(text: str, separator: str, width: int) -> int:
    """Line on which the first record begins that has another number of fields, or a quote that is never closed."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    begins = 1
    try:
        while len(next(reader)) == width:
            begins = reader.line_num + 1
    except (csv.Error, StopIteration):
        pass
    return begins


def read_sequences(file: SourceFile) -> pl.DataFrame:
    """Parse "user id, then that user's items in order", a line a user, white space between.

    Returns a frame of texts `user_id`, `item_id`, a row an action.
    Raises DataError with the line for a user without items, an empty line or a user who occurs twice.
    """
    line_of_user: dict[str, int] = {}
    items: list[str] = []
    lengths: list[int] = []
    for line, text in enumerate(decode(file).rstrip().split("\n"), start=1):
        fields = text.split()
        if len(fields) < 2:
            what = f"user {fields[0]} has no items" if fields else "an empty line"
            raise DataError(f"{file.label}, line {line}: {what}; each line is a user id and then at least one item id")
        if fields[0] in line_of_user:
            raise DataError(
                f"{file.label}, line {line}: user {fields[0]} was already on line {line_of_user[fields[0]]}; "
                "put all items of a user on one line"
            )
        line_of_user[fields[0]] = line
        items += fields[1:]
        lengths.append(len(fields) - 1)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    return pl.DataFrame({"user_id": pl.Series(list(line_of_user)).gather(rows), "item_id": items})


def read_parquet(path: Path) -> pl.DataFrame:
    """Read a Parquet file. Raises DataError when it is missing, empty, cut off or another kind of file."""
    return _read_binary(path, "Parquet", pl.read_parquet)


def read_arrow(path: Path) -> pl.DataFrame:
    """Read an Arrow file (IPC file or stream, Feather 2). Raises DataError as `read_parquet` does."""
    return _read_binary(
        path, "Arrow", lambda file: pl.read_ipc(file) if _is_ipc_file(file) else pl.read_ipc_stream(file)
    )


def _is_ipc_file(path: Path) -> bool:
    with path.open("rb") as opened:
        return opened.read(6) == b"ARROW1"


def _read_binary(path: Path, kind: str, read: Callable[[Path], pl.DataFrame]) -> pl.DataFrame:
    if not path.is_file():
        raise DataError(f"{path} {'is not a file' if path.exists() else 'does not exist'}; check the path")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty; it must hold at least one row")
    try:
        return read(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} is not a whole {kind} file: it is cut off or of another format ({error})") from error


def whole_numbers_where_exact(ids: pl.Series) -> pl.Series:
    """Ids of a text file as int64 when every one is a whole number written the usual way; else as they are.

    "7" may become 7, but "007" must stay a text or it would not come back as it went in.
    """
    numbers = ids.cast(pl.Int64, strict=False)
    return numbers if bool((numbers.cast(pl.String) == ids).fill_null(value=False).all()) else ids
