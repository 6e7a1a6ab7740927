"""A small corpus and small models for all tests of training."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
import torch

from seqdiffrec.data import Corpus, Split, leave_one_out
from seqdiffrec.models import MODELS, SequenceModel
from seqdiffrec.training import Reporter, RunFolder, Trainer, TrainingConfig, TrainingState

ITEMS = 25


def make_corpus(seed: int = 0, users: int = 24, num_items: int = ITEMS) -> Corpus:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 13, size=users)
    items = rng.integers(1, num_items + 1, size=lengths.sum()).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    user_ids, item_ids = (
        pl.Series([f"{kind}{n}" for n in range(count)]) for kind, count in (("u", users), ("i", num_items))
    )
    return Corpus(items, offsets, user_ids, item_ids, None, None, "small")


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return make_corpus()


@pytest.fixture(scope="session")
def other_corpus() -> Corpus:
    return make_corpus(seed=1)


@pytest.fixture(scope="session")
def twelve_items() -> Split:
    return leave_one_out(make_corpus(num_items=12))


@pytest.fixture(scope="session")
def split(corpus: Corpus) -> Split:
    return leave_one_out(corpus)


@pytest.fixture(scope="session")
def build() -> Callable[..., SequenceModel]:
    """build("diffrec", seed=0, dropout=0.2, ...): a small model."""

    def build(name: str = "diffrec", seed: int = 0, num_items: int = ITEMS, **settings: object) -> SequenceModel:
        small = {
            "max_length": 6,
            "hidden_size": 8,
            "num_layers": 1,
            "dropout": 0.2,
            "num_steps": 4,
            "embedding_std": 0.1,
            "weight_std": 0.1,
        }
        config_class = MODELS[name].config_class
        known = {key: value for key, value in small.items() if key in config_class.model_fields}
        torch.manual_seed(seed)
        return MODELS[name](config_class(**{**known, **settings}), num_items)

    return build


class StopAfter(Reporter):
    """Counts the steps, and asks the trainer to stop after so many."""

    def __init__(self, steps: int | None = None):
        self.steps, self.done, self.trainer = steps, 0, None

    def step(self, state: TrainingState) -> None:
        self.done += 1
        if self.done == self.steps:
            self.trainer.stop.set()


@pytest.fixture(scope="session")
def trainer_for(split: Split) -> Callable[..., Trainer]:
    """trainer_for(model, run=..., stop_after=..., epochs=2, ...): float32 on the CPU, 32 targets a step."""

    def make(
        model: SequenceModel,
        run: RunFolder | None = None,
        stop_after: int | None = None,
        reporter: Reporter | None = None,
        data: Split = split,
        **settings: object,
    ) -> Trainer:
        given = {
            "epochs": 2,
            "batch_size": 32,
            "learning_rate": 0.01,
            "precision": "float32",
            "device": "cpu",
            "seed": 5,
        }
        reporter = StopAfter(stop_after) if reporter is None else reporter
        trainer = Trainer(model, data, TrainingConfig(**{**given, **settings}), reporter, run)
        if isinstance(reporter, StopAfter):
            reporter.trainer = trainer
        return trainer

    return make


@pytest.fixture
def run(tmp_path, corpus: Corpus) -> RunFolder:
    """A fresh run's folder."""
    return RunFolder.create(
        tmp_path / "run", {"model": {"name": "diffrec"}}, corpus, {"versions": {"seqdiffrec": "1.2"}}
    )
