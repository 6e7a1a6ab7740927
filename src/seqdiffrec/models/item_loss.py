"""What a target costs: the losses that a model with an item table can be trained by, and their settings."""

from collections.abc import Callable
from typing import Annotated, Literal, Self, cast

import torch
from jaxtyping import Float, Int64
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.losses import (
    Added,
    NegativeSampler,
    binary_cross_entropy,
    bpr_max,
    calibrating_power,
    draw_others,
    draw_unseen,
    own_scores,
    sampled_cross_entropy,
    shared_scores,
    top1_max,
)
from seqdiffrec.models.base import ModelConfig

# The weights and biases of all items, or of these.
Weights = Callable[[Int64[Tensor, " n"] | None], tuple[Float[Tensor, "n D"], Float[Tensor, " n"] | None]]

SHARED = ("sampled", "bpr_max", "top1_max")
OWN = ("bce", "gbce")
RANKING = ("bpr_max", "top1_max")
# Losses that change only the rows of the item table that a batch touches.
BY_ROWS = ("sampled", "in_batch")
# Which losses a setting is for.
USED_BY = {
    "label_smoothing": ("full",),
    "num_negatives": SHARED,
    "negative_exponent": SHARED,
    "negatives_per_target": OWN,
    "calibration": ("gbce",),
    "score_penalty": ("bpr_max",),
    "score_elu": RANKING,
}
# In place of the logarithm of 0.
NEVER = -1e30


class LossConfig(ModelConfig):
    """What a target is held against.

    loss: a softmax over all items (``full``); over the target and ``num_negatives`` draws shared by a batch
        (``sampled``); or over the target and the batch's other targets (``in_batch``). The last two correct for how
        often an item is drawn, and only the rows that a batch touches are updated (biases all); they are for
        catalogues of 100,000 items or more.
        Binary cross-entropy of the target and ``negatives_per_target`` items of its own, drawn all alike: ``bce``
        (SASRec) from those that its sequence does not hold, summed; ``gbce`` (gSASRec) from all but the target, as a
        mean, with the target's part scaled so that the scores are calibrated.
        The target against the softened highest of the batch's other targets and ``num_negatives`` draws: ``bpr_max``
        and ``top1_max`` (GRU4Rec).
    label_smoothing: share of the target's weight that is spread evenly over the catalogue; of ``full``.
    negative_exponent: the draws that a batch shares are in proportion to how often an item occurs, to this power.
    calibration: of ``gbce``, its t: 0 leaves the overconfidence that drawing brings, 1 undoes it.
    score_penalty: of ``bpr_max``, weight of the squared scores of the negatives.
    score_elu: of ``bpr_max`` and ``top1_max``: scores go through an ELU that falls to minus this; 0 for none.
    """

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    loss: Literal["full", "sampled", "in_batch", "bce", "gbce", "bpr_max", "top1_max"] = "full"
    num_negatives: Annotated[int, Field(ge=1, le=10_000_000)] = 1024
    negative_exponent: Annotated[float, Field(ge=0, le=1)] = 0.5
    negatives_per_target: Annotated[int, Field(ge=1, le=100_000)] = 1
    calibration: Annotated[float, Field(ge=0, le=1)] = 0.75
    score_penalty: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    score_elu: Annotated[float, Field(ge=0, le=100)] = 0.0

    @model_validator(mode="after")
    def _check_loss(self) -> Self:
        for name, losses in USED_BY.items():
            value = getattr(self, name)
            if self.loss not in losses and value != type(self).model_fields[name].default:
                raise ValueError(f"{name} = {value} needs loss = {' or '.join(losses)}")
        return self


