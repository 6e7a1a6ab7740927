"""Products of rows with a weight that stays as it is, which oneDNN lays out once as the processor reads it best.

torch's usual product (MKL) arranges the weight anew at each call. With the few rows of a request that takes longer than
the arithmetic: docs/adr/0017. These operators are what torch itself puts in the place of a linear layer whose weights
are frozen.
"""

import torch
from jaxtyping import Float
from torch import Tensor

# A laid out weight is a copy. A larger one is left as it is: the copy costs more memory than the time is worth.
LARGEST_BYTES = 2**30
# The layout is chosen for about so many rows, and fits others: 10 draws of a request, or some hundreds of a test.
ROWS = 16


class PackedWeight:
    """A weight (V, D), laid out for `product` on a CPU unless it is too large.

    Attributes:
        is_copy: whether it was.
    """

    def __init__(self, weight: Float[Tensor, "V D"]):
        self._by_onednn = weight.device.type == "cpu" and _multiplies(weight.dtype)
        self.is_copy = self._by_onednn and weight.numel() * weight.element_size() <= LARGEST_BYTES
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS) if self.is_copy else weight

    def product(self, h: Float[Tensor, "n D"]) -> Float[Tensor, "n V"]:
        """``h W^T``, without a gradient."""
        if self.is_copy or (self._by_onednn and len(h) == 1):  # as it lies it is right for a single row alone
            return torch.ops.mkldnn._linear_pointwise(h.contiguous(), self._weight, None, "none", [], "")
        return (self._weight @ h.t()).t()  # nearly twice as fast this way round


def _multiplies(dtype: torch.dtype) -> bool:
    """Whether oneDNN does, here."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
