"""What every approximate index over a model's items does: name candidates, and say how many of the best it finds."""

import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models.base import SequenceModel
from seqdiffrec.models.catalogue import Catalogue
from seqdiffrec.models.item_table import TableModel
from seqdiffrec.models.settings import SettingError

# The length of the lists that are compared, and how many of them are timed.
OVERLAP_AT, TIMED = 10, 20

NOT_OURS = "the index in the run's folder is not one of its items; build it again: seqdiffrec index RUN --kind KIND"

Progress = Callable[[int, int], None]
"""How much is done, of how much."""


class ItemIndex(ABC):
    """Names the items that may be best for a target; `seqdiffrec.models.nearest` then scores them exactly.

    Attributes:
        breadth: how far it looks: more finds more and takes longer. A power of two.
        overlap: share of the exact first ten that are found, the mean over ``histories`` histories; None unmeasured.
        exact_ms, approximate_ms: what the first ten after one history take, in milliseconds, by the pass over all items
            and by the index: medians over at most `TIMED` histories; None unmeasured.
    """

    kind: ClassVar[str]
    least_breadth: ClassVar[int]

    def __init__(self):
        self.breadth, self.histories = self.least_breadth, 0
        self.overlap: float | None = None
        self.exact_ms: float | None = None
        self.approximate_ms: float | None = None

    @classmethod
    @abstractmethod
    def build(cls, catalogue: Catalogue, progress: Progress | None = None) -> Self:
        """An index of all items."""

    @classmethod
    @abstractmethod
    def restore(cls, catalogue: Catalogue, tensors: dict[str, Tensor]) -> Self:
        """A saved one over the weights that it was built from. Raises RunError where it does not fit."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What it is, without the weights, to be saved."""

    @property
    @abstractmethod
    def most_breadth(self) -> int:
        """Where looking further is no use."""

    @abstractmethod
    def __call__(self, draws: Float[Tensor, "S r D"], count: int) -> Int64[Tensor, "r c"]:
        """Item indices of about the ``count`` highest scores of each draw of each target; 0 fills up."""

    def facts(self) -> dict[str, Any]:
        """What the index is and finds, measured."""
        found = {"breadth": self.breadth, f"overlap@{OVERLAP_AT}": self.overlap, "histories": self.histories}
        return {"kind": self.kind, **found, "exact_ms": self.exact_ms, "approximate_ms": self.approximate_ms}

    def set_breadth(
        self, model: SequenceModel, histories: Sequences, wanted: float, progress: Progress | None = None
    ) -> float:
        """Look as far, a power of two, as gives the wanted overlap with the exact lists; returns it.

        It may stay below: then it is what the greatest breadth gives.
        """
        exact = best_columns(model, histories, None, progress)
        self.breadth, self.histories = self.least_breadth, len(histories)
        while True:
            self.overlap = overlap(exact, best_columns(model, histories, self, progress))
            if self.overlap >= wanted or self.breadth >= self.most_breadth:
                return self.overlap
            self.breadth *= 2

    def time_requests(self, model: SequenceModel, histories: Sequences, progress: Progress | None = None) -> None:
        """Measure `exact_ms` and `approximate_ms`, in turns."""
        seconds: tuple[list[float], list[float]] = ([], [])
        count = min(TIMED, len(histories))
        for number in range(count):
            for index, taken in zip((None, self), seconds, strict=True):
                started = time.perf_counter()
                best_columns(model, histories.select(slice(number, number + 1)), index)
                taken.append(time.perf_counter() - started)
            if progress is not None:
                progress(number + 1, count)
        self.exact_ms, self.approximate_ms = (round(1e3 * statistics.median(taken), 2) for taken in seconds)


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


def vectors(catalogue: Catalogue, columns: Int64[Tensor, " n"]) -> Float32[Tensor, "n D1"]:
    """Weights of some items, and the bias as one dimension more where there is one."""
    items = columns.to(catalogue.weight.device) + 1
    parts = [catalogue.vectors(items)]
    if catalogue.bias is not None:
        parts.append(catalogue.bias[items, None])
    return torch.cat(parts, dim=1).detach().float().cpu()


def queries(biased: bool, draws: Float[Tensor, "*n D"]) -> Float32[Tensor, "*n D1"]:
    """What is multiplied with `vectors`."""
    h = draws.detach().float().cpu()
    return torch.cat([h, h.new_ones(*h.shape[:-1], 1)], dim=-1) if biased else h
