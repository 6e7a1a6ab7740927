"""Items in cells of like direction, by k-means (the lists of Sivic and Zisserman 2003)."""

import math
from typing import cast

import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from seqdiffrec.inference.index.vectors import Progress, vectors
from seqdiffrec.models.catalogue import Catalogue
from seqdiffrec.models.device import has_bfloat16

# Items from which the cells are learned, for each cell, and passes over them.
LEARNED_BY, PASSES = 32, 6
# Products of items and cells held at a time: what fits a cache.
AT_ONCE = 2**22


def in_cells(
    catalogue: Catalogue, progress: Progress | None = None
) -> tuple[Int64[Tensor, " V"], Int64[Tensor, " L1"]]:
    """The columns of the catalogue, cell after cell, and where each cell begins and the last one ends; none is empty.

    There are 4 times the root of as many cells as items: as many as can be learned without taking longer than to put
    each item into the nearest.
    """
    count = len(catalogue.weight) - 1
    cells = min(count, 2 ** round(math.log2(4 * math.sqrt(count))))
    sample = torch.arange(min(count, LEARNED_BY * cells)) * count // min(count, LEARNED_BY * cells)
    work, done = PASSES * len(sample) + count, 0
    centres = F.normalize(vectors(catalogue, sample[:: max(1, len(sample) // cells)][:cells]), dim=1)
    nearest = torch.empty(count, dtype=torch.int64)
    for columns in [sample] * PASSES + [torch.arange(count)]:
        sums = torch.zeros_like(centres)
        step = max(1, AT_ONCE // cells)
        for start in range(0, len(columns), step):
            part = columns[start : start + step]
            unit = F.normalize(vectors(catalogue, part), dim=1)
            nearest[part] = _product(unit, centres).max(1).indices  # argmax takes three times as long
            sums.index_add_(0, nearest[part], unit)
            done += len(part)
            if progress is not None:
                progress(done, work)
        empty = sums.square().sum(1) == 0  # a cell that lost all its items stays where it is
        centres = torch.where(empty[:, None], centres, F.normalize(sums, dim=1))
    offsets = F.pad(torch.bincount(nearest, minlength=cells).cumsum(0), (1, 0))
    return nearest.argsort(stable=True), cast(Tensor, offsets.unique_consecutive())


def _product(x: Float32[Tensor, "n D"], centres: Float32[Tensor, "L D"]) -> Tensor:
    """``x centres^T``, in bfloat16 where there is."""
    if has_bfloat16(x.device):
        return x.bfloat16() @ centres.bfloat16().t()
    return x @ centres.t()
