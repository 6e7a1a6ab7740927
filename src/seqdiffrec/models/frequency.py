"""A frequency filter over ragged tokens, to stand beside attention (BSARec, Shin et al. 2024; causal here)."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


class FrequencyFilter(nn.Module):
    """Keeps the slow part of a sequence of states, and scales the fast part by the learned square of ``root``.

    The slow part of a place is the mean over the ``width`` newest places that it sees, itself included; the fast part
    is the rest. BSARec takes the lowest frequencies of a Fourier transform over the whole sequence instead, in which
    an item would see those that come after it.

    Attributes:
        root: (D,), standard normal at first, as in BSARec.
    """

    def __init__(self, size: int, width: int):
        super().__init__()
        self.width = width
        self.root = nn.Parameter(torch.randn(size))

    def forward(
        self,
        x: Float[Tensor, "n D"],
        history: Float[Tensor, "m D"],
        rows: Int64[Tensor, " n"],
        places: Int64[Tensor, " n"],
        offsets: Int64[Tensor, " B1"],
    ) -> Float[Tensor, "n D"]:
        """Filter places ``x``, each of which sees the first ``places`` of sequence ``rows`` in ``history``."""
        end = offsets[rows] + places
        begin = end - places.clamp(max=self.width - 1)
        # Doubles, so that what stands elsewhere in the batch leaves no trace in a difference of running sums.
        sums = torch.cat([history.new_zeros((1, x.shape[1]), dtype=torch.float64), history.double().cumsum(0)])
        slow = ((sums[end] - sums[begin] + x) / (end - begin + 1)[:, None]).to(x.dtype)
        return slow + self.root.square() * (x - slow)
