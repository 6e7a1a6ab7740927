"""Training: Algorithm 1 as a plain loop, checkpoints, and the folder of a run."""

from seqdiffrec.training.callbacks import Reporter, TerminalReporter
from seqdiffrec.training.checkpoint import RunError, RunFolder
from seqdiffrec.training.loop import Trainer, TrainingDiverged, TrainingInterrupted
from seqdiffrec.training.settings import TrainingConfig
from seqdiffrec.training.state import EpochRow, TrainingState

__all__ = [
    "EpochRow",
    "Reporter",
    "RunError",
    "RunFolder",
    "TerminalReporter",
    "Trainer",
    "TrainingConfig",
    "TrainingDiverged",
    "TrainingInterrupted",
    "TrainingState",
]
