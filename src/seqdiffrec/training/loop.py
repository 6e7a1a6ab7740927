"""Algorithm 1 as a plain loop: one epoch after the other, validation after each, the best weights kept.

The order of the targets, the noise and the dropout of a step derive from (seed, epoch, step) alone. A run that goes on
from a checkpoint in the middle of an epoch therefore ends with the same weights, bit for bit, as one that was not cut.
"""

import logging
import math
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from types import FrameType

import numpy as np
import torch
from torch import Tensor

from seqdiffrec.allocator import keep_freed_memory
from seqdiffrec.data.batches import RaggedBatch, cut_windows, epoch_batches
from seqdiffrec.data.errors import DataError
from seqdiffrec.data.split import Split
from seqdiffrec.data.words import counted
from seqdiffrec.evaluation import cutoffs, evaluate
from seqdiffrec.models import Loss, SequenceModel
from seqdiffrec.models.device import has_bfloat16, pick_device, use_bfloat16
from seqdiffrec.training.callbacks import Reporter
from seqdiffrec.training.checkpoint import RunError, RunFolder, all_finite
from seqdiffrec.training.optimization import MovingAverage, clip_gradients, learning_rate, make_optimizer
from seqdiffrec.training.settings import TrainingConfig
from seqdiffrec.training.state import EpochRow, TrainingState

log = logging.getLogger("seqdiffrec")

SELECT_AT = 10

REMEDY = "a checkpoint written before stays. Try a smaller learning_rate, or set max_gradient_norm"


class TrainingInterrupted(Exception):
    """The user stopped the run; its checkpoint, if it has a folder, is written."""


class TrainingDiverged(ValueError):
    """The loss is no longer a number; the last good checkpoint is kept."""


