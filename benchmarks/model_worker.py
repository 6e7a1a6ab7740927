"""A model of the registry trains, as the library trains it or on padded rows, in a process of its own.

On padded rows every training example is a row of its own: T - 1 places, the history at their end and padding before
it, and one target. What the models compute is their own code for both; padding goes through all of it, as in a plain
implementation, but is not masked.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.own_worker import batches, train_step
from benchmarks.protocol import Channel, Log, Pace
from benchmarks.workload import Workload
from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.models import BERT4Rec, DuoRec, SequenceModel, find_model
from seqdiffrec.models.duorec import TrainingExamples
from seqdiffrec.training import Reporter, Trainer, TrainingConfig

MODULE = "benchmarks.model_worker"
# What some models have besides a hidden size; here all are as large.
OTHER_SIZES = ("recurrent_size", "latent_size", "adversary_size")


def padded_rows(batch: RaggedBatch, length: int) -> RaggedBatch:
    """The batch, of one target a sequence, with every history made up to ``length`` places by zeros before it."""
    tokens, offsets = filled(batch.tokens, batch.lengths, length)
    return replace(batch, tokens=tokens, offsets=offsets, places=torch.full_like(batch.places, length))


def filled(tokens: Tensor, lengths: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Sequences that lie end to end, each with zeros before it up to ``length`` items; and where they begin and end."""
    is_item = torch.arange(length, device=tokens.device) >= length - lengths[:, None]
    rows = tokens.new_zeros(is_item.shape)
    rows[is_item] = tokens
    return rows.flatten(), torch.arange(len(lengths) + 1, device=tokens.device) * length


class FilledExamples(TrainingExamples):
    """DuoRec's other histories of the same target, padded as well."""

    padded_to: int

    def draw(self, targets: Tensor, origins: Tensor) -> tuple[Tensor, Tensor]:
        """As `TrainingExamples.draw`."""
        tokens, offsets = filled(*super().draw(targets, origins), self.padded_to)
        return tokens, offsets.diff()


class CountingBERT4Rec(BERT4Rec):
    """Says how many places its last batch had masked: the targets of the Cloze task."""

    num_masked = 0

    def _mask(self, batch: RaggedBatch) -> RaggedBatch:
        cloze = super()._mask(batch)
        self.num_masked = len(cloze.targets)
        return cloze


def in_turns(batch_size: int, num_targets: int) -> dict[str, float]:
    """Settings with which the two sides of mfgan take turns from the first step on, a batch each."""
    turn = batch_size / num_targets
    no_pretraining = {"pretraining_epochs": 0, "discriminator_pretraining_epochs": 0}
    return {"generator_epochs": turn, "discriminator_epochs": turn, **no_pretraining}


def make_model(spec: dict[str, Any], log: Log) -> SequenceModel:
    """The model that the specification names, untrained, at its sizes as far as it has them."""
    kind = find_model(spec["model"])
    size = spec["size"] | dict.fromkeys(OTHER_SIZES, spec["size"]["hidden_size"])
    settings = {name: value for name, value in size.items() if name in kind.config_class.model_fields}
    if kind.name == "mfgan":
        settings |= in_turns(spec["rows"], log.num_targets)
    if kind is BERT4Rec:
        kind = CountingBERT4Rec
        settings |= {"last_item_proportion": 1.0} if spec["padded"] else {}
    return kind(kind.config_class(**settings | spec["settings"]), log.num_items)


class ModelSystem:
    """A model, and the batches that it trains on."""

    def __init__(self, model: SequenceModel, log: Log, config: TrainingConfig, *, padded: bool):
        split = Workload(log, "").split
        self.model, self.padded_to = model, model.max_length - 1 if padded else None
        self.trainer = Trainer(model, split, config, Reporter())
        if self.padded_to is not None and isinstance(model, DuoRec):
            model.examples = FilledExamples(split.train, model.max_length, model.num_items).to(self.trainer.device)
            model.examples.padded_to = self.padded_to
        shared = model.shares_history and not padded
        self.batches = batches(split.train, model.max_length, config.batch_size, shared=shared, seed=config.seed)
        model.train()

    def step(self) -> int:
        """Train on a batch, and return the number of its targets."""
        batch = next(self.batches)
        train_step(self.trainer, batch if self.padded_to is None else padded_rows(batch, self.padded_to))
        return self.model.num_masked if isinstance(self.model, CountingBERT4Rec) else len(batch.targets)


def make_system(spec: dict[str, Any], log: Log) -> ModelSystem:
    """What the specification asks for, untrained."""
    config = TrainingConfig(
        precision=spec["precision"], batch_size=spec["rows"], learning_rate=spec["learning_rate"], seed=spec["seed"]
    )
    torch.manual_seed(spec["seed"])
    return ModelSystem(make_model(spec, log), log, config, padded=spec["padded"])


def main() -> None:
    """Train until the benchmark has had enough."""
    channel = Channel.open()
    system = make_system(channel.spec, Log.read(channel.spec["data"]))
    pace = Pace(channel, {"batch": f"{channel.spec['rows']} targets"})
    pace.begin()
    while True:
        pace.step(system.step())


if __name__ == "__main__":
    main()
