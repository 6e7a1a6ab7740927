"""Seconds of the full-ranking test of Beauty, with 1 and with 10 noise draws, on untrained models of the paper's size.

What training teaches does not change the time. SASRec draws no noise and is the reference.
"""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.machine import finish
from benchmarks.pairs import Spread, ratios, take_turns
from benchmarks.workload import SIZE, Workload, models
from seqdiffrec.data.split import Cases
from seqdiffrec.evaluation import rank_targets
from seqdiffrec.models import SequenceModel
from seqdiffrec.models.device import pick_device

SEEDS = (1, 10)
REFERENCE = "SASRec"
WARM_UP_CASES = 512


def ranker(model: SequenceModel, cases: Cases, num_seeds: int, device: torch.device) -> Callable[[], int]:
    """A lap: rank all cases, and return their number."""

    def lap() -> int:
        rank_targets(lambda histories: model.predict_histories(histories, num_seeds), cases, model.num_items)
        finish(device)
        return len(cases)

    return lap


def first(cases: Cases, count: int) -> Cases:
    """The first so many cases."""
    return Cases(cases.users[:count], cases.histories.select(slice(count)), cases.targets[:count])


def run(load: Workload, *, rounds: int, num_cases: int | None) -> dict[str, Any]:
    """Time all systems on the test cases, or on the first ``num_cases`` of them."""
    device = pick_device("auto")
    cases = load.split.test if num_cases is None else first(load.split.test, num_cases)
    tasks: dict[str, Callable[[], int]] = {}
    for name, model in models(load.num_items).items():
        model.to(device)
        ranker(model, first(cases, WARM_UP_CASES), 1, device)()
        for seeds in (1,) if name == REFERENCE else SEEDS:
            label = name if name == REFERENCE else f"{name}, {seeds} seed{'s' * (seeds > 1)}"
            tasks[label] = ranker(model, cases, seeds, device)
    laps = take_turns(tasks, rounds)
    against = ratios(laps, REFERENCE)
    rows = {
        name: {
            "seconds": vars(Spread.of([lap.seconds for lap in own])),
            "cases_per_second": vars(Spread.of([lap.rate for lap in own])),
            "times_reference": vars(against[name]),
        }
        for name, own in laps.items()
    }
    settings = {**SIZE, "cases": len(cases), "block_size": 256, "rounds": rounds}
    return {"settings": settings, "reference": REFERENCE, "rows": rows}
