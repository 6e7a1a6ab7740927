"""For whom a model is asked: users of its log, users with what they took since, histories of anybody."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from seqdiffrec.data import Corpus, Sequences
from seqdiffrec.data.growth import with_more
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
    names = [f"user {user!r}" for user in wanted]
    later = _known([recent.get(user, ()) for user in wanted], names, corpus.item_ids.to_frame("item_id"))
    return Asked(_told(continued(known, *later), names), _ids(corpus, wanted, rows))


def of_histories(histories: Sequence[Iterable[Any]], vocabulary: pl.DataFrame) -> Asked:
    """Histories of item ids, oldest first; unknown items are skipped, with a warning that counts them."""
    names = [f"history {number}" for number in range(len(histories))]
    nothing = np.zeros(len(names), np.int64)
    known = continued(Sequences(np.empty(0, np.int32), nothing, nothing), *_known(histories, names, vocabulary))
    return Asked(_told(known, names), pl.int_range(0, len(names), eager=True).alias("history"))


def continued(histories: Sequences, rows: NDArray[np.int64], items: NDArray[np.int32]) -> Sequences:
    """The histories with further items at their ends: each item's history, and its index."""
    before_rows, before = histories.flat()
    all_rows = np.concatenate([before_rows, rows])
    ends = np.cumsum(np.bincount(all_rows, minlength=len(histories)))
    together = np.concatenate([before, items])[all_rows.argsort(kind="stable")]
    return Sequences(together, np.concatenate([[0], ends[:-1]])[: len(ends)], ends)


def _known(
    histories: Sequence[Iterable[Any]], names: list[str], vocabulary: pl.DataFrame
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Row and index of every known item."""
    known = [known_items(history, name, vocabulary) for history, name in zip(histories, names, strict=True)]
    rows = np.repeat(np.arange(len(known)), [len(one) for one in known])
    return rows, np.concatenate([np.empty(0, np.int32), *known])


def _told(histories: Sequences, names: list[str]) -> Sequences:
    for number in np.flatnonzero(histories.lengths == 0).tolist():
        log.warning("%s has no known item: it gets the most popular items", names[number])
    return histories


def _ids(corpus: Corpus, wanted: list[Any], rows: NDArray[np.int64]) -> pl.Series:
    """The users' ids in the type of the corpus, those of new ones too. Raises DataError where one is not of it."""
    new = np.flatnonzero(rows < 0)
    known = with_more(corpus.user_ids, [wanted[place] for place in new.tolist()], "users")
    places = rows.copy()
    places[new] = corpus.num_users + np.arange(len(new))
    return known.gather(places).alias("user_id")
