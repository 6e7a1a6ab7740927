"""From a checked log to a corpus: stable order, repeats, k-core, vocabularies."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from seqdiffrec.data.corpus import Corpus
from seqdiffrec.data.errors import DataError
from seqdiffrec.data.interactions import Interactions
from seqdiffrec.data.items import beside
from seqdiffrec.data.vocabulary import places_of

SHORTEST_USEFUL = 3
"""Actions that leave-one-out needs of a user: one to learn from, one for validation, one for test."""


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
    three actions, or when `items` knows none of the items.
    """
    if min_user < 1 or min_item < 1:
        raise DataError(f"min_user ({min_user}) and min_item ({min_item}) must be at least 1; 1 keeps everything")
    frame = interactions.frame
    user_vocabulary = frame["user_id"].unique(maintain_order=True)
    item_vocabulary = frame["item_id"].unique(maintain_order=True)
    users = places_of(frame["user_id"], user_vocabulary)
    taken = places_of(frame["item_id"], item_vocabulary)
    times = frame["timestamp"].to_numpy() if "timestamp" in frame.columns else None

    # lexsort is stable, so equal times keep the order of the log.
    order = np.argsort(users, kind="stable") if times is None else np.lexsort((times, users))
    if drop_repeats:
        order = order[_first_of_each_pair(users[order], taken[order])]
    order = order[k_core(users[order], taken[order], min_user, min_item)]
    if len(order) == 0:
        raise DataError(
            f"{interactions.source}: nothing is left when every user needs {min_user} actions and every item "
            f"{min_item} (the log has {len(frame)} actions of {len(user_vocabulary)} users on {len(item_vocabulary)} "
            "items); lower min_user and min_item"
        )
    kept_users, user_rows = np.unique(users[order], return_inverse=True)
    kept_items, item_rows = np.unique(taken[order], return_inverse=True)
    lengths = np.bincount(user_rows)
    _check_usable(interactions.source, lengths)
    item_ids = item_vocabulary.gather(kept_items)
    titles, categories = (None, None) if items is None else beside(item_ids, items)
    return Corpus(
        items=(item_rows + 1).astype(np.int32),
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        user_ids=user_vocabulary.gather(kept_users).alias("user_id"),
        item_ids=item_ids.alias("item_id"),
        timestamps=None if times is None else times[order],
        titles=titles,
        categories=categories,
        name=name,
        provenance={
            **(provenance or {}),
            "min_user": min_user,
            "min_item": min_item,
            "drop_repeats": drop_repeats,
        },
    )


def k_core(users: NDArray[np.int64], items: NDArray[np.int64], min_user: int, min_item: int) -> NDArray[np.int64]:
    """Places of the actions that stay when each user has `min_user` of them and each item `min_item`, int64 (K,).

    users, items: int64 (M,), from 0. The result is the largest such set, in the order given; it may be empty.
    """
    kept = np.arange(len(users))
    while len(kept):
        enough_user = np.bincount(users[kept])[users[kept]] >= min_user
        enough_item = np.bincount(items[kept])[items[kept]] >= min_item
        stays = enough_user & enough_item
        if stays.all():
            break
        kept = kept[stays]
    return kept


def _first_of_each_pair(users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.int64]:
    pairs = users * (items.max() + 1) + items
    return np.sort(np.unique(pairs, return_index=True)[1])


def _check_usable(source: str, lengths: NDArray[np.int64]) -> None:
    if len(lengths) < 2:
        raise DataError(
            f"{source}: one user only; a recommender needs at least two. Check which column holds the user, "
            "and lower min_user and min_item if they are above 1"
        )
    if lengths.max() < SHORTEST_USEFUL:
        raise DataError(
            f"{source}: every user has fewer than {SHORTEST_USEFUL} actions (the longest has {lengths.max()}), so none "
            "can be left out for validation and test; check which column holds the user, or give a longer log"
        )
