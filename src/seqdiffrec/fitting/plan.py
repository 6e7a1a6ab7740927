"""What to try on a log, by its size: a few settings of each model that learns, the likeliest first.

The list is short and fixed, so that the same log and time give the same trials; `seqdiffrec tune` searches further.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqdiffrec.data import Dataset

FLOOR = ("popularity", "itemknn", "markov")
"""What learns nothing but counts; it costs seconds and tells what the others are worth."""

LEARNERS = ("diffrec", "sasrec")

FULL_LOSS_UP_TO = 50_000
"""Items. Above, the softmax over all of them costs more than the rest of the model, and a sampled one takes over."""

# What a few epochs reach most with, in the order in which trials take them. Sparse logs want much dropout, dense ones
# little, and which it is shows on validation only; a longer reach costs time that short histories do not repay.
_VARIANTS: tuple[dict[str, Any], ...] = (
    {"dropout": 0.3, "learning_rate": 0.002},
    {"dropout": 0.5, "learning_rate": 0.0035},
    {"dropout": 0.2, "learning_rate": 0.001, "hidden_size": 128},
    {"dropout": 0.3, "learning_rate": 0.002, "max_length": 200},
    {"dropout": 0.1, "learning_rate": 0.001},
    {"dropout": 0.4, "learning_rate": 0.001, "hidden_size": 256},
)
_SHOWN = ("dropout", "learning_rate", "hidden_size", "max_length")


@dataclass(frozen=True)
class Trial:
    """One training to try: a model by name, and its settings."""

    model: str
    settings: dict[str, Any]

    def told(self) -> str:
        """What sets it apart from the other trials of its model; empty for a model without settings."""
        return ", ".join(f"{name} {self.settings[name]:g}" for name in _SHOWN if name in self.settings)


def trials(model: str, data: Dataset, seed: int = 0) -> list[Trial]:
    """The trials of a model that learns, the likeliest first."""
    own = {"attention": "shared_history", "tied_output": True, "history_skip": True} if model == "diffrec" else {}
    shared = _shared(data) | own | {"seed": seed}
    longest = int(data.split.test.histories.lengths.max()) + 1
    made = [Trial(model, shared | variant) for variant in _VARIANTS]
    for trial in made:
        trial.settings["max_length"] = max(2, min(trial.settings["max_length"], longest))
    return [trial for place, trial in enumerate(made) if trial not in made[:place]]


def _shared(data: Dataset) -> dict[str, Any]:
    targets: int = np.maximum(data.split.train.lengths - 1, 0).sum().item()
    is_small = data.corpus.num_items <= FULL_LOSS_UP_TO
    return {
        "hidden_size": 64,
        "max_length": 50,
        # A power of two that makes some hundred steps an epoch: fewer learn little in a few epochs.
        "batch_size": 2 ** min(max(round(math.log2(targets / 150 + 1)), 6), 12),
        "cosine_output": True,
        "seen_bias": True,
        "filter_share": 0.5,
        "decay": "cosine",
        **({"label_smoothing": 0.1} if is_small else {"loss": "sampled"}),
    }
