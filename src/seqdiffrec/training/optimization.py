"""The optimiser, the course of its learning rate, and the moving average of the weights."""

import math
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from seqdiffrec.training.settings import TrainingConfig


class _ByRows(torch.optim.Adam):
    """Adam, with a plainer rule for parameters whose gradient is sparse: item tables under a loss over drawn items.

    Of these only the rows in the gradient are changed. A row has no momentum, and one second moment: the mean over its
    numbers of the squared gradient. So a table of V rows has a state of 2 V numbers, where Adam has two tables.
    """

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all parameters."""
        rows: list[tuple[dict[str, Any], Tensor, Tensor]] = []
        for group in self.param_groups:
            for one in cast(list[Tensor], group["params"]):
                if one.grad is not None and one.grad.is_sparse:
                    rows.append((group, one, one.grad.coalesce()))
                    one.grad = None
        loss = cast(float | None, super().step(closure))
        for group, one, gradient in rows:
            self._update_rows(group, one, gradient)
        return loss

    @torch.no_grad()
    def _update_rows(self, group: dict[str, Any], one: Tensor, gradient: Tensor) -> None:
        state, index, values = self.state[one], gradient.indices()[0], gradient.values()
        if not state:
            # The counts of the rows: named and typed as `load_state_dict` wants it.
            state["step"], state["row_square"] = one.new_zeros(len(one)), one.new_zeros(len(one))
        rate = group["betas"][1]
        steps = state["step"][index] + 1
        square = state["row_square"][index].lerp(values.square().mean(1), 1 - rate)
        state["step"][index], state["row_square"][index] = steps, square
        size = group["lr"] / ((square / (1 - rate**steps)).sqrt() + group["eps"])
        if group["weight_decay"]:
            one[index] *= 1 - group["lr"] * group["weight_decay"]
        one.index_add_(0, index, values * size[:, None], alpha=-1)


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer | None:
    """Adam, or AdamW where weights decay, with item tables by rows under a loss over drawn items.

    None for a model that only counts, such as popularity.
    """
    parameters = list(model.parameters())
    if not parameters:
        return None
    betas = 0.9, config.adam_beta2
    if config.weight_decay == 0:
        return _ByRows(parameters, lr=config.learning_rate, betas=betas, fused=True)
    # Biases, norms and single numbers are not decayed, as is usual.
    groups = [
        {"params": [one for one in parameters if one.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [one for one in parameters if one.dim() < 2], "weight_decay": 0.0},
    ]
    return _ByRows(groups, lr=config.learning_rate, betas=betas, fused=True, decoupled_weight_decay=True)


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> None:
    """Scale all gradients so that their common Euclidean norm is at most ``limit``, the rows of sparse ones too."""
    gradients: list[Tensor] = []
    for one in parameters:
        if one.grad is not None and one.grad.is_sparse:
            one.grad = one.grad.coalesce()
            gradients.append(one.grad._values())
        elif one.grad is not None:
            gradients.append(one.grad)
    factor = limit / (torch.nn.utils.get_total_norm(gradients) + 1e-6)
    for gradient in gradients:
        gradient.mul_(factor.clamp(max=1.0))


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
