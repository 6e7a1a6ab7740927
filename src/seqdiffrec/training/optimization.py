"""The optimiser, the course of its learning rate, and the moving average of the weights."""

import math
from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from seqdiffrec.training.settings import TrainingConfig


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer | None:
    """Adam, or AdamW where weights decay; None for a model that only counts, such as popularity."""
    parameters = list(model.parameters())
    if not parameters:
        return None
    if config.weight_decay == 0:
        return torch.optim.Adam(parameters, lr=config.learning_rate, fused=True)
    # Biases, norms and single numbers are not decayed, as is usual.
    groups = [
        {"params": [one for one in parameters if one.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [one for one in parameters if one.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def learning_rate(config: TrainingConfig, epochs_done: float) -> float:
    """The learning rate after so many epochs: a linear rise over the warm-up, then constant, linear or cosine to 0."""
    rise = 1.0 if config.warmup_epochs == 0 else min(1.0, epochs_done / config.warmup_epochs)
    left = 1 - min(1.0, epochs_done / config.epochs)
    fall = {"constant": 1.0, "linear": left, "cosine": 0.5 * (1 - math.cos(math.pi * left))}[config.decay]
    return config.learning_rate * rise * fall


class MovingAverage:
    """Exponential moving average of a model's parameters: ``average = rate average + (1 - rate) weights`` a step.

    In the first steps the rate is (1 + t) / (10 + t), so that the initial weights are soon forgotten.

    Attributes:
        weights: the average, by name of parameter.
    """

    def __init__(self, model: nn.Module, rate: float):
        self.rate = rate
        self.parameters = dict(model.named_parameters())
        self.weights = {name: one.detach().clone() for name, one in self.parameters.items()}

    @torch.no_grad()
    def update(self, steps_done: int) -> None:
        """Take in the weights after ``steps_done`` steps, 1 after the first."""
        rate = min(self.rate, (1 + steps_done) / (10 + steps_done))
        for name, one in self.parameters.items():
            self.weights[name].lerp_(one, 1 - rate)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Go on from these averages."""
        for name, one in self.weights.items():
            one.copy_(weights[name])

    @contextmanager
    def in_place(self) -> Generator[None]:
        """Inside, the model has the averaged weights."""
        own = {name: one.detach().clone() for name, one in self.parameters.items()}
        self._set(self.weights)
        try:
            yield
        finally:
            self._set(own)

    @torch.no_grad()
    def _set(self, weights: dict[str, Tensor]) -> None:
        for name, one in self.parameters.items():
            one.copy_(weights[name])
