"""Trials within a time: the floor, then each model that learns in turn; what is best shows on validation."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from seqdiffrec.data import Dataset
from seqdiffrec.data.split import Split
from seqdiffrec.data.words import counted
from seqdiffrec.evaluation.significance import Protocol
from seqdiffrec.fitting.plan import FLOOR, LEARNERS, Trial, trials
from seqdiffrec.inference import Recommender, load, recommender_class
from seqdiffrec.models.settings import SettingError
from seqdiffrec.training import EpochRow, Reporter, TerminalReporter, TrainingState

FEWEST_EPOCHS = 10
"""What each trial is to have before another one is planned: after fewer, settings cannot be told apart."""
MOST_EPOCHS = 25
_PATIENCE = 4
_MARGIN = 0.9  # of the time is planned: the machine may be busier later
_PROBE_STEPS = 12
_PROBE_CASES = 1024


@dataclass(frozen=True)
class Contender:
    """A trained model of the race.

    Attributes:
        trial: what it is.
        run: its folder.
        value: the validation NDCG@10 of its best epoch.
        epoch: that epoch, from 1.
        seconds: what training and validation took.
    """

    trial: Trial
    run: Path
    value: float
    epoch: int
    seconds: float


@dataclass(frozen=True)
class Race:
    """Trains contenders on `data`, each into a folder of its own below `folder`.

    Attributes:
        minutes: the user's time, of which trials take `share`; it began at `began`, of `time.monotonic`.
        protocol: whose validation NDCG@10 counts.
        say: takes a line before each trial.
        facts: what to note in each run's record.
    """

    data: Dataset
    folder: Path
    minutes: float
    share: float
    began: float
    protocol: Protocol
    say: Callable[[str], None]
    facts: dict[str, Any]

    def run(self) -> list[Contender]:
        """Train the floor, and then as many trials of each learner as there is time for; at least one of each.

        Raises SettingError, before anything that takes long, where the time is too short for one epoch of each; it
        says how many minutes would do.
        """
        tried: list[Contender] = []
        for name in FLOOR:
            self.say(f"{name}: counting")
            tried.append(self._train(Trial(name, {}), self.folder / name, Reporter()))
        self.say("measuring how fast this machine trains")
        epoch_seconds = {name: self._epoch_seconds(trials(name, self.data)[0]) for name in LEARNERS}
        self._check_time(epoch_seconds)
        for place, name in enumerate(LEARNERS):
            # What one leaves is the next one's: a trial may end early, or its model be fast.
            end = time.monotonic() + self._left / (len(LEARNERS) - place)
            tried += self._try_settings(name, end, epoch_seconds[name])
        return tried

    @property
    def _left(self) -> float:
        """Seconds until the trials are to be over."""
        return 60 * self.minutes * self.share + self.began - time.monotonic()

    def _try_settings(self, name: str, end: float, first_epoch: float) -> list[Contender]:
        """As many trials of a model as have epochs enough before `end`; at least one."""
        tried: list[Contender] = []
        left = end - time.monotonic()
        chosen = trials(name, self.data)[: max(1, int(_MARGIN * left / first_epoch / FEWEST_EPOCHS))]
        for place, trial in enumerate(chosen):
            each = first_epoch if place == 0 else self._epoch_seconds(trial)
            left = end - time.monotonic()
            fits = int(_MARGIN * left / (len(chosen) - place) / each)
            if place > 0 and fits < FEWEST_EPOCHS:
                continue
            epochs = max(1, min(MOST_EPOCHS, fits))
            self.say(f"{name}: {trial.told()}; at most {counted(epochs, 'epoch')}; {left / 60:.1f} min left for {name}")
            planned = replace(trial, settings=trial.settings | {"epochs": epochs, "patience": min(_PATIENCE, epochs)})
            tried.append(self._train(planned, self.folder / f"{name}-{place + 1}", _Until(end, epochs)))
        return tried

    def _train(self, trial: Trial, folder: Path, reporter: Reporter) -> Contender:
        started = time.monotonic()
        recommender = train(trial, self.data, folder, reporter, self.facts)
        best = recommender.state.history[recommender.state.best_epoch]
        value = best["validation"][self.protocol][best["chosen_by"]]
        return Contender(trial, folder, value, best["epoch"], time.monotonic() - started)

    def _check_time(self, epoch_seconds: dict[str, float]) -> None:
        left = self._left
        needed = sum(epoch_seconds.values()) / _MARGIN
        if needed <= left:
            return
        each = " and ".join(f"{seconds / 60:.1f} min of {name}" for name, seconds in epoch_seconds.items())
        one, ten = (self.minutes + (epochs * needed - left) / 60 / self.share for epochs in (1, 10))
        raise SettingError(
            f"{self.minutes:g} minutes are too short for this log: an epoch takes about {each} here. One epoch of each "
            f"fits into --minutes {math.ceil(one)}, ten into --minutes {math.ceil(ten)}; or give a shorter log, such "
            "as the newest actions only"
        )

    def _epoch_seconds(self, trial: Trial) -> float:
        """What an epoch with its validation takes here, by the faster of two short ones.

        The first warms up; and other work on the machine may hold one of them up, which would count many times over.
        """
        split, chosen = self.data.split, np.random.default_rng(0)
        targets = np.clip(split.train.lengths - 1, 0, None)
        order = chosen.permutation(len(targets))
        wanted = _PROBE_STEPS * int(trial.settings["batch_size"])
        enough = int(np.count_nonzero(np.cumsum(targets[order]) < wanted)) + 1
        some = split.validation.select(chosen.permutation(len(split.validation))[:_PROBE_CASES])
        part = replace(self.data, split=Split(split.train.select(order[:enough]), some, split.test))
        recommender = recommender_class(trial.model)(**trial.settings | {"epochs": 2, "patience": 2})
        short = recommender.fit(part, reporter=Reporter()).state.history
        training = min(row["train_seconds"] / row["targets"] for row in short)
        validation = min(row["validation_seconds"] for row in short) / len(some)
        return training * int(targets.sum()) + validation * len(split.validation)


def best_of_each(tried: Sequence[Contender]) -> list[Contender]:
    """The best of each model by validation, the best of all first."""
    found: dict[str, Contender] = {}
    for one in tried:
        if one.trial.model not in found or one.value > found[one.trial.model].value:
            found[one.trial.model] = one
    return sorted(found.values(), key=lambda one: -one.value)


def train(trial: Trial, data: Dataset, folder: Path, reporter: Reporter, facts: dict[str, Any]) -> Recommender:
    """Train a trial into `folder`, to its last epoch or until the reporter raises `Enough`."""
    recommender = recommender_class(trial.model)(**trial.settings)
    try:
        return recommender.fit(data, out=folder, reporter=reporter, facts=facts)
    except Enough as enough:
        recommender = load(folder)  # with the best of the epochs that are done
        assert recommender.run is not None
        recommender.run.finish(recommender.state, str(enough))
        return recommender


class Enough(Exception):
    """A training is to end after the epoch at hand, for the reason given; what its folder holds is kept."""


class _Until(TerminalReporter):
    """Ends a training after the last epoch that fits into its time."""

    def __init__(self, end: float, epochs: int):
        super().__init__(epochs)
        self.end = end

    def end_epoch(self, row: EpochRow, state: TrainingState) -> None:
        """Stop where the next epoch would be too long."""
        super().end_epoch(row, state)
        each = row["train_seconds"] + row["validation_seconds"]
        if state.epoch < self.epochs and time.monotonic() + each > self.end:
            raise Enough("the time was over")
