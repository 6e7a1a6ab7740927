"""What an index finds of the exact lists, and what that takes."""

import statistics
import time

import torch
from jaxtyping import Int64
from torch import Tensor

from seqdiffrec.data import Sequences
from seqdiffrec.inference.index.item_index import OVERLAP_AT, ItemIndex
from seqdiffrec.inference.index.vectors import Progress
from seqdiffrec.models.base import SequenceModel

# Lists that are timed, at most.
TIMED = 20


def set_breadth(
    index: ItemIndex, model: SequenceModel, histories: Sequences, wanted: float, progress: Progress | None = None
) -> float:
    """Have it look as far, a power of two, as gives the wanted overlap with the exact lists; returns it.

    It may stay below: then it is what the greatest breadth gives.
    """
    exact = best_columns(model, histories, None, progress)
    index.breadth, index.histories = 1, len(histories)
    while True:
        index.overlap = overlap(exact, best_columns(model, histories, index, progress))
        if index.overlap >= wanted or index.breadth >= index.num_cells:
            return index.overlap
        index.breadth *= 2


def time_requests(
    index: ItemIndex, model: SequenceModel, histories: Sequences, progress: Progress | None = None
) -> None:
    """Measure its `exact_ms` and `approximate_ms`, in turns."""
    seconds: tuple[list[float], list[float]] = ([], [])
    count = min(TIMED, len(histories))
    for number in range(count):
        for one, taken in zip((None, index), seconds, strict=True):
            started = time.perf_counter()
            best_columns(model, histories.select(slice(number, number + 1)), one)
            taken.append(time.perf_counter() - started)
        if progress is not None:
            progress(number + 1, count)
    index.exact_ms, index.approximate_ms = (round(1e3 * statistics.median(taken), 2) for taken in seconds)


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
