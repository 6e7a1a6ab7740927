"""Ranks become figures: hit rate, NDCG and MRR; and lists with any number of relevant items.

A case of a split has one relevant item, the target. So the ideal DCG is 1, recall equals the hit rate, precision is the
hit rate over K, MAP equals MRR, and each metric is a mean over cases of a function of the target's rank (from 1) alone.
`accuracy` has the general definitions; with one relevant item they are the same.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RankArray = NDArray[np.int64]

DEFAULT_CUTOFFS = (5, 10, 20)


def cutoffs(num_items: int, wanted: tuple[int, ...] = DEFAULT_CUTOFFS) -> list[int]:
    """The cutoffs to report where none are asked for: 5, 10 and 20, or the catalogue's size where it is smaller."""
    return sorted({min(k, num_items) for k in wanted})


def check_cutoff(k: object, num_items: int | None = None) -> None:
    """Refuse a cutoff that no ranking has.

    Args:
        k: the cutoff, the K of HR@K.
        num_items: the catalogue's size, when it is known.

    Raises:
        ValueError: `k` is not an integer of at least 1, or is larger than the catalogue.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"K, the number of items in a list, must be an integer of at least 1, not {k!r}")
    if num_items is not None and k > num_items:
        raise ValueError(f"K = {k} is larger than the catalogue of {num_items} items; take a K of at most {num_items}")


def hit_rate(ranks: RankArray, k: int) -> float:
    """HR@K: the share of cases, in [0, 1], whose target stands among the first `k`.

    Args:
        ranks: int64 (B,), the targets' ranks, from 1.
        k: the cutoff.

    Raises:
        ValueError: `k` is not an integer of at least 1, or `ranks` is empty or holds a rank below 1.
    """
    check_cutoff(k)
    _check_ranks(ranks)
    return float(np.mean(ranks <= k))


def ndcg(ranks: RankArray, k: int) -> float:
    """NDCG@K in [0, 1]: a case adds 1 / log2(rank + 1) when its target stands among the first `k`, else nothing.

    Args:
        ranks: int64 (B,), the targets' ranks, from 1.
        k: the cutoff.

    Raises:
        ValueError: as for `hit_rate`.
    """
    check_cutoff(k)
    _check_ranks(ranks)
    return float(np.mean(np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)))


def mrr(ranks: RankArray, k: int | None = None) -> float:
    """MRR in [0, 1]: the mean of 1 / rank; with `k`, a target below the first `k` adds nothing.

    Args:
        ranks: int64 (B,), the targets' ranks, from 1.
        k: the cutoff; None for the whole ranking.

    Raises:
        ValueError: as for `hit_rate`.
    """
    if k is not None:
        check_cutoff(k)
    _check_ranks(ranks)
    reciprocal = 1.0 / ranks
    return float(np.mean(reciprocal if k is None else np.where(ranks <= k, reciprocal, 0.0)))


def summarize(ranks: RankArray, ks: Sequence[int] = DEFAULT_CUTOFFS, num_items: int | None = None) -> dict[str, float]:
    """Every metric at every cutoff, under the names of the field.

    Args:
        ranks: int64 (B,), the targets' ranks, from 1.
        ks: the cutoffs.
        num_items: the catalogue's size; when given, no cutoff may be larger.

    Returns:
        "HR@5", "NDCG@5", "MRR@5", and so on for each cutoff, then "MRR" over the whole ranking.

    Raises:
        ValueError: a cutoff is refused by `check_cutoff`, or `ranks` is empty or holds a rank below 1.
    """
    figures: dict[str, float] = {}
    for k in ks:
        check_cutoff(k, num_items)
        figures[f"HR@{k}"] = hit_rate(ranks, k)
        figures[f"NDCG@{k}"] = ndcg(ranks, k)
        figures[f"MRR@{k}"] = mrr(ranks, k)
    figures["MRR"] = mrr(ranks)
    return figures


def accuracy(hits: NDArray[np.bool_], relevant: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """What each user adds to the metrics of lists of K places, where more than one item may be relevant.

    Args:
        hits: bool (B, K), whether the item at each place of each user's list, best first, is relevant; False where a
            list is shorter.
        relevant: int64 (B,), how many items are relevant to each user, at least 1.

    Returns:
        float64 (B,) for each name, in [0, 1]: HR (any hit), Recall (hits / relevant), Precision (hits / K, also where
        the list is shorter), MAP (the mean precision at the hits, over the most hits there could be,
        min(relevant, K)), MRR (1 / place of the first hit), NDCG (DCG over that of min(relevant, K) hits on top).

    Raises:
        ValueError: lists without a place, or a user without a relevant item.
    """
    if hits.shape[1] < 1 or (relevant < 1).any():
        raise ValueError("lists need at least one place, and every user at least one relevant item")
    k = int(hits.shape[1])
    places = np.arange(1.0, k + 1)
    discount = 1.0 / np.log2(places + 1.0)
    most = np.minimum(relevant, k)
    found: NDArray[np.float64] = hits.cumsum(axis=1, dtype=np.float64)
    ideal: NDArray[np.float64] = discount.cumsum()
    return {
        "HR": np.minimum(found[:, -1], 1.0),
        "Recall": found[:, -1] / relevant,
        "Precision": found[:, -1] / k,
        "MAP": (hits * found) @ (1.0 / places) / most,
        "MRR": (hits / places).max(axis=1),
        "NDCG": hits @ discount / ideal[most - 1],
    }


def _check_ranks(ranks: RankArray) -> None:
    if ranks.size == 0:
        raise ValueError("there are no ranks to average: the split has no cases, so there is nothing to evaluate")
    if ranks.min() < 1:
        raise ValueError(f"ranks start from 1, but there is a rank of {ranks.min()}")
