"""Ranking-max losses (Hidasi and Karatzoglou 2018): the target against the highest of the negatives, softened.

``s_j`` is the softmax over a row's negatives, so that those count most which stand highest, r_i the target's score and
r_j that of negative j.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def bpr_max(
    at_target: Float[Tensor, " R"],
    scores: Float[Tensor, "R K"],
    log_times: Float[Tensor, "R K"],
    score_penalty: float,
) -> Float[Tensor, " R"]:
    """``-log sum_j s_j sigmoid(r_i - r_j) + score_penalty sum_j s_j r_j^2`` of each row.

    log_times: the logarithm of how often each negative is among a row's; very small, but finite, for not at all.
    """
    share = (scores + log_times).softmax(1)
    ahead = (share * (at_target[:, None] - scores).sigmoid()).sum(1)
    ahead = ahead.clamp(min=torch.finfo(ahead.dtype).tiny)
    return score_penalty * (share * scores.square()).sum(1) - ahead.log()


def top1_max(
    at_target: Float[Tensor, " R"], scores: Float[Tensor, "R K"], log_times: Float[Tensor, "R K"]
) -> Float[Tensor, " R"]:
    """``sum_j s_j (sigmoid(r_j - r_i) + sigmoid(r_j^2))`` of each row; see `bpr_max`."""
    share = (scores + log_times).softmax(1)
    return (share * ((scores - at_target[:, None]).sigmoid() + scores.square().sigmoid())).sum(1)
