"""Paired bootstrap over users, against scipy and against every resample there is; spread over seeds by hand."""

import itertools
import math

import numpy as np
import polars as pl
import pytest
from scipy import stats

from seqdiffrec.data import DataError
from seqdiffrec.evaluation import Ranks, hit_rate, mrr, ndcg, write_ranks
from seqdiffrec.evaluation.significance import (
    Comparison,
    mean_and_spread,
    mean_interval,
    paired_bootstrap,
    paired_ranks,
    row_levels,
    seed_noise,
)


def ranks_of(users: int, seed: int, spread: float = 40.0) -> np.ndarray:
    return 1 + np.random.default_rng(seed).exponential(spread, users).astype(np.int64)


@pytest.mark.parametrize(("metric", "mean"), [("HR", hit_rate), ("NDCG", ndcg), ("MRR", mrr)])
@pytest.mark.parametrize("k", [1, 10])
def test_the_difference_is_that_of_the_metrics(metric, mean, k):
    a, b = ranks_of(300, 1), ranks_of(300, 2)
    found = paired_bootstrap(a, b, metric, k, resamples=100).difference
    assert found == pytest.approx(mean(a, k) - mean(b, k), abs=1e-12)
    assert found != 0


def test_interval_against_scipy():
    a, b = ranks_of(400, 1, 15), ranks_of(400, 2, 18)
    gain = np.where(a <= 10, 1 / np.log2(a + 1.0), 0), np.where(b <= 10, 1 / np.log2(b + 1.0), 0)
    expected = stats.bootstrap(
        gain,
        lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(3),
    )
    found = paired_bootstrap(a, b, "NDCG", 10, resamples=20_000)
    width = expected.confidence_interval.high - expected.confidence_interval.low
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.02 * width)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.02 * width)
    # For 400 users the means are close to normal, so is the p-value to that of z.
    z = abs(found.difference) / expected.standard_error
    assert 0.01 < found.p_value == pytest.approx(2 * stats.norm.sf(z), abs=0.01)


def test_the_interval_of_a_mean_against_scipy():
    ranks = ranks_of(300, 5, 12)
    gains = np.where(ranks <= 10, 1 / np.log2(ranks + 1.0), 0)
    expected = stats.bootstrap(
        (gains,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    found = mean_interval(ranks, "NDCG", 10, resamples=20_000)
    assert found.value == pytest.approx(ndcg(ranks, 10), abs=1e-12)
    width = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.02 * width)


def test_p_value_against_every_resample_there_is():
    a, b = np.array([1, 2, 30, 4, 1]), np.array([20, 2, 3, 40, 1])  # differences in HR@10: 1, 0, -1, 1, 0
    differences = np.array([1, 0, -1, 1, 0])
    means = np.array([np.mean(one) for one in itertools.product(differences, repeat=5)])  # 3,125 equally likely
    share = np.mean(np.abs(means - 0.2) >= 0.2 - 1e-9)
    found = paired_bootstrap(a, b, "HR", 10, resamples=40_000)
    assert found.difference == pytest.approx(0.2)
    assert 0.1 < share < 0.9
    assert found.p_value == pytest.approx(share, abs=0.01)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(means, (2.5, 97.5))))


def test_two_models_swapped_and_users_in_another_order():
    a, b = ranks_of(500, 1, 20), ranks_of(500, 2, 30)
    one, other = paired_bootstrap(a, b, "NDCG", 10), paired_bootstrap(b, a, "NDCG", 10)
    assert one.low < one.difference < one.high
    assert other == Comparison(-one.difference, -one.high, -one.low, one.p_value)
    order = np.random.default_rng(0).permutation(500)
    again = paired_bootstrap(a[order], b[order], "NDCG", 10)
    assert (again.low, again.high, again.p_value) == (one.low, one.high, one.p_value)
    assert paired_bootstrap(a, b, "NDCG", 10, seed=1) != one


