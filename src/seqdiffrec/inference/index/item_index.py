"""An approximate index over a model's items: cells of like items, and four bits for every four numbers of an item.

It names candidates only; `seqdiffrec.models.nearest` scores them exactly. Cells are those of `in_cells`. How an item
differs from its cell's mean is kept by product quantisation (Jégou, Douze and Schmid 2011), four numbers as the nearest
of 16, and faiss looks up 32 items at a time in registers (André, Kermarrec and Le Scouarnec 2015): that is so fast that
each draw can afford to look into many cells.
"""

import math
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple, Self, cast

import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from seqdiffrec.inference.index.cells import in_cells
from seqdiffrec.inference.index.vectors import Progress, catalogue_of, queries, vectors
from seqdiffrec.models.base import SequenceModel
from seqdiffrec.models.catalogue import CANDIDATES_EACH, CANDIDATES_MORE, Catalogue
from seqdiffrec.models.settings import SettingError
from seqdiffrec.training import RunError

# The length of the lists that are compared.
OVERLAP_AT = 10

NOT_OURS = "the index in the run's folder is not one of its items; build it again: seqdiffrec index RUN"

# Numbers that share a code, and bits of the code.
NUMBERS, BITS = 4, 4
# Differences from which the codes are learned, and the fewest that faiss does not warn of.
LEARNED_BY, LEAST = 2**16, 39 * 2**BITS
# Items encoded at a time.
AT_ONCE = 2**16
# Candidates named for each that is wanted: codes are rough.
NAMED_EACH = 2
# Candidates of the lists by which the breadth is found; who wants more looks into as many more cells.
FEW = CANDIDATES_EACH * OVERLAP_AT + CANDIDATES_MORE


class Parts(NamedTuple):
    """All that an index is, as it is saved; M codes an item, of four bits each.

    order: the columns of the catalogue, cell after cell. offsets: where each cell begins, and the last one ends.
    means: of the cells, filled up with zeros to a multiple of eight numbers. codebooks: what each code stands for.
    codes: of the items, in their order.
    """

    order: Int64[Tensor, " V"]
    offsets: Int64[Tensor, " L1"]
    means: Float32[Tensor, "L D8"]
    codebooks: Float32[Tensor, "M 16 4"]
    codes: UInt8[Tensor, "V M2"]


