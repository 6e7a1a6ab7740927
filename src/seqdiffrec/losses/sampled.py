"""Softmax cross-entropy over the target and a few negatives in place of the whole catalogue."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
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
    at_target, logits, own = shared_scores(h, weight, bias, targets, negatives, added)
    logits = (logits - log_expected).masked_fill(own, float("-inf"))
    return torch.logaddexp(at_target, logits.logsumexp(1)) - at_target


def shared_scores(
    h: Float[Tensor, "R D"],
    weight: Float[Tensor, "R_plus_K D"],
    bias: Float[Tensor, " R_plus_K"] | None,
    targets: Int64[Tensor, " R"],
    negatives: Int64[Tensor, " K"],
    added: Added | None = None,
) -> tuple[Float[Tensor, " R"], Float[Tensor, "R K"], Bool[Tensor, "R K"]]:
    """Scores ``weight h + bias`` of each row's target, and of negatives that all rows share; which are the row's own.

    The arguments are those of `sampled_cross_entropy`.
    """
    count = len(targets)
    at_target = (h.float() * weight[:count].float()).sum(-1)
    at_target = at_target if bias is None else at_target + bias[:count]
    scores = F.linear(h, weight[count:], None if bias is None else bias[count:]).float()
    if added is not None:
        at_target = at_target.index_add(0, added.rows, added.values * (added.items == targets[added.rows]))
        place = torch.searchsorted(negatives, added.items).clamp(max=len(negatives) - 1)
        drawn = negatives[place] == added.items
        scores = scores.index_put((added.rows[drawn], place[drawn]), added.values[drawn], accumulate=True)
    return at_target, scores, negatives == targets[:, None]
