"""What a trained model needs to grow: which known items new ones are like, and what there is to learn since."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from seqdiffrec.data import Corpus, Dataset, Sequences
from seqdiffrec.data.dataset import WHOLE_LOG
from seqdiffrec.data.growth import Longer, with_more
from seqdiffrec.data.split import Split, whole_log
from seqdiffrec.data.vocabulary import places_of
from seqdiffrec.inference.ids import columns_of
from seqdiffrec.models.settings import SettingError

# A new item of a log is like the known ones that stand at most so many places before or behind it.
NEAR = 3


Pairs = tuple[NDArray[np.int64], NDArray[np.int32]]
"""A new item, from 0, and the index of a known one that it is like."""


def new_ids(neighbours: Mapping[Any, Iterable[Any]], table: pl.DataFrame | None, corpus: Corpus) -> list[Any]:
    """The ids of new items: those with neighbours, then those of the table that are neither these nor known.

    Raises SettingError where there are none.
    """
    ids = list(neighbours)
    if table is not None:
        known = with_more(corpus.item_ids, [one for one in ids if corpus.item_indices([one])[0] == 0], "items")
        ids += table["item_id"].filter(pl.Series(places_of(table["item_id"], known) < 0)).to_list()
    if not ids:
        raise SettingError("there are no new items; name some, each with known items that it is like")
    return ids


def named_like(neighbours: Mapping[Any, Iterable[Any]], vocabulary: pl.DataFrame) -> Pairs:
    """The known items that each new one is said to be like. Raises SettingError for none, or an unknown one."""
    lists = [list(like) for like in neighbours.values()]
    for item, like in zip(neighbours, lists, strict=True):
        if not like:
            raise SettingError(f"item {item!r} has no neighbours; name known items that it is like")
    rows = np.repeat(np.arange(len(lists)), [len(like) for like in lists])
    items = columns_of([one for like in lists for one in like], vocabulary).numpy() + 1 if lists else rows
    return rows, items.astype(np.int32)


def like_by_categories(vocabulary: pl.DataFrame, known: int, start: int) -> Pairs:
    """For each item from place `start` on, those of the first `known` that have most categories in common with it.

    Raises SettingError for an item that shares none.
    """
    places = pl.DataFrame({"place": range(len(vocabulary)), "category": vocabulary["categories"]}).explode("category")
    old, new = places.filter(pl.col("place") < known), places.filter(pl.col("place") >= start)
    shared = new.drop_nulls().join(old.drop_nulls(), on="category").group_by("place", "place_right").len()
    nearest = shared.filter(pl.col("len") == pl.col("len").max().over("place")).sort("place", "place_right")
    for place in np.setdiff1d(np.arange(start, len(vocabulary)), nearest["place"].to_numpy())[:1].tolist():
        raise SettingError(
            f"item {vocabulary['item_id'][place]!r} shares no category with a known item; name neighbours for it"
        )
    rows, items = (nearest[name].to_numpy() for name in ("place", "place_right"))
    return rows.astype(np.int64) - known, (items + 1).astype(np.int32)


def as_sequences(pairs: Sequence[Pairs], count: int) -> Sequences:
    """The known items that each of ``count`` new ones is like."""
    rows, items = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    ends = np.cumsum(np.bincount(rows, minlength=count))
    return Sequences(items[rows.argsort(kind="stable")], np.concatenate([[0], ends])[:count], ends)


def beside_in_log(corpus: Corpus, known: int) -> Sequences:
    """For each item behind the first ``known`` ones, the known items that stand near it in users' sequences."""
    user = np.repeat(np.arange(corpus.num_users), np.diff(corpus.offsets))
    new = np.flatnonzero(corpus.items > known)
    pairs = list[Pairs]()
    for away in (*range(-NEAR, 0), *range(1, NEAR + 1)):
        at = new + away
        inside = (at >= 0) & (at < corpus.num_actions)
        here, there = new[inside], at[inside]
        fits = (user[here] == user[there]) & (corpus.items[there] <= known)
        pairs.append((corpus.items[here[fits]].astype(np.int64) - known - 1, corpus.items[there[fits]]))
    return as_sequences(pairs, corpus.num_items - known)


def learned_before(corpus: Corpus, split: dict[str, Any] | None) -> NDArray[np.bool_]:
    """Which actions of a corpus a model with this split has learned from, as histories or targets: bool (M,)."""
    train = _split(corpus, split).train
    steps = np.zeros(corpus.num_actions + 1, np.int64)
    np.add.at(steps, train.starts, 1)
    np.add.at(steps, train.ends, -1)
    return steps[:-1].cumsum() > 0


def to_learn(found: Longer, learned: NDArray[np.bool_], max_length: int, old_share: float, seed: int) -> Split:
    """Train from each user's first action that is not learned yet on, and on the last ones of some other users.

    learned: of the actions that are not new, in their order. old_share: old targets for each new one, at most as many
        as there are; which users they are of depends on ``seed``.
    """
    corpus = found.corpus
    todo = found.is_new.copy()
    todo[~found.is_new] = ~learned
    starts, ends = corpus.offsets[:-1], corpus.offsets[1:]
    users = np.repeat(np.arange(corpus.num_users), ends - starts)
    places = np.flatnonzero(todo)
    first = ends.copy()
    np.minimum.at(first, users[places], places)
    others = np.random.default_rng(seed).permutation(np.flatnonzero((first == ends) & (ends - starts >= 2)))
    begin = np.maximum(starts + 1, ends - (max_length - 1))
    wanted = old_share * (ends - np.maximum(first, starts + 1)).clip(min=0).sum()
    sampled = others[np.cumsum((ends - begin)[others]) <= wanted]
    first[sampled] = begin[sampled]
    whole = whole_log(corpus)
    return Split(whole.train, whole.validation, whole.test, first)


def _split(corpus: Corpus, split: dict[str, Any] | None) -> Split:
    if split == WHOLE_LOG:
        return whole_log(corpus)
    times = None
    if split is not None and "validation_time" in split:
        first, second = (split[name] for name in ("validation_time", "test_time"))
        times = _moment(first), _moment(second)
    return Dataset.of(corpus, times).split


def _moment(value: Any) -> Any:
    return datetime.fromisoformat(value) if isinstance(value, str) else value
