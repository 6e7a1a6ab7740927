"""Item-kNN against cosines, neighbours and sums worked one by one."""

import itertools
import math
import tracemalloc
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, strategies as st

import seqdiffrec as sdr
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models import ItemKNN, ItemKNNConfig, item_knn
from seqdiffrec.training import Reporter

V, T = 7, 5


def sequences(*lists: list[int]) -> Sequences:
    lengths = np.array([len(one) for one in lists])
    items = np.array([item for one in lists for item in one], dtype=np.int32)
    return Sequences(items, np.cumsum(lengths) - lengths, np.cumsum(lengths))


def fitted(train: list[list[int]], **settings: object) -> ItemKNN:
    model = ItemKNN(ItemKNNConfig(max_length=T, **settings), V)
    model.count_items(sequences(*train))
    return model


def brute_force(train, history, num_neighbours, shrinkage, history_decay, smoothing) -> list[float]:
    def takers(item: int) -> set[int]:
        return {user for user, items in enumerate(train) if item in items}

    def similarity(i: int, j: int) -> float:
        both = takers(i) & takers(j) if i != j else {user for user in takers(i) if train[user].count(i) > 1}
        return len(both) / (math.sqrt(len(takers(i)) * len(takers(j))) + shrinkage) if both else 0.0

    items = range(1, V + 1)
    near = {i: sorted(items, key=lambda j, i=i: (-similarity(i, j), j))[:num_neighbours] for i in items}
    scores = dict.fromkeys(items, 0.0)
    for back, i in enumerate(history[::-1][: T - 1]):
        for j in near[i]:
            scores[j] += history_decay**back * similarity(i, j)
    taken = [item for one in train for item in one]
    popularity = {i: taken.count(i) / len(taken) for i in items}
    total = sum(scores.values()) + smoothing
    if total == 0:
        return list(popularity.values())
    return [(scores[i] + smoothing * popularity[i]) / total for i in items]


some_items = st.lists(st.integers(1, V), min_size=1, max_size=8)


@given(
    st.lists(some_items, min_size=1, max_size=8),
    some_items,
    st.fixed_dictionaries(
        {
            "num_neighbours": st.integers(1, V),
            "shrinkage": st.sampled_from([0.0, 2.5]),
            "history_decay": st.sampled_from([0.0, 0.5, 1.0]),
            "smoothing": st.sampled_from([0.0, 0.3]),
        }
    ),
)
def test_probabilities_one_by_one(train, history, settings):
    found = fitted(train, **settings).predict_histories(sequences(history))[0].tolist()
    assert found == pytest.approx(brute_force(train, history, **settings), abs=1e-6)


def test_cosines_by_hand():
    """1 and 2 share one user of 2 and 1; 2 and 3 have the same one; 4 was taken twice by one of two."""
    graph = fitted([[1, 2, 3], [1, 4, 4], [4]], num_neighbours=2).graph
    rows = [graph.items[start:stop].tolist() for start, stop in itertools.pairwise(graph.offsets.tolist())]
    assert rows == [[], [2, 3], [1, 3], [1, 2], [1, 4], [], [], []]
    # cos(1, 4) = 1 / sqrt(2 * 2) is smaller than the others of 1, and is no longer there.
    half = math.sqrt(Fraction(1, 2))
    assert graph.weights.tolist() == pytest.approx([half, half, half, 1, half, 1, 0.5, 0.5])


def test_work_in_stretches_changes_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    train = [rng.integers(1, V + 1, size=5).tolist() for _ in range(30)]
    whole = fitted(train, num_neighbours=3).state_dict()
    monkeypatch.setattr(item_knn, "SIMILARITIES_AT_ONCE", V + 2)
    assert all(
        torch.equal(tensor, whole[name]) for name, tensor in fitted(train, num_neighbours=3).state_dict().items()
    )


def test_a_large_catalogue_needs_no_table_of_items_by_items():
    """A million items, of which ten thousand were taken: one row of all items as numbers would be 4 MB."""
    rng = np.random.default_rng(0)
    items = rng.choice(1_000_000, size=(2_000, 5), replace=False).astype(np.int32) + 1
    model = ItemKNN(ItemKNNConfig(), 1_000_000)
    tracemalloc.start()
    model.count_items(Sequences(items.ravel(), np.arange(2_000) * 5, np.arange(2_000) * 5 + 5))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6
    assert len(model.graph.items) == 2_000 * 5 * 4


def test_a_run_saves_what_was_counted(tmp_path):
    rows = [(user, (user + place) % 6) for user in range(9) for place in range(4)]
    log = pl.DataFrame(rows, ["user_id", "item_id"], orient="row")
    data = sdr.Dataset.from_interactions(log)
    model = sdr.ItemKNN(num_neighbours=3).fit(data, out=tmp_path / "run", reporter=Reporter())
    loaded = sdr.load(tmp_path / "run")
    expected = model.recommend(range(9), k=3)
    assert len(model.model.graph.items) > 0 and loaded.recommend(range(9), k=3).equals(expected)
    model.save(tmp_path / "copy")
    assert sdr.load(tmp_path / "copy").recommend(range(9), k=3).equals(expected)
