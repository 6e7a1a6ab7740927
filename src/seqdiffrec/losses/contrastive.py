"""Contrastive losses within a batch."""

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn import functional as F


def supervised_contrastive(
    z: Float[Tensor, "R D"], labels: Int64[Tensor, " R"], temperature: float
) -> Float[Tensor, ""]:
    """Pull rows of one label together and all others apart (Khosla et al. 2020, Eq. 2).

    For each row with at least one other of its label, the mean over those of ``-log softmax`` of the cosines over all
    other rows, divided by the temperature; then the mean over such rows, 0 where there are none.
    """
    log_odds = _log_odds(F.normalize(z, dim=-1), temperature)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    is_positive = (labels[:, None] == labels) & ~itself
    count = is_positive.sum(1)
    anchors = count > 0
    pulled = log_odds.masked_fill(~is_positive, 0).sum(1)
    return -(pulled / count.clamp(min=1)).sum() / anchors.sum().clamp(min=1)


def nt_xent(first: Float[Tensor, "R D"], second: Float[Tensor, "R D"], temperature: float) -> Float[Tensor, ""]:
    """Pull the two views of each example together and all other views apart: NT-Xent, with inner products.

    For each of the 2 R views, ``-log softmax`` at the other view of its example, of the inner products with all views
    but itself, divided by the temperature; the mean over views. Of Chen et al. 2020 (Eq. 1), where the products are
    cosines, as CL4SRec and DuoRec have it. One example alone gives 0. The products are in float32 also under autocast:
    as logits, long vectors' products lose too much in bfloat16.
    """
    with torch.autocast(first.device.type, enabled=False):
        log_odds = _log_odds(torch.cat([first, second]).float(), temperature)
    count = len(first)
    return -(log_odds.diagonal(count).mean() + log_odds.diagonal(-count).mean()) / 2


def _log_odds(z: Float[Tensor, "R D"], temperature: float) -> Float32[Tensor, "R R"]:
    """Of each row over all others: log softmax of its inner products with them, divided by the temperature."""
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    return (z @ z.T / temperature).float().masked_fill(itself, float("-inf")).log_softmax(1)
