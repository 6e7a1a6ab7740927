"""A temperature for probabilities: one number that makes a model more or less sure, fitted on validation cases.

At temperature T a model's probabilities p become ``p^(1/T) / sum p^(1/T)``, the sum over all items. It acts after the
mean over noise draws, where a model draws any, so it changes no order. Above 1 it makes a model less sure.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqdiffrec.data.corpus import Sequences
from seqdiffrec.data.split import Cases
from seqdiffrec.evaluation.ranking import Predict, Progress, cases_at_once, check_scores

# Where a temperature is looked for, as powers of two, and on how many validation cases at most.
POWERS = np.linspace(-2, 3, 21)
CASES_AT_MOST = 10_000


@dataclass(frozen=True)
class Temperature:
    """A temperature fitted on validation cases.

    Attributes:
        value: the one with the lowest log-loss of the targets, between 0.25 and 8.
        before, after: that log-loss at 1 and at `value`, in nats.
        cases: on how many cases; targets of probability 0 are left out, since no temperature changes them.
    """

    value: float
    before: float
    after: float
    cases: int

    @property
    def at_the_end(self) -> bool:
        """Whether it lies at an end of what was searched, so that the best may lie beyond."""
        return bool(np.isclose(self.value, 2.0 ** POWERS[[0, -1]], rtol=1e-3).any())


def fit_temperature(predict: Predict, cases: Cases, num_items: int, progress: Progress | None = None) -> Temperature:
    """The temperature with the lowest log-loss of the targets (Guo et al. 2017), in one pass over the cases.

    The loss is taken at 21 temperatures and between them by a cubic spline. At most 10,000 cases, drawn at random.

    Raises ValueError where every target has the probability 0.
    """
    if len(cases) > CASES_AT_MOST:
        cases = cases.select(np.sort(np.random.default_rng(0).permutation(len(cases))[:CASES_AT_MOST]))
    losses = np.zeros(len(POWERS))
    count = 0
    for block, logs in log_blocks(predict, cases, num_items, progress):
        target = logs.gather(1, columns_of(block.targets, logs))[:, 0]
        reached = target.isfinite()
        count += int(reached.sum())
        for place, power in enumerate(POWERS):
            at = -(target / 2**power - (logs / 2**power).logsumexp(1))
            losses[place] += float(at[reached].double().sum())
    if count == 0:
        raise ValueError("every target has the probability 0, so no temperature can be fitted")
    from scipy.interpolate import CubicSpline  # it takes a tenth of the time to import all the rest

    curve: Any = CubicSpline(POWERS, losses / count)
    flat: NDArray[np.float64] = curve.derivative().roots(extrapolate=False)
    # 1 first: where the temperature makes no difference, as for equal probabilities, nothing is changed.
    candidates = [0.0, *flat[np.isfinite(flat)].tolist(), *POWERS[[0, -1]].tolist()]
    power = min(candidates, key=lambda one: round(float(curve(one)), 9))
    return Temperature(2.0**power, float(curve(0.0)), float(curve(power)), count)


def calibrated(predict: Predict, histories: Sequences, scores: Tensor, temperature: float) -> Tensor:
    """Probabilities of some items of each history, (B, k), at a temperature; the order stays.

    The sum over the catalogue needs one more pass of the model.
    """
    logs = predict(histories).log() / temperature
    return (scores.log() / temperature - logs.logsumexp(1, keepdim=True)).exp()


def log_blocks(
    predict: Predict, cases: Cases, num_items: int, progress: Progress | None
) -> Iterator[tuple[Cases, Tensor]]:
    """Blocks of the cases, each with the logarithms of the probabilities of all items, (b, num_items)."""
    step = cases_at_once(num_items)
    for start in range(0, len(cases), step):
        block = cases.select(slice(start, min(start + step, len(cases))))
        with torch.no_grad():
            scores = predict(block.histories)
            check_scores(scores, block.users, num_items)
            logs = scores.log()
        yield block, logs
        if progress is not None:
            progress(start + len(block), len(cases))


def columns_of(items: NDArray[Any], like: Tensor) -> Tensor:
    """(n, 1), the columns of item indices, where the scores `like` are."""
    return torch.from_numpy(items.astype(np.int64) - 1).to(like.device)[:, None]
