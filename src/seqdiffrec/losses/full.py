"""Softmax cross-entropy over every item of the catalogue."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

# Rows are made up to whole multiples of this: a matrix library compiles a kernel for every new shape, and without this
# each batch brings one.
ROWS = 32


@dataclass(frozen=True)
class Added:
    """``values[e]`` is added to the score of item ``items[e]`` (1..V) in row ``rows[e]``; what repeats adds up."""

    rows: Int64[Tensor, " E"]
    items: Int64[Tensor, " E"]
    values: Float[Tensor, " E"]


def catalogue_cross_entropy(
    h: Float[Tensor, "R D"],
    weight: Float[Tensor, "V_plus_1 D"],
    bias: Float[Tensor, " V_plus_1"] | None,
    targets: Int64[Tensor, " R"],
    added: "Added | None" = None,
) -> Float[Tensor, " R"]:
    """``-log softmax(weight h + bias)[target]`` of each row: the recommendation loss of Eq. 13 and 17, with Eq. 8.

    Row 0 of ``weight`` and ``bias`` is padding: it is no candidate and gets no gradient. Targets are 1..V.
    ``added``: numbers to add to single scores before the softmax.

    Exact, and on a CPU faster (docs/adr/0006) than ``cross_entropy(linear(h, weight, bias), targets)``, since the
    gradient overwrites the logits. The matrix products run in autocast's type, sums and exponentials in float32.
    """
    rows, items, values = (None, None, None) if added is None else (added.rows, added.items, added.values)
    return cast(Tensor, _CatalogueCrossEntropy.apply(h, weight, bias, targets, rows, items, values))


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
    ) -> Tensor:
        device = h.device.type
        matmul_dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        h_mm = F.pad(h.detach(), (0, 0, 0, -len(h) % ROWS)).to(matmul_dtype)
        weight_mm = weight.detach().to(matmul_dtype)
        with torch.autocast(device, enabled=False):
            # (V + 1, R), items first: the product is nearly twice as fast this way round.
            logits = (weight_mm @ h_mm.t()).to(weight.dtype)
            if bias is not None:
                logits += bias.detach()[:, None]
            if added is not None:
                logits.index_put_((items_added, rows_added), added.detach().to(logits.dtype), accumulate=True)
            logits[0] = float("-inf")
            largest = logits.amax(0)
            rows = torch.arange(len(targets), device=targets.device)
            at_target = logits[targets, rows]
            odds = logits.sub_(largest).exp_()
            total = odds.sum(0)
            ctx.save_for_backward(h_mm, weight_mm, odds, total, targets, rows_added, items_added)
            ctx.has_bias, ctx.h_dtype, ctx.used = bias is not None, h.dtype, False
            return (total.log() + largest)[: len(h)] - at_target

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        assert not ctx.used, "the saved logits have been overwritten by an earlier backward pass"
        ctx.used = True
        (gradient,) = gradients
        h_mm, weight_mm, odds, total, targets, rows_added, items_added = ctx.saved_tensors
        # d loss / d logits = softmax - one_hot
        d_logits = odds.mul_(F.pad(gradient, (0, len(h_mm) - len(targets))) / total)
        d_logits[targets, torch.arange(len(targets), device=targets.device)] -= gradient
        d_logits_mm = d_logits.to(h_mm.dtype)
        d_h = (d_logits_mm.t() @ weight_mm)[: len(targets)].to(ctx.h_dtype)
        d_weight = (d_logits_mm @ h_mm).to(odds.dtype)
        d_bias = d_logits.sum(1) if ctx.has_bias else None
        d_added = None if rows_added is None else d_logits[items_added, rows_added]
        return d_h, d_weight, d_bias, None, None, None, d_added
