"""For all tests: one torch thread a process, the same hypothesis examples on every run, a hook into training."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)

# No deadline, since the first call of a torch operation is slow; `derandomize` so that a failure comes back.
settings.register_profile("seqdiffrec", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("seqdiffrec")


@pytest.fixture
def at_step(monkeypatch) -> Callable[[int, Callable[[], None]], None]:
    """at_step(3, action): the action happens after the third step of training from now on."""
    # Not above: what is imported before the tests are configured goes without jaxtyping's checks of shapes.
    from seqdiffrec.training import TerminalReporter

    def arrange(step: int, action: Callable[[], None]) -> None:
        done = 0
        real = TerminalReporter.step

        def count(self: TerminalReporter, state: Any) -> None:
            nonlocal done
            done += 1
            real(self, state)
            if done == step:
                action()

        monkeypatch.setattr(TerminalReporter, "step", count)

    return arrange
