"""Is one model better than another: over users by a paired bootstrap, over seeds by mean and standard deviation.

The bootstrap draws users with replacement, the same ones for both models (Efron and Tibshirani, An Introduction to the
Bootstrap, 1993; for rankings Sakai, SIGIR 2006). It says whether other users would give the same answer for these
trained weights. It says nothing about other seeds, for which there are `mean_and_spread` and `seed_noise`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import t as student_t

from seqdiffrec.data import DataError
from seqdiffrec.evaluation.metrics import RankArray, check_cutoff

Metric = Literal["HR", "NDCG", "MRR"]
Protocol = Literal["seen_kept", "seen_removed"]

_COUNTS_AT_ONCE = 4_000_000
NORMAL = 1.959964  # between minus this and this lie 95 % of a standard normal
_ROUNDING = 1e-11  # figures of the same size may differ by this much


@dataclass(frozen=True)
class Comparison:
    """How much higher the mean metric of the first model is, over users.

    Attributes:
        difference: in the metric's own unit, in [-1, 1].
        low, high: the 95 % interval of the difference, by the percentiles 2.5 and 97.5.
        p_value: two-sided, of the hypothesis that the difference is 0; in (0, 1].
    """

    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Interval:
    """A mean over users, and between which bounds it lies for 95 of 100 draws of other users."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Figure:
    """A figure of a model's lists.

    Attributes:
        value: the mean over users, or a figure of all lists together.
        low, high: the 95 % interval of a mean; None for a figure of all lists together, and for a single user.
        users: how many users have a value.
    """

    value: float
    low: float | None
    high: float | None
    users: int


def mean_figure(values: NDArray[np.float64]) -> Figure | None:
    """The mean of what users have, NaN being nothing, and its 95 % interval by the normal distribution.

    The interval is ``mean +- 1.96 s / sqrt(n)``. None where no user has a value.
    """
    there = values[~np.isnan(values)]
    if len(there) < 2:
        return Figure(float(there[0]), None, None, 1) if len(there) else None
    mean = float(there.mean())
    half = NORMAL * float(there.std(ddof=1)) / math.sqrt(len(there))
    return Figure(mean, mean - half, mean + half, len(there))


def mean_interval(ranks: RankArray, metric: Metric, k: int, resamples: int = 10_000, seed: int = 0) -> Interval:
    """The mean of a metric over users with its 95 % interval, by the percentiles 2.5 and 97.5 of resamples of users.

    Args:
        ranks: int64 (B,), ranks from 1, a user each.
        metric: HR, NDCG or MRR.
        k: its cutoff.
        resamples: how many times the users are drawn.
        seed: of the draws.

    Raises:
        ValueError: there are no users, a rank is below 1, or `k` is not a cutoff.
    """
    gains = _gains(ranks, metric, k)
    low, high = np.percentile(_resampled_means(gains, resamples, np.random.default_rng(seed)), (2.5, 97.5))
    return Interval(float(gains.mean()), float(low), float(high))


def paired_bootstrap(
    ranks_a: RankArray, ranks_b: RankArray, metric: Metric, k: int, resamples: int = 10_000, seed: int = 0
) -> Comparison:
    """Compare two models by the ranks that they gave the targets of the same users.

    The p-value is the share of resamples whose difference, moved to a mean of 0, is at least as far from 0 as the
    difference that was found; that one counts as a resample, so p is never 0. To swap the models swaps the signs.

    Args:
        ranks_a: int64 (B,), ranks from 1, a user each; or (S, B) for S training seeds, whose figures are averaged for
            each user first. The two models may have different numbers of seeds.
        ranks_b: the same users in the same order.
        metric: HR, NDCG or MRR.
        k: its cutoff.
        resamples: how many times the users are drawn.
        seed: of the draws.

    Raises:
        ValueError: the users differ in number, there are none, a rank is below 1, or `k` is not a cutoff.
    """
    gains_a, gains_b = (_gains(np.atleast_2d(ranks), metric, k).mean(axis=0) for ranks in (ranks_a, ranks_b))
    if gains_a.shape != gains_b.shape:
        raise ValueError(
            f"a paired comparison needs the same users, but there are {gains_a.size} and {gains_b.size} of them"
        )
    differences = gains_a - gains_b
    found = float(differences.mean())
    sign = -1.0 if found < 0 else 1.0  # always the better one first, so that the order of the two changes no draw
    means = _resampled_means(sign * differences, resamples, np.random.default_rng(seed))
    low, high = (sign * float(bound) for bound in np.percentile(means, (2.5, 97.5)))
    as_far = int(np.count_nonzero(np.abs(means - abs(found)) >= abs(found) - _ROUNDING))
    return Comparison(found, min(low, high), max(low, high), (as_far + 1) / (resamples + 1))


