"""From a checked log to a corpus: stable order, repeats, k-core, vocabularies."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_array

from seqdiffrec.data.corpus import Corpus
from seqdiffrec.data.errors import DataError
from seqdiffrec.data.interactions import PARTS, Interactions
from seqdiffrec.data.items import beside
from seqdiffrec.data.vocabulary import number_ids

SHORTEST_USEFUL = 3
"""Actions that leave-one-out needs of a user: one to learn from, one for validation, one for test."""
ROWS_AT_ONCE = 250_000
"""Of those that are put in order of time together: as many as a processor's cache holds."""


def prepare(
    interactions: Interactions,
    *,
    name: str,
    min_user: int = 1,
    min_item: int = 1,
    drop_repeats: bool = False,
    items: pl.DataFrame | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Corpus:
    """Order a log by user and time, take its k-core and number its users and items.

    Actions of one user at equal times keep the order of the log. Users and items are numbered in the order in which
    they first appear in the log, so the same log always gives the same corpus.

    name: what to call the corpus.
    min_user, min_item: least number of actions of every user and item that stay (5 and 5 in Section 5.1.1 of the
        paper); both are enforced again and again until nothing more falls out. 1 keeps everything.
    drop_repeats: keep only the first action of a user with an item, before the k-core.
    items: titles and categories of a part or all of the items, as `items_from_frame` checks them.
    provenance: recorded with the corpus, beside the settings above.
    Raises DataError when a minimum is below 1, when nothing or a single user is left, when every user has fewer than
    three actions, when a user's parts of a split of one's own are not in the order train, validation, test, or when
    `items` knows none of the items.
    """
    if min_user < 1 or min_item < 1:
        raise DataError(f"min_user ({min_user}) and min_item ({min_item}) must be at least 1; 1 keeps everything")
    frame = interactions.frame
    if len(frame) >= 2**31:
        raise DataError(f"{interactions.source} has {len(frame):,} actions; at most {2**31 - 1:,} can be prepared")
    user_vocabulary, users = number_ids(frame["user_id"])
    item_vocabulary, taken = number_ids(frame["item_id"])
    times = frame["timestamp"].to_numpy() if "timestamp" in frame.columns else None
    parts = frame["part"].to_numpy() if "part" in frame.columns else None

    order = in_order(users, times, len(user_vocabulary))
    users, taken = users[order], taken[order]
    if parts is not None:
        _check_parts(interactions, users, parts, order)
    if drop_repeats:
        kept = _first_of_each_pair(users, taken)
        users, taken, order = users[kept], taken[kept], order[kept]
    if max(min_user, min_item) > 1:
        kept = k_core(users, taken, min_user, min_item)
        users, taken, order = users[kept], taken[kept], order[kept]
    if len(order) == 0:
        raise DataError(
            f"{interactions.source}: nothing is left when every user needs {min_user} actions and every item "
            f"{min_item} (the log has {len(frame)} actions of {len(user_vocabulary)} users on {len(item_vocabulary)} "
            "items); lower min_user and min_item"
        )
    lengths = np.bincount(users, minlength=len(user_vocabulary))
    kept_users = np.flatnonzero(lengths)
    _check_usable(interactions, lengths[kept_users])
    is_kept = np.bincount(taken, minlength=len(item_vocabulary)) > 0
    item_index = np.cumsum(is_kept, dtype=np.int32)  # from 1 on, for those that are kept
    item_ids = item_vocabulary.gather(np.flatnonzero(is_kept))
    titles, categories = (None, None) if items is None else beside(item_ids, items)
    return Corpus(
        items=item_index[taken],
        offsets=np.concatenate(([0], np.cumsum(lengths[kept_users]))).astype(np.int64),
        user_ids=user_vocabulary.gather(kept_users).alias("user_id"),
        item_ids=item_ids.alias("item_id"),
        timestamps=None if times is None else times[order],
        titles=titles,
        categories=categories,
        parts=None if parts is None else parts[order],
        name=name,
        provenance={
            **(provenance or {}),
            "min_user": min_user,
            "min_item": min_item,
            "drop_repeats": drop_repeats,
            **({} if interactions.split is None else {"split": interactions.split}),
        },
    )


def in_order(users: NDArray[np.int32], times: NDArray[Any] | None, num_users: int) -> NDArray[np.int32]:
    """Places (M,) of the actions by user and, where there are times, by time; those at equal times as they stand.

    users: int32 (M,), from 0, below `num_users`. At most 2**31 - 1 actions.
    """
    order = _grouped(users, num_users)
    if times is None or len(order) == 0:
        return order
    ends = np.cumsum(np.bincount(users, minlength=num_users))
    start = 0
    while start < len(order):
        # Whole users, about so many rows at a time.
        end = int(ends[np.searchsorted(ends, min(start + ROWS_AT_ONCE, len(order)))])
        some = order[start:end]
        user, time = users[some], times[some]
        if not bool(np.all((time[1:] >= time[:-1]) | (user[1:] != user[:-1]))):
            by_time = np.argsort(time, kind="stable")
            local = user[by_time] - user[0]
            order[start:end] = some[by_time[_grouped(local, int(user[-1] - user[0]) + 1)]]
        start = end
    return order


def _grouped(users: NDArray[np.int32], num_users: int) -> NDArray[np.int32]:
    """Places of the actions by user, those of one user as they stand: a counting sort, which SciPy has as `tocsc`."""
    rows = np.arange(len(users) + 1, dtype=np.int32)
    table = csr_array((np.ones(len(users), dtype=np.int8), users, rows), shape=(len(users), num_users))
    return np.asarray(table.tocsc().indices, dtype=np.int32)


def _check_parts(
    interactions: Interactions, users: NDArray[np.int32], parts: NDArray[np.uint8], order: NDArray[np.int32]
) -> None:
    """Raise DataError where a user's later action belongs to an earlier part: a model would learn from the future."""
    ordered = parts[order]
    early = np.flatnonzero((ordered[1:] < ordered[:-1]) & (users[1:] == users[:-1]))
    if len(early):
        row, before = int(order[early[0] + 1]), int(order[early[0]])
        names = list(PARTS)
        user = interactions.frame["user_id"][row]
        raise DataError(
            f"{interactions.where(row)}: an action of user {user!r} is {names[parts[row]]!r} in column "
            f"{interactions.split!r}, but comes after one that is {names[parts[before]]!r} "
            f"({interactions.where(before)}); in the order of time a user's rows must be train, then validation, then "
            "test, or a model would learn from what came after the question"
        )


def k_core(users: NDArray[Any], items: NDArray[Any], min_user: int, min_item: int) -> NDArray[np.int32]:
    """Places of the actions that stay when each user has `min_user` of them and each item `min_item`, int32 (K,).

    users, items: whole numbers (M,), from 0. The result is the largest such set, in the order given; it may be empty.
    """
    kept = np.arange(len(users), dtype=np.int32)
    while len(kept):
        enough_user = np.bincount(users[kept])[users[kept]] >= min_user
        enough_item = np.bincount(items[kept])[items[kept]] >= min_item
        stays = enough_user & enough_item
        if stays.all():
            break
        kept = kept[stays]
    return kept


def _first_of_each_pair(users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.int64]:
    pairs = users.astype(np.int64) * (int(items.max()) + 1) + items
    return np.sort(np.unique(pairs, return_index=True)[1])


def _check_usable(interactions: Interactions, lengths: NDArray[np.int64]) -> None:
    source = interactions.source
    if len(lengths) < 2:
        raise DataError(
            f"{source}: one user only; a recommender needs at least two. Check which column holds the user, "
            "and lower min_user and min_item if they are above 1"
        )
    if lengths.max() < SHORTEST_USEFUL and interactions.split is None:
        raise DataError(
            f"{source}: every user has fewer than {SHORTEST_USEFUL} actions (the longest has {lengths.max()}), so none "
            "can be left out for validation and test; check which column holds the user, or give a longer log"
        )
