"""STOSA: attention, loss and ranking by Wasserstein distances, in float64 by the equations, place by place."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seqdiffrec.data.batches import RaggedBatch, cut_windows, history_batch, window_batch
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models import STOSA, STOSAConfig, stosa as module
from seqdiffrec.models.stosa import centred_root

T, ITEMS, SIZE = 6, 9, 8
LISTS = [[1, 2, 3, 2], [5, 6], [9, 8, 7, 6, 5], [2, 2], [4, 1, 9]]


def ragged(*lists: list[int]) -> Sequences:
    lengths = np.array([len(one) for one in lists])
    items = np.array([item for one in lists for item in one], dtype=np.int32)
    return Sequences(items, np.cumsum(lengths) - lengths, np.cumsum(lengths))


def batch_of(*lists: list[int]) -> RaggedBatch:
    windows = cut_windows(ragged(*lists), T, shared=True, prefixes=True, rng=np.random.default_rng(0))
    return window_batch(ragged(*lists), windows)


def make(**settings: object) -> STOSA:
    torch.manual_seed(1)
    given = {"hidden_size": SIZE, "num_heads": 2, "max_length": T, "dropout": 0.0, "embedding_std": 0.6}
    model = STOSA(STOSAConfig(**(given | settings)), ITEMS).eval()
    for part in model.modules():  # what starts at nothing is something
        if isinstance(part, torch.nn.Linear | torch.nn.LayerNorm):
            torch.nn.init.normal_(part.bias, std=0.3)
    return model


def wasserstein(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """The squared 2-Wasserstein distance of two Gaussians, with whole covariance matrices and their square roots."""

    def root(matrix: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T

    (mean, covariance), (mean2, covariance2) = one, other
    first, second = torch.diag(covariance), torch.diag(covariance2)
    return (mean - mean2).square().sum() + torch.trace(first + second - 2 * root(root(first) @ second @ root(first)))


def positive(x: Tensor) -> Tensor:
    return F.elu(x) + 1


def by_hand(model: STOSA, history: list[int]) -> tuple[Tensor, Tensor]:
    """The Gaussian after a history, by the equations: one place and head after the other."""
    model, heads, count = model.double(), model.config.num_heads, len(history)
    rows = model.table.embedding.weight[torch.tensor(history)] + model.position.weight[:count]
    mean, covariance = (model.input_norm(part) for part in rows.chunk(2, 1))
    mean, covariance = F.elu(mean), positive(covariance)
    for layer in model.layers:
        streams = {"mean": mean, "covariance": covariance}
        query = {name: getattr(layer.query, name)(x).chunk(heads, 1) for name, x in streams.items()}
        both = {name: getattr(layer.key_value, name)(x).chunk(heads, 1) for name, x in streams.items()}
        key = {name: [one.chunk(2, 1)[0] for one in parts] for name, parts in both.items()}
        value = {name: [one.chunk(2, 1)[1] for one in parts] for name, parts in both.items()}
        for parts in (query, key, value):
            parts["covariance"] = [positive(one) for one in parts["covariance"]]
        mixed = {name: torch.zeros_like(x) for name, x in streams.items()}
        size = SIZE // heads
        for head in range(heads):
            here = slice(head * size, (head + 1) * size)
            for place in range(count):
                distances = [
                    wasserstein(*((part["mean"][head][at], part["covariance"][head][at]) for part, at in pair))
                    for pair in (((query, place), (key, other)) for other in range(place + 1))
                ]
                weights = (-torch.stack(distances) / size**0.5).softmax(0)[:, None]
                mixed["mean"][place, here] = (weights * value["mean"][head][: place + 1]).sum(0)
                mixed["covariance"][place, here] = (weights**2 * value["covariance"][head][: place + 1]).sum(0)
        out = {}
        for name, x in streams.items():
            x = layer.attention_norm(x + getattr(layer.output, name)(mixed[name]))
            wide = F.elu(getattr(layer.wide, name)(x))
            out[name] = getattr(layer.feed_forward_norm, name)(x + getattr(layer.narrow, name)(wide))
        mean = out["mean"] if model.config.encode_mean else mean
        covariance = positive(out["covariance"])
    return mean[-1], covariance[-1]


def item(model: STOSA, index: int) -> tuple[Tensor, Tensor]:
    mean, raw = model.table.embedding.weight[index].double().chunk(2)
    return mean, positive(raw)


def distances_by_hand(history: list[int], **settings: object) -> Tensor:
    model = make(**settings).double()
    state = by_hand(model, history)
    return torch.stack([wasserstein(state, item(model, index)) for index in range(1, ITEMS + 1)]).detach()


@pytest.mark.parametrize("settings", [{}, {"num_layers": 2}, {"num_layers": 2, "encode_mean": False}])
def test_items_are_ranked_by_their_distance(settings):
    model = make(**settings)
    probabilities = model.predict(history_batch(ragged(*LISTS), T), 1)
    for row, history in enumerate(LISTS):
        expected = distances_by_hand(history, **settings)
        torch.testing.assert_close(probabilities[row].double(), (-expected).softmax(0), rtol=1e-4, atol=1e-6)
        assert torch.equal(probabilities[row].argsort(descending=True), expected.argsort())


@pytest.mark.parametrize("settings", [{}, {"regularizer_weight": 0.7, "num_layers": 2}])
def test_the_loss_is_bpr_over_distances_and_the_regulariser(monkeypatch, settings):
    batch, model = batch_of(*LISTS), make(**settings)
    negatives = torch.randint(1, ITEMS + 1, (len(batch.targets), 1), generator=torch.Generator().manual_seed(2))
    negatives[3] = 0  # has none
    monkeypatch.setattr(module, "draw_unseen", lambda *_: negatives)
    loss = model.loss(batch)
    recommendation, regularizer = [], []
    twin = make(**settings).double()
    for number, (row, place, target) in enumerate(zip(batch.rows, batch.places, batch.targets, strict=True)):
        history = batch.tokens[batch.offsets[row] :][:place].tolist()
        state, aim, negative = by_hand(twin, history), item(twin, int(target)), item(twin, int(negatives[number]))
        pairs = (state, aim), (state, negative), (aim, negative)
        at_target, at_negative, between = (wasserstein(*pair).item() for pair in pairs)
        known = int(negatives[number]) > 0
        recommendation.append(math.log1p(math.exp(at_target - at_negative)) * known)
        regularizer.append(max(0.0, at_target - between) * known)
    assert loss.parts["recommendation"] == pytest.approx(np.mean(recommendation), rel=1e-4)
    assert loss.parts["regularizer"] == pytest.approx(np.mean(regularizer), rel=1e-4)
    weight = model.config.regularizer_weight
    assert loss.parts["loss"] == pytest.approx(np.mean(recommendation) + weight * np.mean(regularizer), rel=1e-4)
    assert loss.total.item() == loss.parts["loss"]


def test_the_full_loss_is_a_softmax_over_minus_the_distances():
    batch, model = batch_of([9, 8, 7, 6, 5]), make(loss="full")
    expected = [
        float((-distances_by_hand([9, 8, 7, 6, 5][:place])).log_softmax(0)[target - 1])
        for place, target in zip(batch.places.tolist(), batch.targets.tolist(), strict=True)
    ]
    assert model.loss(batch).parts["loss"] == pytest.approx(-np.mean(expected), rel=1e-4)


def test_negatives_are_items_that_were_not_taken(monkeypatch):
    drawn: list[Tensor] = []
    draw = module.draw_unseen
    monkeypatch.setattr(module, "draw_unseen", lambda *given: drawn.append(draw(*given)) or drawn[-1])
    batch = batch_of(*20 * [[1, 2, 3, 4, 5]], *60 * [[9, 8]])
    make().loss(batch)
    of_first, of_second = drawn[0][batch.rows < 20], drawn[0][batch.rows >= 20]
    assert set(of_first.flatten().tolist()) == {6, 7, 8, 9}
    assert set(of_second.flatten().tolist()) == {1, 2, 3, 4, 5, 6, 7}


@pytest.mark.parametrize("encode_mean", [True, False])
def test_what_older_items_move(encode_mean):
    """As in the authors' code, without `encode_mean` the mean is that of the newest item and its place."""
    model = make(encode_mean=encode_mean, num_layers=2)
    first, second = (model.represent(history_batch(ragged(one), T), 1)[0, 0] for one in ([1, 2, 3], [5, 4, 3]))
    assert torch.equal(first[:SIZE], second[:SIZE]) != encode_mean
    assert not torch.allclose(first[SIZE:], second[SIZE:])


