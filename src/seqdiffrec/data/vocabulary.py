"""Ids of any type against a vocabulary: where each stands in it, and a hash of it that no machine changes."""

from collections.abc import Iterable
from typing import Any, Protocol, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from seqdiffrec.data.errors import DataError

TABLE_ROOM = 4
"""A table of ids may be this many times as long as the log: then it takes less than what hashing does."""
ROWS_AT_ONCE = 2_000_000


class Digest(Protocol):
    """What `hashlib.sha256()` returns, as far as it is used here."""

    def update(self, data: Any, /) -> None:
        """Take in more bytes."""
        ...


def places_of(ids: Iterable[object], vocabulary: pl.Series) -> NDArray[np.int64]:
    """Place (from 0) of each id in `vocabulary`, int64 (B,); -1 where it is not there.

    A text matches a number that is written just so ("196" is 196, "0196" is not), because a command line has texts
    only. A number never matches a text. Raises DataError when the ids are of more than one type.
    """
    wanted = ids if isinstance(ids, pl.Series) else _as_series(list(ids))
    known = _plain_text(vocabulary)
    wanted = _cast_where_exact(_plain_text(wanted), known.dtype)
    lookup = pl.DataFrame({"id": known, "place": np.arange(len(known), dtype=np.int64)})
    joined = pl.DataFrame({"id": wanted}).join(lookup, on="id", how="left", maintain_order="left")
    return joined["place"].fill_null(-1).to_numpy()


def number_ids(ids: pl.Series) -> tuple[pl.Series, NDArray[np.int32]]:
    """The ids in the order in which they first appear, each once, and the place (from 0) of each row's among them.

    ids: (M,), no nulls. Whole numbers that lie close together, and codes of categories, are looked up in a table; all
    others are hashed, some rows at a time, so that little is held besides.
    """
    vocabulary = ids.unique(maintain_order=True)
    keys, known = ids, vocabulary
    if is_categorical(ids.dtype) or ids.dtype.is_temporal():
        keys, known = ids.to_physical(), vocabulary.to_physical()
    if keys.dtype.is_integer() and keys.dtype not in (pl.Int128(), pl.UInt128()):
        least, greatest = cast(int, known.min()), cast(int, known.max())
        if greatest - least < TABLE_ROOM * max(len(ids), 1000) and greatest < 2**63:
            return vocabulary, _look_up(keys.to_numpy(), known.to_numpy(), least, greatest)
    places = np.empty(len(keys), dtype=np.int32)
    lookup = pl.DataFrame({"id": known, "place": np.arange(len(known), dtype=np.int32)})
    for start in range(0, len(keys), ROWS_AT_ONCE):
        some = keys.slice(start, ROWS_AT_ONCE).alias("id").to_frame()
        found = some.join(lookup, on="id", how="left", maintain_order="left")["place"]
        places[start : start + ROWS_AT_ONCE] = found.to_numpy()
    return vocabulary, places


def _look_up(keys: NDArray[Any], known: NDArray[Any], least: int, greatest: int) -> NDArray[np.int32]:
    table = np.empty(greatest - least + 1, dtype=np.int32)
    table[known.astype(np.int64) - least] = np.arange(len(known), dtype=np.int32)
    places = np.empty(len(keys), dtype=np.int32)
    for start in range(0, len(keys), ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        places[some] = table[keys[some].astype(np.int64) - least]
    return places


def _as_series(values: list[object]) -> pl.Series:
    try:
        return pl.Series(values=values)
    except (TypeError, OverflowError) as error:
        raise DataError(
            f"ids of more than one type, or too large, {values[:3]!r} ...: give all of them in one type"
        ) from error


def _plain_text(ids: pl.Series) -> pl.Series:
    return ids.cast(pl.String) if is_categorical(ids.dtype) else ids


def is_categorical(dtype: pl.DataType) -> bool:
    """Whether texts of this type stand behind codes."""
    return isinstance(dtype, (pl.Categorical, pl.Enum))


def _cast_where_exact(ids: pl.Series, dtype: pl.DataType) -> pl.Series:
    """The ids in another type, null where that is not the same id."""
    if ids.dtype == dtype:
        return ids
    if not (dtype.is_numeric() and (ids.dtype.is_numeric() or ids.dtype == pl.String)):
        return pl.Series(values=[None] * len(ids), dtype=dtype)
    cast = ids.cast(dtype, strict=False)
    same = cast.cast(ids.dtype, strict=False) == ids
    if dtype.is_float() and ids.dtype == pl.String:  # "4711" is 4711.0: pandas makes floats of whole numbers
        same = same | (ids.cast(pl.Int64, strict=False).cast(pl.String) == ids).fill_null(False)
    return pl.select(pl.when(same).then(cast).otherwise(None)).to_series()


def hash_array(digest: Digest, array: NDArray[Any]) -> None:
    """Add type, length and little-endian bytes of a one-dimensional array to the digest."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    digest.update(f"{array.dtype.name} {len(array)}\n".encode())
    digest.update(little.data)


def hash_ids(digest: Digest, ids: pl.Series) -> None:
    """Add the type and the values of ids to the digest, however Polars keeps them in memory."""
    categorical = is_categorical(ids.dtype)
    digest.update(f"{'categorical' if categorical else ids.dtype}\n".encode())
    numeric = ids.dtype.is_integer() or ids.dtype.is_float() or ids.dtype.is_temporal()
    too_wide = ids.dtype == pl.Int128 or ids.dtype == pl.UInt128  # NumPy has no such integers
    if numeric and not too_wide:
        hash_array(digest, ids.to_physical().to_numpy())
        return
    texts = ids.bin.encode("hex") if ids.dtype == pl.Binary else ids.cast(pl.String)
    # Lengths beside the joined bytes: ["ab", "c"] and ["a", "bc"] differ.
    hash_array(digest, texts.str.len_bytes().cast(pl.Int64).to_numpy())
    digest.update("".join(texts).encode())
