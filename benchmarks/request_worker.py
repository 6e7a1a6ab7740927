"""A model answers requests in a process of its own (`benchmarks.protocol`): one at a time, or many users in bulk."""

import time
from typing import Any

import numpy as np
import torch

from benchmarks.process import finish
from benchmarks.protocol import Channel, Pace
from benchmarks.workload import make_model
from seqdiffrec.allocator import keep_freed_memory
from seqdiffrec.data import Sequences
from seqdiffrec.inference.index import ItemIndex, set_breadth
from seqdiffrec.models import SequenceModel
from seqdiffrec.models.device import pick_device
from seqdiffrec.models.item_table import TableModel

MODULE = "benchmarks.request_worker"
# Histories that `recommend` asks for at once.
BLOCK = 256
# Items of a group, whose vectors are alike: a common part and one of their own, whose lengths have this ratio. Vectors
# that are all independent, as those of an untrained model, have no near ones for an index to find.
GROUP, COMMON = 100, 1.5


class Server:
    """Times requests after random histories, the same ones for all systems.

    length: items of a history. top: length of the lists.
    """

    def __init__(self, model: SequenceModel, length: int, top: int):
        self.model, self.length, self.top = model, length, top
        self.built: ItemIndex | None = None
        device = model.item_counts.device
        self.allowed = torch.ones(model.num_items, dtype=torch.bool, device=device)

    def request(self, number: int, seeds: int, users: int = 1, *, by_index: bool = False) -> dict[str, Any]:
        """Seconds that the lists of so many users took; number: which histories."""
        histories = self.histories(number, users)
        if users > BLOCK:  # as `recommend` does
            keep_freed_memory()
        how = {"filter_viewed": True, "num_seeds": seeds, "nearest": self.built if by_index else None}
        started = time.perf_counter()
        for first in range(0, users, BLOCK):
            block = histories.select(slice(first, first + BLOCK))
            self.model.top_of_histories(block, self.top, self.allowed, **how)
        finish()
        return {"seconds": time.perf_counter() - started}

    def index(self, users: int, overlap: float) -> dict[str, Any]:
        """Build an index that finds this share of the exact lists of so many users, if it can."""
        started = time.perf_counter()
        self.built = ItemIndex.build(self.model)
        build_seconds = round(time.perf_counter() - started, 1)
        set_breadth(self.built, self.model, self.histories(0, users), overlap)
        return {"build_seconds": build_seconds, **self.built.facts()}

    def histories(self, number: int, users: int) -> Sequences:
        """Random ones."""
        rng = np.random.default_rng(number % 2**32)
        items = rng.integers(1, self.model.num_items + 1, users * self.length).astype(np.int32)
        starts = np.arange(users, dtype=np.int64) * self.length
        return Sequences(items, starts, starts + self.length)


def made(spec: dict[str, Any]) -> TableModel:
    """The untrained model of a worker's specification."""
    model = make_model(spec["model"], spec["num_items"], spec["size"], **spec["settings"]).eval()
    assert isinstance(model, TableModel)
    group_items(model)
    return model


@torch.no_grad()
def group_items(model: TableModel) -> None:
    """Give the items of a group a common part."""
    weight = model.table.embedding.weight
    rows = weight[1:]
    common = torch.randn(-(-len(rows) // GROUP), rows.shape[1]) * (COMMON * float(rows[:GROUP].std()))
    for number, part in enumerate(rows.split(GROUP)):
        part += common[number]


def main() -> None:
    """Answer until the benchmark has had enough."""
    channel = Channel.open()
    spec = channel.spec
    model = made(spec)
    server = Server(model.to(pick_device("auto")), spec["size"]["max_length"] - 1, spec["top"])
    Pace(channel, {}, {"request": server.request, "index": server.index}).begin()


if __name__ == "__main__":
    main()
