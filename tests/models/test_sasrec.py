"""SASRec: each state predicts the next item and knows nothing of it."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from seqdiffrec.data.batches import RaggedBatch, cut_windows, history_batch, window_batch
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models import SASRec, SASRecConfig, item_loss

T, ITEMS = 7, 12


def make(**settings: object) -> SASRec:
    torch.manual_seed(1)
    config = SASRecConfig(hidden_size=8, max_length=T, dropout=0.0, embedding_std=0.5, weight_std=0.5, **settings)
    return SASRec(config, ITEMS).eval()


def one_window(items: list[int]) -> RaggedBatch:
    sequences = sequence(items)
    rng = np.random.default_rng(0)
    return window_batch(sequences, cut_windows(sequences, T, shared=True, prefixes=True, rng=rng))


def sequence(*lists: list[int]) -> Sequences:
    lengths = np.array([len(one) for one in lists])
    items = np.array([item for one in lists for item in one], dtype=np.int32)
    return Sequences(items, np.cumsum(lengths) - lengths, np.cumsum(lengths))


def each_prediction(model: SASRec, items: list[int]) -> Tensor:
    """Probabilities for every target of a window, from one pass over it."""
    with torch.no_grad():
        return model.predict(one_window(items), 1)


@pytest.mark.parametrize("place", [1, 2, 3, 4, 5])
def test_no_output_depends_on_its_target_or_later_items(place):
    items = [3, 4, 5, 6, 7, 8]
    changed = [*items[:place], *(13 - item for item in items[place:])]
    model = make()
    before, after = each_prediction(model, items), each_prediction(model, changed)
    assert torch.equal(before[:place], after[:place])  # target r stands at place r + 1
    assert all(not torch.equal(before[r], after[r]) for r in range(place, 5))


@pytest.mark.parametrize("tied", [True, False])
def test_training_pass_and_inference_agree(tied):
    """One pass over a sequence scores each target as a question about the items before it does."""
    model, items = make(tied_output=tied), [3, 4, 5, 6, 7, 8]
    prefixes = sequence(*(items[:k] for k in range(1, 6)))
    torch.testing.assert_close(each_prediction(model, items), model.predict_histories(prefixes), rtol=0, atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_the_loss_is_the_mean_negative_log_probability_of_the_targets(tied):
    model, items = make(tied_output=tied), [3, 4, 5, 6, 7, 8]
    loss = model.loss(one_window(items))
    expected = -each_prediction(model, items)[torch.arange(5), torch.tensor(items[1:]) - 1].log().mean()
    torch.testing.assert_close(loss.total, expected, rtol=1e-5, atol=0)
    assert loss.parts == {"loss": loss.total.item()}
    loss.total.backward()
    assert all(bool(parameter.grad.any()) for parameter in model.parameters())


def test_seeds_change_nothing():
    model, batch = make(), history_batch(sequence([3, 4], [5]), T)
    assert torch.equal(model.predict(batch, 1), model.predict(batch, 7))


def test_tied_output_has_no_weights_of_its_own():
    tied, untied = (sum(p.numel() for p in make(tied_output=tied).parameters()) for tied in (True, False))
    assert untied - tied == (ITEMS + 1) * (8 + 1)


def test_without_position_embedding_one_layer_knows_no_order():
    for position_embedding in (True, False):
        model = make(position_embedding=position_embedding, num_layers=1)
        one, other = (model.predict_histories(sequence(items)) for items in ([3, 4, 5], [4, 3, 5]))
        assert torch.allclose(one, other, rtol=0, atol=1e-6) != position_embedding


PUBLISHED = {"num_heads": 1, "norm_first": True, "activation": "relu", "feed_forward_factor": 1, "input_norm": False}


def by_hand(model: SASRec, items: list[int], scale: float) -> Tensor:
    """Scores of all items after a history in float64, place by place (Kang and McAuley 2018, Section III)."""
    model = copy.deepcopy(model).double()
    x = [scale * model.table.embedding.weight[item] + model.position.weight[place] for place, item in enumerate(items)]
    for layer in model.encoder.layers:
        normed = [layer.attention_norm(one) for one in x]
        keys, values = zip(*(layer.key_value(one).chunk(2) for one in normed), strict=True)
        for place, one in enumerate(normed):
            query = layer.query(one)
            share = torch.stack([query @ key / 8**0.5 for key in keys[: place + 1]]).softmax(0)
            x[place] = x[place] + layer.output(sum(s * v for s, v in zip(share, values, strict=False)))
        x = [one + layer.narrow(layer.wide(layer.feed_forward_norm(one)).clamp(min=0)) for one in x]
    return model.table.embedding.weight[1:] @ model.encoder.output_norm(x[-1])


@pytest.mark.parametrize(("scaled", "scale"), [(False, 1.0), (True, 8**0.5)])
@torch.no_grad()
def test_the_published_network_by_hand(scaled, scale):
    """Scaled, embeddings are larger by the root of their size, 8, where they enter, and not where items are scored."""
    model, lists = make(**PUBLISHED, scale_embeddings=scaled), [[3, 4, 5, 3, 9, 12], [7], [2, 6, 2]]
    for parameter in model.encoder.parameters():
        parameter += 0.3 * torch.randn_like(parameter)
    expected = torch.stack([by_hand(model, items, scale).softmax(0) for items in lists])
    torch.testing.assert_close(model.predict_histories(sequence(*lists)).double(), expected, rtol=1e-5, atol=1e-7)


def test_the_published_loss_by_hand(monkeypatch):
    """Binary cross-entropy of each target and one negative, over all states of a window."""
    model, items, negatives = make(**PUBLISHED, loss="bce"), [3, 4, 5, 6, 7, 8], [1, 9, 12, 1, 2]
    monkeypatch.setattr(item_loss, "draw_unseen", lambda *_: torch.tensor(negatives)[:, None])
    total = 0.0
    for place in range(1, 6):
        with torch.no_grad():
            scores = by_hand(model, items[:place], 1.0)
        total -= scores[items[place] - 1].sigmoid().log().item()
        total -= (1 - scores[negatives[place - 1] - 1].sigmoid()).log().item()
    assert model.loss(one_window(items)).total.item() == pytest.approx(total / 5, rel=1e-5)
