"""What a recipe asks for trains, and ranks for validation, in a process of its own (`benchmarks.protocol`)."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.model_worker import in_turns
from benchmarks.own_worker import batches, train_step
from benchmarks.protocol import Channel, Pace
from seqdiffrec.config import RunConfig, read_recipe, with_changes
from seqdiffrec.data import Dataset
from seqdiffrec.studies.runs import load_data
from seqdiffrec.training import Reporter, Trainer

MODULE = "benchmarks.recipe_worker"


class RecipeSystem:
    """A recipe's model as the library trains it, on the batches of its first epochs."""

    def __init__(self, config: RunConfig, data: Dataset):
        training, train = config.training, data.split.train
        model = config.model
        if config.model_name == "mfgan":
            num_targets = int(np.maximum(train.lengths - 1, 0).sum())
            model = model | in_turns(training.batch_size, num_targets)
        self.model = config.model_copy(update={"model": model}).recommender()._new_model_of(data.corpus)
        self.trainer = Trainer(self.model, data.split, training, Reporter())
        shared, size = self.model.shares_history, training.batch_size
        how = {"shared": shared, "seed": training.seed, "prefixes": training.prefixes}
        self.batches = batches(train, self.model.max_length, size, **how)
        self.model.train()

    def step(self) -> int:
        """Train on a batch, and return the number of its targets."""
        batch = next(self.batches)
        train_step(self.trainer, batch)
        return len(batch.targets)

    def validate(self) -> dict[str, Any]:
        """End the epoch: rank all targets of validation, keep the weights."""
        self.trainer._end_epoch()
        self.model.train()
        return {"cases": len(self.trainer.split.validation)}


def read(spec: dict[str, Any]) -> tuple[RunConfig, Dataset]:
    """The recipe, with the benchmark's precision, and its data."""
    tables = with_changes(read_recipe(Path(spec["recipe"])), [f"training.precision={spec['precision']}"])
    config = RunConfig.of(tables)
    return config, load_data(config, spec["data_root"])


def main() -> None:
    """Train until the benchmark has had enough."""
    channel = Channel.open()
    config, data = read(channel.spec)
    system, facts = RecipeSystem(config, data), {"batch": f"{config.training.batch_size} targets"}
    facts |= {name: config.model[name] for name in ("hidden_size", "max_length")}
    pace = Pace(channel, facts, {"validate": system.validate})
    pace.begin()
    while True:
        pace.step(system.step())


if __name__ == "__main__":
    main()
