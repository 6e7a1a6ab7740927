"""What a training shows while it runs."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from seqdiffrec.training.state import EpochRow, TrainingState


class Reporter:
    """Told of every step and epoch; says nothing. Used as a context manager around the whole training."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def start(self, where: str) -> None:
        """A training starts: on which device, and in which precision."""

    def start_epoch(self, state: TrainingState, num_targets: int) -> None:
        """An epoch starts, or goes on after ``state.step`` batches."""

    def step(self, state: TrainingState) -> None:
        """A batch is done."""

    def validation(self, done: int, total: int) -> None:
        """So many validation cases are ranked."""

    def stopping(self) -> None:
        """The user asked to stop; the training ends after the step at hand, or after a validation."""

    def end_epoch(self, row: EpochRow, state: TrainingState) -> None:
        """An epoch is validated and recorded."""


class TerminalReporter(Reporter):
    """A moving line in a terminal, and a lasting line an epoch everywhere; all on standard error."""

    def __init__(self, epochs: int):
        self.epochs = epochs
        self.console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
            console=self.console,
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self.task = self.bar.add_task("", total=None, detail="")
        self.started = time.monotonic()
        self.epochs_here = 0

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.bar.stop()

    def start(self, where: str) -> None:
        """A lasting line, since device and precision are chosen for the user."""
        self.console.print(where, highlight=False)

    def start_epoch(self, state: TrainingState, num_targets: int) -> None:
        """The bar starts anew, or where the epoch was cut."""
        self.bar.reset(
            self.task,
            description=f"epoch {state.epoch + 1}/{self.epochs}",
            total=num_targets,
            completed=state.targets,
        )

    def step(self, state: TrainingState) -> None:
        """The bar moves; losses and speed beside it."""
        losses = "  ".join(f"{name} {value:.3f}" for name, value in state.means().items())
        speed = f"{state.targets / max(state.seconds, 1e-9):,.0f} targets/s"
        self.bar.update(self.task, completed=state.targets, detail=f"{losses}  {speed}")

    def validation(self, done: int, total: int) -> None:
        """The bar counts ranked cases."""
        self.bar.update(self.task, description="validating", completed=done, total=total, detail="")

    def stopping(self) -> None:
        """A line, since it may take a validation until the training stops."""
        self.console.print("stopping after this step; once more stops at once", highlight=False)

    def end_epoch(self, row: EpochRow, state: TrainingState) -> None:
        """A lasting line."""
        self.epochs_here += 1
        parts = [f"epoch {row['epoch']:>3}" + (", pre-training" if row.get("pretraining") else "")]
        parts += [f"{name} {value:.4f}" for name, value in row["train"].items()]
        if row["embedding_norm"] is not None:
            parts.append(f"norm {row['embedding_norm']:.3f}")
        if row["value"] is not None:
            parts.append(f"validation {row['chosen_by']} {row['value']:.4f}" + (" *" if row["improved"] else "  "))
        if row["train_seconds"] > 0:
            parts.append(f"{row['targets'] / row['train_seconds']:,.0f} targets/s")
            each = (time.monotonic() - self.started) / self.epochs_here
            parts.append(f"at most {_duration(each * (self.epochs - row['epoch']))} left")
        self.console.print("  ".join(parts), highlight=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
