"""Popularity: shares of the training actions, whatever the history."""

import numpy as np
import pytest
import torch

from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models import Popularity
from seqdiffrec.models.base import ModelConfig

ITEMS = np.array([9, 2, 2, 3, 9, 2, 9, 9], dtype=np.int32)
TRAIN = Sequences(ITEMS, np.array([1, 5]), np.array([4, 6]))  # 2 2 3 and 2; the nines belong to nobody


@pytest.fixture
def model() -> Popularity:
    model = Popularity(ModelConfig(), 4)
    model.count_items(TRAIN)
    return model


def test_shares_by_hand(model):
    assert model.item_counts.tolist() == [0, 3, 1, 0]
    assert model.popularity().tolist() == [0, 0.75, 0.25, 0]


def test_all_histories_get_the_shares(model):
    histories = Sequences(np.array([1, 3], dtype=np.int32), np.array([0, 1, 1]), np.array([2, 1, 2]))
    assert model.predict_histories(histories).tolist() == [[0, 0.75, 0.25, 0]] * 3


def test_counting_again_replaces(model):
    model.count_items(Sequences(np.array([4], dtype=np.int32), np.array([0]), np.array([1])))
    assert model.item_counts.tolist() == [0, 0, 0, 1]


def test_it_has_nothing_to_learn(model):
    assert list(model.parameters()) == []
    assert model.embedding_norm() is None
    assert set(model.state_dict()) == {"item_counts"}
    twin = Popularity(ModelConfig(), 4)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin.popularity(), model.popularity())
