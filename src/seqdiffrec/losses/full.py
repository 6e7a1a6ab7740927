"""Softmax cross-entropy over every item of the catalogue."""

from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

# Rows are made up to whole multiples of this: a matrix library compiles a kernel for every new shape, and without this
# each batch brings one.
ROWS = 32


def catalogue_cross_entropy(
    h: Float[Tensor, "R D"],
    weight: Float[Tensor, "V_plus_1 D"],
    bias: Float[Tensor, " V_plus_1"] | None,
    targets: Int64[Tensor, " R"],
) -> Float[Tensor, " R"]:
    """``-log softmax(weight h + bias)[target]`` of each row: the recommendation loss of Eq. 13 and 17, with Eq. 8.

    Row 0 of ``weight`` and ``bias`` is padding: it is no candidate and gets no gradient. Targets are 1..V.

    Exact, and on a CPU faster (docs/adr/0006) than ``cross_entropy(linear(h, weight, bias), targets)``, since the
    gradient overwrites the logits. The matrix products run in autocast's type, sums and exponentials in float32.
    """
    return cast(Tensor, _CatalogueCrossEntropy.apply(h, weight, bias, targets))


class _CatalogueCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        device = h.device.type
        matmul_dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        h_mm = F.pad(h.detach(), (0, 0, 0, -len(h) % ROWS)).to(matmul_dtype)
        weight_mm = weight.detach().to(matmul_dtype)
        with torch.autocast(device, enabled=False):
            # (V + 1, R), items first: the product is nearly twice as fast this way round.
            logits = (weight_mm @ h_mm.t()).to(weight.dtype)
            if bias is not None:
                logits += bias.detach()[:, None]
            logits[0] = float("-inf")
            largest = logits.amax(0)
            rows = torch.arange(len(targets), device=targets.device)
            at_target = logits[targets, rows]
            odds = logits.sub_(largest).exp_()
            total = odds.sum(0)
            ctx.save_for_backward(h_mm, weight_mm, odds, total, targets)
            ctx.has_bias, ctx.h_dtype, ctx.used = bias is not None, h.dtype, False
            return (total.log() + largest)[: len(h)] - at_target

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        assert not ctx.used, "the saved logits have been overwritten by an earlier backward pass"
        ctx.used = True
        (gradient,) = gradients
        h_mm, weight_mm, odds, total, targets = ctx.saved_tensors
        # d loss / d logits = softmax - one_hot
        d_logits = odds.mul_(F.pad(gradient, (0, len(h_mm) - len(targets))) / total)
        d_logits[targets, torch.arange(len(targets), device=targets.device)] -= gradient
        d_logits_mm = d_logits.to(h_mm.dtype)
        d_h = (d_logits_mm.t() @ weight_mm)[: len(targets)].to(ctx.h_dtype)
        d_weight = (d_logits_mm @ h_mm).to(odds.dtype)
        return d_h, d_weight, d_logits.sum(1) if ctx.has_bias else None, None
