"""Metrics against values worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from seqdiffrec.evaluation.metrics import check_cutoff, hit_rate, mrr, ndcg, summarize


def _ranks(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("rank", "hit", "gain", "reciprocal"),
    [
        (1, 1.0, 1.0, 1.0),
        (2, 1.0, 1 / math.log2(3), 0.5),
        (3, 1.0, 0.5, 1 / 3),
        (10, 1.0, 1 / math.log2(11), 0.1),  # the last place that counts
        (11, 0.0, 0.0, 0.0),  # the first that does not
    ],
)
def test_one_case_at_cutoff_ten(rank: int, hit: float, gain: float, reciprocal: float) -> None:
    ranks = _ranks(rank)
    assert hit_rate(ranks, 10) == hit
    assert ndcg(ranks, 10) == pytest.approx(gain, abs=1e-15)
    assert mrr(ranks, 10) == pytest.approx(reciprocal, abs=1e-15)
    assert mrr(ranks) == pytest.approx(1 / rank, abs=1e-15)


def test_metrics_are_means_over_all_cases() -> None:
    ranks = _ranks(1, 2, 4, 11)
    assert hit_rate(ranks, 3) == 0.5
    assert ndcg(ranks, 3) == pytest.approx((1 + 1 / math.log2(3)) / 4)
    assert mrr(ranks, 3) == pytest.approx(1.5 / 4)
    assert mrr(ranks) == pytest.approx((1 + 1 / 2 + 1 / 4 + 1 / 11) / 4)


def test_summarize_names_every_figure() -> None:
    ranks = _ranks(1, 7)
    figures = summarize(ranks)
    assert set(figures) == {f"{name}@{k}" for name in ("HR", "NDCG", "MRR") for k in (5, 10, 20)} | {"MRR"}
    assert (figures["HR@5"], figures["HR@10"]) == (0.5, 1.0)
    assert figures["NDCG@10"] == pytest.approx((1 + 1 / 3) / 2)  # log2(8) = 3
    assert figures["MRR@5"] == 0.5
    assert figures["MRR"] == pytest.approx((1 + 1 / 7) / 2)
    assert all(type(value) is float for value in figures.values())  # so that they go into JSON


@given(st.lists(st.integers(1, 300), min_size=1, max_size=30), st.integers(1, 299))
def test_a_larger_cutoff_never_lowers_a_metric(values: list[int], k: int) -> None:
    ranks = _ranks(*values)
    for metric in (hit_rate, ndcg, mrr):
        assert 0 <= metric(ranks, k) <= metric(ranks, k + 1) <= 1
    assert mrr(ranks, k) <= ndcg(ranks, k) <= hit_rate(ranks, k)
    assert mrr(ranks, 300) == pytest.approx(mrr(ranks))


@pytest.mark.parametrize("k", [0, -1, 2.0, "10", True, None])
def test_a_cutoff_that_is_no_positive_integer_is_refused(k: object) -> None:
    with pytest.raises(ValueError, match="integer of at least 1"):
        check_cutoff(k)


@pytest.mark.parametrize("metric", [hit_rate, ndcg, mrr, lambda ranks, k: summarize(ranks, [5, k])])
def test_every_metric_checks_its_cutoff(metric) -> None:
    with pytest.raises(ValueError, match="integer of at least 1, not 0"):
        metric(_ranks(1), 0)


def test_a_cutoff_beyond_the_catalogue_is_refused_with_its_size() -> None:
    with pytest.raises(ValueError, match=r"K = 8 is larger than the catalogue of 7 items"):
        summarize(_ranks(1), [5, 8], num_items=7)
    check_cutoff(7, 7)
    assert summarize(_ranks(1), [7], num_items=7)["HR@7"] == 1.0


@pytest.mark.parametrize("metric", [lambda r: hit_rate(r, 5), lambda r: ndcg(r, 5), mrr, summarize])
def test_no_ranks_and_ranks_below_one_are_refused(metric) -> None:
    with pytest.raises(ValueError, match="no ranks to average"):
        metric(_ranks())
    with pytest.raises(ValueError, match="start from 1"):
        metric(_ranks(3, 0))
