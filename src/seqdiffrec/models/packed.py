"""Products of rows with a weight that stays as it is, which oneDNN lays out once as the processor reads it best.

torch's usual product (MKL) arranges the weight anew at each call. With the few rows of a request that takes longer than
the arithmetic: docs/adr/0017. These operators are what torch itself puts in the place of a linear layer whose weights
are frozen.
"""

from typing import Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["gelu", "relu"]

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
        self._by_onednn = _is_for_onednn(weight)
        self.is_copy = is_laid_out(weight)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS) if self.is_copy else weight

    def product(self, h: Float[Tensor, "n D"]) -> Float[Tensor, "n V"]:
        """``h W^T``, without a gradient."""
        if self.is_copy or (self._by_onednn and len(h) == 1):  # as it lies it is right for a single row alone
            return self._product(h, None, None)
        return (self._weight @ h.t()).t()  # nearly twice as fast this way round

    def linear(self, x: Float[Tensor, "n D"], bias: Tensor, activation: Activation | None) -> Float[Tensor, "n V"]:
        """``activation(x W^T + bias)`` in one pass; needs a copy."""
        assert self.is_copy
        return self._product(x, bias, activation)

    def _product(self, x: Tensor, bias: Tensor | None, activation: Activation | None) -> Tensor:
        # The last "none" is of GELU: as it is defined, not by tanh.
        return torch.ops.mkldnn._linear_pointwise(
            x.contiguous(), self._weight, bias, activation or "none", [], "none" if activation else ""
        )

    def __deepcopy__(self, memo: object) -> "PackedWeight":
        """Itself: it never changes, and oneDNN's layout cannot be copied."""
        return self


class PackedLinear(nn.Linear):
    """A linear layer, with an activation if there is one, that keeps its weight laid out between two changes of it.

    Only for what has no gradient; in training, and where the weight may change unseen, it is torch's own. A step of
    training lets go of what was kept: torch's fused Adam changes weights without counting it as a change.
    """

    _kept: tuple[tuple[int, int], PackedWeight] | None = None

    def forward(self, input: Float[Tensor, "*n D"], activation: Activation | None = None) -> Float[Tensor, "*n E"]:
        """``activation(input W^T + b)``."""
        if torch.is_grad_enabled():
            self._kept = None
        packed = self._packed(input)
        if packed is not None:
            return packed.linear(input, self.bias, activation)
        out = super().forward(input)
        return out if activation is None else {"gelu": F.gelu, "relu": F.relu}[activation](out)

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`; training changes the weights."""
        self._kept = None if mode else self._kept
        return super().train(mode)

    def _packed(self, x: Tensor) -> PackedWeight | None:
        is_learning = self.training or torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type)
        if is_learning or self.weight.is_inference() or torch.compiler.is_compiling():
            return None
        if x.dtype != torch.float32 or x.dim() != 2:
            return None
        state = (self.weight.data_ptr(), self.weight._version)
        if self._kept is None or self._kept[0] != state:
            self._kept = state, PackedWeight(self.weight.detach())
        return self._kept[1] if self._kept[1].is_copy else None


def is_laid_out(weight: Tensor) -> bool:
    """Whether `PackedWeight` makes a copy of this weight."""
    return _is_for_onednn(weight) and weight.numel() * weight.element_size() <= LARGEST_BYTES


def _is_for_onednn(weight: Tensor) -> bool:
    """Whether oneDNN multiplies it, here."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    dtype = weight.dtype
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
