"""CL4SRec (Xie et al. 2022, arXiv 2010.14395): SASRec that also learns to tell users apart by altered histories.

Each history of a batch gives two views, altered by two different ones of three operators: a crop, a mask, a reordering.
The two are a positive pair, and the views of all other histories are negatives (`nt_xent`). The state at a view's last
place stands for it; there is no projection.

Its authors published no code. What the paper leaves to choice is taken from the implementation in DuoRec's repository
(github.com/RuihongQiu/DuoRec): inner products, a temperature of 1, the two operators of a view are never the same, the
shares of the operators. That one has one target a history; here, as in the paper, a user's history is altered once
for all of its targets. It writes the masked and reordered items back into the training data; here they stay whole.

Differs from the paper in the recommendation loss, which is the cross-entropy over the whole catalogue (there over the
target and drawn negatives), and in what the encoder's defaults differ in. A history that is altered is what the encoder
sees: up to ``max_length - 1`` items, without the last target; one longer than that gives several.
"""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Int64
from pydantic import Field
from torch import Tensor, nn

from seqdiffrec.data.batches import RaggedBatch, spread
from seqdiffrec.losses import nt_xent
from seqdiffrec.models.base import Loss, ModelConfig
from seqdiffrec.models.sasrec import SASRec, SASRecConfig

Share = Annotated[float, Field(ge=0, le=1)]


class CL4SRecConfig(SASRecConfig):
    """Settings of CL4SRec: those of SASRec, and of the contrast between altered histories.

    crop_share: eta, the share of a history's items that a crop keeps, neighbours, at least one.
    mask_share: gamma, the share whose embeddings a learned vector replaces.
    reorder_share: beta, the share that is shuffled, neighbours.
    contrastive_weight: lambda, of the contrast beside the recommendation loss.
    contrastive_temperature: tau, which divides the inner products.
    """

    crop_share: Share = 0.6
    mask_share: Share = 0.3
    reorder_share: Share = 0.6
    contrastive_weight: Annotated[float, Field(ge=0, le=1e6)] = 0.1
    contrastive_temperature: Annotated[float, Field(gt=0, le=1e6)] = 1.0


class CL4SRec(SASRec):
    """SASRec, with a contrast between the cropped, masked or reordered histories of the batch.

    ``L_rec + lambda L_cl``, where ``L_cl`` is `nt_xent` of two views of each history of n items: a crop keeps ``eta n``
    neighbours, a mask hides ``gamma n`` items, a reordering shuffles ``beta n`` neighbours, all rounded down; a
    crop keeps at least one.
    """

    name: ClassVar[str] = "cl4srec"
    config_class: ClassVar[type[ModelConfig]] = CL4SRecConfig
    summary: ClassVar[str] = "SASRec, contrasting cropped, masked and reordered histories"
    paper: ClassVar[str | None] = "Xie et al. 2022"
    cost: ClassVar[str] = "1.2 to 1.4"

    def __init__(self, config: CL4SRecConfig, num_items: int):
        super().__init__(config, num_items)
        self.config = config
        self.mask = nn.Parameter(torch.empty(config.hidden_size).normal_(std=config.embedding_std))

    def loss(self, batch: RaggedBatch) -> Loss:
        """Mean cross-entropy of the targets, and lambda times the contrast between the views of each history."""
        tokens, lengths, masked = self._draw_views(batch)
        joined = batch.append(tokens, lengths)
        masked = torch.cat([torch.zeros_like(batch.tokens, dtype=torch.bool), masked])
        embedded = torch.where(masked[:, None], self.mask, self.table.embed(joined.tokens))
        states = self._encode_embedded(embedded, joined)
        count = len(batch.targets)
        recommendation = self.table.loss(states[:count], batch).mean()
        first, second = states[count:].chunk(2)
        contrastive = nt_xent(first, second, self.config.contrastive_temperature)
        total = recommendation + self.config.contrastive_weight * contrastive
        parts = {"loss": total, "recommendation": recommendation, "contrastive": contrastive}
        return Loss(total, {name: part.item() for name, part in parts.items()})

    def _draw_views(self, batch: RaggedBatch) -> tuple[Int64[Tensor, " m"], Int64[Tensor, " n"], Bool[Tensor, " m"]]:
        """One view of each history, then another of each: the items, end to end, the lengths, what is masked."""
        config, lengths = self.config, batch.lengths.repeat(2)
        # Two different operators for each history.
        operator = torch.rand((len(batch.lengths), 3), device=lengths.device).argsort(1)[:, :2].t().flatten()
        to_crop, to_mask, to_reorder = (operator == one for one in range(3))
        kept = torch.where(to_crop, part(lengths, config.crop_share).clamp(min=1), lengths)
        order = shuffle_neighbours(lengths, part(lengths, config.reorder_share) * to_reorder)
        masked = draw_masked(lengths, part(lengths, config.mask_share) * to_mask)
        staying = crop(lengths, kept)
        return batch.tokens.repeat(2)[order][staying], kept, masked[staying]


def part(lengths: Int64[Tensor, " n"], share: float) -> Int64[Tensor, " n"]:
    """A share of each length, rounded down."""
    return (lengths.double() * share).long()


def crop(lengths: Int64[Tensor, " n"], kept: Int64[Tensor, " n"]) -> Int64[Tensor, " k"]:
    """Of sequences end to end, which places stay: so many neighbours of each, from a drawn place on."""
    first = lengths.cumsum(0) - lengths + _draw_start(lengths, kept)
    row, number = spread(kept)
    return first[row] + number


def draw_masked(lengths: Int64[Tensor, " n"], count: Int64[Tensor, " n"]) -> Bool[Tensor, " m"]:
    """Of sequences end to end, which places are masked: so many of each, drawn without replacement."""
    row, number = spread(lengths)
    shuffled = (row + torch.rand(row.shape, dtype=torch.float64, device=row.device)).argsort()
    return torch.empty_like(row, dtype=torch.bool).index_copy_(0, shuffled, number < count[row])


def shuffle_neighbours(lengths: Int64[Tensor, " n"], count: Int64[Tensor, " n"]) -> Int64[Tensor, " m"]:
    """Of sequences end to end, the places in an order in which so many neighbours of each are shuffled."""
    first = lengths.cumsum(0) - lengths + _draw_start(lengths, count)
    row, _ = spread(lengths)
    place = torch.arange(len(row), device=row.device)
    shuffled = (place >= first[row]) & (place < (first + count)[row])
    # Between the place before the first of them and the one after it, in any order.
    key = first[row] + torch.rand(row.shape, dtype=torch.float64, device=row.device)
    return torch.where(shuffled, key, place.double()).argsort(stable=True)


def _draw_start(lengths: Int64[Tensor, " n"], count: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """A place from which so many neighbours are in the sequence, any as likely as another."""
    return torch.randint(2**62, lengths.shape, device=lengths.device) % (lengths - count + 1)
