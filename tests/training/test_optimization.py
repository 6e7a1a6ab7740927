"""The course of the learning rate and the moving average, by hand."""

import math

import pytest
import torch
from torch import nn

from seqdiffrec.training import TrainingConfig
from seqdiffrec.training.optimization import MovingAverage, clip_gradients, learning_rate, make_optimizer


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


def test_rows_of_a_sparse_gradient_by_hand():
    """Row 1 comes twice in the first step, row 3 in the second; each has a count and second moment of its own."""
    table = nn.Embedding(4, 2, sparse=True)
    nn.init.zeros_(table.weight)
    optimizer = make_optimizer(table, TrainingConfig(learning_rate=0.1))
    square, steps, expected = {1: 0.0, 3: 0.0}, {1: 0, 3: 0}, torch.zeros(4, 2)
    for index, factor in (([1, 1], [3.0, 4.0]), ([1, 3], [1.0, -2.0])):
        optimizer.zero_grad()
        (table(torch.tensor(index)) * torch.tensor(factor)).sum().backward()
        optimizer.step()
        for row in set(index):
            gradient = sum(torch.tensor(factor) for one in index if one == row)
            steps[row] += 1
            square[row] = 0.999 * square[row] + 0.001 * float(gradient.square().mean())
            expected[row] -= 0.1 * gradient / (math.sqrt(square[row] / (1 - 0.999 ** steps[row])) + 1e-8)
    torch.testing.assert_close(table.weight.detach(), expected)
    state = optimizer.state[table.weight]
    assert sum(tensor.numel() for tensor in state.values()) == 2 * 4


def test_weight_decay_of_a_sparse_gradient_reaches_its_rows_alone():
    table = nn.Embedding(3, 2, sparse=True)
    nn.init.ones_(table.weight)
    optimizer = make_optimizer(table, TrainingConfig(learning_rate=0.1, weight_decay=0.5))
    (0 * table(torch.tensor([1]))).sum().backward()
    optimizer.step()
    torch.testing.assert_close(table.weight[:, 0].detach(), torch.tensor([1.0, 0.95, 1.0]))


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("beta2", [0.999, 0.9])
def test_dense_gradients_are_torchs_adam(beta2, decay):
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    config = TrainingConfig(learning_rate=0.1, adam_beta2=beta2, weight_decay=decay)
    groups = [{"params": [theirs.weight]}, {"params": [theirs.bias], "weight_decay": 0.0}]
    mine = make_optimizer(ours, config)
    other = torch.optim.AdamW(groups, lr=0.1, betas=(0.9, beta2), weight_decay=decay)
    for step in range(3):
        for model, optimizer in ((ours, mine), (theirs, other)):
            optimizer.zero_grad()
            model(torch.arange(3.0) + step).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


@pytest.mark.parametrize("limit", [0.1, 5.0, 100.0])
def test_clipping_counts_sparse_rows_in(limit):
    """The gradient of row 1 is (3, 3) + (1, 1), that of the other parameter 2: norm 6."""
    table, single = nn.Embedding(3, 2, sparse=True), nn.Parameter(torch.zeros(()))
    ((table(torch.tensor([1, 1])) * torch.tensor([[3.0], [1.0]])).sum() + 2 * single).backward()
    clip_gradients([*table.parameters(), single], limit)
    factor = min(1.0, limit / 6)
    expected = factor * torch.tensor([[0.0, 0.0], [4.0, 4.0], [0.0, 0.0]])
    torch.testing.assert_close(table.weight.grad.to_dense(), expected)
    assert single.grad.item() == pytest.approx(2 * factor)
