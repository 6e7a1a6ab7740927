"""The data and the sizes that the benchmarks share: Beauty at the paper's size, and made-up logs."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from benchmarks.protocol import Log
from seqdiffrec.data import Corpus, Split, leave_one_out, load_corpus
from seqdiffrec.models import DiffRec, DiffRecConfig, SASRec, SASRecConfig, SequenceModel

SIZE = {"hidden_size": 256, "num_layers": 2, "num_heads": 2, "max_length": 50, "dropout": 0.3}
BATCH_TARGETS = 256
NUM_USERS, NUM_ITEMS = 22_363, 12_101

# Beauty's sequence lengths: this share of its users (below) has at most so many actions (above).
LENGTHS = (4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 21, 28, 43, 60, 98, 204)
SHARES = (0, 0.320, 0.509, 0.629, 0.710, 0.771, 0.810, 0.866, 0.902, 0.933, 0.954, 0.975, 0.990, 0.996, 0.999, 1)


@dataclass(frozen=True)
class Workload:
    """A log, its split, and a line that says where it comes from."""

    log: Log
    source: str

    @cached_property
    def split(self) -> Split:
        """Leave-one-out."""
        log = self.log
        users = pl.int_range(len(log.offsets) - 1, eager=True)
        items = pl.int_range(log.num_items, eager=True)
        return leave_one_out(Corpus(log.items, log.offsets, users, items, None, None, self.source))


def load(data_root: str | None, dataset: str = "beauty") -> Workload:
    """A dataset out of the data root; without one, made-up sequences of Beauty's size and lengths."""
    if data_root is None:
        log, name = generated(), "generated at the size of beauty"
    else:
        corpus = load_corpus(dataset, data_root)
        log, name = Log(np.asarray(corpus.items), np.asarray(corpus.offsets), corpus.num_items), dataset
    figures = f"{len(log.offsets) - 1:,} users, {log.num_items:,} items, {len(log.items):,} actions"
    return Workload(log, f"{name} ({figures})")


def generated(num_users: int = NUM_USERS, num_items: int = NUM_ITEMS, length: int | None = None) -> Log:
    """Sequences of random items, with lengths distributed as in Beauty, or all of the same training length."""
    rng = np.random.default_rng(0)
    if length is None:
        lengths = np.ceil(np.interp(rng.random(num_users), SHARES, LENGTHS)).astype(np.int64)
    else:
        lengths = np.full(num_users, length + 2)
    items = 1 + (num_items * rng.random(lengths.sum()) ** 2).astype(np.int32)  # a few are popular, most are not
    return Log(items, np.concatenate([[0], np.cumsum(lengths)]), num_items)


SYSTEMS = ("DiffRec bidirectional", "DiffRec shared_history", "SASRec")


def make_model(system: str, num_items: int, size: dict[str, Any], **settings: Any) -> SequenceModel:
    """One of `SYSTEMS`, untrained, items scored by their own embeddings. settings: of the model, besides its size."""
    if system == "SASRec":
        return SASRec(SASRecConfig(**size, **settings), num_items)
    attention = system.removeprefix("DiffRec ")
    return DiffRec(DiffRecConfig(**size, tied_output=True, attention=attention, **settings), num_items)
