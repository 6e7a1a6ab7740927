"""Items as vectors, and representations as scores of items (Eq. 6, 8), written once for all models."""

import math
from typing import Annotated, Any, ClassVar, Self, cast

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.losses import Added, catalogue_cross_entropy
from seqdiffrec.models.base import ModelConfig, SequenceModel
from seqdiffrec.models.catalogue import Catalogue
from seqdiffrec.models.device import has_bfloat16
from seqdiffrec.models.item_loss import BY_ROWS, DrawnLoss, LossConfig
from seqdiffrec.models.nearest import Nearest, top_near
from seqdiffrec.models.top import Barred, Top

# Where the learned factor of a cosine output starts.
COSINE_SCALE = 10.0
# `seen_bias` is this many times what is learned: it has to move by tens where weights move by tenths, and Adam moves
# all by about the learning rate a step.
SEEN_BIAS_SCALE = 20.0


class ItemTableConfig(LossConfig):
    """How items are embedded and scored, and by which loss.

    embedding_std: standard deviation of the initial embeddings (and of the output's weight, where it is not tied).
    tied_output: items are scored by their own embeddings, without a bias (BERT4Rec has one); otherwise by a weight and
        bias of their own.
    cosine_output: an item's score is the cosine between the representation and its vector, times a learned factor.
    seen_bias: a learned number for each distance back, the last one for all from T - 1 places on, is added to the
        scores of the items that the history holds (`RaggedBatch.seen`). It learns from the data whether people take an
        item again.
    """

    embedding_std: Annotated[float, Field(gt=0, le=10)] = 0.02
    tied_output: bool = False
    cosine_output: bool = False
    seen_bias: bool = False