def test_identical_models_and_clearly_different_ones():
    a = ranks_of(200, 1)
    assert paired_bootstrap(a, a, "NDCG", 10) == Comparison(0.0, 0.0, 0.0, 1.0)
    clear = paired_bootstrap(np.ones(200, dtype=np.int64), np.full(200, 50), "HR", 10, resamples=99)
    assert clear == Comparison(1.0, 1.0, 1.0, 0.01)  # 1 of 100: what was found is one of the resamples


def test_seeds_are_averaged_for_each_user_first():
    a, b = np.stack([ranks_of(300, seed, 20) for seed in range(3)]), ranks_of(300, 7, 30)
    found = paired_bootstrap(a, b, "HR", 10)
    assert found.difference == pytest.approx(np.mean([hit_rate(one, 10) for one in a]) - hit_rate(b, 10))
    differences = (a <= 10).mean(axis=0) - (b <= 10)
    assert found.high - found.low == pytest.approx(2 * 1.96 * differences.std() / np.sqrt(300), rel=0.05)


def test_blocks_change_no_distribution(monkeypatch):
    a, b = ranks_of(100, 1, 10), ranks_of(100, 2, 20)
    whole = paired_bootstrap(a, b, "NDCG", 10, resamples=1000)
    monkeypatch.setattr("seqdiffrec.evaluation.significance._COUNTS_AT_ONCE", 700)
    assert paired_bootstrap(a, b, "NDCG", 10, resamples=1000) == whole


@pytest.mark.parametrize(
    ("a", "b", "metric", "k", "message"),
    [
        ([1, 2], [1], "HR", 10, "there are 2 and 1 of them"),
        ([], [], "HR", 10, "at least one user"),
        ([0, 1], [1, 1], "HR", 10, "all of at least 1"),
        ([1], [1], "HR", 0, "at least 1, not 0"),
        ([1], [1], "AUC", 10, "'AUC' is not a metric to compare by; known are HR, NDCG, MRR"),
    ],
)
def test_what_cannot_be_compared(a, b, metric, k, message):
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(np.array(a, dtype=np.int64), np.array(b, dtype=np.int64), metric, k)


# Two files of ranks.


def write(path, users: list[int], kept: list[int], targets: list[int] | None = None):
    targets = targets or [user % 3 + 1 for user in users]
    removed = np.array([max(1, rank - 1) for rank in kept])
    rows = np.arange(len(users))
    ranks = Ranks(rows, np.array(targets, dtype=np.int32), np.array(kept), removed)
    write_ranks(ranks, pl.Series(users), pl.Series(["x", "y", "z"]), path)
    return path


def test_ranks_of_the_same_users_side_by_side(tmp_path):
    a = write(tmp_path / "a.parquet", [7, 5, 9], [10, 20, 30])
    b = write(tmp_path / "b.parquet", [9, 7, 5], [3, 1, 2])
    kept = paired_ranks(a, b)
    assert [ranks.tolist() for ranks in kept] == [[20, 10, 30], [2, 1, 3]]
    assert [ranks.tolist() for ranks in paired_ranks(a, b, "seen_removed")] == [[19, 9, 29], [1, 1, 2]]


@pytest.mark.parametrize(
    ("users", "targets", "message"),
    [
        ([7, 5], None, r"a\.parquet has 1 users that .*b\.parquet has not, such as 9"),
        ([7, 5, 9, 11], None, r"b\.parquet has 1 users that .*a\.parquet has not, such as 11"),
        ([7, 5, 9], [1, 1, 1], "different targets"),
        ([7, 5, 5], None, "has user 5 twice"),
        (["7", "5", "9"], [2, 3, 1], "user ids of different types"),
    ],
)
def test_ranks_of_other_users_are_refused(tmp_path, users, targets, message):
    a = write(tmp_path / "a.parquet", [7, 5, 9], [10, 20, 30])
    b = write(tmp_path / "b.parquet", users, [1] * len(users), targets)
    with pytest.raises(DataError, match=message):
        paired_ranks(a, b)


