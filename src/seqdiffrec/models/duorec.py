"""DuoRec (Qiu et al. 2022, arXiv 2110.05730): SASRec with a contrastive regulariser on what it makes of histories.

Two views of an example are a positive pair, and all other views in the batch are negatives (`nt_xent`: inner products,
a temperature, only a view itself masked). The unsupervised view is the same history under another dropout; the
supervised one is the history of another training example with the same target, drawn anew each time.

This follows the authors' code (github.com/RuihongQiu/DuoRec): by default the two views are paired with each other
(``us_x``), so that the state that items are scored against is in no pair; batch-mates with the same target count as
negatives; an example whose target occurs nowhere else is its own supervised view, under another dropout.

Differs from that code: padding is no candidate of the cross-entropy; one weight serves both terms of ``both`` (there
``lmd`` and ``lmd_sem``, 0.1 each); no cosines in place of inner products (``sim``, not its default); the norms' epsilon
is torch's; ``max_length`` counts the target's place. `DuoRecConfig` tells of ``shared_history``, which is not theirs.
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor, nn

from seqdiffrec.data.batches import RaggedBatch, cut_windows, spread
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.losses import nt_xent
from seqdiffrec.models.base import Loss, ModelConfig
from seqdiffrec.models.sasrec import SASRec, SASRecConfig


class DuoRecConfig(SASRecConfig):
    """Settings of DuoRec: those of SASRec, and of the regulariser.

    contrast: which views are a pair: the supervised and the unsupervised one (``crossed``); the state that items are
        scored against and the ``unsupervised`` or the ``supervised`` view; or ``both``, the sum of these two terms.
    contrastive_weight: lambda, of the regulariser beside the recommendation loss.
    contrastive_temperature: tau, which divides the inner products.
    shared_history: a batch gives all targets of a stretch one shared history, and in each stretch one target, drawn
        anew each time, has the regulariser. As published each target is an example of its own, with its own
        regulariser. Were all targets of a shared history to have it, the histories of one user, each of which is the
        start of the next, would be each other's negatives.
    """

    contrast: Literal["crossed", "unsupervised", "supervised", "both"] = "crossed"
    contrastive_weight: Annotated[float, Field(ge=0, le=1e6)] = 0.1
    contrastive_temperature: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    shared_history: bool = False


class DuoRec(SASRec):
    """SASRec whose states are spread out by contrast: with another dropout, and with the same target.

    ``L_rec + lambda L_reg``, where ``L_reg`` is `nt_xent` of a history's state under another dropout and the state of
    another history with the same target (``crossed``), or of one or both of these with the state itself.
    """

    name: ClassVar[str] = "duorec"
    config_class: ClassVar[type[ModelConfig]] = DuoRecConfig
    summary: ClassVar[str] = "SASRec, contrasting states under dropout and same targets"
    paper: ClassVar[str | None] = "Qiu et al. 2022"
    cost: ClassVar[str] = "3 to 25, one target a history; 1.4 where it is shared"

    def __init__(self, config: DuoRecConfig, num_items: int):
        super().__init__(config, num_items)
        self.config = config
        self.examples: TrainingExamples | None = None

    @property
    def shares_history(self) -> bool:
        """As set: published is one target a history."""
        return self.config.shared_history

    def count_items(self, train: Sequences) -> None:
        """Record how often each item occurs in training, and after which histories."""
        super().count_items(train)
        self.examples = TrainingExamples(train, self.max_length, self.num_items).to(self.item_counts.device)

    def loss(self, batch: RaggedBatch) -> Loss:
        """Mean cross-entropy of the targets, and lambda times the regulariser."""
        chosen = one_of_each_sequence(batch)
        state, *views = self._encode_views(batch, chosen)
        crossed = self.config.contrast == "crossed"
        pairs = [(views[0], views[1])] if crossed else [(state[chosen], view) for view in views]
        terms = [nt_xent(first, second, self.config.contrastive_temperature) for first, second in pairs]
        recommendation, contrastive = self.table.loss(state, batch).mean(), torch.stack(terms).sum()
        total = recommendation + self.config.contrastive_weight * contrastive
        parts = {"loss": total, "recommendation": recommendation, "contrastive": contrastive}
        return Loss(total, {name: part.item() for name, part in parts.items()})

    def _encode_views(self, batch: RaggedBatch, chosen: Int64[Tensor, " B"]) -> list[Float[Tensor, "_ D"]]:
        """States of all targets, (R, D), then the views of the chosen ones that are asked for, (B, D) each.

        One pass over all: no two places share a dropout.
        """
        assert self.examples is not None, "DuoRec needs count_items first"
        joined = batch
        if self.config.contrast != "supervised":
            lengths = batch.places[chosen]
            row, place = spread(lengths)
            joined = joined.append(batch.tokens[batch.offsets[batch.rows[chosen]][row] + place], lengths)
        if self.config.contrast != "unsupervised":
            joined = joined.append(*self.examples.draw(batch.targets[chosen], batch.origins[chosen]))
        states = self._encode(joined)
        return [states[: len(batch.targets)], *states[len(batch.targets) :].split(len(chosen))]


def one_of_each_sequence(batch: RaggedBatch) -> Int64[Tensor, " B"]:
    """A target of each sequence, drawn; the targets of a sequence follow one another."""
    count = torch.bincount(batch.rows, minlength=len(batch.lengths))
    return count.cumsum(0) - count + torch.randint(2**62, count.shape, device=count.device) % count


class TrainingExamples(nn.Module):
    """Every target in training with the history that is visible before it, found by the target's item.

    In no state: they are the training data, which every run has.
    """

    def __init__(self, train: Sequences, max_length: int, num_items: int):
        super().__init__()
        windows = cut_windows(train, max_length, shared=False, prefixes=True, rng=np.random.default_rng(0))
        targets = train.items[windows.last]
        order = np.lexsort((windows.last, targets))
        parts = {
            "items": train.items,
            # An example's history is items[start:origin], its target items[origin]; those of item v stand at
            # first[v]:first[v + 1], by origin.
            "start": windows.start[order],
            "origin": windows.last[order],
            "first": np.searchsorted(targets[order], np.arange(num_items + 2)),
        }
        for name, part in parts.items():
            self.register_buffer(name, torch.tensor(part), persistent=False)

    items: Tensor  # int32
    start: Int64[Tensor, " N"]
    origin: Int64[Tensor, " N"]
    first: Int64[Tensor, " V_plus_2"]

    def draw(
        self, targets: Int64[Tensor, " B"], origins: Int64[Tensor, " B"]
    ) -> tuple[Int64[Tensor, " m"], Int64[Tensor, " B"]]:
        """The histories, end to end, and their lengths, of another example with each target.

        ``origins`` says which examples these are another of; where there is no other, it is that one.
        """
        first, count = self.first[targets], self.first[targets + 1] - self.first[targets]
        assert bool((count > 0).all()), "a target that is none in training"
        number = torch.randint(2**62, count.shape, device=count.device) % (count - 1).clamp(min=1)
        # Past the example itself, wherever it stands among those of its item.
        number += (count > 1) & (self.origin[first + number] >= origins)
        start, origin = self.start[first + number], self.origin[first + number]
        row, place = spread(origin - start)
        return self.items[start[row] + place].long(), origin - start
