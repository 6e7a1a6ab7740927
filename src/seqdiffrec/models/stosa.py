"""STOSA (Fan et al. 2022, arXiv 2201.06035): items and places are Gaussians, and the nearer ones attend to each other.

Each item and place has a mean and a diagonal covariance. Attention weighs keys by their squared 2-Wasserstein distance
from the query, a value's mean counts by its weight and its covariance by the weight's square, both streams have a
feed-forward part, and items are ranked by their distance from the Gaussian that comes out. Training holds each target
against one drawn item: BPR over distances, and the regulariser ``[d(state, target) - d(target, negative)]+``.

With covariances that are diagonal the distance is Euclidean: ``|m1 - m2|^2 + |s1 - s2|^2``, s being the square root of
the covariance. So a Gaussian is a *point*, its mean and s - 1 side by side, and all distances are matrix products. (s
starts about 1; taking that off both changes no distance, and leaves small numbers, which lose less in the products.)

This follows the authors' code (zfan20/STOSA) where the paper is silent: queries and keys of each head are projected and
their distances divided by the root of the head's size; covariances are ELU + 1 wherever they come out of something
linear; means go through an ELU at the input too; dropout is on embeddings, attention weights (before they are squared)
and what the two parts of a layer give; norms come after the residual, one for both streams at the input and behind
attention; feed-forward parts are four times as wide, with an ELU; negatives are items that the user has not taken;
initial weights have the mean 0.01.

**In that code, what a layer makes of the means is never read** (``maen_hidden_states`` in ``DistSAEncoder.forward``):
in every layer, and at the end, a place's mean is that of its own item and position, and only the covariances know of
the history before it. ``encode_mean = false`` does the same; the default is the paper's equations.

Differs from the code in: positions count from the first visible item (there the newest item stands at the last one); a
sequence longer than a window is drawn negatives for from what the window does not hold; negatives may be the items held
out for validation and test, which the code leaves out; there is no margin by user, which the code has but does not use,
and no distance by KL divergence, its other option; norms add 1e-5 to the variance, not 1e-12; a covariance's square
root comes from its ELU, where it has a gradient at zero too.
"""

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, Self, cast

import torch
from jaxtyping import Float, Float32, Int64
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.losses import draw_unseen
from seqdiffrec.models.attention import RaggedAttention, dropout
from seqdiffrec.models.base import Loss, ModelConfig
from seqdiffrec.models.encoder import whole
from seqdiffrec.models.item_loss import taken
from seqdiffrec.models.item_table import ItemTable, ItemTableConfig, TableModel

FEED_FORWARD_FACTOR = 4
# Which loss a setting is for.
USED_BY = {"regularizer_weight": "bpr", "label_smoothing": "full", "seen_bias": "full"}
# Of all initial weights, as in the authors' code.
INITIAL_MEAN = 0.01


class STOSAConfig(ModelConfig):
    """Settings of STOSA; the defaults are those of the authors' command for Beauty.

    hidden_size: numbers of a mean, and of a covariance.
    attention_dropout: of the attention weights.
    embedding_std: standard deviation of all initial weights.
    encode_mean: means go through the layers, as in the paper's equations; in its code they do not.
    loss: BPR over distances, as published (``bpr``), or a softmax over minus the distances of all items (``full``).
    regularizer_weight: lambda, of how much nearer to its negative than to the state a target is; of ``bpr``.
    label_smoothing: share of the target's weight that is spread evenly over the catalogue; of ``full``.
    seen_bias: see `ItemTableConfig`; of ``full``, since nothing that was taken is a negative of BPR.
    """

    hidden_size: Annotated[int, Field(ge=2, le=8192)] = 64
    num_layers: Annotated[int, Field(ge=1, le=64)] = 1
    num_heads: Annotated[int, Field(ge=1, le=64)] = 4
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    attention_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    embedding_std: Annotated[float, Field(gt=0, le=10)] = 0.02
    encode_mean: bool = True
    loss: Literal["bpr", "full"] = "bpr"
    regularizer_weight: Annotated[float, Field(ge=0, le=1e6)] = 0.005
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    seen_bias: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size, {self.hidden_size}, must be a multiple of num_heads, {self.num_heads}")
        for name, loss in USED_BY.items():
            value = getattr(self, name)
            if self.loss != loss and value != type(self).model_fields[name].default:
                raise ValueError(f"{name} = {value} needs loss = {loss}")
        return self


