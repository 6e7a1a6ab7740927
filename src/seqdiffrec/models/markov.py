"""A first-order Markov chain (as in Shani, Heckerman and Brafman 2005): what followed the newest item in training.

The paper smooths by skipping and clustering over longer chains; here one popularity prior does it (MacKay and Peto
1995).
"""

from typing import Annotated, ClassVar

import numpy as np
import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Tensor

from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models.base import ModelConfig, SequenceModel
from seqdiffrec.models.item_graph import ItemGraph


class MarkovConfig(ModelConfig):
    """Settings of the Markov chain.

    smoothing: popularity weighs as much as this many transitions, so the more often an item was seen to be followed,
        the less it says; 0 for the bare shares, with popularity only after items that nothing ever followed.
    """

    smoothing: Annotated[float, Field(ge=0, le=1e6)] = 1.0


class Markov(SequenceModel):
    """``P(j | i) = (n_ij + smoothing * popularity_j) / (n_i + smoothing)``, where j came right after i n_ij times.

    Only the newest item of a history counts, whatever ``max_length``.
    """

    name: ClassVar[str] = "markov"
    config_class: ClassVar[type[ModelConfig]] = MarkovConfig
    summary: ClassVar[str] = "what followed the newest item, a first-order chain"
    paper: ClassVar[str | None] = "Shani et al. 2005"
    cost: ClassVar[str] = "none, it counts"

    def __init__(self, config: MarkovConfig, num_items: int):
        super().__init__(config, num_items)
        self.config = config
        self.graph = ItemGraph(num_items)

    def count_items(self, train: Sequences) -> None:
        """Count which items follow which."""
        super().count_items(train)
        users, items = train.flat()
        follows = users[1:] == users[:-1]
        base = self.num_items + 1
        pairs, times = np.unique(items[:-1][follows].astype(np.int64) * base + items[1:][follows], return_counts=True)
        before, after = np.divmod(pairs, base)
        self.graph.store(np.bincount(before, minlength=base), after, times)

    def predict(self, batch: RaggedBatch, num_seeds: int) -> Float32[Tensor, "R V"]:
        """The row of the newest item of each history."""
        newest = batch.tokens[batch.offsets[batch.rows] + batch.places - 1]
        each = torch.arange(len(newest), device=newest.device)
        once = torch.ones(len(newest), device=newest.device)
        return self.graph.probabilities(each, newest, once, len(newest), self.popularity(), self.config.smoothing)
