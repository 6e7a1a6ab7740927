"""For whom a model is asked: users of its log, users with what they took since, histories of anybody."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from seqdiffrec.data import Corpus, DataError, Sequences
from seqdiffrec.data.vocabulary import is_categorical
from seqdiffrec.inference.ids import known_items
from seqdiffrec.models.settings import SettingError

log = logging.getLogger("seqdiffrec")


@dataclass(frozen=True, eq=False)
class Asked:
    """Histories as item indices, and what each is called in the answer: a column user_id, or history (from 0)."""

    histories: Sequences
    keys: pl.Series


def of_users(corpus: Corpus, users: Iterable[Any], recent: Mapping[Any, Iterable[Any]] | None) -> Asked:
    """Users' whole histories in the corpus, and after each what ``recent`` says that they took since, oldest first.

    A user whom only ``recent`` names is new. Raises DataError for a user whom neither knows, SettingError for a user
    in ``recent`` who is not asked for.
    """
    wanted, recent = list(users), recent or {}
    rows = corpus.user_indices(wanted)
    nobody = [user for user in recent if user not in set(wanted)]
    if nobody:
        raise SettingError(f"recent has items of {nobody[:3]}, who are not among the users asked for; name them too")
    for place in np.flatnonzero(rows < 0).tolist():
        if wanted[place] not in recent:
            corpus.user_index(wanted[place])  # raises, and says which are known
    if not recent:
        return Asked(corpus.sequences().select(rows), corpus.user_ids.gather(rows).alias("user_id"))
    # Nobody's row, -1, is the last one's, cut to nothing.
    known = corpus.sequences().select(rows)
    known = Sequences(known.items, np.where(rows < 0, known.ends, known.starts), known.ends)
    items = corpus.item_ids.to_frame("item_id")
    later = [known_items(recent.get(user, ()), f"user {user!r}", items) for user in wanted]
    return Asked(_told(continued(known, later), [f"user {user!r}" for user in wanted]), _ids(corpus, wanted, rows))


def of_histories(histories: Sequence[Iterable[Any]], vocabulary: pl.DataFrame) -> Asked:
    """Histories of item ids, oldest first; unknown items are skipped, with a warning that counts them."""
    names = [f"history {number}" for number in range(len(histories))]
    known = [known_items(history, name, vocabulary) for history, name in zip(histories, names, strict=True)]
    nothing = np.zeros(len(known), np.int64)
    sequences = continued(Sequences(np.empty(0, np.int32), nothing, nothing), known)
    return Asked(_told(sequences, names), pl.int_range(0, len(known), eager=True).alias("history"))


def continued(histories: Sequences, more: Sequence[NDArray[np.int32]]) -> Sequences:
    """Each history with further items, index by index, at its end."""
    rows, items = histories.flat()
    lengths = np.array([len(one) for one in more], dtype=np.int64)
    rows = np.concatenate([rows, np.repeat(np.arange(len(more)), lengths)])
    items = np.concatenate([items, *more])
    ends = np.cumsum(histories.lengths + lengths)
    return Sequences(items[rows.argsort(kind="stable")], ends - histories.lengths - lengths, ends)


def _told(histories: Sequences, names: list[str]) -> Sequences:
    for number in np.flatnonzero(histories.lengths == 0).tolist():
        log.warning("%s has no known item: it gets the most popular items", names[number])
    return histories


def _ids(corpus: Corpus, wanted: list[Any], rows: NDArray[np.int64]) -> pl.Series:
    """The users' ids in the type of the corpus, those of new ones too. Raises DataError where one is not of it."""
    ids = corpus.user_ids.cast(pl.String) if is_categorical(corpus.user_ids.dtype) else corpus.user_ids
    new = np.flatnonzero(rows < 0)
    if not len(new):
        return corpus.user_ids.gather(rows).alias("user_id")
    given = pl.Series(values=[wanted[place] for place in new.tolist()])
    cast = given.cast(ids.dtype, strict=False)
    if cast.null_count() or ((ids.dtype == pl.String) != (given.dtype == pl.String) and ids.dtype == pl.String):
        raise DataError(f"new users {given.head(3).to_list()} are not of type {ids.dtype}, as all of {corpus.name!r}")
    found = pl.concat([ids, cast])
    places = rows.copy()
    places[new] = len(ids) + np.arange(len(new))
    return found.gather(places).alias("user_id")
