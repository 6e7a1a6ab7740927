"""What models that only count have learned: for each item some others, each with a weight."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64
from numpy.typing import NDArray
from torch import Tensor, nn

# Arcs followed together: some 100 MiB.
ARCS_AT_ONCE = 2**22


class ItemGraph(nn.Module):
    """Arcs from items to items, each with a weight: a sparse matrix, row after row, as large as the data make it.

    The arcs that leave item index i are ``offsets[i]`` to ``offsets[i + 1]`` of ``items`` and ``weights``. All three
    are saved and loaded with a model's weights; loading takes them in whatever number they come.
    """

    def __init__(self, num_items: int):
        super().__init__()
        self.num_items = num_items
        self.register_buffer("offsets", torch.zeros(num_items + 2, dtype=torch.int64))
        self.register_buffer("items", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("weights", torch.zeros(0))
        self.register_load_state_dict_pre_hook(ItemGraph._make_room)

    offsets: Int64[Tensor, " V_plus_2"]
    items: Int32[Tensor, " A"]
    weights: Float32[Tensor, " A"]

    def store(self, counts: NDArray[np.integer], items: NDArray[np.integer], weights: NDArray[Any]) -> None:
        """Take these arcs in place of all before.

        counts: (V + 1,), how many arcs leave item index 0, 1, ..., V; the first is 0. items, weights: where they lead
        to, and their weights, in the order of the items that they leave.
        """
        device = self.offsets.device
        self.offsets[1:] = torch.from_numpy(np.cumsum(counts))
        self.items = torch.from_numpy(items.astype(np.int32)).to(device)
        self.weights = torch.from_numpy(weights.astype(np.float32)).to(device)

    def dense(self, items: Int64[Tensor, " n"]) -> Float32[Tensor, "n V"]:
        """The weights of the arcs that leave these items; minus infinity where there is none."""
        found = self.weights.new_full((len(items), self.num_items), -torch.inf)
        for row, item in enumerate(cast(list[int], items.tolist())):
            arcs = slice(self.offsets[item], self.offsets[item + 1])
            found[row, self.items[arcs].long() - 1] = self.weights[arcs]
        return found

    def probabilities(
        self,
        rows: Int64[Tensor, " E"],
        items: Int64[Tensor, " E"],
        factors: Float32[Tensor, " E"],
        num_rows: int,
        popularity: Float32[Tensor, " V"],
        smoothing: float,
    ) -> Float32[Tensor, "R V"]:
        """In proportion to ``smoothing * popularity`` and the arcs that leave a row's items; popularity where all is 0.

        Entry e adds the arcs that leave ``items[e]``, times ``factors[e]``, to row ``rows[e]``. Column j is item index
        j + 1.
        """
        found = (smoothing * popularity).repeat(num_rows, 1)
        total = (smoothing * popularity.sum()).repeat(num_rows)
        first, counts = self.offsets[items], self.offsets.diff()[items]
        for part in _stretches(counts):
            entry = part.start + torch.repeat_interleave(counts[part])
            before = counts[part].cumsum(0) - counts[part]
            arc = torch.arange(len(entry), device=entry.device) + (first[part] - before)[entry - part.start]
            row, weight = rows[entry], factors[entry] * self.weights[arc]
            found.view(-1).index_add_(0, row * self.num_items + self.items[arc] - 1, weight)
            total.index_add_(0, row, weight)
        found[total == 0] = popularity
        return found.div_(torch.where(total > 0, total, 1)[:, None])

    def _make_room(self, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """Before loading: as many places as the arcs that come, if they are of one number."""
        errors: list[str] = rest[-1]
        names = ("items", "weights")
        if not {f"{prefix}{name}" for name in ("offsets", *names)} <= state.keys():
            return  # which loading reports itself
        for name in names:
            setattr(self, name, getattr(self, name).new_empty(len(state[f"{prefix}{name}"])))
        expected = int(state[f"{prefix}offsets"][-1])
        if {len(self.items), len(self.weights)} != {expected}:
            errors.append(f"{prefix}offsets ends at {expected}, but there are {len(self.items)} items")


def _stretches(counts: Int64[Tensor, " E"]) -> Iterator[slice]:
    """Neighbouring entries that have about `ARCS_AT_ONCE` arcs together."""
    stretch = counts.cumsum(0) // ARCS_AT_ONCE
    ends = cast(list[int], (1 + torch.nonzero(stretch.diff()).squeeze(1)).tolist())
    for start, stop in pairwise([0, *ends, len(counts)]):
        yield slice(start, stop)
