"""Popularity: the floor under every figure."""

from typing import ClassVar

from jaxtyping import Float32
from torch import Tensor

from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.models.base import ModelConfig, SequenceModel


class Popularity(SequenceModel):
    """Every user gets the items that occur most often in training."""

    name: ClassVar[str] = "popularity"
    config_class: ClassVar[type[ModelConfig]] = ModelConfig
    summary: ClassVar[str] = "the most frequent items, for everybody"
    paper: ClassVar[str | None] = None
    cost: ClassVar[str] = "none, it counts"

    def predict(self, batch: RaggedBatch, num_seeds: int) -> Float32[Tensor, "B V"]:
        """Each item's share of the training actions, the same for all histories."""
        return self.popularity().expand(len(batch.targets), -1)
