"""A part of a log's users, for what takes too long on all of them."""

from dataclasses import replace

import numpy as np

from seqdiffrec.data.corpus import Corpus
from seqdiffrec.data.errors import DataError

# Of the draw: the same users of a log whatever else a run sets.
SEED = 0


def share_of_users(corpus: Corpus, share: float) -> Corpus:
    """The corpus of so many of the users, drawn evenly, in their order, and of the items that these took.

    share: above 0 and at most 1; the number of users is rounded up. The draw depends on the number of users and on the
        share alone. Items that nobody of them took are left out: figures are not to be compared with the whole log's.
    Raises DataError for a share out of range, or that leaves one user.
    """
    if not 0 < share <= 1:
        raise DataError(f"the share of users is {share}; give one above 0 and at most 1")
    count = int(np.ceil(share * corpus.num_users))
    if count < 2:
        raise DataError(f"a share of {share} of {corpus.size} leaves one user, and a recommender needs two; raise it")
    chosen = np.sort(np.random.default_rng(SEED).choice(corpus.num_users, count, replace=False))
    is_chosen = np.zeros(corpus.num_users, dtype=bool)
    is_chosen[chosen] = True
    lengths = np.diff(corpus.offsets)
    kept = np.repeat(is_chosen, lengths)
    items = corpus.items[kept]
    taken = np.unique(items)  # rising, so that items keep their order
    columns = taken.astype(np.int64) - 1
    return replace(
        corpus,
        items=(np.searchsorted(taken, items) + 1).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths[chosen])]),
        user_ids=corpus.user_ids[chosen],
        item_ids=corpus.item_ids[columns],
        timestamps=None if corpus.timestamps is None else corpus.timestamps[kept],
        titles=None if corpus.titles is None else corpus.titles[columns],
        categories=None if corpus.categories is None else corpus.categories[columns],
        parts=None if corpus.parts is None else corpus.parts[kept],
        provenance={**corpus.provenance, "user_share": share, "of_corpus": corpus.content_hash},
    )
