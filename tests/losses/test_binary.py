"""Binary cross-entropy and gBCE: against the formulas in float64, and what gBCE is for."""

import math

import pytest
import torch

from seqdiffrec.losses import Added, binary, binary_cross_entropy, calibrating_power, own_scores


def sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-score))


def test_by_hand():
    """The sum of the target's part and those of the negatives; one that is not there costs nothing."""
    at_target = torch.tensor([0.7, -2.0], dtype=torch.float64, requires_grad=True)
    scores = torch.tensor([[0.1, -1.5], [3.0, -math.inf]], dtype=torch.float64, requires_grad=True)
    loss = binary_cross_entropy(at_target, scores)
    first = -math.log(sigmoid(0.7)) - math.log(1 - sigmoid(0.1)) - math.log(1 - sigmoid(-1.5))
    second = -math.log(sigmoid(-2.0)) - math.log(1 - sigmoid(3.0))
    assert loss.tolist() == pytest.approx([first, second])
    loss.sum().backward()
    assert at_target.grad.tolist() == pytest.approx([sigmoid(0.7) - 1, sigmoid(-2.0) - 1])
    assert scores.grad.flatten().tolist() == pytest.approx([sigmoid(0.1), sigmoid(-1.5), sigmoid(3.0), 0.0])


def test_the_power_is_the_authors_conversion_of_the_targets_score():
    """Their code puts ``log(1 / (sigmoid^-beta - 1))`` for the score into the plain loss."""
    score, negative, power = 0.4, -0.3, 0.35
    converted = math.log(1 / (sigmoid(score) ** -power - 1))
    plain = -math.log(sigmoid(converted)) - math.log(1 - sigmoid(negative))
    ours = binary_cross_entropy(
        torch.tensor([score], dtype=torch.float64), torch.tensor([[negative]], dtype=torch.float64), power
    )
    assert ours.item() == pytest.approx(plain, rel=1e-12)


@pytest.mark.parametrize("score", [-200.0, 200.0])
def test_scores_far_out_cost_what_they_should(score):
    loss = binary_cross_entropy(torch.tensor([score]), torch.tensor([[score]]))
    assert loss.item() == pytest.approx(200)


def test_calibrating_power_by_hand():
    alpha = 8 / 20
    for t in (0.0, 0.3, 1.0):
        assert calibrating_power(8, 21, t) == pytest.approx(alpha * (t * (1 - 1 / alpha) + 1 / alpha))
    assert calibrating_power(8, 21, 0.0) == 1
    assert calibrating_power(8, 21, 1.0) == pytest.approx(alpha)
    assert calibrating_power(50, 21, 1.0) == 1  # more draws than there are items


@pytest.mark.parametrize(("calibration", "is_calibrated"), [(1.0, True), (0.0, False)])
def test_the_expected_loss_is_least_at_the_true_probabilities(calibration, is_calibrated):
    """What gBCE is for: with t = 1 the sigmoids of the scores come out as the items' probabilities."""
    probability = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    scores = torch.logit(probability).requires_grad_()
    others = [[item for item in range(4) if item != target] for target in range(4)]
    # All draws of one negative are alike: their mean is the expectation.
    power = calibrating_power(1, 4, calibration)
    terms = [
        binary_cross_entropy(scores[target].expand(3), scores[others[target]][:, None], power).mean()
        for target in range(4)
    ]
    (gradient,) = torch.autograd.grad(probability @ torch.stack(terms), scores)
    assert bool((gradient.abs() < 1e-12).all()) == is_calibrated


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("rows_a_score", "at_once"), [(0, 1), (100, 20), (100, 2**24)])
def test_scores_are_the_same_on_either_way(monkeypatch, rows_a_score, at_once, with_bias):
    """Looked up, all scored a few rows at a time, and all at once."""
    monkeypatch.setattr(binary, "ROWS_A_SCORE", rows_a_score)
    monkeypatch.setattr(binary, "SCORES_AT_ONCE", at_once)
    draw = torch.Generator().manual_seed(0)
    h, weight = (torch.randn(count, 4, generator=draw, requires_grad=True) for count in (5, 9))
    bias = torch.randn(9, generator=draw, requires_grad=True) if with_bias else None
    places = torch.randint(9, (5, 3), generator=draw)
    places[0] = 2
    expected = torch.stack([weight[row] @ one for row, one in zip(places, h, strict=True)])
    expected = expected if bias is None else expected + bias[places]
    scores = own_scores(h, weight, bias, places)
    torch.testing.assert_close(scores, expected)
    upstream = torch.randn(5, 3, generator=draw)
    wanted = [h, weight] if bias is None else [h, weight, bias]
    for ours, theirs in zip(
        torch.autograd.grad(scores, wanted, upstream), torch.autograd.grad(expected, wanted, upstream), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_what_is_added_to_single_scores():
    """Entries of one row and item add up; items without any get nothing, also those past the last entry's."""
    values = torch.tensor([0.5, 1.0, -2.0, 3.0], requires_grad=True)
    added = Added(torch.tensor([0, 0, 1, 2]), torch.tensor([7, 7, 3, 8]), values)
    found = added.at(torch.tensor([[7, 3, 9], [3, 7, 3], [1, 8, 0]]))
    assert found.tolist() == [[1.5, 0, 0], [-2, 0, -2], [0, 3, 0]]
    (gradient,) = torch.autograd.grad(found.sum(), values)
    assert gradient.tolist() == [1, 1, 2, 1]