class STOSA(TableModel):
    """A causal Transformer over Gaussians: the one that comes out after an item is nearest to the next one.

    ``-log sigmoid(d(h, n) - d(h, t)) + lambda [d(h, t) - d(t, n)]+`` of a target t and a negative n, d being the
    squared 2-Wasserstein distance; see `GaussianLayer` for the attention.

    Its probabilities are the softmax of minus the squared distances. What is published of that is the order.
    """

    name: ClassVar[str] = "stosa"
    config_class: ClassVar[type[ModelConfig]] = STOSAConfig
    summary: ClassVar[str] = "Transformer over Gaussians by their Wasserstein distances"
    paper: ClassVar[str | None] = "Fan et al. 2022"
    cost: ClassVar[str] = "0.7, with its one drawn item a target; 2 with all items"

    def __init__(self, config: STOSAConfig, num_items: int):
        super().__init__(config, num_items)
        self.config = config
        self.table = GaussianTable(config, num_items)
        self.position = nn.Embedding(config.max_length, 2 * config.hidden_size)
        self.input_norm = nn.LayerNorm(config.hidden_size)
        self.layers = nn.ModuleList(GaussianLayer(config) for _ in range(config.num_layers))
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Embedding):
                nn.init.normal_(part.weight, INITIAL_MEAN, config.embedding_std)
            if isinstance(part, nn.Linear):
                nn.init.zeros_(part.bias)
        with torch.no_grad():
            self.table.embedding.weight[0] = 0

    def loss(self, batch: RaggedBatch) -> Loss:
        """The mean of -log sigmoid(d(state, negative) - d(state, target)) and lambda times the regulariser's."""
        state = self._encode(batch)
        if self.config.loss == "full":
            total = self.table.loss(state, batch).mean()
            return Loss(total, {"loss": total.item()})
        negatives = draw_unseen(batch.rows, *taken(batch), self.num_items, 1)[:, 0]
        at_target, at_negative, between = cast(GaussianTable, self.table).distances(state, batch.targets, negatives)
        known = negatives > 0  # who took all items has no negative
        recommendation = (F.softplus(at_target - at_negative) * known).mean()
        regularizer = (F.relu(at_target - between) * known).mean()
        total = recommendation + self.config.regularizer_weight * regularizer
        parts = {"loss": total, "recommendation": recommendation, "regularizer": regularizer}
        return Loss(total, {name: part.item() for name, part in parts.items()})

    def represent(self, batch: RaggedBatch, num_seeds: int) -> Float[Tensor, "1 R D"]:
        """The point after each history; there is no noise to draw."""
        return self._encode(batch)[None]

    @torch.inference_mode()
    def similarity(self, items: Int64[Tensor, " n"]) -> Float32[Tensor, "n V"]:
        """Minus the squared 2-Wasserstein distance of the items' Gaussians, at most 0."""
        points = as_points(self.table.embedding.weight)
        return -torch.cdist(points[items], points[1:]).square()

    def _encode(self, batch: RaggedBatch) -> Float[Tensor, "R D"]:
        rows, places = batch.locate_tokens()
        read = batch.offsets[batch.rows] + batch.places - 1
        embedded = self.table.embed(batch.tokens) + self.position(places)
        x = self._drop(self.input_norm(torch.stack(embedded.chunk(2, 1))))
        mean, raw = F.elu(x[0]), x[1]
        # A place sees itself and what lies before it: no other place of its own is needed.
        attention = RaggedAttention(rows, places + 1, batch.offsets)
        for number, layer in enumerate(self.layers):
            last = number == len(self.layers) - 1
            x = query = torch.stack([mean, F.elu(raw) + 1])
            if last:
                attention = RaggedAttention(rows[read], places[read] + 1, batch.offsets)
                query, mean = x[:, read], mean[read]
            encoded, raw = layer(query, x, attention)
            mean = encoded if self.config.encode_mean else mean
        return torch.cat([mean, centred_root(raw)], -1)

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.config.dropout if self.training else 0.0)


def centred_root(raw: Tensor) -> Tensor:
    """``sqrt(ELU(raw) + 1) - 1``, which is smooth, and exact where the covariance is nearly 0."""
    return torch.where(raw > 0, (raw.clamp(min=0) + 1).sqrt() - 1, torch.expm1(raw.clamp(max=0) / 2))


