"""Losses over drawn items: against the full one, and against the formula written out."""

import math

import pytest
import torch
from torch.nn import functional as F

from seqdiffrec.losses import Added, NegativeSampler, sampled_cross_entropy

ROWS, ITEMS, SIZE = 4, 30, 5


def inputs():
    draw = torch.Generator().manual_seed(0)
    h = torch.randn(ROWS, SIZE, generator=draw, requires_grad=True)
    weight = torch.randn(ITEMS + 1, SIZE, generator=draw, requires_grad=True)
    bias = torch.randn(ITEMS + 1, generator=draw, requires_grad=True)
    return h, weight, bias, torch.tensor([3, 30, 3, 1])


def added() -> Added:
    """Row 0 twice on item 7, row 1 on its target, row 3 on item 8."""
    return Added(torch.tensor([0, 0, 1, 3]), torch.tensor([7, 7, 30, 8]), torch.tensor([0.5, 1.0, -2.0, 3.0]))


@pytest.mark.parametrize("with_bias", [True, False])
def test_with_all_items_as_negatives_it_is_the_full_loss(with_bias):
    h, weight, bias, targets = inputs()
    bias = bias if with_bias else None
    scores = F.linear(h, weight[1:], None if bias is None else bias[1:])
    extra = added()
    scores = scores.index_put((extra.rows, extra.items - 1), extra.values, accumulate=True)
    expected = F.cross_entropy(scores, targets - 1, reduction="none")
    every = torch.arange(1, ITEMS + 1)
    both = torch.cat([targets, every])
    loss = sampled_cross_entropy(
        h, weight[both], None if bias is None else bias[both], targets, every, torch.zeros(ITEMS), extra
    )
    torch.testing.assert_close(loss, expected)
    wanted = [h, weight] if bias is None else [h, weight, bias]
    for ours, theirs in zip(
        torch.autograd.grad(loss.sum(), wanted), torch.autograd.grad(expected.sum(), wanted), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_by_hand():
    """Scores 1, 2 and 0; item 2 is drawn twice as often as expected, item 3, the target, is no negative of its own."""
    h, weight = torch.tensor([[1.0]]), torch.tensor([[0.0], [2.0], [0.0]])
    expected_times = torch.tensor([1 / 2, 1.0]).log()
    loss = sampled_cross_entropy(h, weight, None, torch.tensor([3]), torch.tensor([2, 3]), expected_times)
    assert loss.item() == pytest.approx(math.log(1 + 2 * math.exp(2)))


def test_what_is_added_to_an_item_that_was_not_drawn_changes_nothing():
    h, weight, _, targets = inputs()
    negatives = torch.tensor([2, 9])
    rows = weight[torch.cat([targets, negatives])]
    plain = sampled_cross_entropy(h, rows, None, targets, negatives, torch.zeros(2))
    for item in (1, 8, 30):
        extra = Added(torch.tensor([0]), torch.tensor([item]), torch.tensor([5.0]))
        assert torch.equal(sampled_cross_entropy(h, rows, None, targets, negatives, torch.zeros(2), extra), plain)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_the_sum_over_drawn_items_estimates_that_over_the_catalogue(exponent):
    h, weight, _, targets = inputs()
    torch.manual_seed(0)
    sampler = NegativeSampler(torch.arange(ITEMS), exponent)
    odds = []
    with torch.no_grad():
        for _ in range(500):
            negatives, expected = sampler.draw(100)
            rows = weight[torch.cat([targets, negatives])]
            loss = sampled_cross_entropy(0.3 * h, rows, None, targets, negatives, expected)
            odds.append(loss.exp())
        scores = F.linear(0.3 * h, weight[1:])
        exact = F.cross_entropy(scores, targets - 1, reduction="none").exp()
    torch.testing.assert_close(torch.stack(odds).mean(0), exact, rtol=0.02, atol=0)


def test_draws_are_in_proportion_to_a_power_of_the_counts():
    torch.manual_seed(0)
    sampler = NegativeSampler(torch.tensor([0, 1, 4, 9]), 0.5)  # weights 1, 1, 2, 3
    negatives, expected = sampler.draw(70_000)
    assert negatives.tolist() == [1, 2, 3, 4]
    # log_expected is that of a single draw among 70,000, less the log of the times drawn: close to 0 here.
    assert expected.exp().tolist() == pytest.approx([1.0] * 4, rel=0.03)
    items, once = sampler.of(torch.tensor([4, 2, 4]), 2)
    assert items.tolist() == [2, 4]
    assert once.exp().tolist() == pytest.approx([2 * 1 / 7, 2 * 3 / 7 / 2])
