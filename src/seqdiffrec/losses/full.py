"""Softmax cross-entropy over every item of the catalogue, without its logits ever in memory at once.

The catalogue is walked in tiles that fit a core's cache. Exponentials of the logits are taken as they are: what would
overflow is seen in the sums, and then the largest logit of each row is taken off first, as is usual. So the gradient of
the logits is never formed: a row's factor, ``gradient / sum``, goes to the row's ``h`` before or after the product.
"""

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Rows are made up to whole multiples of this: a matrix library compiles a kernel for every new shape, and without this
# each batch brings one.
ROWS = 32
# Exponentials of a tile: 2 MiB in bfloat16. On other devices starting a kernel costs more than a pass over memory.
TILE = {"cpu": 2**20}
TILE_ELSEWHERE = 2**25
# Up to so many exponentials are kept for the backward pass (128 MiB in bfloat16); where there are more, it computes
# them again, which is one matrix product in four.
KEPT = 2**26
# Sums outside of this come from logits beyond about 40; float32 ends at 88.
SMALLEST, LARGEST = 1e-18, 1e18


@dataclass(frozen=True)
class Added:
    """``values[e]`` is added to the score of item ``items[e]`` (1..V) in row ``rows[e]``; what repeats adds up."""

    rows: Int64[Tensor, " E"]
    items: Int64[Tensor, " E"]
    values: Float[Tensor, " E"]

    def at(self, items: Int64[Tensor, "R C"]) -> Float[Tensor, "R C"]:
        """What is added to the scores of these items of each row; there must be at least one entry."""
        size = 1 + torch.maximum(items.max(), self.items.max())
        key, entry = cast(tuple[Tensor, Tensor], (self.rows * size + self.items).unique(return_inverse=True))
        total = self.values.new_zeros(len(key)).index_add(0, entry, self.values)
        wanted = torch.arange(len(items), device=items.device)[:, None] * size + items
        place = torch.searchsorted(key, wanted).clamp(max=len(key) - 1)
        return total[place] * (key[place] == wanted)


def catalogue_cross_entropy(
    h: Float[Tensor, "R D"],
    weight: Float[Tensor, "V_plus_1 D"],
    bias: Float[Tensor, " V_plus_1"] | None,
    targets: Int64[Tensor, " R"],
    added: Added | None = None,
    label_smoothing: float = 0.0,
) -> Float[Tensor, " R"]:
    """``-log softmax(weight h + bias)[target]`` of each row: the recommendation loss of Eq. 13 and 17, with Eq. 8.

    Row 0 of ``weight`` and ``bias`` is padding: it is no candidate and gets no gradient. Targets are 1..V.
    ``added``: numbers to add to single scores before the softmax. ``label_smoothing``: the share of a target's weight
    that is spread evenly over all V items.

    Exact, and on a CPU faster (docs/adr/0006) than ``cross_entropy(linear(h, weight, bias), targets)``. The matrix
    products and exponentials run in autocast's type, sums in float32; in bfloat16 a loss of 0 may come out as -0.004.
    """
    rows, items, values = (None, None, None) if added is None else (added.rows, added.items, added.values)
    return cast(Tensor, _CatalogueCrossEntropy.apply(h, weight, bias, targets, rows, items, values, label_smoothing))


@dataclass(frozen=True)
class _Catalogue:
    """The scores of R rows for all items: ``weight h + bias`` and what is added, less a row's ``shift`` if set."""

    h: Tensor  # (R, D) in the type of the products, or (R, D + 2): `_with_bias`
    weight: Tensor  # (V + 1, D) or (V + 1, D + 2) in the same
    size: int  # D
    bias: Tensor | None
    added: tuple[Tensor, Tensor, Tensor] | None  # rows, items, values, in the order of the items
    shift: Tensor | None = None  # (R,)

    def tiles(self) -> list[slice]:
        """Stretches of the items."""
        wanted = TILE.get(self.h.device.type, TILE_ELSEWHERE) // max(1, len(self.h))
        size = max(ROWS, wanted - wanted % ROWS)
        return [slice(start, min(start + size, len(self.weight))) for start in range(0, len(self.weight), size)]

    def added_in(self, tile: slice) -> tuple[Tensor, Tensor, slice]:
        """Which scores of a tile get something added, by place in the tile and row, and which entries these are."""
        assert self.added is not None
        rows, items, _ = self.added
        bounds = torch.searchsorted(items, items.new_tensor([tile.start, tile.stop]))
        begin, end = cast(list[int], bounds.tolist())
        return items[begin:end] - tile.start, rows[begin:end], slice(begin, end)

    def logits(self, tile: slice) -> Tensor:
        """Scores (tile, R): items first, since the product is faster this way round."""
        logits = self.weight[tile] @ self.h.t()
        if self.added is not None:
            places, rows, entries = self.added_in(tile)
            logits.index_put_((places, rows), self.added[2][entries].to(logits.dtype), accumulate=True)
        if tile.start == 0:
            logits[0] = float("-inf")
        return logits if self.shift is None else logits.sub_(self.shift)

    def shifted(self) -> "_Catalogue":
        """With each row's largest score as its shift."""
        return replace(self, shift=torch.stack([self.logits(tile).amax(0) for tile in self.tiles()]).amax(0))


@dataclass(frozen=True)
class _Sums:
    """Of each row over all items, with exponentials of the scores as odds; ``kept`` are these, tile by tile."""

    total: Tensor  # (R,) odds
    pulled: Tensor  # (R, D) odds x weight
    at_target: Tensor  # (R,) the target's score
    kept: list[Tensor]