def test_the_root_of_a_covariance_is_exact_and_has_a_gradient_everywhere():
    raw = torch.tensor([-200.0, -40.0, -17.0, -1.0, -1e-9, 0.0, 1e-9, 3.0, 1e8], requires_grad=True)
    root = centred_root(raw)
    exact = [math.sqrt(x + 1) - 1 if x > 0 else math.expm1(x / 2) for x in raw.tolist()]
    np.testing.assert_allclose(root.detach(), exact, rtol=1e-6, atol=1e-9)
    root.sum().backward()
    assert bool(raw.grad.isfinite().all()) and raw.grad[5].item() == pytest.approx(0.5)


def test_similar_items_are_near_ones():
    model = make()
    similarity = model.similarity(torch.tensor([3, 7]))
    for row, index in enumerate((3, 7)):
        expected = [-wasserstein(item(model, index), item(model, other)).item() for other in range(1, ITEMS + 1)]
        np.testing.assert_allclose(similarity[row], expected, rtol=1e-4, atol=1e-5)
        assert similarity[row].argmax() == index - 1


def test_what_starts_as_published():
    model = STOSA(STOSAConfig(hidden_size=128), 4000)
    weight = model.table.embedding.weight
    assert not weight[0].any()
    assert weight[1:].mean().item() == pytest.approx(0.01, abs=2e-4)
    assert weight[1:].std().item() == pytest.approx(0.02, rel=0.02)
    assert model.layers[0].query.covariance.weight.mean().item() == pytest.approx(0.01, abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_size": 10, "num_heads": 4}, "multiple of num_heads"),
        ({"label_smoothing": 0.1}, "label_smoothing = 0.1 needs loss = full"),
        ({"seen_bias": True}, "seen_bias = True needs loss = full"),
        ({"loss": "full", "regularizer_weight": 0.1}, "regularizer_weight = 0.1 needs loss = bpr"),
        ({"loss": "full", "regularizer_weight": 0}, "regularizer_weight = 0.0 needs loss = bpr"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        STOSAConfig(**settings)


def test_settings_of_a_saved_run_are_taken_again():
    """They hold the default of what their loss does not use."""
    for loss in ("bpr", "full"):
        config = STOSAConfig(loss=loss)
        assert STOSAConfig(**config.model_dump()) == config