def test_files_that_hold_no_ranks(tmp_path):
    a = write(tmp_path / "a.parquet", [7], [10])
    with pytest.raises(DataError, match=r"none\.parquet cannot be read"):
        paired_ranks(a, tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(DataError, match=r"text\.parquet cannot be read as Parquet"):
        paired_ranks(tmp_path / "text.parquet", a)
    pl.DataFrame({"user_id": [7], "item_id": ["x"], "rank_seen_kept": [1]}).write_parquet(tmp_path / "half.parquet")
    with pytest.raises(DataError, match="has no column rank_seen_removed"):
        paired_ranks(a, tmp_path / "half.parquet")


# Seeds.


def test_mean_and_spread_by_hand():
    assert mean_and_spread([0.2]) == (0.2, None)
    assert mean_and_spread([1.0, 2.0, 6.0]) == pytest.approx((3.0, 7**0.5))  # (4 + 1 + 9) / 2


def test_levels_of_rows_by_hand():
    # Seed 1 is .01 above seed 0 in the rows that have both, so the third, .50 at seed 0, would be .51 at seed 1.
    rows = [{0: 0.60, 1: 0.61}, {0: 0.40, 1: 0.41}, {0: 0.50}]
    assert row_levels(rows) == pytest.approx([0.605, 0.405, 0.505])
    assert row_levels([{7: 0.25}]) == pytest.approx([0.25])
    # The order of rows changes nothing, also where pairs of them, within the seeds of both, say one thing and another.
    three = [{0: 0.060, 1: 0.045, 2: 0.045}, {0: 0.055}, {0: 0.050, 1: 0.051, 2: 0.0505}]
    assert row_levels(three[::-1])[::-1] == pytest.approx(row_levels(three))


def test_noise_of_seeds_by_hand():
    # Logarithms 0, 0.1 and 0, 0.3: row and seed leave 0.2 to explain, a quarter of it in each cell, with one freedom.
    found = seed_noise([{0: 1.0, 1: math.exp(0.1)}, {0: 1.0, 1: math.exp(0.3)}])
    assert found is not None and found.freedom == 1
    assert found.deviation == pytest.approx(0.1)  # root of 4 * 0.05^2
    # Student's t of 0.975 with one degree of freedom is 12.7062 in the tables; a difference of two single figures.
    assert found.half_width(1) == pytest.approx(12.7062 * 0.1 * math.sqrt(2), rel=1e-5)
    assert found.half_width(4) == pytest.approx(found.half_width(1) / 2)


def test_noise_of_seeds_is_what_centring_rows_and_seeds_leaves():
    rng = np.random.default_rng(0)
    logs = rng.normal(size=(5, 1)) + rng.normal(size=3) + 0.01 * rng.normal(size=(5, 3))
    left = logs - logs.mean(0) - logs.mean(1, keepdims=True) + logs.mean()
    found = seed_noise([dict(enumerate(row)) for row in np.exp(logs).tolist()])
    assert found is not None and found.freedom == 8  # (5 - 1) (3 - 1)
    assert found.deviation == pytest.approx(math.sqrt((left**2).sum() / 8))
    # A row with a single seed tells nothing.
    more = seed_noise([*(dict(enumerate(row)) for row in np.exp(logs).tolist()), {2: 7.0}])
    assert more is not None and more.freedom == 8
    assert more.deviation == pytest.approx(found.deviation)


@pytest.mark.parametrize("rows", [[], [{0: 1.0, 1: 2.0}], [{0: 1.0}, {0: 2.0}], [{0: 1.0, 1: 2.0}, {0: 3.0}]])
def test_noise_of_seeds_needs_two_rows_with_two_seeds(rows):
    assert seed_noise(rows) is None
