"""An approximate index over a model's items, for catalogues where a pass over all of them takes too long.

A graph of near items (HNSW, Malkov and Yashunin 2018) over 8-bit weights, by faiss. What a walk through it finds are
candidates only: `seqdiffrec.models.nearest` scores them exactly.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models.base import SequenceModel
from seqdiffrec.models.catalogue import Catalogue
from seqdiffrec.models.item_table import TableModel
from seqdiffrec.models.settings import SettingError
from seqdiffrec.training import RunError

# Neighbours of an item in the graph (twice as many on its ground floor), and candidates kept while it is built.
NEIGHBOURS, BUILD_BREADTH = 16, 64
# Items from which the range of each dimension is learned, to which its 8 bits are scaled.
SCALED_BY = 2**16
# Items put in between two words about progress.
STRETCH = 10_000
# The length of the lists that are compared, and the least and the most candidates that a walk keeps.
OVERLAP_AT, LEAST_BREADTH, MOST_BREADTH = 10, 64, 2**14

NOT_OURS = "the index in the run's folder is not one of its items; build it again: seqdiffrec index RUN"

Progress = Callable[[int, int], None]
"""How much is done, of how much."""


class ItemIndex:
    """A graph of items, searched by inner product; weights and a bias are one vector.

    Attributes:
        breadth: how many candidates a walk keeps: more find more and take longer.
        overlap: share of the exact first ten that are found, the mean over ``histories`` histories; None unmeasured.
    """

    def __init__(self, catalogue: Catalogue):
        self.breadth, self.histories = LEAST_BREADTH, 0
        self.overlap: float | None = None
        self._biased, self._count = catalogue.bias is not None, len(catalogue.weight) - 1
        size = catalogue.weight.shape[1] + self._biased
        faiss = _faiss()
        faiss.omp_set_num_threads(torch.get_num_threads())
        eight_bits, inner = faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        self._graph = faiss.IndexHNSWSQ(size, eight_bits, NEIGHBOURS, inner)
        self._graph.hnsw.efConstruction = BUILD_BREADTH
        chosen = np.arange(min(SCALED_BY, self._count)) * self._count // min(SCALED_BY, self._count)
        self._graph.train(_vectors(catalogue, torch.from_numpy(chosen)))

    @classmethod
    def build(cls, model: SequenceModel, progress: Progress | None = None) -> "ItemIndex":
        """Put all items of a model into a new graph.

        Raises SettingError where its items are no vectors, or without faiss.
        """
        catalogue = catalogue_of(model)
        index = cls(catalogue)
        for start in range(0, index._count, STRETCH):
            stop = min(start + STRETCH, index._count)
            index._graph.add(_vectors(catalogue, torch.arange(start, stop)))
            if progress is not None:
                progress(stop, index._count)
        return index

    def tensors(self) -> dict[str, Tensor]:
        """The graph without the weights, to be saved; `of` takes it back."""
        graph, faiss = self._graph.hnsw, _faiss()
        parts = {name: faiss.vector_to_array(getattr(graph, name)) for name in ("neighbors", "levels")}
        tensors = {name: torch.from_numpy(part.copy()) for name, part in parts.items()}
        return {**tensors, "entry_point": torch.tensor([graph.entry_point])}

    def facts(self) -> dict[str, Any]:
        """What the index finds, measured."""
        return {"breadth": self.breadth, f"overlap@{OVERLAP_AT}": self.overlap, "histories": self.histories}

    @classmethod
    def of(cls, model: SequenceModel, tensors: dict[str, Tensor], facts: dict[str, Any]) -> "ItemIndex":
        """A saved graph over the weights that it was built from. Raises RunError where it does not fit."""
        catalogue = catalogue_of(model)
        index, faiss = cls(catalogue), _faiss()
        index.breadth, index.overlap, index.histories = (
            facts["breadth"],
            facts[f"overlap@{OVERLAP_AT}"],
            facts["histories"],
        )
        graph = index._graph.hnsw
        neighbors, levels = (tensors[name].numpy() for name in ("neighbors", "levels"))
        entry = int(tensors["entry_point"])
        per_level = faiss.vector_to_array(graph.cum_nneighbor_per_level).astype(np.int64)
        offsets = _checked(neighbors, levels, entry, index._count, per_level)
        for start in range(0, index._count, STRETCH):
            stop = min(start + STRETCH, index._count)
            index._graph.storage.add(_vectors(catalogue, torch.arange(start, stop)))
        index._graph.ntotal = index._count
        faiss.copy_array_to_vector(neighbors, graph.neighbors)
        faiss.copy_array_to_vector(levels, graph.levels)
        faiss.copy_array_to_vector(offsets.astype(np.uint64), graph.offsets)
        graph.entry_point, graph.max_level = entry, int(levels.max()) - 1
        return index

    def __call__(self, h: Float[Tensor, "n D"], count: int) -> Int64[Tensor, "n count"]:
        """Item indices of about the highest scores of each query; 0 where no more are found."""
        queries = torch.cat([h, h.new_ones(len(h), 1)], dim=1) if self._biased else h
        parameters = _faiss().SearchParametersHNSW(efSearch=max(self.breadth, count))
        found = self._graph.search(queries.float().cpu().contiguous().numpy(), count, params=parameters)[1]
        return torch.from_numpy(found + 1)

    def set_breadth(
        self, model: SequenceModel, histories: Sequences, wanted: float, progress: Progress | None = None
    ) -> float:
        """Keep as few candidates, a power of two, as give the wanted overlap with the exact lists; returns it.

        It may stay below: then it is what the greatest breadth gives.
        """
        exact = best_columns(model, histories, None, progress)
        self.breadth, self.histories = LEAST_BREADTH, len(histories)
        while True:
            self.overlap = overlap(exact, best_columns(model, histories, self))
            if self.overlap >= wanted or self.breadth >= MOST_BREADTH:
                return self.overlap
            self.breadth *= 2


def overlap(exact: Int64[Tensor, "n k"], found: Int64[Tensor, "n k"]) -> float:
    """The share of the exact lists' items that the found lists have too."""
    return float((exact[:, :, None] == found[:, None, :]).any(2).float().mean())


