"""Items as vectors, and representations as scores of items (Eq. 6, 8), written once for all models."""

import math
from typing import Annotated, Any, cast

import torch
from jaxtyping import Float, Float32, Int64
from pydantic import Field
from torch import Tensor, nn

from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.losses import Added, catalogue_cross_entropy
from seqdiffrec.models.base import ModelConfig, SequenceModel
from seqdiffrec.models.catalogue import Catalogue
from seqdiffrec.models.device import has_bfloat16
from seqdiffrec.models.top import Barred, Top

# Where the learned factor of a cosine output starts.
COSINE_SCALE = 10.0
# `seen_bias` is this many times what is learned: it has to move by tens where weights move by tenths, and Adam moves
# all by about the learning rate a step.
SEEN_BIAS_SCALE = 20.0


class ItemTableConfig(ModelConfig):
    """How items are embedded and scored.

    embedding_std: standard deviation of the initial embeddings (and of the output's weight, where it is not tied).
    tied_output: items are scored by their own embeddings, without a bias; otherwise by a weight and bias of their own.
    cosine_output: an item's score is the cosine between the representation and its vector, times a learned factor.
    label_smoothing: share of the target's weight that is spread evenly over the catalogue.
    seen_bias: a learned number for each distance back, the last one for all from T - 1 places on, is added to the
        scores of the items that the history holds (`RaggedBatch.seen`). It learns from the data whether people take an
        item again.
    """

    embedding_std: Annotated[float, Field(gt=0, le=10)] = 0.02
    tied_output: bool = False
    cosine_output: bool = False
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    seen_bias: bool = False


class ItemTable(nn.Module):
    """Item embeddings E (Eq. 6) and the map back to items (Eq. 8), tied to E or with a weight and bias of its own.

    Row 0 of both belongs to padding: it embeds as zeros, and no item is scored by it.
    """

    def __init__(self, config: ItemTableConfig, num_items: int, hidden_size: int):
        super().__init__()
        # Tied, its gradient joins the dense one of the output; sparse spares a pass over the whole table.
        self.embedding = nn.Embedding(num_items + 1, hidden_size, padding_idx=0, sparse=config.tied_output)
        self.output = None if config.tied_output else nn.Linear(hidden_size, num_items + 1)
        self.log_scale = nn.Parameter(torch.tensor(math.log(COSINE_SCALE))) if config.cosine_output else None
        self.seen_bias = nn.Parameter(torch.zeros(config.max_length)) if config.seen_bias else None
        self.label_smoothing = config.label_smoothing
        self._kept: tuple[list[tuple[int, int]], Catalogue] | None = None

    def embed(self, items: Int64[Tensor, " n"]) -> Float[Tensor, "n D"]:
        """E(v): there is no noise at the embedding stage, beta_0 = 0 (Eq. 6). Index 0, unknown, gives zeros."""
        return self.embedding(items)

    def probabilities(self, draws: Float[Tensor, "S R D"], batch: RaggedBatch) -> Float32[Tensor, "R V"]:
        """Of all items for each of the batch's targets; see `Catalogue.probabilities`."""
        return self._catalogue().probabilities(self._representation(draws), self._added(batch))

    def top(self, draws: Float[Tensor, "S R D"], batch: RaggedBatch, k: int, barred: Barred) -> Top:
        """The k best items for each of the batch's targets; see `Catalogue.top`."""
        return self._catalogue().top(self._representation(draws), self._added(batch), k, barred)

    def cross_entropy(self, h: Float[Tensor, "R D"], batch: RaggedBatch) -> Float[Tensor, " R"]:
        """``-log p(v | h)`` of each of the batch's target items (Eq. 8, 13), smoothed where that is set."""
        self._kept = None  # the weights are about to change
        weight, bias = self._weights()
        return catalogue_cross_entropy(
            self._representation(h), weight, bias, batch.targets, self._added(batch), self.label_smoothing
        )

    def mean_norm(self) -> float:
        """Mean Euclidean norm of the item embeddings."""
        norms = cast(Tensor, torch.linalg.vector_norm(self.embedding.weight[1:].detach(), dim=1))
        return float(norms.mean())

    def _representation(self, h: Float[Tensor, "*n D"]) -> Float[Tensor, "*n D"]:
        """What is multiplied with the items' weights: h, or its direction times the learned factor."""
        return h if self.log_scale is None else directions(h) * self.log_scale.exp()

    def _weights(self) -> tuple[Float[Tensor, "V1 D"], Float[Tensor, " V1"] | None]:
        """The items' weights, or their directions, and biases."""
        if self.output is None:
            weight, bias = self.embedding.weight, None
        else:
            weight, bias = self.output.weight, self.output.bias
        return (weight if self.log_scale is None else directions(weight)), bias

    def _catalogue(self) -> Catalogue:
        """The weights laid out for scoring, kept for as long as they stay what they are."""
        if torch.is_grad_enabled():
            return Catalogue(*self._weights(), rough=False)
        state = [(one.data_ptr(), one._version) for one in self.parameters()]
        if self._kept is None or self._kept[0] != state:
            weight, bias = self._weights()
            self._kept = state, Catalogue(weight, bias, rough=has_bfloat16(weight.device))
        return self._kept[1]

    def _added(self, batch: RaggedBatch) -> Added | None:
        if self.seen_bias is None:
            return None
        rows, items, back = batch.seen(len(self.seen_bias))
        return Added(rows, items, SEEN_BIAS_SCALE * self.seen_bias[back])


class TableModel(SequenceModel):
    """A model that scores items by an `ItemTable`."""

    table: ItemTable

    def represent(self, batch: RaggedBatch, num_seeds: int) -> Float[Tensor, "S R D"]:
        """What the items are scored against, for each noise draw and target; one draw for models without noise."""
        raise NotImplementedError

    def predict(self, batch: RaggedBatch, num_seeds: int) -> Float32[Tensor, "R V"]:
        """The mean over noise draws of the softmax over all items (Algorithm 3)."""
        return self.table.probabilities(self.represent(batch, num_seeds), batch)

    def top(self, batch: RaggedBatch, num_seeds: int, k: int, barred: Barred) -> Top:
        """The k best by `predict`, of which no more than the cache holds is there at a time."""
        return self.table.top(self.represent(batch, num_seeds), batch, k, barred)

    def embedding_norm(self) -> float:
        """Mean Euclidean norm of the item embeddings."""
        return self.table.mean_norm()


def directions(x: Float[Tensor, "*n D"]) -> Float[Tensor, "*n D"]:
    """Rows scaled to length 1, zeros as they are: torch's `normalize`, whose backward pass is slow."""
    return cast(Tensor, _Directions.apply(x))


class _Directions(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        inverse = cast(Tensor, torch.linalg.vector_norm(x, dim=-1, keepdim=True)).clamp_(min=1e-12).reciprocal_()
        unit = x * inverse
        ctx.save_for_backward(unit, inverse)
        return unit

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        unit, inverse = ctx.saved_tensors
        along = (gradient * unit).sum(-1, keepdim=True)
        return torch.addcmul(gradient, unit, along, value=-1).mul_(inverse)
