"""Frames of the kind that people work with: pandas in gives pandas out, Polars Polars, Arrow Arrow."""

from collections.abc import Iterable
from typing import Any, Literal, cast, get_args

import narwhals as nw
import polars as pl

from seqdiffrec.data.errors import DataError

FrameKind = Literal["polars", "pandas", "pyarrow"]


def kind_of(native: object) -> FrameKind | None:
    """Which library a frame, series, index or array is of; None for anything else."""
    library = type(native).__module__.partition(".")[0]
    return cast(FrameKind, library) if library in get_args(FrameKind) else None


def ids_of(given: Iterable[Any]) -> list[Any]:
    """Ids out of a list, a series, an index or an array, as plain values."""
    return cast(Any, given).to_pylist() if kind_of(given) == "pyarrow" else list(given)


def check_kind(kind: str) -> FrameKind:
    """The kind, if it is one. Raises DataError."""
    if kind not in get_args(FrameKind):
        raise DataError(f"output is {kind!r}; give one of {', '.join(get_args(FrameKind))}")
    return cast(FrameKind, kind)


def as_kind(frame: pl.DataFrame, kind: FrameKind) -> Any:
    """The frame as one of another library. Raises DataError where that is not installed."""
    if kind == "polars":
        return frame
    try:
        narwhal = cast(Any, nw.from_native(frame))
        return narwhal.to_pandas() if kind == "pandas" else narwhal.to_arrow()
    except ImportError as error:  # pandas frames are made by way of Arrow
        raise DataError(f"a {kind} frame needs more packages ({error}): pip install 'seqdiffrec[frames]'") from error
