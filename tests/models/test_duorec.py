"""DuoRec: which histories are views of which, and the loss between them, by hand."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from seqdiffrec.data.batches import RaggedBatch, cut_windows, history_batch, window_batch
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models import DuoRec, DuoRecConfig, SASRec
from seqdiffrec.models.duorec import TrainingExamples, one_of_each_sequence

T, ITEMS = 5, 9
# Each of the items 2, 3 and 6 is a target twice: what the other one is, is certain. 1, 4, 5 and 7 are never one.
TWINS = [[1, 2, 3], [4, 2], [5, 3, 6], [7, 4, 1, 6]]
OTHER = {(1,): [4], (1, 2): [5], (4,): [1], (5,): [1, 2], (5, 3): [7, 4, 1], (7, 4, 1): [5, 3]}


def ragged(*lists: list[int]) -> Sequences:
    lengths = np.array([len(one) for one in lists])
    items = np.array([item for one in lists for item in one], dtype=np.int32)
    return Sequences(items, np.cumsum(lengths) - lengths, np.cumsum(lengths))


def batch_of(*lists: list[int], shared: bool = False) -> RaggedBatch:
    windows = cut_windows(ragged(*lists), T, shared=shared, prefixes=True, rng=np.random.default_rng(0))
    return window_batch(ragged(*lists), windows)


def make(*lists: list[int], **settings: object) -> DuoRec:
    torch.manual_seed(1)
    given = {"hidden_size": 8, "max_length": T, "dropout": 0.0, "embedding_std": 0.5, "weight_std": 0.5}
    model = DuoRec(DuoRecConfig(**(given | settings)), ITEMS).eval()
    model.count_items(ragged(*lists))
    return model


def histories(tokens: torch.Tensor, lengths: torch.Tensor) -> list[tuple[int, ...]]:
    return [tuple(one.tolist()) for one in tokens.split(lengths.tolist())]


def nt_xent_by_hand(first: torch.Tensor, second: torch.Tensor, temperature: float) -> float:
    """The mean over all views of -log of the pair's odds among those with all other views, in float64."""
    views, count = torch.cat([first, second]).detach().double(), len(first)
    odds = (views @ views.T / temperature).exp()
    others = odds.sum(1) - odds.diagonal()
    return -(odds[torch.arange(2 * count), torch.arange(2 * count).roll(count)] / others).log().mean().item()


def without_items_that_are_no_twins(batch: RaggedBatch) -> RaggedBatch:
    """TWINS also has 4 and 1 as targets, once each: their examples, with histories 7 and 7 4, are left out."""
    rows = [row for row, target in enumerate(batch.targets.tolist()) if target in (2, 3, 6)]
    return replace(batch, **{name: getattr(batch, name)[rows] for name in ("rows", "places", "targets", "origins")})


def test_the_other_example_with_the_target_is_drawn():
    batch = without_items_that_are_no_twins(batch_of(*TWINS))
    examples = TrainingExamples(ragged(*TWINS), T, ITEMS)
    own = [
        tuple(batch.tokens[batch.offsets[row] :][:place].tolist())
        for row, place in zip(batch.rows, batch.places, strict=True)
    ]
    assert set(own) == set(OTHER)
    for _ in range(5):
        assert histories(*examples.draw(batch.targets, batch.origins)) == [tuple(OTHER[one]) for one in own]


def test_all_others_are_drawn_as_often_and_never_the_example_itself():
    train = ragged([2, 1], [3, 1], [4, 1, 8, 1], [5, 6], [7, 6, 1])  # 1 is a target five times
    examples = TrainingExamples(train, T, ITEMS)
    known = {1: (2,), 3: (3,), 5: (4,), 7: (4, 1, 8), 12: (7, 6)}
    for origin, own in known.items():
        times = 4000
        drawn = Counter(histories(*examples.draw(torch.full((times,), 1), torch.full((times,), origin))))
        assert set(drawn) == set(known.values()) - {own}
        assert all(count == pytest.approx(times / 4, rel=0.15) for count in drawn.values())


def test_a_target_that_occurs_once_is_its_own_other():
    examples = TrainingExamples(ragged([2, 1], [3, 4, 5]), T, ITEMS)
    drawn = examples.draw(torch.tensor([5, 1, 4]), torch.tensor([4, 1, 3]))
    assert histories(*drawn) == [(3, 4), (2,), (3,)]


