"""A model answers requests in a process of its own (`benchmarks.protocol`): one at a time, or many users in bulk."""

import time
from typing import Any

import numpy as np
import torch

from benchmarks.process import finish
from benchmarks.protocol import Channel, Pace
from benchmarks.workload import make_model
from seqdiffrec.data import Sequences
from seqdiffrec.models import SequenceModel
from seqdiffrec.models.device import pick_device

MODULE = "benchmarks.request_worker"
# Histories that `recommend` asks for at once.
BLOCK = 256


class Server:
    """Times requests after random histories, the same ones for all systems.

    length: items of a history. top: length of the lists.
    """

    def __init__(self, model: SequenceModel, length: int, top: int):
        self.model, self.length, self.top = model, length, top
        device = model.item_counts.device
        self.allowed = torch.ones(model.num_items, dtype=torch.bool, device=device)

    def request(self, number: int, seeds: int, users: int = 1) -> dict[str, Any]:
        """Seconds that the lists of so many users took; number: which histories."""
        rng = np.random.default_rng(number)
        items = rng.integers(1, self.model.num_items + 1, users * self.length).astype(np.int32)
        starts = np.arange(users, dtype=np.int64) * self.length
        histories = Sequences(items, starts, starts + self.length)
        started = time.perf_counter()
        for first in range(0, users, BLOCK):
            block = histories.select(slice(first, first + BLOCK))
            self.model.top_of_histories(block, self.top, self.allowed, filter_viewed=True, num_seeds=seeds)
        finish()
        return {"seconds": time.perf_counter() - started}


def main() -> None:
    """Answer until the benchmark has had enough."""
    channel = Channel.open()
    spec = channel.spec
    model = make_model(spec["model"], spec["num_items"], spec["size"], **spec["settings"]).eval()
    server = Server(model.to(pick_device("auto")), spec["size"]["max_length"] - 1, spec["top"])
    Pace(channel, {}, {"request": server.request}).begin()


if __name__ == "__main__":
    main()
