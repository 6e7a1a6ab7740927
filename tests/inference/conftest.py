"""A small log, and each model fitted to it in memory."""

import random

import polars as pl
import pytest

import seqdiffrec as sdr
from seqdiffrec.training import Reporter

SETTINGS = {"epochs": 1, "batch_size": 64, "max_length": 6, "seed": 3}
ENCODER = {"hidden_size": 8, "num_layers": 1, "embedding_std": 0.5, "weight_std": 0.5}
NOISE = {"num_steps": 10, "num_seeds": 2}


def make_frame(seed: int = 0) -> pl.DataFrame:
    rng = random.Random(seed)
    rows = [(100 + user, 10 * rng.randint(1, 14)) for user in range(16) for _ in range(rng.randint(2, 8))]
    return pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")


def make(name: str, **changes: object) -> sdr.Recommender:
    kind, settings = {
        "diffrec": (sdr.DiffRec, {**SETTINGS, **ENCODER, **NOISE}),
        "shared": (sdr.DiffRec, {**SETTINGS, **ENCODER, **NOISE, "attention": "shared_history"}),
        "sasrec": (sdr.SASRec, {**SETTINGS, **ENCODER}),
        "popularity": (sdr.Popularity, SETTINGS),
    }[name]
    return kind(**{**settings, **changes})


@pytest.fixture(scope="session")
def frame() -> pl.DataFrame:
    return make_frame()


@pytest.fixture(scope="session")
def data(frame) -> sdr.Dataset:
    return sdr.Dataset.from_interactions(frame)


@pytest.fixture(scope="session")
def other_data() -> sdr.Dataset:
    return sdr.Dataset.from_interactions(make_frame(seed=1))


@pytest.fixture(scope="session")
def models(data) -> dict[str, sdr.Recommender]:
    names = ("diffrec", "shared", "sasrec", "popularity")
    return {name: make(name).fit(data, reporter=Reporter()) for name in names}
