"""A graph of near items (HNSW, Malkov and Yashunin 2018) over 8-bit weights, by faiss."""

from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from seqdiffrec.inference.index.base import NOT_OURS, ItemIndex, Progress, queries, vectors
from seqdiffrec.models.catalogue import Catalogue
from seqdiffrec.models.settings import SettingError
from seqdiffrec.training import RunError

# Neighbours of an item in the graph (twice as many on its ground floor), and candidates kept while it is built.
NEIGHBOURS, BUILD_BREADTH = 16, 64
# Items from which the range of each dimension is learned, to which its 8 bits are scaled.
SCALED_BY = 2**16
# Items put in between two words about progress.
STRETCH = 10_000
# The least and the most candidates that a walk keeps.
LEAST_BREADTH, MOST_BREADTH = 64, 2**14


class GraphIndex(ItemIndex):
    """A graph of items, searched by inner product; weights and a bias are one vector.

    ``breadth`` is how many candidates a walk keeps.
    """

    kind: ClassVar[str] = "graph"
    least_breadth: ClassVar[int] = LEAST_BREADTH

    def __init__(self, catalogue: Catalogue):
        super().__init__()
        self._biased, self._count = catalogue.bias is not None, len(catalogue.weight) - 1
        size = catalogue.weight.shape[1] + self._biased
        faiss = _faiss()
        faiss.omp_set_num_threads(torch.get_num_threads())
        eight_bits, inner = faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        self._graph = faiss.IndexHNSWSQ(size, eight_bits, NEIGHBOURS, inner)
        self._graph.hnsw.efConstruction = BUILD_BREADTH
        chosen = np.arange(min(SCALED_BY, self._count)) * self._count // min(SCALED_BY, self._count)
        self._graph.train(vectors(catalogue, torch.from_numpy(chosen)).numpy())

    @classmethod
    def build(cls, catalogue: Catalogue, progress: Progress | None = None) -> Self:
        """Put all items into a new graph. Raises SettingError without faiss."""
        index = cls(catalogue)
        for start in range(0, index._count, STRETCH):
            stop = min(start + STRETCH, index._count)
            index._graph.add(vectors(catalogue, torch.arange(start, stop)).numpy())
            if progress is not None:
                progress(stop, index._count)
        return index

    @property
    def most_breadth(self) -> int:
        """As `ItemIndex.most_breadth`."""
        return MOST_BREADTH

    def tensors(self) -> dict[str, Tensor]:
        """The graph without the weights, to be saved."""
        graph, faiss = self._graph.hnsw, _faiss()
        parts = {name: faiss.vector_to_array(getattr(graph, name)) for name in ("neighbors", "levels")}
        tensors = {name: torch.from_numpy(part.copy()) for name, part in parts.items()}
        return {**tensors, "entry_point": torch.tensor([graph.entry_point])}

    @classmethod
    def restore(cls, catalogue: Catalogue, tensors: dict[str, Tensor]) -> Self:
        """As `ItemIndex.restore`: nobody's neighbour is an item that is not there."""
        if not {"neighbors", "levels", "entry_point"} <= tensors.keys():
            raise RunError(NOT_OURS)
        index, faiss = cls(catalogue), _faiss()
        graph = index._graph.hnsw
        neighbors, levels = (tensors[name].numpy() for name in ("neighbors", "levels"))
        entry = int(tensors["entry_point"])
        per_level = faiss.vector_to_array(graph.cum_nneighbor_per_level).astype(np.int64)
        offsets = _checked(neighbors, levels, entry, index._count, per_level)
        for start in range(0, index._count, STRETCH):
            stop = min(start + STRETCH, index._count)
            index._graph.storage.add(vectors(catalogue, torch.arange(start, stop)).numpy())
        index._graph.ntotal = index._count
        faiss.copy_array_to_vector(neighbors, graph.neighbors)
        faiss.copy_array_to_vector(levels, graph.levels)
        faiss.copy_array_to_vector(offsets.astype(np.uint64), graph.offsets)
        graph.entry_point, graph.max_level = entry, int(levels.max()) - 1
        return index

    def __call__(self, draws: Float[Tensor, "S r D"], count: int) -> Int64[Tensor, "r c"]:
        """As `ItemIndex.__call__`: a walk for each draw."""
        walks = queries(self._biased, draws.flatten(0, 1)).contiguous().numpy()
        parameters = _faiss().SearchParametersHNSW(efSearch=max(self.breadth, count))
        found = self._graph.search(walks, count, params=parameters)[1]
        return torch.from_numpy(found + 1).view(*draws.shape[:2], count).transpose(0, 1).flatten(1)


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


def _faiss() -> Any:
    try:
        import faiss  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise SettingError("a graph needs faiss: pip install 'seqdiffrec[ann]', or take --kind lists") from error
    return cast(Any, faiss)
