"""BERT4Rec (Sun et al., CIKM 2019): a bidirectional Transformer that learns to fill in masked items, the Cloze task.

At inference a mask stands behind the history. As in the authors' code (FeiSun/BERT4Rec), and unlike some others, which
align sequences at their end, positions count from the first visible item: in training a sequence of n items has the
places 0..n-1, at inference its mask has place n, which longer sequences have trained.

Where paper and code differ, this is the code's: the prediction head ends in a layer norm, which Eq. 7 lacks, and the
loss is the mean over all masked places of a batch (Eq. 8: over those of each sequence).

Differs from the code in:
- Masks are drawn anew in each step. There each window has ten masked copies and one in which only the last item is
  masked, made once; `last_item_proportion` is that share.
- Windows of sequences longer than T begin at places that change from epoch to epoch (`cut_windows`), instead of every
  T / 10 or T / 2 items. Validation items are not trained on; there they are.
- Only items are candidates of the softmax; there the mask and padding are as well.
- There is no segment embedding, which there is the same for all places; initial weights are normal, not cut off at two
  standard deviations; norms add 1e-5 to the variance, not 1e-12.
- The rate does not rise over the first 100 steps unless `training.warmup_epochs` says so, and Adam corrects its bias.
"""

from dataclasses import replace
from typing import Annotated, ClassVar, Self

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field, model_validator
from torch import Tensor, nn

from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.models.base import Loss, ModelConfig
from seqdiffrec.models.encoder import Encoder, EncoderConfig, initialize, whole
from seqdiffrec.models.item_table import ItemTable, ItemTableConfig, TableModel


class BERT4RecConfig(EncoderConfig, ItemTableConfig):
    """Settings of BERT4Rec: those of the encoder and of the item table, and what is masked in training.

    mask_proportion: rho, the share of a sequence's items that are masked, rounded, at least one of them. The paper's is
        0.6 for Beauty, 0.4 for Steam and 0.2 for MovieLens.
    last_item_proportion: the share of sequences in which only the last item is masked, as at inference; in the authors'
        code one in eleven.
    """

    tied_output: bool = True
    mask_proportion: Annotated[float, Field(gt=0, lt=1)] = 0.2
    last_item_proportion: Annotated[float, Field(ge=0, le=1)] = 1 / 11

    @model_validator(mode="after")
    def _check_attention(self) -> Self:
        for name in ("filter_share", "linear_bias"):
            if getattr(self, name):
                raise ValueError(f"{name} = {getattr(self, name)} needs causal attention, BERT4Rec's is bidirectional")
        return self


class BERT4Rec(TableModel):
    """A bidirectional Transformer: the state at a masked place predicts its item from those on both sides.

    ``softmax(norm(GELU(h W + b)) E^T + b')`` of a masked place's state h (Eq. 7, whose norm is the code's); the loss is
    the mean of its negative logarithm at the masked items (Eq. 8).
    """

    name: ClassVar[str] = "bert4rec"
    config_class: ClassVar[type[ModelConfig]] = BERT4RecConfig
    summary: ClassVar[str] = "bidirectional Transformer that fills in masked items"
    paper: ClassVar[str | None] = "Sun et al. 2019"
    cost: ClassVar[str] = "0.6 to 0.9, by how much is masked; more epochs"

    def __init__(self, config: BERT4RecConfig, num_items: int):
        super().__init__(config, num_items)
        size = config.hidden_size
        self.mask_proportion, self.last_item_proportion = config.mask_proportion, config.last_item_proportion
        self.table = ItemTable(config, num_items, size, tied_bias=True)
        self.mask = nn.Embedding(1, size)
        self.position = nn.Embedding(config.max_length, size) if config.position_embedding else None
        self.encoder = Encoder(config)
        self.head = nn.Sequential(nn.Linear(size, size), nn.GELU(), nn.LayerNorm(size))
        initialize(self, config.weight_std, config.embedding_std)

    def loss(self, batch: RaggedBatch) -> Loss:
        """Mean cross-entropy at the masked places (Eq. 7, 8) of the batch's windows, the last target of each included.

        Which of a window's items are predicted is drawn, not given by the batch's targets.
        """
        cloze = self._mask(batch)
        total = self.table.loss(self._encode(cloze), cloze).mean()
        return Loss(total, {"loss": total.item()})

    def represent(self, batch: RaggedBatch, num_seeds: int) -> Float[Tensor, "1 R D"]:
        """The state of a mask behind each history, of which there is one a target; there is no noise to draw."""
        return self._encode(batch.extend(torch.zeros_like(batch.targets)))[None]

    def _mask(self, batch: RaggedBatch) -> RaggedBatch:
        """The windows as a Cloze task: masked items are 0, and are the targets; ``places`` is where they stand."""
        is_last = batch.places == batch.lengths[batch.rows]
        full = batch.extend(batch.targets[is_last])
        rows, places = full.locate_tokens()
        masked = self._draw(rows, places, full.lengths)
        begins = batch.origins[is_last] - batch.lengths
        return replace(
            full,
            tokens=full.tokens.masked_fill(masked, 0),
            rows=rows[masked],
            places=places[masked],
            targets=full.tokens[masked],
            origins=(begins[rows] + places)[masked],
        )

    def _draw(
        self, rows: Int64[Tensor, " M"], places: Int64[Tensor, " M"], lengths: Int64[Tensor, " B"]
    ) -> Bool[Tensor, " M"]:
        """Which places to mask: of each sequence ``mask_proportion``, drawn without replacement, or only the last."""
        count = (self.mask_proportion * lengths.double() + 0.5).long().clamp(min=1)
        shuffled = torch.randperm(len(rows), device=rows.device)
        by_row = shuffled[rows[shuffled].argsort(stable=True)]  # the places of each sequence in random order
        masked = torch.empty_like(rows, dtype=torch.bool)
        masked[by_row] = places < count[rows]
        last_only = torch.rand(len(lengths), device=rows.device) < self.last_item_proportion
        return torch.where(last_only[rows], places == lengths[rows] - 1, masked)

    def _encode(self, batch: RaggedBatch) -> Float[Tensor, "R D"]:
        """What items are scored against at the targets' places, where the mask stands."""
        rows, places = batch.locate_tokens()
        read = batch.offsets[batch.rows] + batch.places
        h = self.table.embed(batch.tokens).index_copy(0, read, self.mask.weight.expand(len(read), -1))
        h = h if self.position is None else h + self.position(places)
        return whole(self.head, self.encoder.bidirectional(h, rows, batch.offsets, read))
