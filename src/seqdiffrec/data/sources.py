"""Where a log lies: a file, a folder of Parquet parts, bytes, a frame. Each is opened as a `RawLog`, not yet read."""

import hashlib
import mmap
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from seqdiffrec.data.errors import DataError
from seqdiffrec.data.readers import (
    MARKS,
    SourceFile,
    check_last_line,
    decode,
    first_uneven_line,
    line_of_record,
    read_sequences,
    read_source,
    refuse_binary,
)

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather", ".ipc")
SEQUENCES = (".txt",)
PACKED = (".gz", ".zst")
NOT_READ = (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What Polars raises for a file that is not what it should be."""

Where = Callable[[int], str]
"""Says where row r (from 0) of a log stands for a person: "log.csv, line 3"."""


@dataclass(frozen=True)
class RawLog:
    """A log as it lies there: any columns of any type, read when `collect` is called.

    label: what errors call it. frame: all rows and columns. where: see `Where`.
    explain: says what is wrong, and where, when it cannot be read.
    is_text: all columns are texts, so that ids may be whole numbers in disguise.
    uneven: columns that not all parts of a folder have in one type, and why each cannot be read.
    """

    label: str
    frame: pl.LazyFrame
    columns: Sequence[str]
    where: Where
    explain: Callable[[BaseException], DataError]
    is_text: bool = False
    uneven: Mapping[str, str] = field(default_factory=dict[str, str])

    def collect(self, query: pl.LazyFrame) -> pl.DataFrame:
        """The result of a query on `frame`, in batches. Raises DataError where the log cannot be read."""
        # Lines of a text with too many fields are noticed only where all of their fields are read.
        how = pl.QueryOptFlags(projection_pushdown=not self.is_text)
        try:
            return query.collect(engine="streaming", optimizations=how)
        except NOT_READ as error:
            raise self.explain(error) from error


def ending(path: Path) -> str:
    """The ending that says what a file is, such as ".csv" for clicks.csv.gz."""
    return (path.with_suffix("") if path.suffix.lower() in PACKED else path).suffix.lower()


def open_path(path: Path) -> RawLog:
    """A file by its ending, or a folder of Parquet parts.

    Raises DataError for an unknown ending, and for what is missing, empty or broken as far as a first look goes.
    """
    if path.is_dir():
        return _open_parquet(path, parquet_parts(path))
    _require_file(path)
    suffix = ending(path)
    if suffix in SEPARATORS:
        return _open_text(path, SEPARATORS[suffix])
    if suffix in PARQUET:
        return _open_parquet(path, [path])
    if suffix in ARROW:
        return _open_arrow(path)
    if suffix in SEQUENCES:
        return open_sequences(read_source(path))
    known = ", ".join((*SEPARATORS, *PARQUET, *ARROW, *SEQUENCES))
    raise DataError(
        f"{path}: the ending {suffix!r} is not known; rename the file to one of {known} (text also with "
        f"{' or '.join(PACKED)}), or name a folder of Parquet files"
    )


def fingerprint(path: Path) -> str:
    """SHA-256 (hex) of a file, or of all parts of a folder and their names. Raises DataError where one is not there."""
    parts = parquet_parts(path) if path.is_dir() else [_require_file(path)]
    digest = hashlib.sha256()
    for part in parts:
        if part != path:
            digest.update(f"{part.relative_to(path).as_posix()}\n".encode())
        try:
            with part.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(f"{part} could not be read: {error.strerror}") from error
    return digest.hexdigest()


def parquet_parts(folder: Path) -> list[Path]:
    """The Parquet files in a folder and below, by name; hidden ones and those that begin with `_` are left out.

    Raises DataError where there are none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PARQUET and path.is_file())
    parts = [path for path in found if not any(name[0] in "._" for name in path.relative_to(folder).parts)]
    if not parts:
        held = sorted({path.suffix for path in folder.rglob("*") if path.is_file()})
        what = f"files ending in {', '.join(held)}, and no .parquet" if held else "no files"
        raise DataError(f"{folder} holds {what}; name a folder of Parquet files, a prepared corpus or a single file")
    return parts


def open_frame(label: str, frame: pl.DataFrame, *, is_text: bool = False) -> RawLog:
    """Rows that are in memory already."""
    return RawLog(
        label,
        frame.lazy(),
        frame.columns,
        lambda row: f"{label}, row {row + 1} (counted from 1)",
        lambda error: DataError(f"{label} could not be read: {first_line(error)}"),
        is_text,
    )


def open_sequences(file: SourceFile) -> RawLog:
    """A line a user: the user's id, then that user's items in order."""
    return open_frame(file.label, read_sequences(file), is_text=True)


def open_table(file: SourceFile, separator: str, names: list[str] | None = None) -> RawLog:
    """Delimited text in memory; names: the columns of a text without a header line."""
    text = SourceFile(file.label, file.data.rstrip(b"\r\n"))
    refuse_binary(text.label, text.data)
    log = _scan_text(text.label, text.data, lambda: text, separator, names)
    check_last_line(text.label, text.data, separator, len(log.columns))
    return log


