"""The cross-entropy over the catalogue against torch's own, value and gradients."""

import math

import pytest
import torch
from torch.nn import functional as F

from seqdiffrec.losses import Added, catalogue_cross_entropy, full


def inputs(rows: int = 7, size: int = 5, num_items: int = 9, dtype: torch.dtype = torch.float64, scale: float = 1.0):
    draw = torch.Generator().manual_seed(rows)
    h = torch.randn(rows, size, generator=draw, dtype=dtype) * scale
    weight = torch.randn(num_items + 1, size, generator=draw, dtype=dtype)
    bias = torch.randn(num_items + 1, generator=draw, dtype=dtype)
    targets = torch.randint(1, num_items + 1, (rows,), generator=draw)
    return h.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), targets


def reference(h, weight, bias, targets):
    """Rows 1.. only: the padding row is not there at all."""
    return F.cross_entropy(F.linear(h, weight[1:], None if bias is None else bias[1:]), targets - 1, reduction="none")


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("rows", [1, 7])
def test_value_and_gradients_are_torchs(with_bias, rows):
    h, weight, bias, targets = inputs(rows)
    wanted_of = [h, weight, bias] if with_bias else [h, weight]
    upstream = torch.linspace(-1, 2, rows, dtype=torch.float64)
    results = []
    for function in (catalogue_cross_entropy, reference):
        loss = function(h, weight, bias if with_bias else None, targets)
        results.append((loss, *torch.autograd.grad(loss, wanted_of, upstream)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_repeated_targets_add_up():
    h, weight, bias, _ = inputs()
    targets = torch.full((7,), 4)
    ours, theirs = (
        torch.autograd.grad(function(h, weight, bias, targets).sum(), weight)[0]
        for function in (catalogue_cross_entropy, reference)
    )
    torch.testing.assert_close(ours, theirs)


def test_padding_is_no_candidate_and_gets_no_gradient():
    h, weight, bias, targets = inputs()
    with torch.no_grad():
        before = catalogue_cross_entropy(h, weight, bias, targets)
        weight[0], bias[0] = 100.0, 1000.0
    loss = catalogue_cross_entropy(h, weight, bias, targets)
    torch.testing.assert_close(loss, before, rtol=0, atol=0)
    loss.sum().backward()
    assert not weight.grad[0].any() and not bias.grad[0].any()
    assert weight.grad[1:].any() and bias.grad[1:].any()


def test_by_hand():
    """Two items with logits 0 and log 3: probabilities 1/4 and 3/4."""
    h = torch.tensor([[1.0], [1.0]])
    weight = torch.tensor([[50.0], [0.0], [math.log(3)]])
    loss = catalogue_cross_entropy(h, weight, None, torch.tensor([1, 2]))
    assert loss.tolist() == pytest.approx([math.log(4), math.log(4 / 3)], rel=1e-6)


def test_large_logits_do_not_overflow():
    h, weight, bias, targets = inputs(dtype=torch.float32, scale=1e4)
    loss = catalogue_cross_entropy(h, weight, bias, targets)
    torch.testing.assert_close(loss, reference(h, weight, bias, targets))
    loss.sum().backward()
    assert all(bool(part.grad.isfinite().all()) for part in (h, weight, bias))


def test_bfloat16_autocast_stays_close_and_returns_float32():
    h, weight, bias, targets = inputs(rows=64, size=32, num_items=40, dtype=torch.float32, scale=0.3)
    exact = reference(h, weight, bias, targets)
    exact_gradients = torch.autograd.grad(exact.mean(), [h, weight, bias])
    with torch.autocast("cpu", torch.bfloat16):
        loss = catalogue_cross_entropy(h, weight, bias, targets)
    gradients = torch.autograd.grad(loss.mean(), [h, weight, bias])
    assert loss.dtype == torch.float32
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    # A bfloat16 number has 8 bits: relative steps of 0.004.
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0.02)
    assert not torch.equal(loss, exact)
    for ours, theirs in zip(gradients, exact_gradients, strict=True):
        assert (ours - theirs).norm() < 0.02 * theirs.norm()


def test_added_scores_and_their_gradients():
    """Row 2 has three of them, two on one item and one on its target; row 5 has one."""
    h, weight, bias, targets = inputs()
    rows, items = torch.tensor([2, 2, 2, 5]), torch.tensor([4, 4, int(targets[2]), 9])
    values = torch.tensor([0.5, -2.0, 1.5, 3.0], dtype=torch.float64, requires_grad=True)
    dense = torch.zeros(7, 9, dtype=torch.float64).index_put((rows, items - 1), values, accumulate=True)
    theirs = F.cross_entropy(F.linear(h, weight[1:], bias[1:]) + dense, targets - 1, reduction="none")
    ours = catalogue_cross_entropy(h, weight, bias, targets, Added(rows, items, values))
    upstream = torch.linspace(-1, 2, 7, dtype=torch.float64)
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(
        torch.autograd.grad(ours, [h, weight, bias, values], upstream),
        torch.autograd.grad(theirs, [h, weight, bias, values], upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kept", [full.KEPT, 0], ids=["kept", "computed again"])
@pytest.mark.parametrize("scale", [1.0, 100.0], ids=["plain", "shifted by the largest"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_many_tiles_with_all_terms_are_torchs(monkeypatch, kept, scale, smoothing):
    """99 items in tiles of 32: an entry's added score, the target and the padding fall into different ones."""
    monkeypatch.setattr(full, "TILE", {"cpu": 1})
    monkeypatch.setattr(full, "KEPT", kept)
    h, weight, bias, targets = inputs(rows=40, num_items=98, scale=scale)
    draw = torch.Generator().manual_seed(3)
    rows = torch.randint(0, 40, (200,), generator=draw)
    items = torch.cat([torch.randint(1, 99, (160,), generator=draw), targets[rows[160:]]])
    values = torch.randn(200, generator=draw, dtype=torch.float64, requires_grad=True)
    dense = torch.zeros(40, 98, dtype=torch.float64).index_put((rows, items - 1), values, accumulate=True)
    scores = F.linear(h, weight[1:], bias[1:]) + dense
    theirs = F.cross_entropy(scores, targets - 1, reduction="none", label_smoothing=smoothing)
    ours = catalogue_cross_entropy(h, weight, bias, targets, Added(rows, items, values), smoothing)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    upstream = torch.linspace(-1, 2, 40, dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad(ours, [h, weight, bias, values], upstream),
        torch.autograd.grad(theirs, [h, weight, bias, values], upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_scores_far_below_zero_do_not_vanish():
    """All exponentials of one row are 0 in float32; its neighbours are as they were."""
    h, weight, _, targets = inputs(dtype=torch.float32)
    every = torch.cartesian_prod(torch.tensor([3]), torch.arange(1, 10))
    added = Added(every[:, 0], every[:, 1], torch.full((9,), -500.0))
    loss = catalogue_cross_entropy(h, weight, None, targets, added)
    torch.testing.assert_close(loss, reference(h, weight, None, targets), rtol=1e-4, atol=1e-4)


def test_a_confident_prediction_in_bfloat16_is_within_one_rounding_of_zero():
    h = torch.full((3, 2), 3.3)
    weight = torch.tensor([[0.0, 0.0], [3.3, 3.3], [-3.0, -3.0]])
    with torch.autocast("cpu", torch.bfloat16):
        loss = catalogue_cross_entropy(h, weight, None, torch.tensor([1, 1, 1]))
    assert loss.tolist() == pytest.approx([0.0] * 3, abs=2**-8)
