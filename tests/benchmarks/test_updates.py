"""The benchmark of updates: its cases and its metric, by hand."""

import math

import numpy as np
import polars as pl
import pytest

import seqdiffrec as sdr
from benchmarks.updates import cases_after, log_of, ndcg
from seqdiffrec.training import Reporter


def test_cases_are_actions_after_the_cut_with_all_before_them():
    rows = [("u", 1), ("v", 2), ("u", 3), ("w", 9), ("w", 8), ("u", 2), ("v", 1)]
    log = pl.DataFrame([(*row, place) for place, row in enumerate(rows)], schema=["user", "item", "time"], orient="row")
    assert cases_after(log, 3, {1, 2, 3}, 10, seed=0) == [([1, 3], 2), ([2], 1)], "w's history has nothing known"
    assert len(cases_after(log, 2, {1, 2, 3}, 2, seed=0)) == 2


def test_unknown_targets_count_as_missed_and_seen_items_are_left_out():
    """Popularity a > b > c = d: after [a], b is first, c and d tie, which counts against the model; q is not known."""
    rows = [(user, item, user) for user, items in enumerate(["aaa", "ab", "bcd"]) for item in items]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    data = sdr.Dataset.from_interactions(frame).whole()
    model = sdr.Popularity().fit(data, reporter=Reporter())
    assert ndcg(model, [(["a", "q"], "b")]) == pytest.approx(1)
    expected = (1 + 1 / math.log2(4) + 0) / 3
    assert ndcg(model, [(["a"], "b"), (["a"], "c"), (["a"], "q")]) == pytest.approx(expected)


def test_a_log_without_times_cannot_be_cut():
    frame = pl.DataFrame({"user_id": [1, 1, 1, 2], "item_id": [1, 2, 3, 1]})
    corpus = sdr.Dataset.from_interactions(frame).corpus
    with pytest.raises(ValueError, match="no times to be cut at"):
        log_of(corpus)
    timed = sdr.Dataset.from_interactions(frame.with_columns(timestamp=pl.Series([4, 1, 3, 2]))).corpus
    assert log_of(timed)["timestamp"].to_list() == [1, 2, 3, 4]
    assert np.array_equal(log_of(timed)["user_id"], [0, 1, 0, 0])