def best_columns(
    model: SequenceModel, histories: Sequences, index: ItemIndex | None, progress: Progress | None = None
) -> Int64[Tensor, "n k"]:
    """The columns of the first ten of each history, exact or by an index; seen items left out."""
    allowed, lists = torch.ones(model.num_items, dtype=torch.bool), list[Tensor]()
    for start in range(0, len(histories), 16):
        block = histories.select(slice(start, min(start + 16, len(histories))))
        top = model.top_of_histories(block, OVERLAP_AT, allowed, filter_viewed=True, nearest=index)
        lists.append(top.columns)
        if progress is not None:
            progress(start + len(block), len(histories))
    return torch.cat(lists)


def catalogue_of(model: SequenceModel) -> Catalogue:
    """The weights that a model scores items by. Raises SettingError where its items are no vectors."""
    if not isinstance(model, TableModel):
        raise SettingError(f"{model.name} has no item vectors to index; its exact lists are quick anyway")
    with torch.inference_mode():
        return model.eval().table.catalogue()


def _checked(
    neighbors: NDArray[np.int32], levels: NDArray[np.int32], entry: int, count: int, per_level: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Where each item's neighbours begin. Raises RunError where a walk through the graph could leave it."""
    fits = neighbors.dtype == levels.dtype == np.int32 and len(levels) == count and 0 <= entry < count
    if not fits or levels.min() < 1 or levels.max() >= len(per_level) or levels[entry] != levels.max():
        raise RunError(NOT_OURS)
    offsets: NDArray[np.int64] = np.concatenate([[0], per_level[levels].cumsum()])
    if len(neighbors) != offsets[-1] or neighbors.min() < -1 or neighbors.max() >= count:
        raise RunError(NOT_OURS)
    for level in range(1, int(levels.max())):  # an item has neighbours on a floor only if it is on that floor too
        there = np.flatnonzero(levels > level)
        floor = np.arange(int(per_level[level]), int(per_level[level + 1]))
        places = offsets[there, None] + floor
        named: NDArray[np.int32] = neighbors[places]
        if (levels[named[named >= 0]] <= level).any():
            raise RunError(NOT_OURS)
    return offsets


def _vectors(catalogue: Catalogue, columns: Int64[Tensor, " n"]) -> NDArray[np.float32]:
    """Weights of some items, and the bias as one dimension more, for faiss."""
    items = columns.to(catalogue.weight.device) + 1
    parts = [catalogue.weight[items]]
    if catalogue.bias is not None:
        parts.append(catalogue.bias[items, None])
    return torch.cat(parts, dim=1).detach().float().cpu().numpy()


def _faiss() -> Any:
    try:
        import faiss  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise SettingError("an index needs faiss: pip install 'seqdiffrec[ann]'") from error
    return cast(Any, faiss)