def as_points(rows: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
    """Rows of a mean and a covariance before its ELU, as points."""
    mean, raw = rows.chunk(2, 1)
    return torch.cat([mean, centred_root(raw)], 1)


class GaussianTable(ItemTable):
    """Items as Gaussians, a row being the mean and the covariance before its ELU, scored by minus their distances.

    ``-|h - g|^2`` is ``2 g h - |g|^2`` but for what all items have in common, so that it is scored like any output.
    """

    def __init__(self, config: STOSAConfig, num_items: int):
        plain = ItemTableConfig(
            max_length=config.max_length,
            tied_output=True,
            seen_bias=config.seen_bias,
            label_smoothing=config.label_smoothing,
        )
        super().__init__(plain, num_items, 2 * config.hidden_size)
        # BPR has no dense gradient that a sparse one could join, and alone that would not be Adam's.
        self.embedding.sparse = config.loss == "full"

    def distances(
        self, h: Float[Tensor, "R D"], targets: Int64[Tensor, " R"], negatives: Int64[Tensor, " R"]
    ) -> tuple[Float[Tensor, " R"], Float[Tensor, " R"], Float[Tensor, " R"]]:
        """Of each point h to its target and to its negative, and between these two."""
        self._kept = None  # the weights are about to change
        target, negative = as_points(self.embedding(torch.cat([targets, negatives]))).chunk(2)
        at_target, at_negative = ((h - one).square().sum(1) for one in (target, negative))
        return at_target, at_negative, (target - negative).square().sum(1)

    def _weights(self, items: Int64[Tensor, " n"] | None) -> tuple[Float[Tensor, "n D"], Float[Tensor, " n"] | None]:
        rows = self.embedding.weight if items is None else self.embedding.weight[items]
        points = as_points(rows)
        return 2 * points, -points.square().sum(1)


class Streams(nn.Module):
    """A part of its own for the means, and one for the covariances: (2, n, D) in and out."""

    def __init__(self, make: Callable[[], nn.Module]):
        super().__init__()
        self.mean, self.covariance = make(), make()

    def forward(self, x: Float[Tensor, "2 n D"]) -> Float[Tensor, "2 n E"]:
        """Each stream through its part."""
        return torch.stack([whole(self.mean, x[0]), whole(self.covariance, x[1])])


class GaussianLayer(nn.Module):
    """Wasserstein self-attention and a feed-forward part, each with dropout, a residual and a norm behind it.

    ``a = softmax(-d(q, k) / sqrt(D / H))`` over the keys; of the values the mean ``sum of a mean`` and the covariance
    ``sum of a^2 covariance``, as of a sum of independent Gaussians.
    """

    def __init__(self, config: STOSAConfig):
        super().__init__()
        size, wide = config.hidden_size, config.hidden_size * FEED_FORWARD_FACTOR
        self.num_heads, self.rate, self.attention_rate = config.num_heads, config.dropout, config.attention_dropout
        self.query = Streams(lambda: nn.Linear(size, size))
        self.key_value = Streams(lambda: nn.Linear(size, 2 * size))
        self.output = Streams(lambda: nn.Linear(size, size))
        self.attention_norm = nn.LayerNorm(size)
        self.wide, self.narrow = Streams(lambda: nn.Linear(size, wide)), Streams(lambda: nn.Linear(wide, size))
        self.feed_forward_norm = Streams(lambda: nn.LayerNorm(size))

    def forward(
        self, x: Float[Tensor, "2 n D"], memory: Float[Tensor, "2 m D"], attention: RaggedAttention
    ) -> Float[Tensor, "2 n D"]:
        """What becomes of places x that attend to a memory; of covariances, what ELU + 1 makes one."""
        rate, attention_rate = (self.rate, self.attention_rate) if self.training else (0.0, 0.0)
        query = self._split(self.query(x))
        key, value = self._split(self.key_value(memory)).chunk(2, -1)
        # -|q - k|^2 is 2 q k - |k|^2 but for what all keys of a query have in common, which a softmax takes out.
        query, key = (torch.cat([one[0], centred_root(one[1])], -1) for one in (query, key))
        weights = attention.weigh(*_as_product(query, key, query.shape[-1] // 2), None, attention_rate)
        mean = attention.mix(weights, value[0], None)
        covariance = attention.mix([each.square() for each in weights], F.elu(value[1]) + 1, None)
        mixed = self.output(torch.stack([mean, covariance]).flatten(2))
        x = self.attention_norm(x + dropout(mixed, rate))
        return self.feed_forward_norm(x + dropout(self.narrow(F.elu(self.wide(x))), rate))

    def _split(self, x: Float[Tensor, "2 n E"]) -> Float[Tensor, "2 n H d"]:
        return cast(Tensor, x.unflatten(-1, (self.num_heads, -1)))


def _as_product(
    query: Float[Tensor, "n H d"], key: Float[Tensor, "m H d"], size: int
) -> tuple[Float[Tensor, "n H d1"], Float[Tensor, "m H d1"]]:
    """Queries and keys whose inner products are minus the points' distances by the root of ``size``, up to a shift."""
    one = torch.ones_like(query[..., :1])
    query = torch.cat([2 * query, one], -1) * size**-0.5
    return query, torch.cat([key, -key.square().sum(-1, keepdim=True)], -1)
