"""The Markov chain against transitions counted one by one."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models import Markov, MarkovConfig

V = 6


def sequences(*lists: list[int]) -> Sequences:
    lengths = np.array([len(one) for one in lists])
    items = np.array([item for one in lists for item in one], dtype=np.int32)
    return Sequences(items, np.cumsum(lengths) - lengths, np.cumsum(lengths))


def after(train: list[list[int]], smoothing: float, *histories: list[int]) -> list[list[float]]:
    model = Markov(MarkovConfig(smoothing=smoothing), V)
    model.count_items(sequences(*train))
    return model.predict_histories(sequences(*histories)).tolist()


def test_shares_by_hand():
    """1 was followed by 2, 2 and 3; nothing followed 4; the pairs across users (3, 1) and (2, 4) do not count."""
    train = [[1, 2, 1, 3], [1, 2], [4]]
    (bare,) = after(train, 0.0, [5, 1])
    assert bare == pytest.approx([0, 2 / 3, 1 / 3, 0, 0, 0])
    (smoothed,) = after(train, 2.0, [1])
    popularity = [3 / 7, 2 / 7, 1 / 7, 1 / 7, 0, 0]
    assert smoothed == pytest.approx([(n + 2 * p) / 5 for n, p in zip([0, 2, 1, 0, 0, 0], popularity, strict=True)])
    assert after(train, 0.0, [1, 4], [6]) == [pytest.approx(popularity)] * 2


lists = st.lists(st.lists(st.integers(1, V), min_size=1, max_size=9), min_size=1, max_size=9)


@given(lists, lists, st.sampled_from([0.0, 0.1, 5.0]))
def test_probabilities_one_by_one(train, histories, smoothing):
    pairs = Counter(pair for one in train for pair in pairwise(one))
    taken = Counter(item for one in train for item in one)
    for history, found in zip(histories, after(train, smoothing, *histories), strict=True):
        total = sum(count for (before, _), count in pairs.items() if before == history[-1])
        share = [taken[item] / taken.total() for item in range(1, V + 1)]
        expected = share
        if total + smoothing > 0:
            weight = [pairs[history[-1], item] + smoothing * share[item - 1] for item in range(1, V + 1)]
            expected = [one / (total + smoothing) for one in weight]
        assert found == pytest.approx(expected, abs=1e-6)