def test_no_more_of_a_history_is_drawn_than_is_visible():
    examples = TrainingExamples(ragged([1, 2, 3, 4, 5, 6, 7, 9], [8, 9]), T, ITEMS)
    assert histories(*examples.draw(torch.tensor([9]), torch.tensor([9]))) == [(4, 5, 6, 7)]


@pytest.mark.parametrize("contrast", ["crossed", "unsupervised", "supervised", "both"])
def test_the_loss_is_cross_entropy_and_the_weighted_contrast(contrast):
    model = make(*TWINS, contrast=contrast, contrastive_weight=0.3, contrastive_temperature=2.0)
    batch = batch_of(*TWINS)
    own = [batch.tokens[start:end].tolist() for start, end in zip(batch.offsets[:-1], batch.offsets[1:], strict=True)]
    others = [OTHER.get(tuple(one), one) for one in own]
    state, same = (model.represent(history_batch(ragged(*lists), T), 1)[0] for lists in (own, others))
    terms = {"unsupervised": nt_xent_by_hand(state, state, 2.0), "supervised": nt_xent_by_hand(state, same, 2.0)}
    # Without dropout the unsupervised view is the state itself.
    terms |= {"crossed": terms["supervised"], "both": sum(terms.values())}
    probabilities = model.predict(batch, 1)[torch.arange(len(own)), batch.targets - 1]
    loss = model.loss(batch)
    assert loss.parts["recommendation"] == pytest.approx(-probabilities.log().mean().item(), rel=1e-5)
    assert loss.parts["contrastive"] == pytest.approx(terms[contrast], rel=1e-4)
    assert loss.parts["loss"] == pytest.approx(loss.parts["recommendation"] + 0.3 * terms[contrast], rel=1e-4)


def test_the_unsupervised_view_has_a_dropout_of_its_own():
    model, batch = make(*TWINS, contrast="unsupervised", dropout=0.5), batch_of(*TWINS)
    chosen = torch.arange(len(batch.targets))
    state, again = model._encode_views(batch, chosen)
    torch.testing.assert_close(state, again)
    state, again = model.train()._encode_views(batch, chosen)
    assert not torch.isclose(state, again).all(1).any()


def test_without_weight_it_is_sasrec():
    model, batch = make(*TWINS, contrastive_weight=0.0), batch_of(*TWINS)
    sasrec = SASRec(model.config, ITEMS).eval()
    sasrec.load_state_dict(model.state_dict())
    torch.testing.assert_close(model.loss(batch).total, sasrec.loss(batch).total, rtol=1e-6, atol=0)
    torch.testing.assert_close(model.predict(batch, 1), sasrec.predict(batch, 1))


def test_with_a_shared_history_one_target_of_each_stretch_is_contrasted():
    assert make(*TWINS, shared_history=True).shares_history and not make(*TWINS).shares_history
    times = 1000
    batch = batch_of(*TWINS * times, shared=True)
    chosen = one_of_each_sequence(batch)
    assert torch.equal(batch.rows[chosen], torch.arange(4 * times))
    for row, targets in enumerate([2, 1, 2, 3]):
        counts = Counter(batch.places[chosen[row::4]].tolist())
        assert counts == pytest.approx(dict.fromkeys(range(1, targets + 1), times / targets), rel=0.15)


def test_views_with_a_shared_history_are_those_without():
    """Of the chosen target; the history that is shared with later targets says nothing of them."""
    model, batch = make(*TWINS, shared_history=True), batch_of(*TWINS, shared=True)
    chosen = torch.tensor([0, 2, 3, 7])  # 2 after 1, 2 after 4, 3 after 5, 6 after 7 4 1
    state, again, same = model._encode_views(batch, chosen)
    own = [[1], [4], [5], [7, 4, 1]]
    expected, others = (
        model.represent(history_batch(ragged(*lists), T), 1)[0] for lists in (own, [OTHER[tuple(one)] for one in own])
    )
    for view, wanted in ((state[chosen], expected), (again, expected), (same, others)):
        torch.testing.assert_close(view, wanted, rtol=0, atol=1e-5)
    assert model.loss(batch).parts["recommendation"] == pytest.approx(
        make(*TWINS).loss(batch_of(*TWINS)).parts["recommendation"], rel=1e-5
    )
