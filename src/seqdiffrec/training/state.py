"""Where a training stands. It goes into the checkpoint as JSON."""

from dataclasses import dataclass, field
from typing import NotRequired, TypedDict


class EpochRow(TypedDict):
    """One line of a run's metrics: what an epoch cost and brought.

    chosen_by, value: the validation metric by which the best epoch is chosen, seen items kept, and this epoch's; None
        where there are no validation cases, and each epoch counts as better than the one before.
    pretraining: there, and true, where the model was still `is_pretraining` at the epoch's end.
    """

    epoch: int
    chosen_by: str
    value: float | None
    train: dict[str, float]
    embedding_norm: float | None
    validation: dict[str, dict[str, float]]
    improved: bool
    targets: int
    train_seconds: float
    validation_seconds: float
    pretraining: NotRequired[bool]


@dataclass
class TrainingState:
    """``step`` batches of epoch ``epoch`` are done, both counted from 0.

    steps_done: batches of all epochs together.
    targets, seconds, sums: of the epoch so far; ``sums`` are the parts of the loss, summed over targets.
    best_epoch: from 0, -1 before the first validation; best_value is its NDCG@10, where there are validation cases.
    history: a row for each finished epoch.
    """

    epoch: int = 0
    step: int = 0
    steps_done: int = 0
    targets: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict[str, float])
    best_epoch: int = -1
    best_value: float = -1.0
    history: list[EpochRow] = field(default_factory=list[EpochRow])

    @property
    def is_pretraining(self) -> bool:
        """Whether the newest finished epoch was pre-training, and so the best one, too."""
        return bool(self.history) and self.history[-1].get("pretraining", False)

    def add(self, parts: dict[str, float], count: int, seconds: float) -> None:
        """Count a batch of ``count`` targets with these mean losses."""
        self.step += 1
        self.steps_done += 1
        self.targets += count
        self.seconds += seconds
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * count

    def means(self) -> dict[str, float]:
        """Mean of each part of the loss over the epoch's targets so far."""
        return {name: total / self.targets for name, total in self.sums.items()}

    def end_epoch(self, row: EpochRow) -> None:
        """Record a finished epoch and turn to the next."""
        if row["improved"]:
            self.best_epoch = self.epoch
            self.best_value = self.best_value if row["value"] is None else row["value"]
        self.history.append(row)
        self.epoch += 1
        self.step, self.targets, self.seconds, self.sums = 0, 0, 0.0, {}
