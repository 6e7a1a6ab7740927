"""Training speed on Beauty: DiffRec with both attention patterns and SASRec beside a padded SASRec in plain torch.

The systems train through `Trainer`'s own step: batch, loss, backward, fused Adam. The reference gets the same batches
of single targets, the same precision and the same optimiser. All score items by their embeddings (tied output). Each
has a process of its own, and they take turns.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from benchmarks.machine import finish, matmul_rate, peak_memory
from benchmarks.operations import padded_work, training_flop, work_of
from benchmarks.padded_sasrec import PaddedSASRec, padded
from benchmarks.pairs import Spread, ratios, take_turns
from benchmarks.workload import SIZE, SYSTEMS, Workload, models
from seqdiffrec.data.batches import RaggedBatch, cut_windows, epoch_batches
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models import SASRecConfig, SequenceModel
from seqdiffrec.models.device import pick_device, use_bfloat16
from seqdiffrec.models.encoder import EncoderConfig
from seqdiffrec.training import Reporter, Trainer, TrainingConfig
from seqdiffrec.training.loop import seeded

REFERENCE = "padded SASRec in plain torch"
BATCH_SIZE = 256


def batches(train: Sequences, max_length: int, *, shared: bool, seed: int = 0) -> Iterator[RaggedBatch]:
    """Training batches without end, cut and shuffled as `Trainer` does."""
    for epoch in range(1_000_000):
        order = np.random.default_rng([seed, epoch])
        windows = cut_windows(train, max_length, shared=shared, prefixes=True, rng=order)
        yield from epoch_batches(train, windows, BATCH_SIZE, order)


class TrainerLap:
    """Some training steps of a model through `Trainer`; counts the operations of all batches so far."""

    def __init__(self, model: SequenceModel, size: EncoderConfig, load: Workload, config: TrainingConfig, steps: int):
        self.trainer = Trainer(model, load.split, config, Reporter())
        self.batches = batches(load.split.train, model.max_length, shared=model.shares_history)
        self.size, self.steps, self.flop, self.targets = size, steps, 0, 0
        model.train()

    def __call__(self) -> int:
        """Train, and return the number of targets."""
        trainer, before = self.trainer, self.targets
        for _ in range(self.steps):
            batch = next(self.batches)
            with seeded(trainer.config.seed, 0, trainer.state.step, trainer.device):
                loss = trainer._step(trainer.optimizer, batch.to(trainer.device))
            trainer.state.add(loss.parts, len(batch.targets), 0.0)
            self.flop += training_flop(work_of(trainer.model, batch), self.size, trainer.model.num_items)
            self.targets += len(batch.targets)
        finish(trainer.device)
        return self.targets - before


class PaddedLap:
    """The same steps of the reference."""

    def __init__(self, load: Workload, config: TrainingConfig, steps: int):
        settings = SASRecConfig(**SIZE)
        self.device, self.steps = pick_device(config.device), steps
        self.length, self.flop, self.targets = settings.max_length, 0, 0
        self.model = PaddedSASRec(settings, load.num_items).to(self.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate, fused=True)
        self.bfloat16 = use_bfloat16(config.precision, self.device)
        self.batches = batches(load.split.train, settings.max_length, shared=False)
        self.flop_a_target = training_flop(padded_work(1, self.length), settings, load.num_items)

    def __call__(self) -> int:
        """Train, and return the number of targets."""
        before = self.targets
        for _ in range(self.steps):
            batch = next(self.batches)
            histories, targets = padded(batch, self.length).to(self.device), batch.targets.to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else nullcontext():
                loss = self.model.loss(histories, targets)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.targets += len(targets)
        finish(self.device)
        self.flop = self.targets * self.flop_a_target
        return self.targets - before


def lap_of(load: Workload, config: TrainingConfig, steps: int, name: str) -> PaddedLap | TrainerLap:
    """One of the systems, untrained."""
    if name == REFERENCE:
        return PaddedLap(load, config, steps)
    return TrainerLap(models(load.num_items)[name], EncoderConfig(**SIZE), load, config, steps)


class Worker:
    """A system in a process of its own, so that its memory and compiled kernels are those of a training of it alone.

    Calling it does one lap; `told` holds what the process said after it.
    """

    def __init__(self, name: str, arguments: list[str]):
        command = [sys.executable, "-m", "benchmarks", *arguments, "--worker", name]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.told: dict[str, int] = {}

    def __call__(self) -> int:
        """Have the process train for a lap, and return the number of targets."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("lap\n")
        self.process.stdin.flush()
        self.told = json.loads(self.process.stdout.readline())
        return self.told["units"]

    def end(self) -> None:
        """Let the process go."""
        self.process.communicate()


def work(load: Workload, precision: str, steps: int, name: str) -> None:
    """The other side of a `Worker`: a lap for each line of standard input, what it did as a line of JSON."""
    lap = lap_of(load, TrainingConfig(precision=precision, batch_size=BATCH_SIZE), steps, name)
    for _ in sys.stdin:
        units = lap()
        told = {"units": units, "flop": lap.flop, "targets": lap.targets, "peak": peak_memory(pick_device("auto"))}
        print(json.dumps(told), flush=True)


def run(*, precision: str, steps: int, rounds: int, data_arguments: list[str]) -> dict[str, Any]:
    """Time all systems. Returns settings, the matmul rate, and a row a system."""
    device = pick_device("auto")
    arguments = ["training", "--precision", precision, "--steps", str(steps), *data_arguments]
    systems = {name: Worker(name, arguments) for name in (REFERENCE, *SYSTEMS)}
    for system in systems.values():
        system()  # a lap to warm up
    rate_before = matmul_rate(device)
    laps = take_turns(systems, rounds)
    rate = (rate_before + matmul_rate(device)) / 2
    against = ratios(laps, REFERENCE)
    rows: dict[str, Any] = {}
    for name, system in systems.items():
        speed, flop = Spread.of([one.rate for one in laps[name]]), system.told["flop"] / system.told["targets"]
        rows[name] = {
            "targets_per_second": vars(speed),
            "times_reference": vars(against[name]),
            "mflop_per_target": round(flop / 1e6, 1),
            "share_of_matmul_rate": round(speed.median * flop / rate, 3),
            "peak_memory_mib": round(system.told["peak"] / 2**20),
        }
        system.end()
    settings = {**SIZE, "tied_output": True, "batch_targets": BATCH_SIZE, "steps": steps, "rounds": rounds}
    settings["bfloat16"] = use_bfloat16(precision, device)
    return {"settings": settings, "reference": REFERENCE, "matmul_gflop_per_second": round(rate / 1e9, 1), "rows": rows}