class Trainer:
    """Trains a model in place on ``split.train``, choosing its best epoch on ``split.validation``.

    model: ends with the weights of its best epoch by validation NDCG@10, seen items kept; with those of the last epoch
        where the split has no validation cases. An epoch of pre-training (`SequenceModel.is_pretraining`) is the best
        only where no other follows.
    run: where checkpoints, metrics and best weights go; None keeps all in memory.
    """

    def __init__(
        self,
        model: SequenceModel,
        split: Split,
        config: TrainingConfig,
        reporter: Reporter,
        run: RunFolder | None = None,
    ):
        keep_freed_memory()
        self.model = model.to(pick_device(config.device))
        self.split, self.config, self.reporter, self.run = split, config, reporter, run
        self.device = next(iter(model.buffers())).device
        self.bfloat16 = use_bfloat16(config.precision, self.device)
        self.state = TrainingState()
        model.count_items(split.train)
        self.best: dict[str, Tensor] | None = None  # the weights of the best epoch, where no run's folder has them
        self.optimizer = make_optimizer(model, config)
        self.average = MovingAverage(model, config.average_rate) if config.average_rate > 0 else None
        if not (split.train.lengths >= 2).any():
            raise DataError(
                "no training sequence has two items, so there is nothing to learn from; use longer histories"
            )
        self.stop = threading.Event()
        self.saved_at = time.monotonic()

    def resume(self) -> None:
        """Go on from the run's checkpoint. Raises ValueError where it does not fit."""
        assert self.run is not None
        if self.optimizer is None:
            raise RunError(f"{self.run.path} is a model that only counts: there is nothing to go on with")
        self.state = self.run.load_checkpoint(self.model, self.optimizer, self.average)
        if self.state.best_epoch >= 0:
            self.run.load_weights()  # the end needs them: a broken file is told now

    def train(self) -> TrainingState:
        """Train to the last epoch, or until ``patience`` epochs after pre-training bring nothing.

        Raises TrainingInterrupted on Ctrl-C, after the step at hand and a checkpoint; TrainingDiverged when the loss
        is not finite.
        """
        num_epochs = self.config.epochs if self.optimizer is not None else 1
        if self.optimizer is not None and self.bfloat16 and not has_bfloat16(self.device):
            log.warning(
                "%s has no instructions for bfloat16 and emulates it, a CPU at a hundredth of the speed of float32; "
                "set training.precision to auto or float32",
                self.device,
            )
        with _signals_set(self.stop, self.reporter), self.reporter:
            if self.optimizer is not None:
                self.reporter.start(self._where())
            while self.state.epoch < num_epochs and not self._out_of_patience():
                if self.optimizer is not None:
                    self._train_epoch(self.optimizer)
                self._end_epoch()
        best = self.best if self.run is None else self.run.load_weights()
        assert best is not None
        self.model.load_state_dict(best)
        if self.state.is_pretraining:
            log.warning(
                "%s: all that was trained, %s, was pre-training, and what comes after it was never reached; the best "
                "of these is kept. Raise training.epochs, or shorten the pre-training",
                type(self.model).__name__,
                counted(self.state.epoch, "epoch"),
            )
        if self.run is not None:
            self.run.finish(self.state, self._why_ended())
        return self.state

    def _why_ended(self) -> str:
        if self._out_of_patience():
            return f"{counted(self.config.patience, 'epoch')} without a better NDCG@{SELECT_AT}"
        return "all epochs done" + (", in pre-training" if self.state.is_pretraining else "")

    def _where(self) -> str:
        kind = "bfloat16" if self.bfloat16 else "float32"
        count = torch.get_num_threads()
        threads = f"{count} thread{'s' * (count > 1)}, " if self.device.type == "cpu" else ""
        return f"training on {self.device}: {threads}{kind} products (training.precision = {self.config.precision})"

    def _train_epoch(self, optimizer: torch.optim.Optimizer) -> None:
        """Train from batch ``state.step`` to the end of the epoch."""
        state, config, train = self.state, self.config, self.split.train
        order = np.random.default_rng([config.seed, state.epoch])
        windows = cut_windows(
            train,
            self.model.max_length,
            shared=self.model.shares_history,
            prefixes=config.prefixes,
            rng=order,
            first_targets=self.split.first_targets,
        )
        num_targets = int(windows.num_targets.sum())
        self.reporter.start_epoch(state, num_targets)
        self.model.start_epoch(num_targets)
        self.model.train()
        for batch in epoch_batches(train, windows, config.batch_size, order, skip=state.step):
            started = time.monotonic()
            rate = learning_rate(config, state.epoch + (state.targets + len(batch.targets)) / num_targets)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with seeded(config.seed, state.epoch, state.step, self.device):
                loss = self._step(optimizer, batch.to(self.device))
            state.add(loss.parts, len(batch.targets), time.monotonic() - started)
            self.reporter.step(state)
            self._pause_here()

    def _step(self, optimizer: torch.optim.Optimizer, batch: RaggedBatch) -> Loss:
        """Algorithm 1, lines 3 to 15."""
        autocast = torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else nullcontext()
        with autocast:
            loss = self.model.loss(batch)
        if not math.isfinite(loss.total.item()):
            raise TrainingDiverged(
                f"the loss is {loss.total.item()} in epoch {self.state.epoch + 1}, step {self.state.step + 1} "
                f"({loss.parts}); {REMEDY}"
            )
        optimizer.zero_grad()
        loss.total.backward()
        if self.config.max_gradient_norm is not None:
            clip_gradients(self.model.parameters(), self.config.max_gradient_norm)
        optimizer.step()
        if self.average is not None:
            self.average.update(self.state.steps_done + 1)
        return loss

    def _end_epoch(self) -> None:
        """Validate, keep the weights if they are the best so far, record the epoch."""
        started, state, pretraining = time.monotonic(), self.state, self.model.is_pretraining
        chosen_by, norm = f"NDCG@{min(SELECT_AT, self.model.num_items)}", self.model.embedding_norm()
        with self.average.in_place() if self.average is not None else nullcontext():
            metrics = self._validate()
            value = metrics["seen_kept"][chosen_by] if metrics else None
            row = EpochRow(
                epoch=state.epoch + 1,
                chosen_by=chosen_by,
                value=value,
                train=state.means(),
                embedding_norm=norm,
                validation=metrics,
                improved=value is None or value > state.best_value or (state.is_pretraining and not pretraining),
                targets=state.targets,
                train_seconds=round(state.seconds, 3),
                validation_seconds=round(time.monotonic() - started, 3),
            )
            if pretraining:
                row["pretraining"] = True
            state.end_epoch(row)
            if self.run is not None:
                self.run.save_epoch(state, self.model.state_dict() if row["improved"] else None)
            elif row["improved"]:
                self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self._checkpoint()
        self.reporter.end_epoch(row, state)

    def _validate(self) -> dict[str, dict[str, float]]:
        """Every metric under both protocols; empty where there are no validation cases."""
        if len(self.split.validation) == 0:
            return {}
        metrics = evaluate(
            lambda histories: self.model.predict_histories(histories, self.config.validation_seeds),
            self.split.validation,
            self.model.num_items,
            cutoffs(self.model.num_items),
            progress=self.reporter.validation,
        )
        return {"seen_kept": metrics["seen_kept"], "seen_removed": metrics["seen_removed"]}

    def _pause_here(self) -> None:
        """Between two steps: stop if the user asked for it, write a checkpoint if it is time."""
        if self.stop.is_set():
            self._checkpoint()
            raise TrainingInterrupted(f"stopped in epoch {self.state.epoch + 1} after {self.state.step} steps")
        if time.monotonic() - self.saved_at > 60 * self.config.checkpoint_minutes:
            self._checkpoint()

    def _checkpoint(self) -> None:
        if self.run is not None and self.optimizer is not None:
            # A finite loss may still have had a gradient that was not.
            if not all(all_finite(parameter.detach()) for parameter in self.model.parameters()):
                raise TrainingDiverged(f"weights are no longer numbers in epoch {self.state.epoch + 1}; {REMEDY}")
            self.run.save_checkpoint(self.model, self.optimizer, self.average, self.state)
        self.saved_at = time.monotonic()

    def _out_of_patience(self) -> bool:
        state = self.state
        return not state.is_pretraining and state.epoch - 1 - state.best_epoch >= self.config.patience


@contextmanager
def seeded(seed: int, epoch: int, step: int, device: torch.device) -> Generator[None]:
    """Inside, torch's random numbers depend on these three alone; outside they go on as if nothing had happened."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(np.random.SeedSequence([seed, epoch, step]).generate_state(1, np.uint64)[0]))
        yield


@contextmanager
def _signals_set(event: threading.Event, reporter: Reporter) -> Generator[None]:
    """Ctrl-C and a polite kill set the event; a second one interrupts at once. Only the main thread gets signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        reporter.stopping()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
