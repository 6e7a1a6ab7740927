"""`Corpus`: a prepared log as ragged arrays, in memory or memory-mapped from a folder.

A folder holds `items.npy`, `offsets.npy`, `timestamps.npy` (where the log had times), `parts.npy` (where it had a split
of its own), `users.arrow`, `items.arrow` (the vocabularies, in the types that the ids came in, with titles and
categories where there are any) and `corpus.json` (name, types, content hash, provenance).
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from seqdiffrec.data import storage
from seqdiffrec.data.errors import DataError
from seqdiffrec.data.vocabulary import hash_array, hash_ids, places_of

CORPUS_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Sequences:
    """Some sequences of item indices, as views into one array: nothing is copied or padded.

    items: int32 (M,), item indices 1..num_items.
    starts, ends: int64 (B,); sequence b is `items[starts[b]:ends[b]]`, oldest item first. Sequences may overlap.
    """

    items: NDArray[np.int32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of items of each sequence, int64 (B,)."""
        return self.ends - self.starts

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        return self.items[self.starts[row] : self.ends[row]]

    def select(self, rows: NDArray[Any] | slice) -> "Sequences":
        """The sequences at `rows` (indices, a boolean mask or a slice), in that order."""
        return Sequences(self.items, self.starts[rows], self.ends[rows])

    def flat(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """All items of the sequences one after another: the row of each, int64 (N,), and its index, int32 (N,)."""
        rows = np.repeat(np.arange(len(self)), self.lengths)
        first = np.cumsum(self.lengths) - self.lengths  # where each sequence begins among all items
        return rows, self.items[np.arange(len(rows)) + np.repeat(self.starts - first, self.lengths)]


@dataclass(frozen=True, eq=False)
class Corpus:
    """A log after preparation: every user's items in time order, and the ids that stand behind the indices.

    items: int32 (M,), grouped by user, in time order; item indices 1..num_items (0 is padding and never occurs).
    offsets: int64 (U+1,); the items of user row u are `items[offsets[u]:offsets[u+1]]`.
    user_ids: (U,), the user's own ids in their own type; row u of the corpus is `user_ids[u]`.
    item_ids: (num_items,); `item_ids[j]` is item index j+1.
    timestamps: (M,) int64 or float64 as given, datetimes as int64 microseconds since 1970 UTC; None without times.
    titles: (num_items,) text beside `item_ids`, null where unknown; None where there are none.
    categories: (num_items,) list of texts beside `item_ids`, null where unknown; None where there are none.
    name: what to call it in tables, such as "ml-100k" or a file's stem.
    provenance: where it came from and how it was prepared; plain JSON values.
    parts: uint8 (M,), for a split of one's own: 0 for an action of training, 1 of validation, 2 of the test; None
        without one.
    """

    items: NDArray[np.int32]
    offsets: NDArray[np.int64]
    user_ids: pl.Series
    item_ids: pl.Series
    timestamps: NDArray[np.int64] | NDArray[np.float64] | None
    titles: pl.Series | None
    name: str
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])
    categories: pl.Series | None = None
    parts: NDArray[np.uint8] | None = None

    def __repr__(self) -> str:
        return f"Corpus({self.name!r}: {self.size})"

    @property
    def size(self) -> str:
        """Users, items and actions in words."""
        return f"{self.num_users:,} users, {self.num_items:,} items, {self.num_actions:,} actions"

    @property
    def num_users(self) -> int:
        """Number of users U."""
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        """Size of the catalogue; item indices run from 1 to this."""
        return len(self.item_ids)

    @property
    def num_actions(self) -> int:
        """Number of actions M."""
        return len(self.items)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (hex) over items, offsets, both vocabularies, the timestamps, and the parts where there are any.

        It depends on neither the machine, the place on disk, the name, the titles nor the categories.
        """
        digest = hashlib.sha256(b"seqdiffrec corpus 1\n")
        for label, array in (("items", self.items), ("offsets", self.offsets), ("timestamps", self.timestamps)):
            digest.update(f"{label}\n".encode())
            if array is not None:
                hash_array(digest, array)
        for label, ids in (("user_ids", self.user_ids), ("item_ids", self.item_ids)):
            digest.update(f"{label}\n".encode())
            hash_ids(digest, ids)
        if self.parts is not None:
            digest.update(b"parts\n")
            hash_array(digest, self.parts)
        return digest.hexdigest()

    def sequences(self) -> Sequences:
        """All users' whole sequences; row u belongs to `user_ids[u]`."""
        return Sequences(self.items, self.offsets[:-1], self.offsets[1:])

    def vocabulary(self) -> pl.DataFrame:
        """Columns item_id, title and categories (null where unknown); row j belongs to item index j+1."""
        unknown = pl.Series([None] * self.num_items)
        titles, categories = (unknown if one is None else one for one in (self.titles, self.categories))
        typed = titles.cast(pl.String).alias("title"), categories.cast(pl.List(pl.String)).alias("categories")
        return pl.DataFrame([self.item_ids.alias("item_id"), *typed])

    def user_index(self, user_id: object) -> int:
        """Row of one user, 0..num_users-1. Raises DataError when the id is unknown."""
        return self._known("user", user_id, self.user_ids)

    def item_index(self, item_id: object) -> int:
        """Index of one item, 1..num_items. Raises DataError when the id is unknown."""
        return self._known("item", item_id, self.item_ids) + 1

    def user_indices(self, user_ids: Iterable[object]) -> NDArray[np.int64]:
        """Rows of many users, int64 (B,); -1 where the id is unknown."""
        return places_of(user_ids, self.user_ids)

    def item_indices(self, item_ids: Iterable[object]) -> NDArray[np.int32]:
        """Indices of many items, int32 (B,); 0 (the padding index) where the id is unknown."""
        return (places_of(item_ids, self.item_ids) + 1).astype(np.int32)

    def _known(self, kind: str, wanted: object, vocabulary: pl.Series) -> int:
        place = int(places_of([wanted], vocabulary)[0])
        if place < 0:
            examples = ", ".join(repr(value) for value in vocabulary.head(3))
            raise DataError(
                f"{kind} {wanted!r} is not among the {len(vocabulary)} {kind}s of {self.name!r}; "
                f"its {kind} ids are of type {vocabulary.dtype}, for example {examples}"
            )
        return place

    def save(self, folder: str | Path) -> None:
        """Write the corpus to a new folder, whole or not at all.

        Raises DataError when the folder is there already and not empty, or when it cannot be written (a full disk).
        """
        storage.write_folder(Path(folder), self._write_into)

    def _write_into(self, folder: Path) -> None:
        arrays = {"items": self.items, "offsets": self.offsets, "timestamps": self.timestamps, "parts": self.parts}
        for file, array in arrays.items():
            if array is not None:
                storage.write_array(folder / f"{file}.npy", array)
        storage.write_frame(folder / "users.arrow", self.user_ids.alias("user_id").to_frame())
        given = {"item_id": self.item_ids, "title": self.titles, "categories": self.categories}
        items = pl.DataFrame({name: column for name, column in given.items() if column is not None})
        storage.write_frame(folder / "items.arrow", items)
        storage.write_json(folder / "corpus.json", self._record())

    def _record(self) -> dict[str, Any]:
        return {
            "format": CORPUS_FORMAT,
            "name": self.name,
            "content_hash": self.content_hash,
            "num_users": self.num_users,
            "num_items": self.num_items,
            "num_actions": self.num_actions,
            "user_id_type": str(self.user_ids.dtype),
            "item_id_type": str(self.item_ids.dtype),
            "timestamp_type": None if self.timestamps is None else str(self.timestamps.dtype),
            "provenance": dict(self.provenance),
            **({} if self.parts is None else {"parts": ["train", "validation", "test"]}),
        }

    @staticmethod
    def load(folder: str | Path, *, verify: bool = True) -> "Corpus":
        """Open a folder written by `save`; the arrays are memory-mapped and read-only.

        verify: read everything once and compare with the stored content hash (about a second for 100 million
            actions); without it only names, types and sizes are checked.
        Raises DataError when a file is missing, cut off, of another version or not the one that was saved.
        """
        folder = Path(folder)
        record = storage.read_json(folder / "corpus.json")
        if record.get("format") != CORPUS_FORMAT:
            raise DataError(
                f"{folder / 'corpus.json'}: corpus format {record.get('format')!r}, but this version of seqdiffrec "
                f"reads format {CORPUS_FORMAT}; prepare the data again"
            )
        items = storage.read_frame(folder / "items.arrow")
        has_times = record.get("timestamp_type") is not None
        try:
            corpus = Corpus(
                items=storage.map_array(folder / "items.npy"),
                offsets=storage.map_array(folder / "offsets.npy"),
                user_ids=storage.read_frame(folder / "users.arrow")["user_id"],
                item_ids=items["item_id"],
                timestamps=storage.map_array(folder / "timestamps.npy") if has_times else None,
                titles=items.get_column("title", default=None),
                categories=items.get_column("categories", default=None),
                name=record["name"],
                provenance=record["provenance"],
                parts=storage.map_array(folder / "parts.npy") if record.get("parts") else None,
            )
        except (KeyError, pl.exceptions.ColumnNotFoundError) as error:
            raise DataError(f"{folder}: {error} is missing from the corpus; prepare the data again") from error
        stored = {key: record.get(key) for key in ("num_users", "num_items", "num_actions")}
        found = {key: getattr(corpus, key) for key in stored}
        if stored != found or (verify and record.get("content_hash") != corpus.content_hash):
            raise DataError(
                f"{folder}: the arrays are not the ones that corpus.json was written for "
                f"(it says {stored}, the files hold {found}, or their content differs); "
                "delete the folder and prepare the data again"
            )
        return corpus


def is_corpus(path: str | Path) -> bool:
    """Whether a folder is one that `Corpus.save` wrote."""
    return (Path(path) / "corpus.json").is_file()


def statistics(corpus: Corpus) -> dict[str, int | float]:
    """The figures of the paper's Table 1: users, items, actions, avg_length (one decimal), sparsity (percent, two)."""
    density = corpus.num_actions / (corpus.num_users * corpus.num_items)
    return {
        "users": corpus.num_users,
        "items": corpus.num_items,
        "actions": corpus.num_actions,
        "avg_length": round(corpus.num_actions / corpus.num_users, 1),
        "sparsity": round(100 * (1 - density), 2),
    }
