"""What lists of recommendations are like as a whole: coverage, exposure, novelty, diversity, popularity, categories.

Definitions and sources are in docs/evaluation.md. All that is kept of a model are its lists, (B, K).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from seqdiffrec.evaluation.background import Background, Categories, Items
from seqdiffrec.evaluation.significance import Figure, mean_figure

Lists = NDArray[np.int32]
"""int32 (B, K), item indices of each user's list, best first; 0 where a list is shorter."""

# Steck's alpha: how much of the history's distribution is mixed into the list's, so that no logarithm is infinite.
SMOOTHING = 0.01
# Pairs of places, or shares of categories, held at a time.
AT_ONCE = 2**22


def list_metrics(
    lists: Lists,
    num_items: int,
    background: Background | None = None,
    categories: Categories | None = None,
    histories: tuple[NDArray[np.int64], NDArray[np.int32]] | None = None,
) -> dict[str, Figure]:
    """All that can be said of the lists with what is given; a list without an item counts nowhere.

    Args:
        lists: int32 (B, K), best first.
        num_items: the catalogue's size, 0 where it is not known; item indices beyond it may be recommended, and do not
            count for Coverage and Gini.
        background: what people took before: for Novelty, Popularity, HeadShare, and Diversity without categories.
        categories: of the items: for Diversity and CategoryKL.
        histories: the row of the list and the item index of each action that the users have had: for CategoryKL.

    Returns:
        By name, without the K. The figures are means over users with 95 % intervals, but for Coverage and Gini, which
        are of all lists together.
    """
    exposure = np.bincount(lists.ravel(), minlength=num_items + 1)[1 : num_items + 1]
    users = int((lists > 0).any(axis=1).sum())
    found: dict[str, Figure | None] = {}
    if num_items:
        found["Coverage"] = Figure(float(np.mean(exposure > 0)), None, None, users)
    if exposure.any():
        found["Gini"] = Figure(gini(exposure), None, None, users)
    if background is not None:
        found["Novelty"] = mean_figure(mean_of(background.information(), lists))
        found["Popularity"] = mean_figure(mean_of(background.users.astype(np.float64), lists))
        found["HeadShare"] = mean_figure(mean_of(background.head.astype(np.float64), lists))
    source = categories or background
    if source is not None:
        found["Diversity"] = mean_figure(diversity(lists, source.similarity))
    if categories is not None and histories is not None:
        found["CategoryKL"] = mean_figure(category_divergence(lists, histories, categories))
    return {name: figure for name, figure in found.items() if figure is not None}


def gini(exposure: NDArray[np.int64]) -> float:
    """How unequally the places of all lists go to the items: 0 where each gets the same, near 1 where one gets all.

    ``sum_i (2 i - n - 1) x_i / (n sum_i x_i)`` with the n items in rising order of their places x_i: half the mean
    absolute difference of two items, relative to the mean.
    """
    rising = np.sort(exposure).astype(np.float64)
    n = len(rising)
    return float(((2 * np.arange(1, n + 1) - n - 1) * rising).sum() / (n * rising.sum()))


def mean_of(values: NDArray[np.float64], lists: Lists) -> NDArray[np.float64]:
    """(B,) the mean of a value of items, (V + 1,), over each list; NaN for an empty one."""
    there = lists > 0
    count = there.sum(axis=1)
    sums = (values[lists] * there).sum(axis=1)
    return np.divide(sums, count, out=np.full(len(lists), np.nan), where=count > 0)


def diversity(lists: Lists, similarity: Callable[[Items, Items], NDArray[np.float64]]) -> NDArray[np.float64]:
    """(B,) one less the mean similarity of two items of a list, over all its pairs; NaN for a list of fewer than two.

    Similarities are looked up once for each pair of items that stands in any list.
    """
    left, right = np.triu_indices(lists.shape[1], k=1)
    if not len(left):
        return np.full(len(lists), np.nan)
    base = int(lists.max(initial=0)) + 1
    blocks = _blocks(len(lists), len(left))
    # 0, which no pair has, stands for places where a list has ended.
    keys = np.unique(np.concatenate([[0], *(np.unique(_pairs(lists[rows], left, right, base)) for rows in blocks)]))
    values = np.append(0.0, similarity(*np.divmod(keys[1:], base)))
    result = np.empty(len(lists))
    for rows in blocks:
        pairs = _pairs(lists[rows], left, right, base)
        count = (pairs > 0).sum(axis=1).astype(np.float64)
        sums = values[np.searchsorted(keys, pairs)].sum(axis=1)
        result[rows] = 1 - np.divide(sums, count, out=np.full(len(pairs), np.nan), where=count > 0)
    return result


def category_divergence(
    lists: Lists, histories: tuple[NDArray[np.int64], NDArray[np.int32]], categories: Categories
) -> NDArray[np.float64]:
    """(B,) how far the categories of a list are from those of the user's history (Steck 2018), in nats, from 0.

    ``sum_g p(g) log(p(g) / ((1 - a) q(g) + a p(g)))`` with a = 0.01, where p and q are the mean p(g | i) over the
    history's and the list's items that have categories, all places alike. NaN where either has none.
    """
    shares = categories.shares()
    row, item = histories
    order = np.argsort(row, kind="stable")
    bounds = np.searchsorted(row[order], np.arange(len(lists) + 1))
    result = np.empty(len(lists))
    for rows in _blocks(len(lists), len(categories.names)):
        begin, end = bounds[rows.start], bounds[rows.stop]
        count = rows.stop - rows.start
        had = order[begin:end]
        p = _distribution(row[had] - rows.start, item[had], count, shares)
        place, column = np.nonzero(lists[rows])
        q = _distribution(place, lists[rows][place, column], count, shares)
        mixed = (1 - SMOOTHING) * q + SMOOTHING * p
        ratio = np.divide(p, mixed, out=np.ones_like(p), where=p > 0)
        result[rows] = (p * np.log(ratio)).sum(axis=1)
    return result


def _distribution(rows: NDArray[np.int64], items: NDArray[np.int32], count: int, shares: Any) -> NDArray[np.float64]:
    """(count, C): each row's mean share of categories; NaN for a row whose items have none."""
    taken = sparse.csr_matrix((np.ones(len(items)), (rows, items)), (count, shares.shape[0]))
    sums = np.asarray((taken @ shares).todense())
    total = sums.sum(axis=1, keepdims=True)
    return np.divide(sums, total, out=np.full(sums.shape, np.nan), where=total > 0)


def _pairs(lists: Lists, left: Items, right: Items, base: int) -> NDArray[np.int64]:
    """(b, P) a number for each pair of places, the smaller item first; 0 where one of them is empty."""
    first, second = lists[:, left].astype(np.int64), lists[:, right].astype(np.int64)
    keys = np.minimum(first, second) * base + np.maximum(first, second)
    return np.where((first > 0) & (second > 0), keys, 0)


def _blocks(count: int, width: int) -> list[slice]:
    step = max(1, AT_ONCE // width)
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
