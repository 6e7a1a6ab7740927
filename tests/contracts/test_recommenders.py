"""What every model must hold once it is fitted: the same from the same seed, from a folder, and for new histories."""

import random

import numpy as np
import polars as pl
import pytest
import torch

import seqdiffrec as sdr
from seqdiffrec.data import Sequences
from seqdiffrec.inference import Recommender
from seqdiffrec.models import MODELS
from seqdiffrec.training import Reporter

from .test_models import SMALL

HISTORIES = [[20], [30, 40, 50, 20, 30, 40, 50, 60], [70, 70]]


@pytest.fixture(scope="module")
def data() -> sdr.Dataset:
    rng = random.Random(0)
    rows = [(user, 10 * rng.randint(1, 9)) for user in range(14) for _ in range(rng.randint(3, 8))]
    return sdr.Dataset.from_interactions(pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row"))


def fitted(name: str, data: sdr.Dataset, **options: object) -> Recommender:
    known = {key: value for key, value in SMALL.items() if key in MODELS[name].config_class.model_fields}
    recommender = sdr.recommender_class(name)(**known, epochs=1, batch_size=32, seed=4)
    return recommender.fit(data, reporter=Reporter(), **options)


def by_hand(recommender: Recommender, history: list[int], k: int) -> list[int]:
    """The k most probable items that the history does not hold, ties to the smaller index."""
    ids = recommender.vocabulary["item_id"].to_list()
    items = np.array([ids.index(item) + 1 for item in history], dtype=np.int32)
    scores = recommender.model.predict_histories(Sequences(items, np.array([0]), np.array([len(items)])))[0].tolist()
    left = [place for place, item in enumerate(ids) if item not in history]
    return [ids[place] for place in sorted(left, key=lambda place: (-scores[place], place))[:k]]


@pytest.mark.parametrize("name", MODELS)
def test_a_fitted_model(name, data, tmp_path):
    recommender = fitted(name, data, out=tmp_path / "run")
    lists = recommender.recommend_sequences(HISTORIES, k=2)
    assert lists["item_id"].to_list() == [item for one in HISTORIES for item in by_hand(recommender, one, 2)]
    torch.manual_seed(9)
    assert fitted(name, data).recommend_sequences(HISTORIES, k=2).equals(lists), "the seed decides"
    assert sdr.load(tmp_path / "run").recommend_sequences(HISTORIES, k=2).equals(lists), "and a folder keeps"