class ItemTable(nn.Module):
    """Item embeddings E (Eq. 6) and the map back to items (Eq. 8), tied to E or with a weight and bias of its own.

    Row 0 of both belongs to padding: it embeds as zeros, and no item is scored by it.

    tied_bias: a tied output has a bias for each item too.
    """

    def __init__(self, config: ItemTableConfig, num_items: int, hidden_size: int, *, tied_bias: bool = False):
        super().__init__()
        self.drawn = None if config.loss == "full" else DrawnLoss(config, num_items)
        # Tied, its gradient joins the dense one of the output; sparse spares a pass over the whole table.
        self.by_rows = config.loss in BY_ROWS
        sparse = config.tied_output or self.by_rows
        self.embedding = nn.Embedding(num_items + 1, hidden_size, padding_idx=0, sparse=sparse)
        self.output = None if config.tied_output else nn.Linear(hidden_size, num_items + 1)
        self.bias = nn.Parameter(torch.zeros(num_items + 1)) if config.tied_output and tied_bias else None
        self.log_scale = nn.Parameter(torch.tensor(math.log(COSINE_SCALE))) if config.cosine_output else None
        self.seen_bias = nn.Parameter(torch.zeros(config.max_length)) if config.seen_bias else None
        self.label_smoothing = config.label_smoothing
        self._kept: tuple[list[tuple[int, int]], Catalogue] | None = None

    def embed(self, items: Int64[Tensor, " n"]) -> Float[Tensor, "n D"]:
        """E(v): there is no noise at the embedding stage, beta_0 = 0 (Eq. 6). Index 0, unknown, gives zeros."""
        return self.embedding(items)

    def probabilities(self, draws: Float[Tensor, "S R D"], batch: RaggedBatch) -> Float32[Tensor, "R V"]:
        """Of all items for each of the batch's targets; see `Catalogue.probabilities`."""
        return self.catalogue().probabilities(self.scored(draws), self._added(batch))

    def top(self, draws: Float[Tensor, "S R D"], batch: RaggedBatch, k: int, barred: Barred) -> Top:
        """The k best items for each of the batch's targets; see `Catalogue.top`."""
        return self.catalogue().top(self.scored(draws), self._added(batch), k, barred)

    def top_near(
        self, draws: Float[Tensor, "S R D"], batch: RaggedBatch, k: int, barred: Barred, nearest: Nearest
    ) -> Top:
        """The k best items of those that an index names; see `seqdiffrec.models.nearest.top_near`."""
        return top_near(self.catalogue(), self.scored(draws), self._added(batch), k, barred, nearest)

    def loss(self, h: Float[Tensor, "R D"], batch: RaggedBatch) -> Float[Tensor, " R"]:
        """What each of the batch's target items costs.

        ``-log p(v | h)`` (Eq. 8, 13), smoothed where that is set, or what stands in its place (`LossConfig.loss`).
        """
        self._kept = None  # the weights are about to change
        if self.drawn is not None:
            return self.drawn(self.scored(h), batch, self._weights, self._added(batch))
        weight, bias = self._weights(None)
        return catalogue_cross_entropy(
            self.scored(h), weight, bias, batch.targets, self._added(batch), self.label_smoothing
        )

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`; training changes the weights."""
        self._kept = None if mode else self._kept
        return super().train(mode)

    def count_items(self, counts: Int64[Tensor, " V"]) -> None:
        """Take in how often items occur in training, which a loss over drawn items needs."""
        if self.drawn is not None:
            self.drawn.count_items(counts)

    def mean_norm(self) -> float:
        """Mean Euclidean norm of the item embeddings."""
        norms = cast(Tensor, torch.linalg.vector_norm(self.embedding.weight[1:].detach(), dim=1))
        return float(norms.mean())

    def scored(self, h: Float[Tensor, "*n D"]) -> Float[Tensor, "*n D"]:
        """What is multiplied with the items' weights: h, or its direction times the learned factor."""
        return h if self.log_scale is None else directions(h) * self.log_scale.exp()

    def _weights(self, items: Int64[Tensor, " n"] | None) -> tuple[Float[Tensor, "n D"], Float[Tensor, " n"] | None]:
        """The items' weights, or their directions, and biases: those of all rows, or of these."""
        weight, bias = self._stored()
        if items is not None:
            weight = F.embedding(items, weight, sparse=self.by_rows)
            bias = None if bias is None else bias[items]
        return (weight if self.log_scale is None else directions(weight)), bias

    def _stored(self) -> tuple[Float[Tensor, "V1 D"], Float[Tensor, " V1"] | None]:
        """The weights and biases that items are scored by, as they are."""
        if self.output is None:
            return self.embedding.weight, self.bias
        return self.output.weight, self.output.bias

    def catalogue(self) -> Catalogue:
        """The weights laid out for scoring, kept until training goes on, or they are changed in another way.

        What is written through ``.data`` is not seen.
        """
        if torch.is_grad_enabled():
            return Catalogue(*self._weights(None), rough=False)
        weight, bias = self._stored()
        if weight.is_inference():  # nothing tells whether such weights were changed
            return self._for_scoring()
        state = [(one.data_ptr(), one._version) for one in (weight, bias) if one is not None]
        if self._kept is None or self._kept[0] != state:
            self._kept = state, self._for_scoring()
        return self._kept[1]

    def _for_scoring(self) -> Catalogue:
        rough = has_bfloat16(self.embedding.weight.device)
        if self.log_scale is None:
            return Catalogue(*self._weights(None), rough)
        weight, bias = self._stored()  # not `_weights`, which would make a table of directions
        return Catalogue(weight, bias, rough, inverse_lengths(weight)[:, 0])

    def _added(self, batch: RaggedBatch) -> Added | None:
        if self.seen_bias is None:
            return None
        rows, items, back = batch.seen(len(self.seen_bias))
        return Added(rows, items, SEEN_BIAS_SCALE * self.seen_bias[back])


class TableModel(SequenceModel):
    """A model that scores items by an `ItemTable`.

    Class attributes:
        by_item: names, in the state, of what has a row for each item, padding included.
    """

    by_item: ClassVar[tuple[str, ...]] = (
        "table.embedding.weight",
        "table.output.weight",
        "table.output.bias",
        "table.bias",
    )
    table: ItemTable

    def __init__(self, config: ModelConfig, num_items: int):
        super().__init__(config, num_items)
        self.register_load_state_dict_post_hook(TableModel._hand_counts_on)

    def _hand_counts_on(self, _: object = None) -> None:
        self.table.count_items(self.item_counts)

    def count_items(self, train: Sequences) -> None:
        """Record how often each item occurs in training."""
        super().count_items(train)
        self._hand_counts_on()

    @torch.no_grad()
    def grow_from(self, smaller: "TableModel", neighbours: Sequences) -> None:
        """Take over the weights of a model of fewer items; the items that it lacks come behind those that it has.

        neighbours: for each new item those that it is like. Its rows in what is `by_item`, such as its embedding, and
            its weight and bias at the output, are the means of theirs, or of all items where it has none. It was never
            taken, so its popularity is 0.
        """
        owner, like = (torch.from_numpy(part.astype(np.int64)) for part in neighbours.flat())
        each = torch.bincount(owner, minlength=len(neighbours))
        grown: dict[str, Tensor] = {}
        for name, rows in smaller.state_dict().items():
            if name in self.by_item:
                means = rows.new_zeros(len(neighbours), *rows.shape[1:])
                means.index_add_(0, owner.to(rows.device), rows[like.to(rows.device)])
                of = each.to(rows.device).view(-1, *[1] * (rows.dim() - 1))
                grown[name] = torch.cat([rows, torch.where(of > 0, means / of.clamp(min=1), rows[1:].mean(0))])
            elif name == "item_counts":
                grown[name] = torch.cat([rows, rows.new_zeros(len(neighbours))])
            else:
                grown[name] = rows
        self.load_state_dict(grown)

    def represent(self, batch: RaggedBatch, num_seeds: int) -> Float[Tensor, "S R D"]:
        """What the items are scored against, for each noise draw and target; one draw for models without noise."""
        raise NotImplementedError

    def predict(self, batch: RaggedBatch, num_seeds: int) -> Float32[Tensor, "R V"]:
        """The mean over noise draws of the softmax over all items (Algorithm 3)."""
        return self.table.probabilities(self.represent(batch, num_seeds), batch)

    def predict_each_seed(self, batch: RaggedBatch, num_seeds: int) -> Float32[Tensor, "S R V"]:
        """The softmax over all items of each noise draw."""
        draws = self.represent(batch, num_seeds)
        return torch.stack([self.table.probabilities(draw[None], batch) for draw in draws])

    def top(self, batch: RaggedBatch, num_seeds: int, k: int, barred: Barred) -> Top:
        """The k best by `predict`, of which no more than the cache holds is there at a time."""
        return self.table.top(self.represent(batch, num_seeds), batch, k, barred)

    def top_near(self, batch: RaggedBatch, num_seeds: int, k: int, barred: Barred, nearest: Nearest) -> Top:
        """The k best of the items that an index names for any of the noise draws; probabilities are estimated."""
        return self.table.top_near(self.represent(batch, num_seeds), batch, k, barred, nearest)

    @torch.inference_mode()
    def similarity(self, items: Int64[Tensor, " n"]) -> Float32[Tensor, "n V"]:
        """The cosine of the items' embeddings, in [-1, 1]."""
        weight = self.table.embedding.weight  # beside a large one there is no room for a table of its directions
        return (directions(weight[items]) @ weight[1:].T).mul_(inverse_lengths(weight)[1:, 0])

    def embedding_norm(self) -> float:
        """Mean Euclidean norm of the item embeddings."""
        return self.table.mean_norm()


def directions(x: Float[Tensor, "*n D"]) -> Float[Tensor, "*n D"]:
    """Rows scaled to length 1, zeros as they are: torch's `normalize`, whose backward pass is slow."""
    return cast(Tensor, _Directions.apply(x))


def inverse_lengths(x: Float[Tensor, "*n D"]) -> Float[Tensor, "*n 1"]:
    """What to multiply rows with for their `directions`."""
    return cast(Tensor, torch.linalg.vector_norm(x, dim=-1, keepdim=True)).clamp_(min=1e-12).reciprocal_()


class _Directions(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        inverse = inverse_lengths(x)
        unit = x * inverse
        ctx.save_for_backward(unit, inverse)
        return unit

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> Tensor:
        (gradient,) = gradients
        unit, inverse = ctx.saved_tensors
        along = (gradient * unit).sum(-1, keepdim=True)
        return torch.addcmul(gradient, unit, along, value=-1).mul_(inverse)