def paired_ranks(path_a: Path, path_b: Path, protocol: Protocol = "seen_kept") -> tuple[RankArray, RankArray]:
    """The ranks in two Parquet files of `write_ranks`, both by user id in rising order.

    Raises:
        DataError: a file cannot be read, has not the columns, has a user twice, or the two have different users or
            different targets.
    """
    a, b = _read_ranks(path_a), _read_ranks(path_b)
    if a.schema["user_id"] != b.schema["user_id"]:
        raise DataError(f"{path_a} and {path_b} have user ids of different types, so they are not from the same data")
    both = a.join(b, on="user_id", how="inner", suffix="_b")
    for path, other, frame in ((path_a, path_b, a), (path_b, path_a, b)):
        if len(frame) > len(both):
            alone = frame.join(both, on="user_id", how="anti")["user_id"]
            raise DataError(
                f"{path} has {len(alone)} users that {other} has not, such as {alone[0]!r}; "
                "a paired comparison needs ranks of the same users"
            )
    if a.schema["item_id"] != b.schema["item_id"] or (both["item_id"] != both["item_id_b"]).any():
        raise DataError(f"{path_a} and {path_b} have different targets, so they are not from the same data and split")
    both = both.sort("user_id")
    return both[f"rank_{protocol}"].to_numpy(), both[f"rank_{protocol}_b"].to_numpy()


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation (of a sample: n - 1) of a figure over seeds; None as deviation of a single one."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


@dataclass(frozen=True)
class SeedNoise:
    """How far figures of one seed are off, when a seed moves all rows of a study alike.

    Attributes:
        deviation: standard deviation of the natural logarithm of a figure.
        freedom: its degrees of freedom.
    """

    deviation: float
    freedom: int

    def half_width(self, seeds: int) -> float:
        """Of the 95 % interval, by Student's t, of the difference between two rows' mean logarithms.

        seeds: how many both rows have.
        """
        return float(student_t.ppf(0.975, self.freedom)) * self.deviation * math.sqrt(2 / seeds)


def seed_noise(rows: Sequence[Mapping[int, float]]) -> SeedNoise | None:
    """What neither the row nor the seed explains of the rows' figures: two-way least squares on their logarithms.

    A seed draws the initial weights and the order of the batches for all rows of a study, so figures of one seed are
    all high or all low; rows are to be compared within it.

    Args:
        rows: the figure of each seed, for each row; all above 0.

    Returns:
        None where nothing is left to estimate it by, as without two rows that have two seeds.
    """
    design, values = _two_way(rows)
    freedom = len(values) - (int(np.linalg.matrix_rank(design)) if len(values) else 0)
    if freedom < 1:
        return None
    logs = np.log(values)
    residual = logs - design @ np.linalg.lstsq(design, logs, rcond=None)[0]
    return SeedNoise(math.sqrt(float(residual @ residual) / freedom), freedom)


def row_levels(rows: Sequence[Mapping[int, float]]) -> NDArray[np.float64]:
    """What each row's mean would be had all rows all seeds: two-way least squares, as in `seed_noise`, on the figures.

    Args:
        rows: the figure of each seed, for each row, which has at least one.

    Returns:
        (R,), the row's part of the fit, at the mean of the seeds' parts.
    """
    design, values = _two_way(rows)
    fit = np.linalg.lstsq(design, values, rcond=None)[0]
    return fit[: len(rows)] + fit[len(rows) :].mean()


def _two_way(rows: Sequence[Mapping[int, float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A line for each figure: ones in the columns of its row and, behind the rows, of its seed; and the figures."""
    seeds = sorted({seed for of in rows for seed in of})
    cells = [(row, seeds.index(seed), value) for row, of in enumerate(rows) for seed, value in of.items()]
    design = np.zeros((len(cells), len(rows) + len(seeds)))
    for place, (row, seed, _) in enumerate(cells):
        design[place, row] = design[place, len(rows) + seed] = 1
    return design, np.array([value for _, _, value in cells])


def _gains(ranks: RankArray, metric: Metric, k: int) -> NDArray[np.float64]:
    """What each case adds to the mean; same shape as `ranks`."""
    check_cutoff(k)
    if ranks.size == 0 or ranks.min() < 1:
        raise ValueError("a comparison needs the ranks of at least one user, all of at least 1")
    values = {"HR": np.ones(ranks.shape), "NDCG": 1.0 / np.log2(ranks + 1.0), "MRR": 1.0 / ranks}
    if metric not in values:
        raise ValueError(f"{metric!r} is not a metric to compare by; known are {', '.join(values)}")
    return np.where(ranks <= k, values[metric], 0.0)


def _resampled_means(
    differences: NDArray[np.float64], resamples: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """(resamples,) the mean of as many differences as there are, drawn with replacement, again and again.

    Users with the same difference are alike, and most have none. So it is drawn how often each value comes up: the same
    distribution with a hundredth of the draws, and in blocks, so that memory does not grow with the resamples.
    """
    values, counts = np.unique(differences.round(12), return_counts=True)  # rounded: a sum's order moves the last digit
    block = max(1, _COUNTS_AT_ONCE // values.size)
    sizes = [min(block, resamples - start) for start in range(0, resamples, block)]
    draws = (generator.multinomial(differences.size, counts / differences.size, size=size) for size in sizes)
    return np.concatenate([drawn @ values for drawn in draws]) / differences.size


def _read_ranks(path: Path) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}; write the ranks again") from error
    missing = {"user_id", "item_id", "rank_seen_kept", "rank_seen_removed"} - set(frame.columns)
    if missing:
        raise DataError(f"{path} has no column {', '.join(sorted(missing))}; it must come from: evaluate --ranks")
    if frame["user_id"].is_duplicated().any():
        twice = frame.filter(pl.col("user_id").is_duplicated())["user_id"][0]
        raise DataError(f"{path} has user {twice!r} twice; a paired comparison needs each user once")
    return frame
