"""Items as vectors, and representations as scores of items (Eq. 6, 8), written once for all models."""

import math
from typing import Annotated, Any, cast

import torch
from jaxtyping import Float, Float32, Int64
from pydantic import Field
from torch import Tensor, nn

from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.losses import Added, catalogue_cross_entropy
from seqdiffrec.models.base import ModelConfig

# Where the learned factor of a cosine output starts.
COSINE_SCALE = 10.0
# `seen_bias` is this many times what is learned: it has to move by tens where weights move by tenths, and Adam moves
# all by about the learning rate a step.
SEEN_BIAS_SCALE = 20.0

# Scores computed together at inference, 4 MiB: more would not fit the cache, fewer would not fill a matrix product.
SCORES_AT_ONCE = 2**20


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

    def embed(self, items: Int64[Tensor, " n"]) -> Float[Tensor, "n D"]:
        """E(v): there is no noise at the embedding stage, beta_0 = 0 (Eq. 6). Index 0, unknown, gives zeros."""
        return self.embedding(items)

    def probabilities(self, draws: Float[Tensor, "S R D"], batch: RaggedBatch) -> Float32[Tensor, "R V"]:
        """``softmax(W h + b)`` (Eq. 8) of each of the batch's targets, the mean over S draws of h (Algorithm 3).

        Column j is item index j + 1. Scores are held for as many targets at a time as fit the cache, all draws of each.
        """
        weight, bias = self._weights()
        added = self._added(batch)
        draws = self._representation(draws)
        num_draws, count, _ = draws.shape
        mean = draws.new_empty((count, len(weight)), dtype=torch.float32)
        at_once = max(1, SCORES_AT_ONCE // (num_draws * len(weight)))
        for start in range(0, count, at_once):
            rows = slice(start, min(start + at_once, count))
            # Items first: the product is nearly twice as fast this way round.
            scores = (weight @ draws[:, rows].flatten(0, 1).t()).float()
            logits = scores.view(len(weight), num_draws, -1)
            if bias is not None:
                logits += bias[:, None, None]
            if added is not None:
                _add_to(logits, added, rows)
            logits[0] = float("-inf")
            mean[rows] = logits.softmax(0).sum(1).t()
        return mean.div_(num_draws)[:, 1:]

    def cross_entropy(self, h: Float[Tensor, "R D"], batch: RaggedBatch) -> Float[Tensor, " R"]:
        """``-log p(v | h)`` of each of the batch's target items (Eq. 8, 13), smoothed where that is set."""
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

    def _added(self, batch: RaggedBatch) -> Added | None:
        if self.seen_bias is None:
            return None
        rows, items, back = batch.seen(len(self.seen_bias))
        return Added(rows, items, SEEN_BIAS_SCALE * self.seen_bias[back])


def _add_to(logits: Float32[Tensor, "V1 S r"], added: Added, rows: slice) -> None:
    """Add to the scores of the targets ``rows``, in every draw."""
    here = torch.nonzero((added.rows >= rows.start) & (added.rows < rows.stop)).squeeze(1)
    places = (added.items[here][:, None], torch.arange(logits.shape[1])[None], (added.rows[here] - rows.start)[:, None])
    logits.index_put_(places, added.values[here][:, None], accumulate=True)


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
