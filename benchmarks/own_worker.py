"""A system of ours, or the padded reference, trains and ranks in a process of its own (`benchmarks.protocol`).

The systems train through `Trainer`'s own step: batch, loss, backward, fused Adam. The reference gets the same batches
of single targets, the same precision and the same optimiser.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from benchmarks.operations import forward_flop, padded_work, training_flop, work_of
from benchmarks.padded_sasrec import PaddedSASRec, padded
from benchmarks.process import finish
from benchmarks.protocol import Channel, Log, Pace
from benchmarks.workload import Workload, make_model
from seqdiffrec.data.batches import RaggedBatch, cut_windows, epoch_batches, history_batch
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.data.split import Cases, Split
from seqdiffrec.evaluation import rank_targets
from seqdiffrec.models import DiffRec, SASRecConfig, SequenceModel
from seqdiffrec.models.device import Precision, pick_device, rank_in, use_bfloat16
from seqdiffrec.models.encoder import EncoderConfig
from seqdiffrec.training import Reporter, Trainer, TrainingConfig
from seqdiffrec.training.loop import seeded

MODULE = "benchmarks.own_worker"
REFERENCE = "padded SASRec in plain torch"


def batches(
    train: Sequences, max_length: int, batch_size: int, *, shared: bool, seed: int, prefixes: bool = True
) -> Iterator[RaggedBatch]:
    """Training batches without end, cut and shuffled as `Trainer` does."""
    for epoch in range(1_000_000):
        order = np.random.default_rng([seed, epoch])
        windows = cut_windows(train, max_length, shared=shared, prefixes=prefixes, rng=order)
        yield from epoch_batches(train, windows, batch_size, order)


def train_step(trainer: Trainer, batch: RaggedBatch) -> None:
    """One step of the trainer's own, on this batch."""
    assert trainer.optimizer is not None, "a model that only counts has no steps"
    with seeded(trainer.config.seed, 0, trainer.state.step, trainer.device):
        loss = trainer._step(trainer.optimizer, batch.to(trainer.device))
    trainer.state.add(loss.parts, len(batch.targets), 0.0)


class OwnSystem:
    """A model of ours; counts the operations of all batches so far, where the loss is over all items."""

    def __init__(self, model: SequenceModel, size: EncoderConfig, split: Split, config: TrainingConfig):
        self.trainer = Trainer(model, split, config, Reporter())
        shared = model.shares_history
        self.batches = batches(split.train, model.max_length, config.batch_size, shared=shared, seed=config.seed)
        self.model, self.split, self.size, self.flop = model, split, size, 0
        model.train()

    def step(self) -> int:
        """Train on a batch, and return the number of its targets."""
        batch = next(self.batches)
        train_step(self.trainer, batch)
        drawn = batch.repeat_targets(self.model.config.noise_draws) if isinstance(self.model, DiffRec) else batch
        self.flop += training_flop(work_of(self.model, drawn), self.size, self.model.num_items)
        return len(batch.targets)

    def rank(
        self,
        part: str = "validation",
        seeds: int = 1,
        cases: int | None = None,
        list_ranks: bool = True,
        precision: Precision = "float32",
    ) -> dict[str, Any]:
        """Rank the targets of a part of the split, or of its first cases."""
        chosen = first(self.split.test if part == "test" else self.split.validation, cases)
        with rank_in(precision, self.trainer.device):
            ranks = rank_targets(
                lambda histories: self.model.predict_histories(histories, seeds), chosen, self.model.num_items
            )
        finish()
        self.model.train()
        return {"cases": len(chosen)} | ({"ranks": ranks.seen_kept.tolist()} if list_ranks else {})

    def count(self, part: str, seeds: int, cases: int | None = None) -> dict[str, Any]:
        """The operations that `rank` takes."""
        chosen = first(self.split.test if part == "test" else self.split.validation, cases)
        batch = history_batch(chosen.histories, self.model.max_length)
        work = work_of(self.model, batch, self.model.num_draws(seeds))
        return {"flop": forward_flop(work, self.size, self.model.num_items)}


def first(cases: Cases, count: int | None) -> Cases:
    """The first so many cases."""
    return Cases(cases.users[:count], cases.histories.select(slice(count)), cases.targets[:count])


class PaddedSystem:
    """The same steps of the reference."""

    def __init__(self, settings: SASRecConfig, num_items: int, split: Split, config: TrainingConfig):
        self.device = pick_device(config.device)
        self.length, self.flop = settings.max_length, 0
        self.model = PaddedSASRec(settings, num_items).to(self.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate, fused=True)
        self.bfloat16 = use_bfloat16(config.precision, self.device)
        self.batches = batches(split.train, settings.max_length, config.batch_size, shared=False, seed=config.seed)
        self.flop_a_target = training_flop(padded_work(1, self.length), settings, num_items)

    def step(self) -> int:
        """Train on a batch, and return the number of its targets."""
        batch = next(self.batches)
        histories, targets = padded(batch, self.length).to(self.device), batch.targets.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else nullcontext():
            loss = self.model.loss(histories, targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.flop += len(targets) * self.flop_a_target
        return len(targets)


def make_system(spec: dict[str, Any], log: Log) -> OwnSystem | PaddedSystem:
    """What the specification asks for, untrained."""
    split, size = Workload(log, "").split, spec["size"]
    config = TrainingConfig(
        precision=spec["precision"],
        batch_size=spec["rows"],
        learning_rate=spec["learning_rate"],
        seed=spec["seed"],
    )
    torch.manual_seed(spec["seed"])
    if spec["model"] == REFERENCE:
        return PaddedSystem(SASRecConfig(**size), log.num_items, split, config)
    model = make_model(spec["model"], log.num_items, size, **spec.get("settings", {}))
    return OwnSystem(model, EncoderConfig(**size), split, config)


def main() -> None:
    """Train until the benchmark has had enough."""
    channel = Channel.open()
    log = Log.read(channel.spec["data"])
    system = make_system(channel.spec, log)
    orders = {"rank": system.rank, "count": system.count} if isinstance(system, OwnSystem) else {}
    facts = {"batch": f"{channel.spec['rows']} targets", "num_items": log.num_items}
    pace = Pace(channel, facts, orders, besides=lambda: {"flop": system.flop})
    pace.begin()
    while True:
        pace.step(system.step())


if __name__ == "__main__":
    main()
