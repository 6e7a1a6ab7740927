"""BPR-max and TOP1-max against the paper's formulas, summed up in float64."""

import math

import pytest
import torch

from seqdiffrec.losses import bpr_max, top1_max

NEVER = -1e30
TARGETS = [0.4, -1.2]
SCORES = [[0.3, 1.1, -0.7], [0.9, -2.0, 0.2]]
TIMES = [[1, 3, 1], [2, 0, 1]]  # how often each is a negative of the row


def sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-score))


def by_hand(row: int) -> tuple[list[float], list[float]]:
    """A row's negatives, listed as often as they occur, and their softmax."""
    negatives = [score for score, times in zip(SCORES[row], TIMES[row], strict=True) for _ in range(times)]
    total = sum(math.exp(score) for score in negatives)
    return negatives, [math.exp(score) / total for score in negatives]


def inputs() -> list[torch.Tensor]:
    log_times = [[math.log(times) if times else NEVER for times in row] for row in TIMES]
    return [torch.tensor(values, dtype=torch.float64) for values in (TARGETS, SCORES, log_times)]


@pytest.mark.parametrize("penalty", [0.0, 0.7])
def test_bpr_max(penalty):
    expected = []
    for row, target in enumerate(TARGETS):
        negatives, share = by_hand(row)
        ahead = sum(s * sigmoid(target - r) for r, s in zip(negatives, share, strict=True))
        expected.append(-math.log(ahead) + penalty * sum(s * r**2 for r, s in zip(negatives, share, strict=True)))
    assert bpr_max(*inputs(), penalty).tolist() == pytest.approx(expected, rel=1e-12)


def test_top1_max():
    expected = []
    for row, target in enumerate(TARGETS):
        negatives, share = by_hand(row)
        expected.append(sum(s * (sigmoid(r - target) + sigmoid(r**2)) for r, s in zip(negatives, share, strict=True)))
    assert top1_max(*inputs()).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("far", [60.0, 500.0])
def test_a_target_far_behind_gives_finite_numbers(far):
    scores = torch.tensor([[0.0, far]], requires_grad=True)
    loss = bpr_max(torch.tensor([-far]), scores, torch.zeros(1, 2), 0.1)
    (gradient,) = torch.autograd.grad(loss.sum(), scores)
    assert loss.isfinite().all() and gradient.isfinite().all()
    assert loss.item() > 60


def test_a_row_without_any_negative_gives_finite_numbers():
    scores = torch.tensor([[0.3, -0.2]], requires_grad=True)
    log_times = torch.full((1, 2), NEVER)
    for loss in (
        bpr_max(torch.tensor([0.5]), scores, log_times, 1.0),
        top1_max(torch.tensor([0.5]), scores, log_times),
    ):
        (gradient,) = torch.autograd.grad(loss.sum(), scores)
        assert loss.isfinite().all() and gradient.isfinite().all()
