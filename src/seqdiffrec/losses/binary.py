"""Binary cross-entropy of a target and a few negatives of its own (Kang and McAuley 2018), and its generalisation."""

from typing import cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

# With more than this many weight rows for each score that is wanted, looking rows up is faster than scoring all.
ROWS_A_SCORE = 64
# Scores computed together where all rows are scored: 64 MiB.
SCORES_AT_ONCE = 2**24


def own_scores(
    h: Float[Tensor, "R D"],
    weight: Float[Tensor, "U D"],
    bias: Float[Tensor, " U"] | None,
    places: Int64[Tensor, "R C"],
) -> Float[Tensor, "R C"]:
    """``weight h + bias`` of C rows of the weight, given for each row of h by their places."""
    if len(weight) > ROWS_A_SCORE * places.shape[1]:
        scores = (F.embedding(places, weight) * h[:, None]).sum(-1)
        return scores if bias is None else scores + bias[places]
    at_once = max(1, SCORES_AT_ONCE // len(weight))
    parts = (cast(tuple[Tensor, ...], one.split(at_once)) for one in (h, places))
    return torch.cat(
        [F.linear(part, weight, bias).float().gather(1, of_part) for part, of_part in zip(*parts, strict=True)]
    )


def binary_cross_entropy(
    at_target: Float[Tensor, " R"],
    scores: Float[Tensor, "R K"],
    power: float = 1.0,
) -> Float[Tensor, " R"]:
    """``-power log sigmoid(target) - sum over negatives of log(1 - sigmoid(score))`` of each row.

    power 1 is SASRec's loss (its Eq. 6); less is gBCE's (Petrov and Macdonald 2023), there called beta, times
    ``1 + K``. Scores of minus infinity cost nothing.
    """
    return power * F.softplus(-at_target) + F.softplus(scores).sum(1)


def calibrating_power(num_negatives: int, num_items: int, calibration: float) -> float:
    """The power of gBCE that undoes a share ``calibration``, 0..1, of the overconfidence that sampling brings.

    ``alpha (t (1 - 1 / alpha) + 1 / alpha)``, where alpha is the share of the other items that is drawn.
    """
    alpha = min(1.0, num_negatives / max(1, num_items - 1))
    return 1 - calibration * (1 - alpha)