def _open_text(path: Path, separator: str) -> RawLog:
    """A delimited text; a plain one is read from where it lies, a packed one is unpacked into memory."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        packed = any(data[: len(mark)] == mark for mark in MARKS.values())
        if not packed and re.search(rb"\S", data) and not re.search(rb"\n\r?\n$", data[-4:]):
            refuse_binary(str(path), data)
            log = _scan_text(str(path), path, lambda: read_source(path), separator, None)
            check_last_line(str(path), data, separator, len(log.columns))
            return log
    return open_table(read_source(path), separator)


def _scan_text(
    label: str, source: Path | bytes, reread: Callable[[], SourceFile], separator: str, names: list[str] | None
) -> RawLog:
    """reread: gives the text again, to look for the line of a mistake."""

    def explain(error: BaseException) -> DataError:
        text = decode(reread()).rstrip("\r\n")
        line = first_uneven_line(text, separator, width)
        return DataError(
            f"{label}, line {line}: not {width} fields as in the first line, or a quote that is never closed "
            f"({first_line(error)})"
        )

    def where(row: int) -> str:
        record = row if names else row + 1
        return f"{label}, line {line_of_record(decode(reread()), separator, record)}"

    width = len(names or ())
    frame = pl.scan_csv(
        source, separator=separator, has_header=names is None, new_columns=names, infer_schema=False, glob=False
    )
    try:
        columns = frame.collect_schema().names()
    except NOT_READ as error:
        raise explain(error) from error
    if names is None and len(columns) == 1:
        _refuse_separator(label, columns[0], separator)
    width = len(columns)
    return RawLog(label, frame, columns, where, explain, is_text=True)


def _refuse_separator(label: str, header: str, separator: str) -> None:
    """Raise DataError where a header that is one column has another separator in it than the file's ending says."""
    found = max((one for one in (",", ";", "\t", "|") if one != separator), key=header.count)
    if found not in header:
        return
    endings = [suffix for suffix, one in SEPARATORS.items() if one == found]
    mend = (
        f"rename it to end in {endings[0]}"
        if endings
        else (
            "write it with commas between, such as with Polars: "
            f"pl.read_csv({label!r}, separator={found!r}, infer_schema=False).write_csv('commas.csv')"
        )
    )
    theirs, ours = ("a tab" if one == "\t" else repr(one) for one in (found, separator))
    raise DataError(
        f"{label}: the header is one column, {header!r}: it looks separated by {theirs}, but by its ending it is read "
        f"with {ours} between; {mend}"
    )


def _open_arrow(path: Path) -> RawLog:
    def explain(error: BaseException) -> DataError:
        return DataError(
            f"{path} is not a whole Arrow file: it is cut off or of another format ({first_line(error)}); get it again"
        )

    try:
        with path.open("rb") as opened:
            is_file = opened.read(6) == b"ARROW1"
        frame = pl.scan_ipc(path, glob=False) if is_file else pl.read_ipc_stream(path).lazy()
        columns = frame.collect_schema().names()
    except NOT_READ as error:
        raise explain(error) from error
    return RawLog(str(path), frame, columns, lambda row: f"{path}, row {row + 1} (counted from 1)", explain)


def _open_parquet(path: Path, parts: list[Path]) -> RawLog:
    schemas = [_parquet_schema(part) for part in parts]
    uneven: dict[str, str] = {}
    for part, schema in zip(parts[1:], schemas[1:], strict=True):
        for name in [*schemas[0], *schema]:
            first, this = schemas[0].get(name), schema.get(name)
            if first != this and name not in uneven:
                has = ["no such column" if kind is None else f"it as {kind}" for kind in (first, this)]
                uneven[name] = f"{parts[0]} has {has[0]} and {part} has {has[1]}; write all parts alike"

    def explain(error: BaseException) -> DataError:
        broken = next((part for part in parts if not _is_whole(part)), path)
        return _not_parquet(broken, error)

    def where(row: int) -> str:
        for part in parts if len(parts) > 1 else []:
            rows = pl.scan_parquet(part, glob=False).select(pl.len()).collect().item()
            if row < rows:
                return f"{part}, row {row + 1} (counted from 1)"
            row -= rows
        return f"{path}, row {row + 1} (counted from 1)"

    # Folders called name=value hold a column of that name.
    hive = any("=" in name for part in parts for name in part.relative_to(path).parts[:-1])
    frame = pl.scan_parquet(parts, glob=False, hive_partitioning=hive, extra_columns="ignore")
    try:
        columns = [name for name in frame.collect_schema().names() if name not in uneven]
    except NOT_READ as error:
        raise explain(error) from error
    return RawLog(str(path), frame.select(columns), columns, where, explain, uneven=uneven)


def _parquet_schema(part: Path) -> pl.Schema:
    try:
        return pl.Schema(pl.read_parquet_schema(_require_file(part)))
    except NOT_READ as error:
        raise _not_parquet(part, error) from error


def _is_whole(part: Path) -> bool:
    try:
        pl.read_parquet(part, glob=False, hive_partitioning=False)
    except NOT_READ:
        return False
    return True


def _not_parquet(path: Path, error: BaseException) -> DataError:
    return DataError(
        f"{path} is not a whole Parquet file: it is cut off or of another format ({first_line(error)}); get it again"
    )


def _require_file(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path} {'is not a file' if path.exists() else 'does not exist'}; check the path")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty; it must hold at least one action")
    return path


def first_line(error: BaseException) -> str:
    """What an error says, without the hints for programmers below."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
