"""What lists are held against: how many people took each item before, with which others, and its categories."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

# The share of the items that counts as popular, the most taken first.
HEAD_SHARE = 0.2
# Pairs of items taken by one person that are counted; with more, people are drawn until so many are reached.
PAIRS_AT_MOST = 2**28
# Numbers of common users held at a time: some 50 MiB.
PAIRS_AT_ONCE = 2**22

Items = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Categories:
    """Which categories items have.

    Attributes:
        names: of the C categories, in alphabetical order.
        of_items: sparse (V + 1, C), 1 where an item has a category; row 0 is padding and has none.
    """

    names: list[str]
    of_items: Any

    @classmethod
    def of(cls, categories: pl.Series) -> "Categories":
        """From lists of texts, row j for item index j + 1, null where an item has none.

        Raises ValueError where no item has a category.
        """
        pairs = pl.DataFrame({"item": np.arange(1, len(categories) + 1), "name": categories}).explode("name")
        pairs = pairs.drop_nulls().unique()
        if pairs.is_empty():
            raise ValueError("none of the items has a category")
        names = pairs["name"].unique().sort()
        columns = names.search_sorted(pairs["name"]).to_numpy()
        shape = (len(categories) + 1, len(names))
        of_items = sparse.csr_matrix((np.ones(len(pairs)), (pairs["item"].to_numpy(), columns)), shape)
        return cls(names.to_list(), of_items)

    def shares(self) -> Any:
        """Sparse (V + 1, C): a weight of 1 for each item that has categories, in equal parts over them: p(g | i)."""
        count = np.diff(self.of_items.indptr)
        return sparse.diags(1.0 / np.maximum(count, 1)) @ self.of_items

    def similarity(self, first: Items, second: Items) -> NDArray[np.float64]:
        """The Jaccard index of the two items' categories: common ones over all of both; 0 where neither has any."""
        common = np.asarray(self.of_items[first].multiply(self.of_items[second]).sum(axis=1)).ravel()
        count = np.diff(self.of_items.indptr)
        return common / np.maximum(count[first] + count[second] - common, 1)


@dataclass(frozen=True, eq=False)
class Background:
    """What people took before.

    Attributes:
        taken: sparse (U, V + 1), 1 where a person took an item at least once; a row for each person who took any.
        users: int64 (V + 1,), how many people took each item; nobody took item 0, which is padding.
        head: bool (V + 1,), whether an item is popular: among the first 20 % by `users`, the smaller index first.
    """

    taken: Any
    users: NDArray[np.int64]
    head: NDArray[np.bool_]

    @classmethod
    def of(cls, rows: NDArray[np.int64], items: NDArray[Any], num_items: int) -> "Background":
        """From actions: whose (any numbers) and of which item index, 1..num_items."""
        people, rows = np.unique(rows, return_inverse=True)
        shape = (len(people), num_items + 1)
        taken: Any = sparse.csr_matrix((np.ones(len(items), np.float32), (rows, items)), shape)
        taken.data[:] = 1  # it was how often
        users = np.bincount(taken.indices, minlength=num_items + 1)
        head = np.zeros(num_items + 1, np.bool_)
        head[1 + np.argsort(-users[1:], kind="stable")[: int(np.ceil(HEAD_SHARE * num_items))]] = True
        return cls(taken, users, head)

    def information(self) -> NDArray[np.float64]:
        """(V + 1,) in bits, how surprising it is that somebody took the item: ``-log2(users / all people)``.

        An item that nobody took counts as if one person had.
        """
        return -np.log2(np.maximum(self.users, 1) / max(self.taken.shape[0], 1))

    def similarity(self, first: Items, second: Items) -> NDArray[np.float64]:
        """The cosine of the two items' sets of users: common users over ``sqrt(n_1 n_2)``; 0 where nobody took one.

        The work grows with the sum over people of their number of items squared. Where that is above `PAIRS_AT_MOST`
        it is counted over people drawn at random, so many that it is not.
        """
        taken = self.taken[_people(np.diff(self.taken.indptr))]
        users = np.bincount(taken.indices, minlength=taken.shape[1])
        order = np.argsort(first, kind="stable")
        common = np.empty(len(first))
        common[order] = np.concatenate([np.empty(0), *_common(taken, first[order], second[order])])
        return common / np.sqrt(np.maximum(users[first] * users[second], 1))


def _people(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of people, as many as `PAIRS_AT_MOST` allows."""
    drawn = np.random.default_rng(0).permutation(len(lengths))
    work = np.cumsum(lengths[drawn].astype(np.int64) ** 2)
    return np.sort(drawn[: max(1, int(np.searchsorted(work, PAIRS_AT_MOST, side="right")))])


def _common(taken: Any, first: Items, second: Items) -> Iterator[NDArray[np.float64]]:
    """How many users took both items of each pair; the pairs come in the order of their first items."""
    by_item = taken.T.tocsr()
    items, begins = np.unique(first, return_index=True)
    room = np.minimum(by_item[items] @ np.diff(taken.indptr), taken.shape[1])
    stretch = np.cumsum(room) // PAIRS_AT_ONCE
    ends = np.append(begins, len(first))
    for start, stop in pairwise(np.flatnonzero(np.diff(stretch, prepend=-1, append=-1))):
        together = by_item[items[start:stop]] @ taken
        here = slice(ends[start], ends[stop])
        yield np.asarray(together[np.searchsorted(items[start:stop], first[here]), second[here]]).ravel()
