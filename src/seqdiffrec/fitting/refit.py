"""The chosen settings trained once more, on the whole log: what is used need not do without the newest actions."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from seqdiffrec.data import Dataset
from seqdiffrec.fitting.race import Contender, Enough, train
from seqdiffrec.training import EpochRow, RunFolder, TerminalReporter, TrainingState


def refit(chosen: Contender, data: Dataset, folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Train the chosen trial on all actions, into `folder`, for as many epochs as its best one had.

    The learning rate falls as it did in the trial, which may have gone on for longer. The trial's temperature is kept:
    there are no cases left to fit one.

    Returns what fit.json says of it: epochs, actions and seconds.
    """
    started = time.monotonic()
    train(chosen.trial, data.whole(), folder, _UpTo(chosen.epoch), facts)
    fitted = RunFolder.open(chosen.run).record.get("temperature")
    if fitted is not None:
        RunFolder.open(folder).save_temperature(fitted)
    return {
        "epochs": chosen.epoch,
        "actions": data.corpus.num_actions,
        "seconds": time.monotonic() - started,
    }


def trials_share(data: Dataset) -> float:
    """The share of the time that trials may take, so that the longest, half of it, fits once more on all actions."""
    all_targets = data.corpus.num_actions - data.corpus.num_users
    trained = int(np.clip(data.split.train.lengths - 1, 0, None).sum())
    return 1 / (1 + 0.5 * all_targets / trained)


class _UpTo(TerminalReporter):
    """Ends a training after so many epochs."""

    def end_epoch(self, row: EpochRow, state: TrainingState) -> None:
        """Stop after the last one."""
        super().end_epoch(row, state)
        if state.epoch >= self.epochs:
            raise Enough(f"as many epochs as the best of the trial, {self.epochs}")
