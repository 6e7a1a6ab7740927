"""The best few items against the probabilities of all, and these against the formula written out."""

import math

import pytest
import torch

from seqdiffrec.losses import Added
from seqdiffrec.models import catalogue, packed
from seqdiffrec.models.catalogue import Catalogue
from seqdiffrec.models.packed import PackedWeight
from seqdiffrec.models.top import BARRED, Barred

DRAWS, ROWS, ITEMS, SIZE = 3, 5, 400, 16


def make(*, rough: bool, scale: float = 1.0, scaled: bool = False) -> tuple[Catalogue, torch.Tensor, Added]:
    """scaled: with a factor for each item, as a cosine output has."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(ITEMS + 1, SIZE, generator=draw)
    bias = torch.randn(ITEMS + 1, generator=draw)
    h = scale * torch.randn(DRAWS, ROWS, SIZE, generator=draw)
    rows = torch.arange(ROWS).repeat_interleave(4)
    items = torch.randint(1, ITEMS + 1, (4 * ROWS,), generator=draw)
    each = 0.5 + torch.rand(ITEMS + 1, generator=draw) / 2 if scaled else None
    return Catalogue(weight, bias, rough, each), h, Added(rows, items, torch.randn(4 * ROWS, generator=draw) * 3)


def expected(of: Catalogue, h: torch.Tensor, added: Added) -> torch.Tensor:
    scores = h.double() @ of.weight[1:].T.double()
    scores = (scores if of.inverse_lengths is None else scores * of.inverse_lengths[1:].double()) + of.bias[1:].double()
    for row, item, value in zip(added.rows, added.items, added.values, strict=True):
        scores[:, row, item - 1] += value
    return scores.softmax(-1).mean(0)


def barred() -> Barred:
    """Every third column, and the ten best of row 2."""
    of, h, added = make(rough=False)
    columns = expected(of, h, added)[2].argsort(descending=True)[:10]
    return Barred(torch.arange(0, ITEMS, 3), torch.full((10,), 2), columns)


@pytest.mark.parametrize("at_once", [1, 2 * DRAWS * (ITEMS + 1), 2**20])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("largest", [0, 2**30])
def test_probabilities_by_the_formula(monkeypatch, at_once, scaled, largest):
    monkeypatch.setattr(catalogue, "SCORES_AT_ONCE", at_once)
    monkeypatch.setattr(packed, "LARGEST_BYTES", largest)
    of, h, added = make(rough=False, scaled=scaled)
    with torch.no_grad():
        found = of.probabilities(h, added)
        assert of._exact.is_copy == (largest > 0)
    torch.testing.assert_close(found.double(), expected(of, h, added), rtol=1e-4, atol=1e-7)
    with torch.enable_grad():  # as a model in training is asked
        found = of.probabilities(h, added)
    torch.testing.assert_close(found.double(), expected(of, h, added), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("at_once", "stretch"), [(1, None), (2**20, None), (2**20, 37 * DRAWS * ROWS), (1, 1)])
@pytest.mark.parametrize(("each", "more"), [(4, 64), (1, 0)], ids=["wide", "narrow"])
@pytest.mark.parametrize("rough", [False, True])
@pytest.mark.parametrize(("scale", "scaled"), [(0.05, False), (1.0, False), (4.0, False), (1.0, True)])
def test_the_best_are_those_of_the_probabilities(monkeypatch, rough, each, more, at_once, stretch, scale, scaled):
    """At a small scale all items are close together, so that bfloat16 alone would take others."""
    monkeypatch.setattr(catalogue, "SCORES_AT_ONCE", at_once)
    if stretch is not None:  # as a large catalogue is gone through
        monkeypatch.setattr(catalogue, "STRETCH", stretch)
        monkeypatch.setattr(catalogue, "SAMPLED", 4)
        monkeypatch.setattr(catalogue, "SAMPLED_FROM", 1)
    monkeypatch.setattr(catalogue, "ROUGH_SHARE", 1.0)
    monkeypatch.setattr(catalogue, "CANDIDATES_EACH", each)
    monkeypatch.setattr(catalogue, "CANDIDATES_MORE", more)
    of, h, added = make(rough=rough, scale=scale, scaled=scaled)
    probabilities = expected(of, h, added)
    barred().put_into(probabilities)
    wanted = probabilities.sort(dim=1, descending=True)
    with torch.no_grad():
        top = of.top(h, added, 10, barred())
    if not rough:
        assert torch.equal(top.columns, wanted.indices[:, :10])
    # Rough, the sums over the catalogue differ by less than this, so neighbours that are closer may change places.
    close = {"rtol": (3e-3 if more else 1e-2) if rough else 1e-5, "atol": 1e-7}
    torch.testing.assert_close(top.probabilities.double(), wanted.values[:, :10], **close)
    torch.testing.assert_close(probabilities.gather(1, top.columns), wanted.values[:, :10], **close)


@pytest.mark.parametrize("outlier", [1.0, 40.0, 400.0])
def test_sums_that_the_sample_does_not_show(monkeypatch, outlier):
    """An item outside of the sample that is far more probable than all others: at the most more than float32 holds."""
    monkeypatch.setattr(catalogue, "STRETCH", 64 * DRAWS * ROWS)
    monkeypatch.setattr(catalogue, "SAMPLED_FROM", 1)
    monkeypatch.setattr(catalogue, "ROUGH_SHARE", 1.0)
    of, h, added = make(rough=True)
    of.bias[7] += outlier  # the sample is items 1 and 65, 129, ...
    probabilities = expected(of, h, added)
    top = of.top(h, added, 10, Barred.all_but(torch.ones(ITEMS, dtype=torch.bool), *torch.empty(2, 0).long()))
    wanted = probabilities.sort(dim=1, descending=True).values[:, :10]
    torch.testing.assert_close(top.probabilities.double(), wanted, rtol=3e-3, atol=1e-7)
    torch.testing.assert_close(probabilities.gather(1, top.columns), wanted, rtol=3e-3, atol=1e-7)


@pytest.mark.parametrize("outlier", [0.0, 20.0])
def test_guessed_sums_end_up_right(monkeypatch, outlier):
    """A sampled item that has nearly all of one draw makes its guess far too high, and the mean far too low there."""
    monkeypatch.setattr(catalogue, "STRETCH", 64 * DRAWS * ROWS)
    of, h, added = make(rough=True)
    product = (h @ of.weight.T).bfloat16()
    product[1, 2, 65] += outlier
    scores = of._complete(product.float(), added, slice(0, ROWS))
    exact = scores.logsumexp(-1, keepdim=True)
    for at_once in (False, True):
        monkeypatch.setattr(catalogue, "SAMPLED_FROM", ITEMS + 2 if at_once else 1)
        log_sums, mean, factor = of._sum_up(product, added, slice(0, ROWS))
        torch.testing.assert_close(log_sums, exact, rtol=1e-5, atol=1e-5)
        wanted = (scores - exact).exp().mean(0)
        assert bool((wanted <= mean * factor[:, None] * (1 + 1e-5)).all())
        assert bool((factor == 1).all()) == at_once
    guess = product[..., 1::64].float().logsumexp(-1) + math.log(64)
    torch.testing.assert_close(factor_of(monkeypatch, of, product, added), (guess - exact[..., 0]).exp().amax(0))


def factor_of(monkeypatch, of, product, added):
    monkeypatch.setattr(catalogue, "SAMPLED_FROM", 1)
    return of._sum_up(product, added, slice(0, ROWS))[2]


def test_in_bfloat16_alone_the_best_would_be_others():
    """Else the test above could not notice that the second look is missing."""
    of, h, added = make(rough=False, scale=4.0)
    rounded = Catalogue(of.weight.bfloat16().float(), of.bias, rough=False)
    others = rounded.top(h.bfloat16().float(), added, 10, barred())
    probabilities = expected(of, h, added)
    barred().put_into(probabilities)
    wanted = probabilities.sort(dim=1, descending=True).values[:, :10]
    assert ((probabilities.gather(1, others.columns) - wanted).abs() > 3e-3 * wanted).any()


@pytest.mark.parametrize("k", [10, ITEMS, ITEMS + 3])
def test_long_lists_are_exact(k):
    """With candidates of more than a sixteenth of the catalogue nothing is rough; no list is longer than it."""
    of, h, added = make(rough=True)
    exact = Catalogue(of.weight, of.bias, rough=False).top(h, added, k, barred())
    top = of.top(h, added, k, barred())
    assert top.columns.shape == (ROWS, min(k, ITEMS))
    assert all(torch.equal(*pair) for pair in zip(top, exact, strict=True))


@pytest.mark.parametrize("rough", [False, True])
def test_fewer_than_k_are_left(rough):
    of, h, added = make(rough=rough)
    all_but_two = Barred(torch.arange(2, ITEMS), torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))
    top = of.top(h, added, 5, all_but_two)
    assert (top.probabilities != BARRED).sum(1).tolist() == [2] * ROWS
    assert top.columns[:, :2].sort().values.tolist() == [[0, 1]] * ROWS


@pytest.mark.parametrize("rows", [1, 2, 7, 16, 33, 200])
@pytest.mark.parametrize("size", [5, 16, 64])
def test_a_packed_weight_gives_the_product(rows, size):
    draw = torch.Generator().manual_seed(1)
    weight, h = torch.randn(301, size, generator=draw), torch.randn(rows, size, generator=draw)
    with torch.no_grad():
        kept = PackedWeight(weight)
        assert kept.is_copy
        product = kept.product(h)
    torch.testing.assert_close(product.double(), h.double() @ weight.double().T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 7, 16, 33])
def test_a_packed_weight_in_bfloat16(rows):
    """Sums of products of bfloat16 numbers are rounded once, at the end."""
    draw = torch.Generator().manual_seed(2)
    weight = torch.randn(301, 64, generator=draw).bfloat16()
    h = torch.randn(rows, 64, generator=draw).bfloat16()
    with torch.no_grad():
        product = PackedWeight(weight).product(h)
    assert product.dtype == torch.bfloat16
    torch.testing.assert_close(product.double(), h.double() @ weight.double().T, rtol=2**-8, atol=1e-4)


def test_what_is_not_packed():
    weight, h = torch.randn(300, 16).double(), torch.randn(1, 16).double()
    kept = PackedWeight(weight)
    assert not kept.is_copy
    torch.testing.assert_close(kept.product(h), h @ weight.T)


@pytest.mark.parametrize("rows", [1, 2, 16])
def test_a_weight_that_is_too_large_is_left_as_it_is(monkeypatch, rows):
    weight, h = torch.randn(300, 16), torch.randn(rows, 16)
    with torch.no_grad():
        assert PackedWeight(weight).is_copy
        monkeypatch.setattr(packed, "LARGEST_BYTES", 300 * 16 * 4 - 1)
        large = PackedWeight(weight)
        assert not large.is_copy and large._weight is weight
        torch.testing.assert_close(large.product(h).double(), h.double() @ weight.double().T, rtol=1e-5, atol=1e-5)


def test_a_catalogue_first_asked_in_training_is_packed_later():
    of, h, added = make(rough=False)
    with torch.enable_grad():
        in_training = of.probabilities(h, added)
    with torch.no_grad():
        torch.testing.assert_close(of.probabilities(h, added), in_training, rtol=1e-5, atol=1e-7)
        assert of._exact.is_copy
