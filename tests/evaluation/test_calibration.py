"""Reliability, its error, and the temperature: against sums by hand, scipy, and probabilities that are known."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import minimize_scalar
from torch import Tensor

from seqdiffrec.data.corpus import Sequences
from seqdiffrec.data.split import Cases
from seqdiffrec.evaluation.calibration import measure_calibration, reliability
from seqdiffrec.evaluation.ranking import Predict
from seqdiffrec.evaluation.temperature import calibrated, fit_temperature

ITEMS = 12


def cases_of(probabilities: Tensor, seed: int, history: list[int] | None = None) -> Cases:
    """Targets drawn from these very probabilities, a row each; all with the same history."""
    targets = torch.multinomial(probabilities, 1, generator=torch.Generator().manual_seed(seed))[:, 0] + 1
    items = np.array(history or [1], np.int32)
    count = len(probabilities)
    begins = np.zeros(count, np.int64)
    return Cases(np.arange(count), Sequences(items, begins, begins + len(items)), targets.numpy().astype(np.int32))


def rows_of(probabilities: Tensor) -> Predict:
    """A model that gives the cases' rows one after another, again and again."""
    done = 0

    def predict(histories: Sequences) -> Tensor:
        nonlocal done
        start, done = done % len(probabilities), done + len(histories)
        return probabilities[start : start + len(histories)]

    return predict


def drawn(count: int, seed: int = 0, spread: float = 1.5) -> Tensor:
    return (spread * torch.randn(count, ITEMS, generator=torch.Generator().manual_seed(seed))).softmax(1)


def at(probabilities: Tensor, temperature: float) -> Tensor:
    return (probabilities.log() / temperature).softmax(1)


def test_bins_and_error_by_hand() -> None:
    said = np.array([0.1, 0.9, 0.2, 0.4])
    came = np.array([False, True, True, False])
    found = reliability(said, came, 2)
    assert [(one.count, one.said, one.came) for one in found.bins] == [(2, pytest.approx(0.15), 0.5), (2, 0.65, 0.5)]
    assert found.error == pytest.approx((0.35 + 0.15) / 2)
    assert sum(one.gap for one in found.bins) == pytest.approx(found.error)
    # A bin's share has the variance sum p (1 - p) / n^2, and a normal's mean absolute deviation is sqrt(2 / pi) sd.
    sds = [math.sqrt(0.1 * 0.9 + 0.2 * 0.8) / 2, math.sqrt(0.4 * 0.6 + 0.9 * 0.1) / 2]
    assert found.by_chance == pytest.approx(math.sqrt(2 / math.pi) * sum(sds) / 2)
    assert len(reliability(said, came).bins) == 4
    with pytest.raises(ValueError, match="no predictions"):
        reliability(said[:0], came[:0])


