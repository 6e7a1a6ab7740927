"""Are the probabilities right: of what is said to come with 5 %, does one in twenty come?

Definitions and sources are in docs/evaluation.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqdiffrec.data.split import Cases
from seqdiffrec.evaluation.ranking import Predict, Progress
from seqdiffrec.evaluation.significance import NORMAL, Figure, mean_figure
from seqdiffrec.evaluation.temperature import columns_of, log_blocks

NUM_BINS = 10
# A target of probability 0, which would cost infinitely much, costs as much as one of this.
LEAST = 1e-12
# Probabilities over all items are summed in classes whose bounds are eighths of a power of two apart.
CLASSES_EACH, CLASSES = 8, 8 * 48


@dataclass(frozen=True)
class Bin:
    """Predictions of about the same probability.

    Attributes:
        count: how many pairs of a case and an item.
        said: their mean probability.
        came: the share of them whose item was the target.
        low, high: the 95 % interval of that share (Wilson 1927).
        weight: of the bin in the error; the weights of all bins sum to 1, or over all items to the mass there.
        gap: what the bin adds to the error.
    """

    count: int
    said: float
    came: float
    low: float
    high: float
    weight: float
    gap: float


@dataclass(frozen=True)
class Reliability:
    """A reliability curve and what it comes to.

    Attributes:
        bins: by rising probability.
        error: the expected calibration error, from 0; over all items from 0 to 2.
        by_chance: what it would be on average if all probabilities were right, as there are only so many cases.
    """

    bins: list[Bin]
    error: float
    by_chance: float


@dataclass(frozen=True)
class Calibration:
    """How right the probabilities at one temperature are.

    Attributes:
        temperature: 1 for the model's own.
        log_loss: of the target, in nats: the mean of ``-log p``.
        impossible: how many targets had the probability 0; each counts as 1e-12.
        top_1, top_k: over the first, and the first k, of each list.
        all_items: over the whole catalogue, in bins of equal mass.
    """

    temperature: float
    log_loss: Figure
    impossible: int
    top_1: Reliability
    top_k: Reliability
    all_items: Reliability


def measure_calibration(
    predict: Predict,
    cases: Cases,
    num_items: int,
    k: int,
    temperatures: Sequence[float] = (1.0,),
    *,
    filter_viewed: bool = True,
    progress: Progress | None = None,
) -> list[Calibration]:
    """How right the probabilities are at each temperature, in one pass over the cases.

    filter_viewed: leave the history's items out of the lists of 1 and of k, as `recommend` does. The probabilities
        stay those over all items.
    """
    parts = [_Part(temperature) for temperature in temperatures]
    for block, logs in log_blocks(predict, cases, num_items, progress):
        allowed = logs
        if filter_viewed:
            rows, items = block.histories.flat()
            allowed = logs.clone()
            allowed[torch.from_numpy(rows).to(logs.device), columns_of(items, logs)[:, 0]] = -torch.inf
        best = allowed.topk(min(k, num_items))
        targets = columns_of(block.targets, logs)
        for part in parts:
            part.take(logs, best.values, best.indices == targets, targets)
    return [part.result() for part in parts]


class _Sums(NamedTuple):
    mass: NDArray[np.float64]
    pairs: NDArray[np.int64]
    hits: NDArray[np.int64]


class _Part:
    """What a pass gathers at one temperature: some numbers a case, and sums over classes of probability."""

    def __init__(self, temperature: float):
        self.temperature = temperature
        self.target_logs: list[NDArray[np.float64]] = []
        self.best: list[NDArray[np.float64]] = []
        self.hits: list[NDArray[np.bool_]] = []
        self.sums = _Sums(np.zeros(CLASSES), np.zeros(CLASSES, np.int64), np.zeros(CLASSES, np.int64))

    def take(self, logs: Tensor, best: Tensor, hits: Tensor, targets: Tensor) -> None:
        logs = logs / self.temperature
        total = logs.logsumexp(1, keepdim=True)
        logs -= total
        target = logs.gather(1, targets)[:, 0]
        self.target_logs.append(target.double().cpu().numpy())
        self.best.append((best / self.temperature - total).exp().double().cpu().numpy())
        self.hits.append(hits.cpu().numpy())
        classes = _class_of(logs).flatten()
        for array, weights in zip(self.sums[:2], (logs.exp().double().flatten(), None), strict=True):
            array += torch.bincount(classes, weights, CLASSES).cpu().numpy()
        self.sums.hits[:] += torch.bincount(_class_of(target), minlength=CLASSES).cpu().numpy()

    def result(self) -> Calibration:
        logs, best, hits = np.concatenate(self.target_logs), np.concatenate(self.best), np.concatenate(self.hits)
        loss = mean_figure(-np.maximum(logs, np.log(LEAST)))
        assert loss is not None
        there = best > 0  # a list may be shorter than k
        return Calibration(
            self.temperature,
            loss,
            int(np.isneginf(logs).sum()),
            reliability(best[:, :1][there[:, :1]], hits[:, :1][there[:, :1]]),
            reliability(best[there], hits[there]),
            _by_mass(self.sums, len(logs)),
        )


def reliability(said: NDArray[np.float64], came: NDArray[np.bool_], num_bins: int = NUM_BINS) -> Reliability:
    """The reliability curve of predictions, and its expected calibration error (Guo et al. 2017; Naeini et al. 2015).

    The bins hold equally many predictions, in order of their probability; the error is the mean over predictions of
    ``|mean probability - share that came|`` of their bin.

    Args:
        said: (N,) probabilities.
        came: bool (N,), whether it came so.
        num_bins: of the curve; fewer where there are fewer predictions.

    Raises:
        ValueError: there are no predictions.
    """
    if not len(said):
        raise ValueError("there are no predictions whose probabilities could be checked")
    order = np.argsort(said, kind="stable")
    bounds = np.unique(np.arange(num_bins + 1) * len(said) // num_bins)
    bins: list[Bin] = []
    chance = 0.0
    for begin, end in pairwise(bounds.tolist()):
        here = order[begin:end]
        count, share, mean = len(here), float(came[here].mean()), float(said[here].mean())
        weight = count / len(said)
        bins.append(Bin(count, mean, share, *_wilson(share, count), weight, weight * abs(mean - share)))
        chance += weight * _mean_deviation(float((said[here] * (1 - said[here])).sum()) / count**2)
    return Reliability(bins, sum(one.gap for one in bins), chance)


def _class_of(logs: Tensor) -> Tensor:
    """The class of each probability, given as its logarithm; 0 is that of 1."""
    return (logs * (-CLASSES_EACH / np.log(2))).clamp(0, CLASSES - 1).long()


def _by_mass(sums: _Sums, num_cases: int) -> Reliability:
    """Over all items: bins that each should hold one in `NUM_BINS` of the targets, and do hold so many.

    Most of the B V predictions are next to 0 and right, so that bins of equal count would always look well.
    """
    place = np.cumsum(sums.mass) - sums.mass / 2  # of a class's middle in the whole mass
    numbers = np.minimum((place / sums.mass.sum() * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    bins: list[Bin] = []
    chance = 0.0
    for number in np.unique(numbers[sums.pairs > 0])[::-1]:
        mass, pairs, hits = (float(array[numbers == number].sum()) for array in sums)
        should, does = mass / num_cases, hits / num_cases
        low, high = (bound * num_cases / pairs for bound in _wilson(does, num_cases))
        bins.append(Bin(int(pairs), mass / pairs, hits / pairs, low, high, should, abs(should - does)))
        chance += _mean_deviation(max(0.0, should * (1 - should)) / num_cases)
    return Reliability(bins, sum(one.gap for one in bins), chance)


def _wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share that was seen `count` times (Wilson 1927)."""
    z = NORMAL**2 / count
    middle, half = share + z / 2, np.sqrt(z * (share * (1 - share) + z / 4))
    return max(0.0, float((middle - half) / (1 + z))), min(1.0, float((middle + half) / (1 + z)))


def _mean_deviation(variance: float) -> float:
    """The mean absolute deviation of a normal variable."""
    return float(np.sqrt(2 * variance / np.pi))