class DrawnLoss(nn.Module):
    """The losses over each target and a few items drawn beside it: all but ``full``."""

    def __init__(self, config: LossConfig, num_items: int):
        super().__init__()
        self.config, self.num_items = config, num_items
        self.sampler: NegativeSampler | None = None

    def count_items(self, counts: Int64[Tensor, " V"]) -> None:
        """Take in how often items occur in training, which draws that a batch shares need."""
        if self.config.loss not in OWN:
            exponent = 1.0 if self.config.loss == "in_batch" else self.config.negative_exponent
            self.sampler = NegativeSampler(counts, exponent)

    def forward(
        self, h: Float[Tensor, "R D"], batch: RaggedBatch, weights: Weights, added: Added | None
    ) -> Float[Tensor, " R"]:
        """Each target's loss, given what is scored against its items."""
        if self.config.loss in OWN:
            return self._binary(h, batch, weights, added)
        assert self.sampler is not None, "a loss over drawn items needs count_items first"
        if self.config.loss in RANKING:
            return self._ranking(self.sampler, h, batch, weights, added)
        return self._softmax(self.sampler, h, batch, weights, added)

    def _softmax(
        self, sampler: NegativeSampler, h: Tensor, batch: RaggedBatch, weights: Weights, added: Added | None
    ) -> Float[Tensor, " R"]:
        targets = batch.targets
        if self.config.loss == "in_batch":
            # The noise draws of one target are no negatives of each other.
            copies = int((batch.origins == batch.origins[0]).sum())
            drawn = sampler.of(targets, len(targets) - copies)
        else:
            drawn = sampler.draw(self.config.num_negatives)
        # One look-up for both: each makes a sparse gradient of its own.
        weight, bias = weights(torch.cat([targets, drawn[0]]))
        return sampled_cross_entropy(h, weight, bias, targets, *drawn, added)

    def _ranking(
        self, sampler: NegativeSampler, h: Tensor, batch: RaggedBatch, weights: Weights, added: Added | None
    ) -> Float[Tensor, " R"]:
        targets = batch.targets
        drawn = torch.cat([targets, sampler.draw_items(self.config.num_negatives)])
        negatives, times = cast(tuple[Tensor, Tensor], drawn.unique(return_counts=True))
        weight, bias = weights(torch.cat([targets, negatives]))
        at_target, scores, own = shared_scores(h, weight, bias, targets, negatives, added)
        if self.config.score_elu:
            at_target, scores = (F.elu(score, self.config.score_elu) for score in (at_target, scores))
        log_times = times.float().log().masked_fill(own, NEVER)
        if self.config.loss == "top1_max":
            return top1_max(at_target, scores, log_times)
        return bpr_max(at_target, scores, log_times, self.config.score_penalty)

    def _binary(self, h: Tensor, batch: RaggedBatch, weights: Weights, added: Added | None) -> Float[Tensor, " R"]:
        calibrated, count = self.config.loss == "gbce", self.config.negatives_per_target
        if calibrated:
            negatives = draw_others(batch.targets, self.num_items, count)
        else:
            negatives = draw_unseen(batch.rows, *_taken(batch), self.num_items, count)
        picked = torch.cat([batch.targets[:, None], negatives], 1)
        scores = own_scores(h, *weights(None), picked)
        scores = scores if added is None else scores + added.at(picked)
        at_target, at_negatives = scores[:, 0], scores[:, 1:].masked_fill(negatives == 0, float("-inf"))
        if not calibrated:
            return binary_cross_entropy(at_target, at_negatives)
        power = calibrating_power(count, self.num_items, self.config.calibration)
        return binary_cross_entropy(at_target, at_negatives, power) / (1 + count)


def _taken(batch: RaggedBatch) -> tuple[Int64[Tensor, " E"], Int64[Tensor, " E"]]:
    """Each (sequence, item) of which a batch knows that it has been taken: histories, what is older, targets."""
    of_token, _ = batch.locate_tokens()
    of_older = torch.repeat_interleave(batch.older_offsets.diff())
    return torch.cat([of_token, of_older, batch.rows]), torch.cat([batch.tokens, batch.older, batch.targets])
