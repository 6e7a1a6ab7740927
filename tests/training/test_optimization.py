"""The course of the learning rate and the moving average, by hand."""

import math

import pytest
import torch
from torch import nn

from seqdiffrec.training import TrainingConfig
from seqdiffrec.training.optimization import MovingAverage, learning_rate, make_optimizer


def rates(at: list[float], **settings: object) -> list[float]:
    config = TrainingConfig(learning_rate=0.01, epochs=10, **settings)
    return [learning_rate(config, epochs) for epochs in at]


def test_learning_rates_by_hand():
    assert rates([0.1, 5, 10]) == [0.01, 0.01, 0.01]
    assert rates([0.5, 1, 2, 10], warmup_epochs=2) == pytest.approx([0.0025, 0.005, 0.01, 0.01])
    assert rates([0, 2.5, 10, 12], decay="linear") == pytest.approx([0.01, 0.0075, 0, 0])
    expected = [0.01 * 0.5 * (1 + math.cos(math.pi * share)) for share in (0, 0.3, 1)]
    assert rates([0, 3, 10], decay="cosine") == pytest.approx(expected)
    assert rates([1], warmup_epochs=2, decay="linear") == pytest.approx([0.01 * 0.5 * 0.9])


def test_moving_average_by_hand():
    """Rates min(0.5, (1 + t) / (10 + t)): 2/11, 3/12, ... and 0.5 from t = 8 on."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    average = MovingAverage(model, 0.5)
    value = 1.0
    for step in range(1, 12):
        nn.init.constant_(model.weight, float(step))
        average.update(step)
        rate = min(0.5, (1 + step) / (10 + step))
        value = rate * value + (1 - rate) * step
        assert average.weights["weight"].item() == pytest.approx(value)
    with average.in_place():
        assert model.weight.item() == pytest.approx(value)
    assert model.weight.item() == 11


def test_weight_decay_spares_biases_and_norms():
    """With no gradient but 0, AdamW shrinks by lr times decay, and only what is a matrix."""
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    optimizer = make_optimizer(model, TrainingConfig(learning_rate=0.1, weight_decay=0.5))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, one in model.named_parameters():
        shrunk = before[name] * (0.95 if name == "0.weight" else 1)
        torch.testing.assert_close(one.detach(), shrunk)
