"""SASRec (Kang and McAuley 2018) with cross-entropy over the whole catalogue, over the same encoder as DiffRec.

Differs from the paper in the loss (there binary cross-entropy with one sampled negative) and in what the encoder's
defaults differ in (norm placement, GELU, width of the feed-forward part).
"""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.models.base import Loss, ModelConfig
from seqdiffrec.models.encoder import Encoder, EncoderConfig, initialize
from seqdiffrec.models.item_table import ItemTable, ItemTableConfig, TableModel


class SASRecConfig(EncoderConfig, ItemTableConfig):
    """Settings of SASRec: those of the encoder and of the item table; items are scored by their own embeddings."""

    tied_output: bool = True


class SASRec(TableModel):
    """A causal Transformer: the state after an item predicts the next one."""

    name: ClassVar[str] = "sasrec"
    config_class: ClassVar[type[ModelConfig]] = SASRecConfig
    summary: ClassVar[str] = "causal Transformer with cross-entropy over all items"
    paper: ClassVar[str | None] = "Kang and McAuley 2018"
    cost: ClassVar[str] = "1"

    def __init__(self, config: SASRecConfig, num_items: int):
        super().__init__(config, num_items)
        self.table = ItemTable(config, num_items, config.hidden_size)
        self.position = nn.Embedding(config.max_length, config.hidden_size) if config.position_embedding else None
        self.encoder = Encoder(config)
        initialize(self, config.weight_std, config.embedding_std)

    def loss(self, batch: RaggedBatch) -> Loss:
        """Mean cross-entropy of the targets."""
        total = self.table.cross_entropy(self._encode(batch), batch).mean()
        return Loss(total, {"loss": total.item()})

    def represent(self, batch: RaggedBatch, num_seeds: int) -> Float[Tensor, "1 R D"]:
        """The state after each history; there is no noise to draw."""
        return self._encode(batch)[None]

    def _encode(self, batch: RaggedBatch) -> Float[Tensor, "R D"]:
        return self._encode_embedded(self.table.embed(batch.tokens), batch)

    def _encode_embedded(self, h: Float[Tensor, "M D"], batch: RaggedBatch) -> Float[Tensor, "R D"]:
        """The state that each target is scored against, given the embeddings of the batch's tokens."""
        rows, places = batch.locate_tokens()
        h = h if self.position is None else h + self.position(places)
        read = batch.offsets[batch.rows] + batch.places - 1
        return self.encoder.causal(h, rows, places, batch.offsets, read)[0]
