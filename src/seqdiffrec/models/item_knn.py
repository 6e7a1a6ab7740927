"""Item-kNN (Deshpande and Karypis 2004): what people take who took the same items.

Differs from the paper: user vectors are binary (each user counts once for an item, and all users alike), and an item's
similarities are not scaled to one length. Added: an item is its own neighbour by the users who took it again, so not at
all where nobody did; a shrinkage in the denominator, as in Ferrari Dacrema et al. 2019 and RecBole; newer items may
weigh more; a little popularity under all similarities.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import numpy as np
from jaxtyping import Float32, Int64
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse
from torch import Tensor

from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models.base import ModelConfig, SequenceModel
from seqdiffrec.models.item_graph import ItemGraph

# Similarities computed together, of which each item then keeps its k largest: some 200 MiB.
SIMILARITIES_AT_ONCE = 2**22


class ItemKNNConfig(ModelConfig):
    """Settings of item-kNN.

    num_neighbours: k, how many of the items most similar to it an item keeps.
    shrinkage: added to the denominator of the cosine, so that few common users say less.
    history_decay: an item that b others have followed in the history counts ``history_decay**b``: 1 for all alike, 0
        for the newest alone.
    smoothing: what all items together get by popularity, where a cosine is at most 1; it orders the items that are
        similar to nothing in the history. 0 leaves those at 0.
    """

    num_neighbours: Annotated[int, Field(ge=1, le=100_000)] = 100
    shrinkage: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    history_decay: Annotated[float, Field(ge=0, le=1)] = 1.0
    smoothing: Annotated[float, Field(ge=0, le=1e6)] = 0.01


class ItemKNN(SequenceModel):
    """An item's score is the sum of its similarities to the items of the history that have it among their neighbours.

    The similarity of two items is the cosine of their vectors over users.
    """

    name: ClassVar[str] = "itemknn"
    config_class: ClassVar[type[ModelConfig]] = ItemKNNConfig
    summary: ClassVar[str] = "items that the same people took, by cosine"
    paper: ClassVar[str | None] = "Deshpande and Karypis 2004"
    cost: ClassVar[str] = "none, it counts"

    def __init__(self, config: ItemKNNConfig, num_items: int):
        super().__init__(config, num_items)
        self.config = config
        self.graph = ItemGraph(num_items)

    def count_items(self, train: Sequences) -> None:
        """Find each item's neighbours."""
        super().count_items(train)
        parts = list(_neighbours(train, self.num_items, self.config.num_neighbours, self.config.shrinkage))
        self.graph.store(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def predict(self, batch: RaggedBatch, num_seeds: int) -> Float32[Tensor, "R V"]:
        """Scores in proportion, with popularity for what none of the history's items are similar to."""
        target, item, back = batch.seen(self.max_length)
        read = back < self.max_length - 1
        factor = (self.config.history_decay ** back[read]).float()
        smoothing = self.config.smoothing
        return self.graph.probabilities(
            target[read], item[read], factor, len(batch.targets), self.popularity(), smoothing
        )

    def similarity(self, items: Int64[Tensor, " n"]) -> Float32[Tensor, "n V"]:
        """The cosine of the items' vectors over users; minus infinity for those that are not near."""
        return self.graph.dense(items)


Neighbours = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]


def _neighbours(train: Sequences, num_items: int, k: int, shrinkage: float) -> Iterator[Neighbours]:
    """For stretches of items, index 0 first: how many neighbours each has, and all of them with their similarities.

    ``n_ij / (sqrt(n_i n_j) + shrinkage)``, where n_i users took item i and n_ij took both, n_ii took i again. The work
    grows with the sum over users of their number of items squared. Equally similar items go by their indices.
    """
    users, items = train.flat()
    taken: Any = sparse.csr_matrix((np.ones(len(items), np.float32), (users, items)), (len(train), num_items + 1))
    again = np.bincount(taken.indices, taken.data > 1, num_items + 1)
    taken.data[:] = 1  # it was how often a user took an item
    by_item = taken.T.tocsr()
    num_users = np.diff(by_item.indptr).astype(np.float64)
    room = np.minimum(by_item @ np.diff(taken.indptr), num_items + 1)  # no item has more similarities than that
    stretch = np.cumsum(room) // SIMILARITIES_AT_ONCE
    bounds = np.flatnonzero(np.diff(stretch, prepend=-1, append=-1))
    for start, stop in pairwise(bounds):
        together = by_item[start:stop] @ taken
        together.sort_indices()
        row, other = np.repeat(np.arange(start, stop), np.diff(together.indptr)), together.indices
        common = np.where(row == other, again[row], together.data)
        similarity = common / (np.sqrt(num_users[row] * num_users[other]) + shrinkage)
        kept = _largest_of_rows(similarity, together.indptr, k)
        yield np.bincount(row[kept] - start, minlength=stop - start), other[kept], similarity[kept].astype(np.float32)


def _largest_of_rows(values: NDArray[np.float64], offsets: NDArray[np.int32], k: int) -> NDArray[np.bool_]:
    """Which values are among the k largest of their row and above 0; of equal ones the first are."""
    kept = values > 0
    for row in np.flatnonzero(np.diff(offsets) > k):
        here = slice(offsets[row], offsets[row + 1])
        least = np.partition(values[here], -k)[-k]
        kept[here] &= values[here] > least
        level = np.flatnonzero(values[here] == least)[: k - np.count_nonzero(kept[here])]
        kept[here][level] = least > 0
    return kept
