"""Products of rows with a weight that stays as it is, which oneDNN lays out once as the processor reads it best.

torch's usual product (MKL) arranges the weight anew at each call. With the few rows of a request that takes longer than
the arithmetic: docs/adr/0017. These operators are what torch itself puts in the place of a linear layer whose weights
are frozen.
"""

import torch
from jaxtyping import Float32
from torch import Tensor

# A laid out weight is a copy. A larger one is left as it is: the copy costs more memory than the time is worth.
LARGEST_BYTES = 2**30
# The layout is chosen for about so many rows, and fits others: 10 draws of a request, or some hundreds of a test.
ROWS = 16


class PackedWeight:
    """A weight (V, D), laid out for `product` unless it is too large."""

    def __init__(self, weight: Float32[Tensor, "V D"]):
        self.is_copy = weight.numel() * weight.element_size() <= LARGEST_BYTES
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS) if self.is_copy else weight

    @staticmethod
    def pays(weight: Tensor) -> bool:
        """Whether oneDNN is the one to multiply by this weight: in float32 on a CPU, outside of training."""
        return (
            weight.device.type == "cpu"
            and weight.dtype == torch.float32
            and torch.backends.mkldnn.is_available()
            and not torch.is_grad_enabled()
        )

    def product(self, h: Float32[Tensor, "n D"]) -> Float32[Tensor, "n V"]:
        """``h W^T``."""
        if not self.is_copy and len(h) > 1:  # as it lies it is right for a single row alone
            return (self._weight @ h.t()).t()
        return torch.ops.mkldnn._linear_pointwise(h.contiguous(), self._weight, None, "none", [], "")
