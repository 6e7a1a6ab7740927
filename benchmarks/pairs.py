"""Fair timing on a machine whose speed drifts: the systems take turns, and are compared within one turn only."""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

Task = Callable[[], int]
"""Does one lap of a system's work, to the end, and says how many units (targets, cases) it did."""

LEAST_ROUNDS = 5


def add_rounds(parser: argparse.ArgumentParser) -> None:
    """How many rounds."""
    parser.add_argument("--rounds", type=int, default=LEAST_ROUNDS, help="how often the systems take turns")


@dataclass(frozen=True)
class Lap:
    """One turn of one system."""

    units: int
    seconds: float

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / self.seconds


Laps = dict[str, list[Lap]]
"""The laps of each system, one a round."""


def take_turns(tasks: dict[str, Task], rounds: int, clock: Callable[[], float] = time.perf_counter) -> Laps:
    """Let every system do one lap a round; the order turns round after each, so that no system is always first.

    Raises ValueError for fewer rounds than `LEAST_ROUNDS`: their spread would say nothing.
    """
    if rounds < LEAST_ROUNDS:
        raise ValueError(f"{rounds} rounds are too few to tell a difference from noise: take at least {LEAST_ROUNDS}")
    laps: Laps = {name: [] for name in tasks}
    for number in range(rounds):
        for name in list(tasks) if number % 2 == 0 else reversed(tasks):
            started = clock()
            units = tasks[name]()
            laps[name].append(Lap(units, clock() - started))
    return laps


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of some values."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Sum up at least one value."""
        return cls(median(values), min(values), max(values))


def ratios(laps: Laps, reference: str) -> dict[str, Spread]:
    """How many times as fast as `reference` each system is, by the laps of the same round."""
    return {
        name: Spread.of([lap.rate / base.rate for lap, base in zip(own, laps[reference], strict=True)])
        for name, own in laps.items()
    }
