"""GRU4Rec: the recurrence written out in float64, and what a window's targets see."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from seqdiffrec.data.batches import RaggedBatch, cut_windows, history_batch, window_batch
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models import GRU4Rec, GRU4RecConfig

T, ITEMS, SIZE = 7, 12, 6
LISTS = [[3, 4, 5], [7, 1, 2, 3, 9, 8], [2], [6, 6, 1], [12, 11, 10, 9]]


def make(**settings: object) -> GRU4Rec:
    torch.manual_seed(1)
    model = GRU4Rec(GRU4RecConfig(hidden_size=SIZE, max_length=T, embedding_std=0.7, **settings), ITEMS).eval()
    with torch.no_grad():
        for name, parameter in model.layers.named_parameters():
            if "bias" in name:
                parameter.normal_(std=0.5)
    return model


def ragged(*lists: list[int]) -> Sequences:
    lengths = np.array([len(one) for one in lists])
    items = np.array([item for one in lists for item in one], dtype=np.int32)
    return Sequences(items, np.cumsum(lengths) - lengths, np.cumsum(lengths))


def windows(*lists: list[int]) -> RaggedBatch:
    sequences = ragged(*lists)
    rng = np.random.default_rng(0)
    return window_batch(sequences, cut_windows(sequences, T, shared=True, prefixes=True, rng=rng))


def by_hand(model: GRU4Rec, items: list[int]) -> list[float]:
    """The last state of a sequence: reset and update gates, and the candidate, unit by unit."""
    inputs = [model.table.embedding.weight[item].tolist() for item in items]
    for layer in model.layers:
        wi, wh = layer.weight_ih_l0.tolist(), layer.weight_hh_l0.tolist()
        bi, bh = layer.bias_ih_l0.tolist(), layer.bias_hh_l0.tolist()
        state, outputs = [0.0] * SIZE, []
        for x in inputs:
            into = [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(wi, bi, strict=True)]
            back = [sum(w * v for w, v in zip(row, state, strict=True)) + b for row, b in zip(wh, bh, strict=True)]
            new = []
            for unit, old in enumerate(state):
                reset = 1 / (1 + math.exp(-into[unit] - back[unit]))
                update = 1 / (1 + math.exp(-into[SIZE + unit] - back[SIZE + unit]))
                candidate = math.tanh(into[2 * SIZE + unit] + reset * back[2 * SIZE + unit])
                new.append((1 - update) * candidate + update * old)
            state = new
            outputs.append(state)
        inputs = outputs
    return inputs[-1]


@pytest.mark.parametrize("num_layers", [1, 2])
def test_the_states_are_those_of_the_recurrence(num_layers):
    model = make(num_layers=num_layers)
    with torch.no_grad():
        found = model.represent(history_batch(ragged(*LISTS), T), 1)[0]
    for state, items in zip(found, LISTS, strict=True):
        assert state.tolist() == pytest.approx(by_hand(model, items), abs=1e-6)


def each_prediction(model: GRU4Rec, *lists: list[int]) -> Tensor:
    with torch.no_grad():
        return model.predict(windows(*lists), 1)


def test_one_pass_serves_all_targets_of_a_window():
    """Each as a question about the items before it; windows of different lengths side by side."""
    model = make(num_layers=2)
    prefixes = [one[:stop] for one in LISTS for stop in range(1, len(one))]
    torch.testing.assert_close(
        each_prediction(model, *LISTS), model.predict_histories(ragged(*prefixes)), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("place", [1, 3, 5])
def test_no_output_depends_on_its_target_or_later_items(place):
    items = [3, 4, 5, 6, 7, 8]
    changed = [*items[:place], *(13 - item for item in items[place:])]
    model = make()
    before, after = each_prediction(model, items), each_prediction(model, changed)
    assert torch.equal(before[:place], after[:place])
    assert all(not torch.equal(before[r], after[r]) for r in range(place, 5))


def test_hidden_dropout_is_on_what_a_layer_gives_and_not_on_its_state():
    model, batch = make(hidden_dropout=0.5), windows(*LISTS)
    with torch.no_grad():
        whole, dropped = model.represent(batch, 1), model.train().represent(batch, 1)
    kept = dropped != 0
    assert 0.2 < kept.float().mean() < 0.8
    torch.testing.assert_close(dropped[kept], 2 * whole[kept])


def test_embedding_dropout_is_on_what_enters():
    model, batch = make(embedding_dropout=0.5), windows(*LISTS)
    with torch.no_grad():
        whole, dropped = model.represent(batch, 1), model.train().represent(batch, 1)
    assert bool((dropped != 0).all())
    assert not torch.allclose(whole, dropped)


def test_the_loss_is_the_mean_negative_log_probability_of_the_targets():
    model, items = make(), [3, 4, 5, 6, 7, 8]
    loss = model.loss(windows(items))
    expected = -each_prediction(model, items)[torch.arange(5), torch.tensor(items[1:]) - 1].log().mean()
    torch.testing.assert_close(loss.total, expected, rtol=1e-5, atol=0)
    loss.total.backward()
    assert all(bool(parameter.grad.to_dense().any()) for parameter in model.parameters())


def test_initial_weights_are_within_glorots_bound():
    torch.manual_seed(0)
    layer = GRU4Rec(GRU4RecConfig(hidden_size=64), ITEMS).layers[0]
    bound = math.sqrt(6 / 128)
    for weight in (layer.weight_ih_l0, layer.weight_hh_l0):
        assert 0.98 * bound < weight.abs().max() <= bound
    assert not layer.bias_ih_l0.any() and not layer.bias_hh_l0.any()
