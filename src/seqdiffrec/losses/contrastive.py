"""Contrastive loss within a batch."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F


def supervised_contrastive(
    z: Float[Tensor, "R D"], labels: Int64[Tensor, " R"], temperature: float
) -> Float[Tensor, ""]:
    """Pull rows of one label together and all others apart (Khosla et al. 2020, Eq. 2).

    For each row with at least one other of its label, the mean over those of ``-log softmax`` of the cosines over all
    other rows, divided by the temperature; then the mean over such rows, 0 where there are none. With two views of
    each example as the only equal labels it is NT-Xent (Chen et al. 2020).
    """
    z = F.normalize(z, dim=-1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    scores = (z @ z.T / temperature).float().masked_fill(itself, float("-inf"))
    is_positive = (labels[:, None] == labels) & ~itself
    count = is_positive.sum(1)
    log_odds = scores.log_softmax(1).masked_fill(~is_positive, 0).sum(1)
    anchors = count > 0
    return -(log_odds / count.clamp(min=1)).sum() / anchors.sum().clamp(min=1)
