"""CL4SRec: what the three operators do to histories, and the loss between the views, by hand."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch

from seqdiffrec.data.batches import RaggedBatch, cut_windows, history_batch, window_batch
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models import CL4SRec, CL4SRecConfig, SASRec
from seqdiffrec.models.cl4srec import crop, draw_masked, part, shuffle_neighbours

T, ITEMS = 11, 20
LISTS = [[3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 1], [1, 2], [15, 16, 17, 18]]
HISTORIES = [one[:-1] for one in LISTS]


def ragged(*lists: list[int]) -> Sequences:
    lengths = np.array([len(one) for one in lists])
    items = np.array([item for one in lists for item in one], dtype=np.int32)
    return Sequences(items, np.cumsum(lengths) - lengths, np.cumsum(lengths))


def batch_of(*lists: list[int]) -> RaggedBatch:
    windows = cut_windows(ragged(*lists), T, shared=True, prefixes=True, rng=np.random.default_rng(0))
    return window_batch(ragged(*lists), windows)


def make(**settings: object) -> CL4SRec:
    torch.manual_seed(1)
    given = {"hidden_size": 8, "max_length": T, "dropout": 0.0, "embedding_std": 0.5, "weight_std": 0.5}
    return CL4SRec(CL4SRecConfig(**(given | settings)), ITEMS).eval()


def test_shares_are_rounded_down():
    lengths = torch.arange(1, 50)
    for share in (0.0, 0.3, 0.6, 0.7, 1.0):
        assert part(lengths, share).tolist() == [int(share * length) for length in range(1, 50)]


def drawn(operator, lengths: list[int], counts: list[int], times: int) -> list[list[tuple[int, ...]]]:
    """What an operator gives for each of these sequences, many times over; places count from 0 in each."""
    lengths, counts = torch.tensor(lengths * times), torch.tensor(counts * times)
    out, begin = operator(lengths, counts), lengths.cumsum(0) - lengths
    pieces = out.split((counts if operator is crop else lengths).tolist())
    each = [
        tuple((piece.nonzero().flatten() if operator is draw_masked else piece - start).tolist())
        for piece, start in zip(pieces, begin, strict=True)
    ]
    kinds = len(lengths) // times
    return [each[kind::kinds] for kind in range(kinds)]


def each_alike(found: list[tuple[int, ...]], wanted: set[tuple[int, ...]]) -> None:
    counts = Counter(found)
    assert set(counts) == wanted
    assert all(count == pytest.approx(len(found) / len(wanted), rel=0.3) for count in counts.values())


def test_a_crop_keeps_neighbours_from_any_place_on():
    first, second, third = drawn(crop, [5, 1, 4], [3, 1, 4], 1500)
    each_alike(first, {(0, 1, 2), (1, 2, 3), (2, 3, 4)})
    assert set(second) == {(0,)} and set(third) == {(0, 1, 2, 3)}


def test_any_places_are_masked():
    first, second, third = drawn(draw_masked, [4, 1, 3], [2, 0, 3], 1500)
    each_alike(first, {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)})
    assert set(second) == {()} and set(third) == {(0, 1, 2)}


def test_neighbours_are_shuffled_and_nothing_else():
    first, second, third = drawn(shuffle_neighbours, [4, 2, 3], [3, 0, 3], 3000)
    wanted = Counter(
        (*range(start), *(start + place for place in order), *range(start + 3, 4))
        for start in (0, 1)
        for order in permutations(range(3))
    )
    counts = Counter(first)
    assert set(counts) == set(wanted)
    assert all(counts[one] == pytest.approx(3000 * times / 12, rel=0.3) for one, times in wanted.items())
    assert set(second) == {(0, 1)}
    each_alike(third, set(permutations(range(3))))


def operator_of(view: tuple[int, ...], masked: tuple[bool, ...], history: list[int]) -> str:
    if any(masked):
        assert sum(masked) == int(0.3 * len(history)) and list(view) == history
        return "mask"
    if len(view) < len(history):
        start = history.index(view[0])
        assert list(view) == history[start : start + int(0.6 * len(history))]
        return "crop"
    assert sorted(view) == sorted(history)
    return "reorder"


def test_the_views_of_a_history_come_from_two_operators():
    torch.manual_seed(0)
    model, times = make(), 300
    tokens, lengths, masked = model._draw_views(batch_of(*LISTS * times))
    assert len(tokens) == len(masked) == lengths.sum()
    views, flags = ([tuple(one.tolist()) for one in part.split(lengths.tolist())] for part in (tokens, masked))
    first, second = (
        [operator_of(views[row], flags[row], HISTORIES[0]) for row in range(begin, begin + 3 * times, 3)]
        for begin in (0, 3 * times)
    )
    each_alike(list(zip(first, second, strict=True)), set(permutations(["crop", "mask", "reorder"], 2)))
    # A history of one item stays what it is.
    assert set(views[1::3]) == {(1,)} and set(flags[1::3]) == {(False,)}


def test_the_loss_is_cross_entropy_and_the_weighted_contrast():
    """With shares that alter nothing, the two views of a history are the history."""
    model = make(crop_share=1.0, mask_share=0.0, reorder_share=0.0, contrastive_weight=0.3, contrastive_temperature=2.0)
    batch = batch_of(*LISTS)
    state = model.represent(history_batch(ragged(*HISTORIES), T), 1)[0].detach().double()
    odds = (state @ state.T / 2.0).exp()
    # Each view has every history twice among the views, itself once.
    contrast = -(odds.diagonal() / (2 * odds.sum(1) - odds.diagonal())).log().mean().item()
    probabilities = model.predict(batch, 1)[torch.arange(len(batch.targets)), batch.targets - 1]
    loss = model.loss(batch)
    assert loss.parts["recommendation"] == pytest.approx(-probabilities.log().mean().item(), rel=1e-5)
    assert loss.parts["contrastive"] == pytest.approx(contrast, rel=1e-4)
    assert loss.parts["loss"] == pytest.approx(loss.parts["recommendation"] + 0.3 * contrast, rel=1e-5)


def test_a_masked_item_is_not_seen(monkeypatch):
    model, batch = make(), batch_of(*LISTS)
    tokens, lengths, _ = model._draw_views(batch)
    losses = []
    for view in (tokens, tokens % ITEMS + 1):
        for masked in (False, True):
            views = view, lengths, torch.full_like(tokens, masked, dtype=torch.bool)
            monkeypatch.setattr(model, "_draw_views", lambda _, views=views: views)
            losses.append(model.loss(batch).parts["contrastive"])
    seen, hidden, other_seen, other_hidden = losses
    assert hidden == other_hidden and seen != other_seen


def test_the_recommendation_loss_is_sasrecs_and_so_are_the_scores():
    model, batch = make(), batch_of(*LISTS)
    sasrec = SASRec(model.config, ITEMS).eval()
    sasrec.load_state_dict({name: one for name, one in model.state_dict().items() if name != "mask"})
    assert model.loss(batch).parts["recommendation"] == pytest.approx(sasrec.loss(batch).parts["loss"], rel=1e-5)
    torch.testing.assert_close(model.predict(batch, 1), sasrec.predict(batch, 1))


def test_the_mask_learns():
    model, batch = make(contrastive_weight=1.0), batch_of(*LISTS * 10)
    model.loss(batch).total.backward()
    assert bool(model.mask.grad.any())