class _CatalogueCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        rows_added: Tensor | None,
        items_added: Tensor | None,
        added: Tensor | None,
        smoothing: float,
    ) -> Tensor:
        device = h.device.type
        matmul_dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        entries, order = None, None
        if added is not None and rows_added is not None and items_added is not None:
            order = items_added.argsort()
            entries = (rows_added[order], items_added[order], added[order])
        h_mm, weight_mm = F.pad(h, (0, 0, 0, -len(h) % ROWS)).to(matmul_dtype), weight.to(matmul_dtype)
        if bias is not None:
            h_mm, weight_mm = _with_bias(h_mm, weight_mm, bias)
        catalogue = _Catalogue(h_mm, weight_mm, h.shape[1], bias, entries)
        keep = any(ctx.needs_input_grad) and len(weight) * len(h_mm) <= KEPT
        with torch.autocast(device, enabled=False):
            sums = _sum_up(catalogue, targets, weight.dtype, keep=keep)
            if not bool(((sums.total > SMALLEST) & (sums.total < LARGEST)).all()):
                catalogue = catalogue.shifted()
                sums = _sum_up(catalogue, targets, weight.dtype, keep=keep)
            ctx.h_dtype, h = h.dtype, h.to(weight.dtype)
            aim, mean_weight = sums.at_target, None
            if smoothing:
                mean_weight = weight[1:].mean(0)
                aim = (1 - smoothing) * aim + smoothing * _mean_score(catalogue, h, mean_weight)
        ctx.save_for_backward(h, weight, targets, sums.total, sums.pulled, order, mean_weight, *sums.kept)
        ctx.catalogue, ctx.smoothing = catalogue, smoothing
        return sums.total.log()[: len(h)] - aim

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        h, weight, targets, total, pulled, order, mean_weight, *kept = ctx.saved_tensors
        catalogue, smoothing = cast(_Catalogue, ctx.catalogue), ctx.smoothing
        count, num_items = len(targets), len(weight) - 1
        # d loss / d logits = softmax - (1 - s) one_hot - s / V, and softmax = odds / total
        factor = F.pad(gradient, (0, len(total) - count)) / total
        onto_target = -(1 - smoothing) * gradient
        onto_all = -smoothing / num_items * gradient
        d_h = (pulled * factor[:, None])[:count] + onto_target[:, None] * weight[targets]
        scaled = (h * factor[:count, None]).to(catalogue.h.dtype)
        scaled = F.pad(scaled, (0, 0, 0, len(total) - count))
        d_weight = torch.empty_like(weight)
        d_bias = None if catalogue.bias is None else torch.empty_like(catalogue.bias)
        d_added = None if catalogue.added is None else torch.empty_like(catalogue.added[2])
        for number, tile in enumerate(catalogue.tiles()):
            odds = kept[number] if kept else catalogue.logits(tile).exp_()
            d_weight[tile] = odds @ scaled
            if d_bias is not None:
                d_bias[tile] = odds.to(weight.dtype) @ factor
            if d_added is not None:
                places, rows, entries = catalogue.added_in(tile)
                d_added[entries] = odds[places, rows] * factor[rows]
        d_weight.index_add_(0, targets, onto_target[:, None] * h)
        if d_bias is not None:
            d_bias.index_add_(0, targets, onto_target)
        if mean_weight is not None:
            d_h += onto_all[:, None] * num_items * mean_weight
            d_weight[1:] += onto_all @ h
            if d_bias is not None:
                d_bias[1:] += onto_all.sum()
        if d_added is not None and catalogue.added is not None:
            rows, items, _ = catalogue.added
            d_added += onto_target[rows] * (items == targets[rows]) + onto_all[rows]
            d_added = torch.empty_like(d_added).index_copy_(0, order, d_added)
        return d_h.to(ctx.h_dtype), d_weight, d_bias, None, None, None, d_added, None


def _with_bias(h: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Two columns for both, whose product is the bias: of each item what the type holds of it, and the rest.

    To add it to the logits would be another pass over them; in bfloat16 two, since they would be float32 meanwhile.
    """
    held = bias.to(weight.dtype)
    ones = h.new_ones(len(h), 2)
    return torch.cat([h, ones], 1), torch.cat([weight, torch.stack([held, (bias - held).to(held.dtype)], 1)], 1)


def _sum_up(catalogue: _Catalogue, targets: Tensor, dtype: torch.dtype, *, keep: bool) -> _Sums:
    h = catalogue.h
    total, pulled = h.new_zeros(len(h), dtype=dtype), h.new_zeros((len(h), catalogue.size), dtype=dtype)
    at_target = h.new_empty(len(targets), dtype=dtype)
    kept: list[Tensor] = []
    for tile in catalogue.tiles():
        logits = catalogue.logits(tile)
        here = torch.nonzero((targets >= tile.start) & (targets < tile.stop)).squeeze(1)
        at_target[here] = logits[targets[here] - tile.start, here].to(dtype)
        odds = logits.exp_()
        total += odds.sum(0, dtype=dtype)
        pulled += odds.t() @ catalogue.weight[tile, : catalogue.size]
        if keep:
            kept.append(odds)
    return _Sums(total, pulled, at_target, kept)


def _mean_score(catalogue: _Catalogue, h: Tensor, mean_weight: Tensor) -> Tensor:
    """(R,) each row's mean score over all items."""
    mean = h @ mean_weight
    if catalogue.bias is not None:
        mean = mean + catalogue.bias[1:].mean()
    if catalogue.added is not None:
        rows, _, values = catalogue.added
        mean = mean.index_add(0, rows, values / (len(catalogue.weight) - 1))
    return mean if catalogue.shift is None else mean - catalogue.shift[: len(h)]
