"""The data and the sizes that all benchmarks share: Beauty at the paper's size."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from seqdiffrec.data import Corpus, Split, leave_one_out, load_corpus
from seqdiffrec.models import DiffRec, DiffRecConfig, SASRec, SASRecConfig, SequenceModel

SIZE = {"hidden_size": 256, "num_layers": 2, "num_heads": 2, "max_length": 50, "dropout": 0.3}
NUM_USERS, NUM_ITEMS = 22_363, 12_101

# Beauty's sequence lengths: this share of its users (below) has at most so many actions (above).
LENGTHS = (4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 21, 28, 43, 60, 98, 204)
SHARES = (0, 0.320, 0.509, 0.629, 0.710, 0.771, 0.810, 0.866, 0.902, 0.933, 0.954, 0.975, 0.990, 0.996, 0.999, 1)


@dataclass(frozen=True)
class Workload:
    """A split, its catalogue's size, and a line that says where they come from."""

    split: Split
    num_items: int
    source: str


def load(data_root: str | None) -> Workload:
    """Beauty out of the data root; without one, made-up sequences of its size and lengths."""
    corpus = generated() if data_root is None else load_corpus("beauty", data_root)
    figures = f"{corpus.num_users:,} users, {corpus.num_items:,} items, {corpus.num_actions:,} actions"
    return Workload(leave_one_out(corpus), corpus.num_items, f"{corpus.name} ({figures})")


def generated() -> Corpus:
    """Sequences of random items with as many users and items as Beauty, and lengths distributed as there."""
    rng = np.random.default_rng(0)
    lengths = np.ceil(np.interp(rng.random(NUM_USERS), SHARES, LENGTHS)).astype(np.int64)
    items = 1 + (NUM_ITEMS * rng.random(lengths.sum()) ** 2).astype(np.int32)  # a few are popular, most are not
    return Corpus(
        items=items,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        user_ids=pl.int_range(NUM_USERS, eager=True),
        item_ids=pl.int_range(NUM_ITEMS, eager=True),
        timestamps=None,
        titles=None,
        name="generated at the size of beauty",
    )


SYSTEMS = ("DiffRec bidirectional", "DiffRec shared_history", "SASRec")


def models(num_items: int) -> dict[str, SequenceModel]:
    """The systems that are timed, untrained."""
    return {
        SYSTEMS[0]: DiffRec(DiffRecConfig(**SIZE, tied_output=True, attention="bidirectional"), num_items),
        SYSTEMS[1]: DiffRec(DiffRecConfig(**SIZE, tied_output=True, attention="shared_history"), num_items),
        SYSTEMS[2]: SASRec(SASRecConfig(**SIZE), num_items),
    }
