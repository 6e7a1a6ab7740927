"""Softmax cross-entropy over the target and a few negatives in place of the whole catalogue."""

from typing import cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from seqdiffrec.losses.full import Added


def sampled_cross_entropy(
    h: Float[Tensor, "R D"],
    weight: Float[Tensor, "R_plus_K D"],
    bias: Float[Tensor, " R_plus_K"] | None,
    targets: Int64[Tensor, " R"],
    negatives: Int64[Tensor, " K"],
    log_expected: Float[Tensor, " K"],
    added: Added | None = None,
) -> Float[Tensor, " R"]:
    """``log(exp(s_target) + sum over negatives of exp(s) / expected) - s_target``, with scores ``s = weight h + bias``.

    A negative that is the row's own target is left out. Where ``exp(log_expected)`` is how often a negative is expected
    to be drawn, divided by how often it was, the sum estimates that over the catalogue without bias (the correction
    log Q of Bengio and Senecal 2008, for the negatives alone: the target is not drawn).

    weight, bias: rows of the targets, then of the negatives. negatives: item indices, ascending, each once.
    added: numbers to add to single scores; those of items that are not drawn have no effect.
    """
    count = len(targets)
    at_target = (h.float() * weight[:count].float()).sum(-1)
    at_target = at_target if bias is None else at_target + bias[:count]
    logits = F.linear(h, weight[count:], None if bias is None else bias[count:]).float() - log_expected
    if added is not None:
        at_target = at_target.index_add(0, added.rows, added.values * (added.items == targets[added.rows]))
        place = torch.searchsorted(negatives, added.items).clamp(max=len(negatives) - 1)
        drawn = negatives[place] == added.items
        logits = logits.index_put((added.rows[drawn], place[drawn]), added.values[drawn], accumulate=True)
    logits = logits.masked_fill(negatives == targets[:, None], float("-inf"))
    return torch.logaddexp(at_target, logits.logsumexp(1)) - at_target


class NegativeSampler(nn.Module):
    """Draws items in proportion to a power of how often they occur in training, those that never occur as if once.

    counts: (V,) occurrences of item indices 1..V. exponent: 0 draws all alike, 1 by popularity.
    """

    def __init__(self, counts: Int64[Tensor, " V"], exponent: float):
        super().__init__()
        weight = counts.clamp(min=1).double() ** exponent
        # In no state: they follow from the counts.
        self.register_buffer("log_probability", (weight / weight.sum()).log(), persistent=False)
        self.register_buffer("cumulative", (weight / weight.sum()).cumsum(0), persistent=False)

    log_probability: Tensor
    cumulative: Tensor

    def draw(self, count: int) -> tuple[Int64[Tensor, " K"], Float[Tensor, " K"]]:
        """``count`` draws with replacement: the items, ascending and each once, and their `log_expected`."""
        device = self.cumulative.device
        place = torch.searchsorted(self.cumulative, torch.rand(count, dtype=torch.float64, device=device))
        return self.of(1 + place.clamp(max=len(self.cumulative) - 1), count)

    def of(self, items: Int64[Tensor, " n"], count: int) -> tuple[Int64[Tensor, " K"], Float[Tensor, " K"]]:
        """The same for items that were drawn elsewhere in these proportions, of which ``count`` count."""
        negatives, times = cast(tuple[Tensor, Tensor], items.unique(return_counts=True))
        expected = self.log_probability[negatives - 1] + torch.log(torch.tensor(max(count, 1)).double())
        return negatives, (expected - times.double().log()).float()
