"""Ragged attention against one softmax at a time, in float64; dropout by its statistics."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

from seqdiffrec.models.attention import RaggedAttention, dropout

HEADS, SIZE = 2, 3


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def by_loop(query, key, value, own, slopes, rows, places, offsets):
    """Softmax of q.k / sqrt(d) - slope * distance over the visible keys, query by query."""
    outputs = []
    for i, (row, seen) in enumerate(zip(rows.tolist(), places.tolist(), strict=True)):
        visible = slice(int(offsets[row]), int(offsets[row]) + seen)
        keys, values = key[visible], value[visible]
        distance = torch.arange(seen, 0, -1)
        if own is not None:
            keys, values = torch.cat([own[0][i : i + 1], keys]), torch.cat([own[1][i : i + 1], values])
            distance = torch.cat([torch.zeros(1), distance])
        scores = torch.einsum("hd,khd->hk", query[i], keys).div(SIZE**0.5)
        scores = scores if slopes is None else scores - slopes[:, None] * distance
        weights = scores.softmax(-1)
        outputs.append(torch.einsum("hk,khd->hd", weights, values))
    return torch.stack(outputs)


def check_against_loop(lengths: list[int], rows: torch.Tensor, places: torch.Tensor, with_own: bool) -> None:
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    n, m = len(rows), int(offsets[-1])
    query = draw(n, HEADS, SIZE, seed=1)
    key, value = draw(m, HEADS, SIZE, seed=2), draw(m, HEADS, SIZE, seed=3)
    own = (draw(n, HEADS, SIZE, seed=4), draw(n, HEADS, SIZE, seed=5)) if with_own else None
    slopes = draw(HEADS, seed=7) if with_own else None
    ours = RaggedAttention(rows, places, offsets)(query, key, value, own, 0.0, slopes)
    theirs = by_loop(query, key, value, own, slopes, rows, places, offsets)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    with torch.no_grad():  # few pairs are then computed at a stroke
        attention = RaggedAttention(rows, places, offsets)
        assert len(attention.chunks) == 1 and attention.queries is None
        torch.testing.assert_close(attention(query, key, value, own, 0.0, slopes), theirs, rtol=1e-10, atol=1e-10)
    inputs = [query, key, value, *(own or ()), *(() if slopes is None else (slopes,))]
    upstream = draw(n, HEADS, SIZE, seed=6).detach()
    gradients = [torch.autograd.grad(out, inputs, upstream, materialize_grads=True) for out in (ours, theirs)]
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


# Up to 40, so that sequences fall into padding groups of several sizes.
some_lengths = st.lists(st.integers(0, 40), min_size=1, max_size=5)


@settings(max_examples=12)
@given(some_lengths.filter(any))
def test_causal_with_own_key(lengths):
    rows = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    places = torch.cat([torch.arange(length) for length in lengths])
    check_against_loop(lengths, rows, places, with_own=True)


@settings(max_examples=12)
@given(some_lengths.filter(any))
def test_bidirectional(lengths):
    rows = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    check_against_loop(lengths, rows, torch.tensor(lengths)[rows], with_own=False)


@settings(max_examples=20)
@given(some_lengths, st.data())
def test_any_queries_in_any_order(lengths, data):
    """Targets of shared histories: several of a sequence, none of another, also with no key to see but their own."""
    rows = torch.tensor(data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=30)))
    places = torch.tensor([data.draw(st.integers(0, lengths[row])) for row in rows.tolist()])
    check_against_loop(lengths, rows, places, with_own=True)


def test_no_keys_at_all_leave_each_query_its_own_value():
    own = draw(3, HEADS, SIZE, seed=4), draw(3, HEADS, SIZE, seed=5)
    none = torch.zeros(0, HEADS, SIZE, dtype=torch.float64)
    attention = RaggedAttention(torch.tensor([2, 0, 1]), torch.zeros(3, dtype=torch.int64), torch.zeros(4).long())
    out = attention(draw(3, HEADS, SIZE, seed=1), none, none, own, 0.0)
    torch.testing.assert_close(out, own[1], rtol=0, atol=0)


def test_attention_dropout_drops_weights_and_keeps_their_mean():
    offsets, rows, places = torch.tensor([0, 6]), torch.zeros(4000).long(), torch.full((4000,), 6)
    attention = RaggedAttention(rows, places, offsets)
    key, value = torch.zeros(6, 1, 1), torch.ones(6, 1, 1)
    query, own = torch.zeros(4000, 1, 1), (torch.zeros(4000, 1, 1), torch.ones(4000, 1, 1))
    torch.manual_seed(0)
    out = attention(query, key, value, own, 0.5).flatten()
    # Seven equal weights of 1/7, each kept half of the time and then doubled: 0, 2/7, ..., 2, of mean 1.
    assert set((out * 3.5).round().int().tolist()) == set(range(8))
    assert out.mean().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
def test_dropout_rate_and_mean(rate):
    torch.manual_seed(0)
    x = torch.full((300, 401), 2.0, dtype=torch.float64)
    y = dropout(x, rate)
    kept = y != 0
    assert 1 - kept.double().mean().item() == pytest.approx(rate, abs=0.007)  # five standard deviations at most
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 2 / (1 - rate)), rtol=2e-4, atol=0)
    assert y.mean().item() == pytest.approx(2, rel=0.05)


def test_dropout_treats_neighbours_independently():
    """One random number serves several values; knowing one of them must say nothing about the next."""
    torch.manual_seed(0)
    kept = (dropout(torch.ones(400_000), 0.3) != 0).double()
    for distance in (1, 2, 3, 4):
        both = (kept[:-distance] * kept[distance:]).mean().item()
        assert both == pytest.approx(0.49, abs=0.005)


def test_dropout_of_zero_is_the_identity():
    x = torch.randn(3, 5)
    before = torch.get_rng_state()
    assert torch.equal(dropout(x, 0.0), x)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 3, 4)])
def test_dropout_follows_the_seed(shape):
    x = torch.ones(shape)
    draws = []
    for seed in (5, 5):
        torch.manual_seed(seed)
        draws.append([dropout(x, 0.5) for _ in range(20)])
    assert all(torch.equal(left, right) for left, right in zip(*draws, strict=True))
    assert len({tuple(y.flatten().tolist()) for y in draws[0]}) > 1
    assert all(y.shape == shape for y in draws[0])


def test_dropout_gradient_is_its_mask():
    torch.manual_seed(0)
    x = torch.ones(50, requires_grad=True)
    y = dropout(x, 0.4)
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach(), rtol=0, atol=0)


def test_a_rate_just_below_one_zeroes_nearly_all():
    """The settings allow every rate below 1."""
    assert dropout(torch.ones(8), 0.999999).isfinite().all()
