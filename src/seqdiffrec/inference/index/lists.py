"""Inverted lists (Sivic and Zisserman 2003): items in cells of like direction, of which the nearest are scored whole.

Items of a cell lie side by side, so that a cell's scores for all noise draws are one matrix product. Building it is
little else than matrix products, too.
"""

import math
from typing import ClassVar, Self, cast

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from seqdiffrec.inference.index.base import NOT_OURS, OVERLAP_AT, ItemIndex, Progress, queries, vectors
from seqdiffrec.models.catalogue import CANDIDATES_EACH, CANDIDATES_MORE, Catalogue
from seqdiffrec.models.device import has_bfloat16
from seqdiffrec.models.top import largest_of
from seqdiffrec.training import RunError

# Items from which the cells are learned, for each cell, and passes over them.
LEARNED_BY, PASSES = 32, 6
# Products of items and cells held at a time: what fits a cache.
AT_ONCE = 2**22
# Candidates of the lists by which the breadth is found; who wants more looks at as many more cells.
FEW = CANDIDATES_EACH * OVERLAP_AT + CANDIDATES_MORE


class ListIndex(ItemIndex):
    """Cells of items; weights and a bias are one vector.

    ``breadth`` is how many cells each draw chooses for a short list.

    Attributes:
        order: the columns of the catalogue, cell after cell.
        offsets: where each cell begins, and the last one ends; none is empty.
    """

    kind: ClassVar[str] = "lists"
    least_breadth: ClassVar[int] = 8

    def __init__(self, catalogue: Catalogue, order: Int64[Tensor, " V"], offsets: Int64[Tensor, " L1"]):
        super().__init__()
        self.order, self.offsets = order, cast(Tensor, offsets.unique_consecutive())
        self._biased = catalogue.bias is not None
        self._type = torch.bfloat16 if has_bfloat16(torch.device("cpu")) else torch.float32
        size = catalogue.weight.shape[1] + self._biased
        self._items = torch.empty(len(order), size, dtype=self._type)
        means, sizes = torch.zeros(len(self.offsets) - 1, size), self.offsets.diff()
        cell = torch.repeat_interleave(torch.arange(len(means)), sizes)
        step = max(1, AT_ONCE // size)
        for start in range(0, len(order), step):
            part = vectors(catalogue, order[start : start + step])
            self._items[start : start + step] = part
            means.index_add_(0, cell[start : start + step], part)
        self._means = means / sizes[:, None]

    @classmethod
    def build(cls, catalogue: Catalogue, progress: Progress | None = None) -> Self:
        """Learn cells by k-means on directions, and put each item into the nearest."""
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
        order = nearest.argsort(stable=True)
        offsets = F.pad(torch.bincount(nearest, minlength=cells).cumsum(0), (1, 0))
        return cls(catalogue, order, offsets)

    @classmethod
    def restore(cls, catalogue: Catalogue, tensors: dict[str, Tensor]) -> Self:
        """As `ItemIndex.restore`: each item lies in one cell."""
        order, offsets, count = tensors.get("order"), tensors.get("offsets"), len(catalogue.weight) - 1
        if order is None or offsets is None or order.dtype != torch.int32 or offsets.dtype != torch.int64:
            raise RunError(NOT_OURS)
        is_whole = len(order) == count and bool((order.sort().values == torch.arange(count)).all())
        is_cut = len(offsets) > 1 and offsets[0] == 0 and offsets[-1] == count and bool((offsets.diff() >= 0).all())
        if not (is_whole and is_cut):
            raise RunError(NOT_OURS)
        order = order.long()
        return cls(catalogue, order, offsets)

    def tensors(self) -> dict[str, Tensor]:
        """The cells without the weights, to be saved."""
        return {"order": self.order.int(), "offsets": self.offsets}

    @property
    def most_breadth(self) -> int:
        """Half of the cells."""
        return max(self.least_breadth, len(self._means) // 2)

    def __call__(self, draws: Float[Tensor, "S r D"], count: int) -> Int64[Tensor, "r c"]:
        """As `ItemIndex.__call__`: the cells that are nearest to any draw of a target are scored for all of them."""
        asked = queries(self._biased, draws)
        cells = min(len(self._means), math.ceil(self.breadth * max(1, count / FEW)))
        chosen = (asked @ self._means.t()).topk(cells).indices  # (S, r, cells)
        named = torch.zeros(draws.shape[1], len(draws) * count, dtype=torch.int64)
        for row in range(draws.shape[1]):
            found = self._best_in(cast(Tensor, chosen[:, row].unique()), asked[:, row], count)
            named[row, : found.numel()] = found.flatten() + 1
        return named

    def _best_in(self, cells: Int64[Tensor, " c"], asked: Float32[Tensor, "S D1"], count: int) -> Int64[Tensor, "S k"]:
        """The columns of the ``count`` highest scores of each draw in these cells, or of all that there are."""
        begins, ends = self.offsets[cells], self.offsets[cells + 1]
        after = (ends - begins).cumsum(0)  # where each cell ends among all that are scored
        scores = torch.empty(int(after[-1]), len(asked), dtype=self._type)
        right = asked.to(self._type).t()
        bounds = zip(*(cast(list[int], one.tolist()) for one in (begins, ends, after)), strict=True)
        for begin, end, stop in bounds:
            torch.mm(self._items[begin:end], right, out=scores[stop - (end - begin) : stop])
        best = largest_of(scores.t().float(), min(count, len(scores))).columns
        cell = torch.searchsorted(after, best, right=True)
        return self.order[ends[cell] - (after[cell] - best)]


def _product(x: Float32[Tensor, "n D"], centres: Float32[Tensor, "L D"]) -> Tensor:
    """``x centres^T``, in bfloat16 where there is."""
    if has_bfloat16(x.device):
        return x.bfloat16() @ centres.bfloat16().t()
    return x @ centres.t()