class ItemIndex:
    """Names the items that may be best for a target.

    Attributes:
        breadth: how many cells each draw chooses for a short list, a power of two: more finds more and takes longer.
        overlap: share of the exact first ten that are found, the mean over ``histories`` histories; None unmeasured.
        exact_ms, approximate_ms: what the first ten after one history take, in milliseconds, by the pass over all items
            and by the index: medians over some of the histories; None unmeasured.
    """

    def __init__(self, parts: Parts, size: int):
        self._parts, self._size = parts, size
        self.breadth, self.histories = 1, 0
        self.overlap: float | None = None
        self.exact_ms: float | None = None
        self.approximate_ms: float | None = None

    @classmethod
    def build(cls, model: SequenceModel, progress: Progress | None = None) -> Self:
        """An index of all items of a model. Raises SettingError for a model without item vectors, or without faiss."""
        catalogue, faiss = catalogue_of(model), _faiss()
        order, offsets = in_cells(catalogue, progress)
        size = _size(catalogue)
        cell = torch.repeat_interleave(torch.arange(len(offsets) - 1), offsets.diff())
        means = torch.zeros(len(offsets) - 1, size + -size % (2 * NUMBERS))
        for part in _stretches(len(order)):
            means.index_add_(0, cell[part], _filled(vectors(catalogue, order[part]), means))
        means /= offsets.diff()[:, None]

        def off_means(some: slice | Tensor) -> Any:
            return (_filled(vectors(catalogue, order[some]), means) - means[cell[some]]).numpy()

        quantizer = faiss.ProductQuantizer(means.shape[1], means.shape[1] // NUMBERS, BITS)
        sample = torch.arange(min(len(order), LEARNED_BY)) * len(order) // min(len(order), LEARNED_BY)
        quantizer.train(off_means(sample.repeat(math.ceil(LEAST / len(sample)))))
        codes = [torch.from_numpy(quantizer.compute_codes(off_means(part))) for part in _stretches(len(order))]
        codebooks = torch.from_numpy(faiss.vector_to_array(quantizer.centroids).copy())
        return cls(Parts(order, offsets, means, codebooks.view(-1, 2**BITS, NUMBERS), torch.cat(codes)), size)

    @classmethod
    def restore(cls, model: SequenceModel, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Self:
        """A saved one, over the weights that it was built from.

        Raises RunError where it does not fit: each item lies in one cell, and has codes.
        """
        catalogue = catalogue_of(model)
        count, size = len(catalogue.weight) - 1, _size(catalogue)
        if set(tensors) != set(Parts._fields) or not _fit(tensors, count, size):
            raise RunError(NOT_OURS)
        index = cls(Parts(**{**tensors, "order": tensors["order"].long()}), size)
        index.breadth, index.overlap, index.histories = (
            facts[name] for name in ("breadth", f"overlap@{OVERLAP_AT}", "histories")
        )
        index.exact_ms, index.approximate_ms = facts["exact_ms"], facts["approximate_ms"]
        return index

    def tensors(self) -> dict[str, Tensor]:
        """What it is, without the weights, to be saved."""
        return {**self._parts._asdict(), "order": self._parts.order.int()}

    def facts(self) -> dict[str, Any]:
        """What the index is and finds, measured."""
        found = {"breadth": self.breadth, f"overlap@{OVERLAP_AT}": self.overlap, "histories": self.histories}
        return {"cells": self.num_cells, **found, "exact_ms": self.exact_ms, "approximate_ms": self.approximate_ms}

    @property
    def num_cells(self) -> int:
        """What the breadth is at most."""
        return len(self._parts.means)

    def __call__(self, draws: Float[Tensor, "S r D"], count: int) -> Int64[Tensor, "r c"]:
        """Item indices of about the ``count`` highest scores of each draw of each target; 0 fills up."""
        faiss = _faiss()
        faiss.omp_set_num_threads(torch.get_num_threads())  # of this thread, whoever has loaded the index
        asked = queries(draws.flatten(0, 1), self._size)
        asked = _filled(asked, self._parts.means).contiguous().numpy()
        cells = min(self.num_cells, math.ceil(self.breadth * max(1, count / FEW)))
        wanted = min(NAMED_EACH * count, len(self._parts.order))
        found = self._lists.search(asked, wanted, params=faiss.SearchParametersIVF(nprobe=cells))[1]
        return torch.from_numpy(found + 1).view(*draws.shape[:2], wanted).transpose(0, 1).flatten(1)

    @cached_property
    def _lists(self) -> Any:
        """The cells as faiss has them, with the codes laid out for its look-up."""
        faiss, parts = _faiss(), self._parts
        cells, size = parts.means.shape
        nearest = faiss.IndexFlatIP(size)
        nearest.add(parts.means.numpy())
        lists = faiss.IndexIVFPQ(nearest, size, cells, size // NUMBERS, BITS, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(parts.codebooks.flatten().numpy(), lists.pq.centroids)
        lists.is_trained, lists.ntotal = True, len(parts.order)
        columns, codes = parts.order.numpy(), parts.codes.numpy()
        bounds = cast(list[int], parts.offsets.tolist())
        for cell, (begin, end) in enumerate(pairwise(bounds)):
            here = slice(begin, end)
            lists.invlists.add_entries(cell, end - begin, faiss.swig_ptr(columns[here]), faiss.swig_ptr(codes[here]))
        fast = faiss.IndexIVFPQFastScan(lists)
        lists.reset()  # it stays, for its means, but need not hold the codes a second time
        return fast


def _fit(tensors: dict[str, Tensor], count: int, size: int) -> bool:
    order, offsets, means, codebooks, codes = (tensors[name] for name in Parts._fields)
    types = [torch.int32, torch.int64, torch.float32, torch.float32, torch.uint8]
    if [one.dtype for one in (order, offsets, means, codebooks, codes)] != types or offsets.ndim != 1:
        return False
    padded = size + -size % (2 * NUMBERS)
    shapes = [(count,), (len(offsets) - 1, padded), (padded // NUMBERS, 2**BITS, NUMBERS)]
    shapes.append((count, padded // NUMBERS * BITS // 8))
    if [tuple(one.shape) for one in (order, means, codebooks, codes)] != shapes:
        return False
    is_whole = bool((order.sort().values == torch.arange(count)).all())
    is_cut = len(offsets) > 1 and bool(offsets[0] == 0) and bool(offsets[-1] == count)
    is_cut = is_cut and bool((offsets.diff() > 0).all())
    return is_whole and is_cut and bool(means.isfinite().all()) and bool(codebooks.isfinite().all())


def _size(catalogue: Catalogue) -> int:
    return catalogue.weight.shape[1] + (catalogue.bias is not None)


def _filled(x: Float32[Tensor, "n D1"], like: Float32[Tensor, "L D8"]) -> Float32[Tensor, "n D8"]:
    """With zeros up to the size of the means."""
    return F.pad(x, (0, like.shape[1] - x.shape[1]))


def _stretches(count: int) -> list[slice]:
    return [slice(start, min(start + AT_ONCE, count)) for start in range(0, count, AT_ONCE)]


def _faiss() -> Any:
    try:
        import faiss  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise SettingError("an index needs faiss: pip install 'seqdiffrec[ann]'") from error
    return cast(Any, faiss)
