"""The bytes of text files, unpacked, and what is wrong with them by its line."""

import csv
import gzip
import io
import re
import sys
import zlib
from dataclasses import dataclass
from itertools import islice
from mmap import mmap
from pathlib import Path

import numpy as np
import polars as pl

from seqdiffrec.data.errors import DataError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

csv.field_size_limit(sys.maxsize)  # an id may be longer than the 128 KiB that it allows by default


MARKS = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}
"""What packed files begin with."""


@dataclass(frozen=True)
class SourceFile:
    """The bytes of one file, unpacked, and the name that errors call it by."""

    label: str
    data: bytes


def read_source(path: Path) -> SourceFile:
    """Read a file whole, unpacking gzip and zstd. Raises DataError when it is missing, empty, cut off or no file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the path") from error
    except OSError as error:
        raise DataError(f"{path} could not be read: {error.strerror}") from error
    return unpacked(str(path), data)


def unpacked(label: str, data: bytes) -> SourceFile:
    """Bytes as a source file, gzip and zstd undone. Raises DataError when they are empty or cut off."""
    packed = next((kind for kind, mark in MARKS.items() if data.startswith(mark)), None)
    if packed is not None:
        try:
            data = gzip.decompress(data) if packed == "gzip" else zstd.decompress(data)
        except (EOFError, OSError, zlib.error, zstd.ZstdError) as error:
            raise DataError(f"{label} is a broken or cut-off {packed} file ({error}); get it again") from error
    if not re.search(rb"\S", data):
        raise DataError(f"{label} is empty; it must hold at least one action")
    return SourceFile(label, data)


def decode(file: SourceFile) -> str:
    """The file as UTF-8 text. Raises DataError with the line when it is binary or in another encoding."""
    refuse_binary(file.label, file.data)
    try:
        return file.data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = file.data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{file.label}, line {line}: byte 0x{file.data[error.start]:02x} is not UTF-8; the file is binary "
            "or in another encoding, convert it to UTF-8"
        ) from error


def refuse_binary(label: str, data: bytes | mmap) -> None:
    """Raise DataError, with the line, for text that holds a zero byte."""
    nul = data.find(b"\0")
    if nul >= 0:
        line = len(re.findall(rb"\n", data[:nul])) + 1
        raise DataError(f"{label}, line {line}: a zero byte, so this is a binary file and not a text table")


def check_last_line(label: str, data: bytes | mmap, separator: str, width: int) -> None:
    """Raise DataError where the last line, which must not be blank, has fewer than `width` fields."""
    last = data[data.rfind(b"\n", 0, len(data) - 1) + 1 :]
    # A quote may close a field that began lines above; the parser judges that.
    fields = last.count(separator.encode()) + 1
    if b'"' not in last and fields < width:
        line = len(re.findall(rb"\n", data[: len(data) - len(last)])) + 1
        raise DataError(
            f"{label}, line {line}: the last line has {fields} of {width} fields, so the file is cut off; get it again"
        )


def line_of_record(text: str, separator: str, record: int) -> int:
    """Line (from 1) on which a record (from 0) begins; quoted fields may span lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    for _ in islice(reader, record):
        pass
    return reader.line_num + 1


def first_uneven_line(text: str, separator: str, width: int) -> int:
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
