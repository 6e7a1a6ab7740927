"""What a benchmark and a worker process say to each other: a line of JSON each way. This is the worker's side.

The first line that a worker reads is its specification, the first that it writes are its facts. After that each line
it reads is an order and each it writes the answer:

- ``{"train": {"steps": 20}}`` or ``{"train": {"seconds": 10}}``: train for so many steps, or until so much time has
  passed, the step at hand included. The answer has `targets`, `steps`, `seconds`, and all targets so far.
- others are told by the worker that knows them, such as ``{"rank": {...}}``.

Each answer has the peak memory. The end of the input ends the worker. Whatever a library prints goes to standard error.

Needs numpy and torch alone: the workers of other libraries import it in environments that do not have SeqDiffRec.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.process import finish, limit_memory, peak_memory

Answer = Callable[..., dict[str, Any]]
"""Carries out an order; its arguments are those of the order, what it returns is the answer."""


@dataclass(frozen=True)
class Channel:
    """The lines in and out, and the specification that came first."""

    lines: TextIO
    out: TextIO
    spec: dict[str, Any]

    @classmethod
    def open(cls) -> "Channel":
        """Over this process's standard input and output; what others print to the latter goes to standard error."""
        out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        spec = json.loads(sys.stdin.readline())
        if "memory_gib" in spec:
            limit_memory(spec["memory_gib"])
        return cls(sys.stdin, out, spec)

    def say(self, message: dict[str, Any]) -> None:
        """Write a line."""
        print(json.dumps(message), file=self.out, flush=True)


class Pace:
    """Lets a training loop, anybody's, run in laps: it calls `begin` before the first step and `step` after each.

    Between two laps these calls wait for orders. orders: what the worker can be told besides to train. besides: what
    every answer also has.
    """

    def __init__(
        self,
        channel: Channel,
        facts: dict[str, Any],
        orders: dict[str, Answer] | None = None,
        besides: Callable[[], dict[str, Any]] = dict,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.channel, self.facts, self.orders, self.besides, self.clock = channel, facts, orders or {}, besides, clock
        self.all_targets, self.targets, self.steps, self.started = 0, 0, 0, 0.0
        self.goal: dict[str, float] = {}

    def begin(self) -> None:
        """Tell the facts and wait for the first order to train."""
        self.channel.say({**self.facts, "threads": torch.get_num_threads()})
        self._wait()

    def step(self, targets: int) -> None:
        """A step with so many targets is done."""
        self.targets, self.all_targets, self.steps = self.targets + targets, self.all_targets + targets, self.steps + 1
        if self.steps < self.goal.get("steps", 0) or self.clock() - self.started < self.goal.get("seconds", 0):
            return
        finish()
        seconds = self.clock() - self.started
        self._answer({"targets": self.targets, "steps": self.steps, "seconds": seconds})
        self._wait()

    def _wait(self) -> None:
        """Carry out orders until there is one to train. At the end of the input, SystemExit goes through any loop."""
        for line in self.channel.lines:
            ((order, arguments),) = json.loads(line).items()
            if order == "train":
                self.goal, self.targets, self.steps, self.started = arguments, 0, 0, self.clock()
                return
            self._answer(self.orders[order](**arguments))
        raise SystemExit(0)

    def _answer(self, answer: dict[str, Any]) -> None:
        self.channel.say({**self.besides(), **answer, "all_targets": self.all_targets, "peak": peak_memory()})


@dataclass(frozen=True)
class Log:
    """Everybody's items in the order in which they were taken, and the split: the last is for the test, the one
    before for validation, the others to train on.

    items: int32, item indices 1..num_items. offsets: int64; user u's are ``items[offsets[u]:offsets[u + 1]]``.
    """

    items: NDArray[np.int32]
    offsets: NDArray[np.int64]
    num_items: int

    def write(self, path: Path) -> None:
        """Into a file that needs numpy alone to be read."""
        np.savez(path, items=self.items, offsets=self.offsets, num_items=self.num_items)

    @classmethod
    def read(cls, path: str | Path) -> "Log":
        """From a file that `write` wrote."""
        with np.load(path) as file:
            return cls(file["items"], file["offsets"], int(file["num_items"]))

    @property
    def training(self) -> list[NDArray[np.int32]]:
        """What each user is trained on."""
        return [self.items[start : end - 2] for start, end in zip(self.offsets[:-1], self.offsets[1:], strict=True)]

    @property
    def validation_targets(self) -> NDArray[np.int32]:
        """What came after what each user is trained on."""
        return self.items[self.offsets[1:] - 2]

    @property
    def num_targets(self) -> int:
        """Training items that have one before them: the targets of an epoch."""
        return len(self.items) - 3 * (len(self.offsets) - 1)


def validation_ranks(
    log: Log, score: Callable[[list[NDArray[np.int32]]], Tensor], columns: NDArray[np.int64], block: int = 256
) -> dict[str, Any]:
    """Answer to ``{"rank": {}}``: the rank of each validation target among all items, ties against the model.

    score: histories to scores (B, columns) of a library that numbers items in its own way. columns: of each item
    1..num_items, in turn, its column there, or -1 where the library does not know it: such an item scores below all.
    """
    histories, targets, ranks = log.training, log.validation_targets, []
    known = torch.from_numpy(columns[columns >= 0])
    with torch.inference_mode():
        for start in range(0, len(targets), block):
            scores = score(histories[start : start + block]).float()[:, known]
            all_scores = torch.full((len(scores), log.num_items), float("-inf"))
            all_scores[:, torch.from_numpy(np.flatnonzero(columns >= 0))] = scores.cpu()
            target = torch.from_numpy(targets[start : start + block].astype(np.int64))[:, None] - 1
            ranks += (all_scores >= all_scores.gather(1, target)).sum(1).tolist()
    return {"ranks": ranks}


def padded(rows: list[NDArray[Any]], length: int, *, fill: int, left: bool) -> Tensor:
    """The last `length` of each row as int64 (B, length), filled up on the left or on the right."""
    out = np.full((len(rows), length), fill, np.int64)
    for place, row in enumerate(rows):
        last = row[-length:]
        out[place, (length - len(last) if left else 0) :][: len(last)] = last
    return torch.from_numpy(out)
