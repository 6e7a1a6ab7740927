"""Recurrent layers over ragged tokens, step by step and without padding."""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from seqdiffrec.data.batches import RaggedBatch


@dataclass(frozen=True)
class Steps:
    """A batch's tokens in the order in which a recurrent layer takes them: all first ones, then all second ones, ...

    The longest sequence stands first in each step, so that those that go on stand together.

    order: which token stands at each place of this order; place_of: the way back, where each token stands in it.
    running: how many sequences have a step at all, on the CPU.
    """

    order: Int64[Tensor, " M"]
    place_of: Int64[Tensor, " M"]
    running: Int64[Tensor, " T"]

    @classmethod
    def of(cls, batch: RaggedBatch) -> "Steps":
        """Those of this batch's tokens."""
        rows, places = batch.locate_tokens()
        rank = batch.lengths.argsort(descending=True, stable=True).argsort()
        order = (places * len(rank) + rank[rows]).argsort()
        place_of = torch.empty_like(order).index_copy_(0, order, torch.arange(len(order), device=order.device))
        return cls(order, place_of, places.bincount().cpu())

    def run(self, layer: nn.GRU, x: Float[Tensor, "M d"]) -> Float[Tensor, "M D"]:
        """The layer's state after each token; both ``x`` and the states are in this order.

        In float32: with few rows a step, products in bfloat16 are no faster, and each new shape is compiled.
        """
        with torch.autocast(x.device.type, enabled=False):
            return cast(PackedSequence, layer(PackedSequence(x, self.running))[0]).data
