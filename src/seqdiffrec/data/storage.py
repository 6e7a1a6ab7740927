"""Files and folders that appear whole or not at all, and readers that say which file is broken."""

import errno
import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from seqdiffrec.data.errors import DataError


def write_folder(folder: Path, write_into: Callable[[Path], None]) -> None:
    """Let `write_into` fill a hidden folder beside `folder`, then rename it: others see all of it or nothing.

    Raises DataError when `folder` is there already and not empty, or when the disk is full or not writable;
    nothing is left behind then.
    """
    partial = folder.parent / f".{folder.name}.{uuid.uuid4().hex}.partial"
    try:
        partial.mkdir(parents=True)
        write_into(partial)
        _sync(partial)
        partial.rename(folder)
        _sync(folder.parent)
    except OSError as error:
        if folder.exists():
            raise DataError(f"{folder} is there already; name another folder, or delete it first") from error
        raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def cannot_write(path: Path, error: OSError) -> DataError:
    """The error to raise when `path` could not be written; says what a full disk needs."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "free some space there" if full else "check the folder and its permissions"
    reason = error.strerror or error
    return DataError(f"{path} could not be written: {reason}; {remedy} or name another. Nothing is left half written")


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write one file and wait until the disk has it. Raises OSError."""
    with path.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: bytes) -> None:
    """Write one file, whole or not at all: what was there before stays until the new content is on the disk.

    Raises DataError when the disk is full or not writable; nothing is left behind then.
    """
    replace_with(path, lambda partial: partial.write_bytes(content))


def replace_with(path: Path, write: Callable[[Path], object]) -> None:
    """`replace_file` with what `write` puts into the file that it is given."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.touch()
        mode = partial.stat().st_mode
        write(partial)
        partial.chmod(mode)  # a library may have put a file of its own there, which nobody else may read
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        partial.unlink(missing_ok=True)


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write a .npy file. Raises OSError."""
    write_file(path, lambda file: np.save(file, array, allow_pickle=False))


def write_frame(path: Path, frame: pl.DataFrame) -> None:
    """Write an Arrow file. Raises OSError."""
    write_file(path, lambda file: file.write(frame.write_ipc(None).getvalue()))


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write an indented JSON file. Raises OSError."""
    write_file(path, lambda file: file.write(json.dumps(record, indent=2).encode() + b"\n"))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises DataError when the file is missing or broken."""
    try:
        record = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} could not be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error}); it was changed or cut off") from error
    if not isinstance(record, dict):
        raise DataError(f"{path} holds no JSON object; it was changed or cut off")
    return cast(dict[str, Any], record)


def map_array(path: Path) -> NDArray[Any]:
    """Memory-map a one-dimensional .npy file, read-only. Raises DataError when it is missing or broken."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} could not be read: {error}; prepare the data again") from error
    return np.asarray(array)


def read_frame(path: Path) -> pl.DataFrame:
    """Read an Arrow file. Raises DataError when it is missing or broken."""
    try:
        return pl.read_ipc(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} could not be read: {error}; prepare the data again") from error
