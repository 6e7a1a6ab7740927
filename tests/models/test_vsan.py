"""VSAN: the loss by its parts, what is drawn and what is not, and the weight of the KL divergence."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence as torch_kl

from seqdiffrec.data.batches import RaggedBatch, cut_windows, history_batch, window_batch
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models import VSAN, VSANConfig
from seqdiffrec.models.vsan import kl_divergence

T, ITEMS, SIZE = 6, 9, 8
LISTS = [[1, 2, 3, 2], [5, 6], [9, 8, 7, 6, 5], [2, 2], [4, 1, 9]]


def ragged(*lists: list[int]) -> Sequences:
    lengths = np.array([len(one) for one in lists])
    items = np.array([item for one in lists for item in one], dtype=np.int32)
    return Sequences(items, np.cumsum(lengths) - lengths, np.cumsum(lengths))


def batch_of(*lists: list[int]) -> RaggedBatch:
    windows = cut_windows(ragged(*lists), T, shared=True, prefixes=True, rng=np.random.default_rng(0))
    return window_batch(ragged(*lists), windows)


def make(**settings: object) -> VSAN:
    torch.manual_seed(1)
    given = {"hidden_size": SIZE, "max_length": T, "dropout": 0.0, "embedding_std": 0.5, "weight_std": 0.5}
    return VSAN(VSANConfig(**(given | settings)), ITEMS)


def test_the_divergence_is_that_of_normal_distributions():
    mean, log_variance = torch.randn(5, 7), 2 * torch.randn(5, 7)
    expected = torch_kl(Normal(mean.double(), (log_variance.double() / 2).exp()), Normal(0, 1)).sum(1)
    torch.testing.assert_close(kl_divergence(mean, log_variance).double(), expected, rtol=1e-5, atol=1e-5)


def layer_by_hand(layer, x: torch.Tensor) -> torch.Tensor:
    """A post-norm layer over one sequence by torch's own attention, causal."""
    attention = torch.nn.functional.scaled_dot_product_attention
    heads = layer.num_heads
    key_value = layer.key_value(x).unflatten(-1, (2, heads, -1))
    query, key, value = (
        one.transpose(0, 1) for one in (layer.query(x).unflatten(-1, (heads, -1)), *key_value.unbind(1))
    )
    mixed = attention(query, key, value, is_causal=True).transpose(0, 1).flatten(1)
    x = layer.attention_norm(x + layer.output(mixed))
    return layer.feed_forward_norm(x + layer.narrow(torch.nn.functional.gelu(layer.wide(x))))


def by_hand(model: VSAN, history: list[int], noise: torch.Tensor | None = None) -> tuple[torch.Tensor, float]:
    """Scores of all items after a history, and the divergence at its last place, in float64."""
    model = model.double()
    x = model.table.embedding.weight[torch.tensor(history)] + model.position.weight[: len(history)]
    x = model.inference.input_norm(x)
    for layer in model.inference.layers:
        x = layer_by_hand(layer, x)
    mean, deviation = model.mean(x), (model.log_variance(x) / 2).exp()
    z = mean if noise is None else mean + deviation * noise.double()
    for layer in model.generative.layers:
        z = layer_by_hand(layer, z)
    scores = model.table.output(z[-1])[1:]
    return scores, torch_kl(Normal(mean[-1], deviation[-1]), Normal(0, 1)).sum().item()


@pytest.mark.parametrize("settings", [{}, {"num_layers": 2, "num_generative_layers": 3}])
def test_recommendations_take_the_mean(settings):
    probabilities = make(**settings).eval().predict(history_batch(ragged(*LISTS), T), 1)
    for row, history in enumerate(LISTS):
        expected = by_hand(make(**settings).eval(), history)[0].softmax(0)
        torch.testing.assert_close(probabilities[row].double(), expected, rtol=1e-4, atol=1e-6)


def test_the_loss_is_cross_entropy_of_a_draw_and_the_weighted_divergence(monkeypatch):
    batch = batch_of(*LISTS)
    noise = torch.randn(len(batch.tokens), SIZE, generator=torch.Generator().manual_seed(3))
    model = make(kl_weight=0.7, anneal_steps=0)
    monkeypatch.setattr(torch, "randn_like", lambda _: noise)
    loss = model.loss(batch)
    entropies, divergences = [], []
    for row, place, target in zip(batch.rows, batch.places, batch.targets, strict=True):
        begin = int(batch.offsets[row])
        history, drawn = batch.tokens[begin : begin + place].tolist(), noise[begin : begin + place]
        scores, divergence = by_hand(make(), history, drawn)
        entropies.append(-scores.log_softmax(0)[target - 1].item())
        divergences.append(divergence)
    assert loss.parts["recommendation"] == pytest.approx(np.mean(entropies), rel=1e-4)
    assert loss.parts["kl"] == pytest.approx(np.mean(divergences), rel=1e-4)
    assert loss.parts["loss"] == pytest.approx(np.mean(entropies) + 0.7 * np.mean(divergences), rel=1e-4)
    assert loss.total.item() == loss.parts["loss"]


def test_the_weight_of_the_divergence_rises_in_a_line():
    model, batch = make(kl_weight=0.6, anneal_steps=3), batch_of(*LISTS)
    weights = []
    for _ in range(5):
        parts = model.train().loss(batch).parts
        weights.append((parts["loss"] - parts["recommendation"]) / parts["kl"])
    assert weights == pytest.approx([0, 0.2, 0.4, 0.6, 0.6], abs=1e-5)
    model.eval().predict(history_batch(ragged(*LISTS), T), 1)
    model.loss(batch)
    assert model.state_dict()["steps_done"] == 5, "only training counts"


def test_training_draws_anew_each_time():
    model, batch = make(), batch_of(*LISTS)
    assert len({model.loss(batch).parts["recommendation"] for _ in range(5)}) == 5