def test_the_interval_is_wilsons() -> None:
    rng = np.random.default_rng(0)
    said = rng.uniform(0, 0.3, 500)
    for one in reliability(said, rng.uniform(size=500) < said).bins:
        expected = stats.binomtest(round(one.came * one.count), one.count).proportion_ci(0.95, "wilson")
        assert (one.low, one.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_true_probabilities_have_the_error_of_chance_and_false_ones_more() -> None:
    true = drawn(6000)
    cases = cases_of(true, seed=1)
    (right,) = measure_calibration(rows_of(true), cases, ITEMS, 5, filter_viewed=False)
    (wrong,) = measure_calibration(rows_of(at(true, 0.5)), cases, ITEMS, 5, filter_viewed=False)
    for scope in ("top_1", "top_k", "all_items"):
        good, bad = getattr(right, scope), getattr(wrong, scope)
        assert good.error < 2 * good.by_chance and bad.error > 5 * bad.by_chance
    assert right.log_loss.value < wrong.log_loss.value
    outside = [one for one in right.top_k.bins if not one.low <= one.said <= one.high]
    assert len(outside) <= 2  # of ten 95 % intervals


def test_log_loss_and_lists_by_hand() -> None:
    true = drawn(300)
    cases = cases_of(true, seed=2, history=[3, 5])
    (found,) = measure_calibration(rows_of(true), cases, ITEMS, 4, [2.0])
    warm = at(true.double(), 2.0).numpy()
    rows = np.arange(300)
    losses = -np.log(warm[rows, cases.targets - 1])
    assert found.log_loss.value == pytest.approx(losses.mean(), rel=1e-5)
    assert found.log_loss.high - found.log_loss.value == pytest.approx(1.96 * stats.sem(losses), rel=1e-4)
    left = warm.copy()
    left[:, [2, 4]] = -1  # what the history has is in no list
    order = np.argsort(-left, axis=1)[:, :4]
    by_hand = reliability(warm[rows[:, None], order].ravel(), (order == cases.targets[:, None] - 1).ravel())
    assert found.top_k.error == pytest.approx(by_hand.error, abs=1e-5)
    assert found.top_1.bins[-1].said == pytest.approx(np.sort(warm[rows, order[:, 0]])[-30:].mean(), rel=1e-5)


def test_over_all_items_bins_have_a_tenth_of_the_mass() -> None:
    true = drawn(3000)
    (found,) = measure_calibration(rows_of(true), cases_of(true, seed=3), ITEMS, 5)
    bins = found.all_items.bins
    assert sum(one.count for one in bins) == 3000 * ITEMS
    assert sum(one.weight for one in bins) == pytest.approx(1, abs=1e-5)
    assert all(one.weight == pytest.approx(0.1, abs=0.03) for one in bins) and len(bins) == 10
    assert sum(one.count * one.came for one in bins) == pytest.approx(3000)  # every target is in a bin
    assert sum(one.count * one.said for one in bins) == pytest.approx(3000, rel=1e-5)
    assert [one.said for one in bins] == sorted(one.said for one in bins)
    # A model that gives all to others than the targets is as wrong as can be.
    sure = torch.full((400, ITEMS), 1e-9)
    sure[:, 0] = 1
    cases = cases_of(torch.tensor([[0.0, *[1.0] * (ITEMS - 1)]]).expand(400, -1), seed=0)
    (worst,) = measure_calibration(rows_of(sure), cases, ITEMS, 5)
    assert worst.all_items.error == pytest.approx(2, abs=1e-3)


@pytest.mark.parametrize("true_temperature", [0.6, 1.0, 3.0])
def test_the_temperature_is_the_best_one(true_temperature: float) -> None:
    said = drawn(2000)
    cases = cases_of(at(said, true_temperature), seed=4)
    found = fit_temperature(rows_of(said), cases, ITEMS)
    logs, targets = said.double().log().numpy(), cases.targets - 1

    def loss(temperature: float) -> float:
        warm = logs / temperature
        return float(np.mean(np.log(np.exp(warm).sum(1)) - warm[np.arange(2000), targets]))

    best = minimize_scalar(loss, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-6})
    assert found.value == pytest.approx(best.x, rel=2e-3) == pytest.approx(true_temperature, rel=0.15)
    assert (found.before, found.after) == pytest.approx((loss(1), best.fun), abs=1e-5)
    assert found.after <= found.before and found.cases == 2000 and not found.at_the_end


def test_a_temperature_beyond_what_is_searched_is_told() -> None:
    said = drawn(500, spread=20)
    found = fit_temperature(rows_of(said), cases_of(at(said, 100.0), seed=0), ITEMS)
    assert found.value == pytest.approx(8) and found.at_the_end


def test_where_no_temperature_makes_a_difference_it_is_one() -> None:
    even = torch.full((50, ITEMS), 1 / ITEMS)
    assert fit_temperature(rows_of(even), cases_of(even, seed=0), ITEMS).value == 1


def test_targets_of_probability_0() -> None:
    never = torch.zeros(20, ITEMS)
    never[:, 0] = 1
    cases = cases_of(torch.tensor([[0.0, *[1.0] * (ITEMS - 1)]]).expand(20, -1), seed=0)
    with pytest.raises(ValueError, match="every target has the probability 0"):
        fit_temperature(rows_of(never), cases, ITEMS)
    (found,) = measure_calibration(rows_of(never), cases, ITEMS, 3, filter_viewed=False)
    assert found.impossible == 20 and found.log_loss.value == pytest.approx(-math.log(1e-12))
    assert math.isfinite(found.top_k.error) and math.isfinite(found.all_items.error)


def test_calibrated_probabilities_are_those_of_the_softmax_in_the_same_order() -> None:
    said = drawn(30)
    cases = cases_of(said, seed=0)
    values, columns = said.topk(4)
    found = calibrated(rows_of(said), cases.histories, values, 1.7)
    assert torch.allclose(found, at(said, 1.7).gather(1, columns), atol=1e-6)
    assert bool((found.diff(dim=1) <= 0).all())


def test_blocks_change_nothing(monkeypatch) -> None:
    true = drawn(100)
    cases = cases_of(true, seed=5)
    whole = measure_calibration(rows_of(true), cases, ITEMS, 3, [1.0, 2.0])
    told: list[tuple[int, int]] = []
    monkeypatch.setattr("seqdiffrec.evaluation.ranking.SCORES_AT_ONCE", 40 * ITEMS)
    parts = measure_calibration(
        rows_of(true), cases, ITEMS, 3, [1.0, 2.0], progress=lambda done, total: told.append((done, total))
    )
    assert told == [(40, 100), (80, 100), (100, 100)]
    assert [one.temperature for one in parts] == [1, 2]
    for a, b in zip(whole, parts, strict=True):
        assert a.log_loss == b.log_loss and a.top_k == b.top_k
        assert a.all_items.error == pytest.approx(b.all_items.error)
