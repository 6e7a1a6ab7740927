"""A training told to TensorBoard, MLflow, Weights & Biases or Trackio, by accelerate's classes for them.

They need no `Accelerator`, so that the loop stays our own (docs/adr/0002). MLflow, Weights & Biases and Trackio are set
up as they say themselves, by their environment variables.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from seqdiffrec.models.settings import SettingError
from seqdiffrec.training.callbacks import Reporter
from seqdiffrec.training.checkpoint import RunFolder
from seqdiffrec.training.state import EpochRow, TrainingState

log = logging.getLogger("seqdiffrec")

TrackerName = Literal["tensorboard", "mlflow", "wandb", "trackio"]
# The project, or experiment, under which runs stand.
PROJECT = "seqdiffrec"
NEEDS: dict[str, str] = {
    "tensorboard": "'seqdiffrec[trackers]'",
    "mlflow": "'seqdiffrec[trackers]' mlflow",
    "wandb": "'seqdiffrec[trackers]' wandb",
    "trackio": "'seqdiffrec[trackers]' trackio",
}


class Tracking(Reporter):
    """Hands everything on to another reporter, and each epoch's figures to a tracker.

    A tracker that fails in the middle is told about once and then left alone: the training goes on.
    """

    def __init__(self, inner: Reporter, name: TrackerName, folder: Path, settings: Mapping[str, Any]):
        """Start the tracker. Raises SettingError where it is not installed or does not start.

        folder: of the run: TensorBoard's files go into it; the others take its name.
        settings: what makes the run, in tables; noted beside it.
        """
        self.inner, self.name = inner, name
        try:
            self.tracker: Any = _tracker(name, folder)
            self.tracker.start()
            self.tracker.store_init_configuration(flat(settings))
        except ImportError as error:
            raise SettingError(
                f"training.tracker = {name} needs more packages ({error}): pip install {NEEDS[name]}"
            ) from error
        except Exception as error:  # each of the four has errors of its own
            raise SettingError(
                f"training.tracker = {name} does not start ({type(error).__name__}: {error}); "
                "set it up, or train without"
            ) from error

    def __enter__(self) -> Self:
        self.inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.inner.__exit__(kind, error, traceback)
        self._tell("finish")

    def start(self, where: str) -> None:
        """Handed on."""
        self.inner.start(where)

    def start_epoch(self, state: TrainingState, num_targets: int) -> None:
        """Handed on."""
        self.inner.start_epoch(state, num_targets)

    def step(self, state: TrainingState) -> None:
        """Handed on."""
        self.inner.step(state)

    def validation(self, done: int, total: int) -> None:
        """Handed on."""
        self.inner.validation(done, total)

    def stopping(self) -> None:
        """Handed on."""
        self.inner.stopping()

    def end_epoch(self, row: EpochRow, state: TrainingState) -> None:
        """The epoch's figures, under its number."""
        self.inner.end_epoch(row, state)
        self._tell("log", figures(row), step=row["epoch"])

    def _tell(self, what: str, *values: Any, **more: Any) -> None:
        if self.tracker is None:
            return
        try:
            getattr(self.tracker, what)(*values, **more)
        except Exception as error:  # whatever it is: days of training are worth more than a curve of them
            log.warning(
                "%s failed (%s: %s) and gets nothing more; training goes on", self.name, type(error).__name__, error
            )
            self.tracker = None


def tracked(
    reporter: Reporter, name: TrackerName | None, run: RunFolder | None, settings: Mapping[str, Any]
) -> Reporter:
    """The reporter, with a tracker beside it where one is named. Without a run's folder its files go to ``runs/``."""
    return reporter if name is None else Tracking(reporter, name, Path("runs") if run is None else run.path, settings)


def figures(row: EpochRow) -> dict[str, float]:
    """What is told of an epoch, by names that all four take: ``validation/seen_kept/NDCG_at_10``."""
    found = {f"train/{name}": value for name, value in row["train"].items()}
    if row["embedding_norm"] is not None:
        found["train/embedding_norm"] = row["embedding_norm"]
    if row["train_seconds"] > 0:
        found["train/targets_per_second"] = row["targets"] / row["train_seconds"]
    for protocol, metrics in row["validation"].items():
        found |= {f"validation/{protocol}/{name.replace('@', '_at_')}": value for name, value in metrics.items()}
    return found


def flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Tables of settings as one, ``model.hidden_size`` and so on; what is no number, text or truth value as text."""
    result: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{before}{name}.")  # pyright: ignore[reportUnknownArgumentType]
        else:
            result[before + name] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return result


def _tracker(name: TrackerName, folder: Path) -> Any:
    from accelerate import PartialState, tracking  # pyright: ignore[reportMissingTypeStubs, reportMissingImports]

    PartialState(cpu=True)  # the trackers of accelerate ask it which process they are in
    if name == "tensorboard":
        return tracking.TensorBoardTracker("tensorboard", folder)
    if name == "mlflow":
        return tracking.MLflowTracker(PROJECT, run_name=folder.name)
    if name == "wandb":
        return tracking.WandBTracker(PROJECT, name=folder.name)
    return tracking.TrackioTracker(PROJECT, name=folder.name)
