"""SASRec (Kang and McAuley 2018) over the same encoder as DiffRec; by default with a softmax over the whole catalogue.

``loss = bce`` is the published loss, ``loss = gbce`` that of gSASRec (Petrov and Macdonald 2023), whose network is
SASRec's. The published network has ``num_heads = 1``, ``activation = relu`` and ``feed_forward_factor = 1``. By the
paper's equations it is ``norm_first`` without ``input_norm``: what a part gives is added to the states before the norm.
In the authors' code it is added to the normed states, which is a norm on the input and one after each part: the
defaults, and the recipes' choice. With it the binary loss reached more (docs/models.md).

What then still differs from the paper or the authors' code (kang205/SASRec, asash/gSASRec-pytorch):

- Positions count from the first visible item; in the code the newest item always stands at the last position.
- Attention has an output projection, which neither has; Glorot's weights in it, and in what makes values of normed
  states, would drown the newest item's own embedding at first, so recipes begin with smaller ones. Keys and values are
  of the normed states, as in the paper; in the code of those before the norm, where the items' embeddings are
  multiplied at the input by the root of their size (``scale_embeddings``, of which keys and values see the norm).
- Dropout is on what attention gives, and not between the layers of the feed-forward part, unless
  ``attention_output_dropout`` is 0 and ``inner_dropout`` is set, as in the code; of the input it is behind the norm,
  there before it. ``weight_std`` is of all linear layers, and positions begin as embeddings do; there all are Glorot's.
- An epoch trains every target; in the code it trains the last ``maxlen`` of each user.
- A sequence longer than a window is drawn negatives for from what the window does not hold; the code knows all of it.
- Adam's second rate is 0.999, in SASRec's code 0.98 (``training.adam_beta2``).
- An untied output has biases; gSASRec's has none. gSASRec's code may draw the target as its own negative.
"""

import math
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.models.base import Loss, ModelConfig
from seqdiffrec.models.encoder import Encoder, EncoderConfig, initialize
from seqdiffrec.models.item_table import ItemTable, ItemTableConfig, TableModel


class SASRecConfig(EncoderConfig, ItemTableConfig):
    """Settings of SASRec: those of the encoder and of the item table; items are scored by their own embeddings.

    scale_embeddings: at the input they are multiplied by the root of their size, as in the authors' code: positions
        then weigh less beside them.
    """

    tied_output: bool = True
    scale_embeddings: bool = False


class SASRec(TableModel):
    """A causal Transformer: the state after an item predicts the next one.

    Items enter as ``E + P``, embedding and position; a place attends to itself and what lies before it,
    ``softmax(Q K^T / sqrt(d)) V``, and passes a feed-forward part, ``W2 ReLU(W1 x + b1) + b2`` as published; its
    state h scores item i by ``h . E_i``.
    """

    name: ClassVar[str] = "sasrec"
    config_class: ClassVar[type[ModelConfig]] = SASRecConfig
    summary: ClassVar[str] = "causal Transformer with cross-entropy over all items"
    paper: ClassVar[str | None] = "Kang and McAuley 2018"
    cost: ClassVar[str] = "1"

    def __init__(self, config: SASRecConfig, num_items: int):
        super().__init__(config, num_items)
        self.scale = math.sqrt(config.hidden_size) if config.scale_embeddings else 1.0
        self.table = ItemTable(config, num_items, config.hidden_size)
        self.position = nn.Embedding(config.max_length, config.hidden_size) if config.position_embedding else None
        self.encoder = Encoder(config)
        initialize(self, config.weight_std, config.embedding_std)

    def loss(self, batch: RaggedBatch) -> Loss:
        """Mean loss of the targets, as set by ``loss``."""
        total = self.table.loss(self._encode(batch), batch).mean()
        return Loss(total, {"loss": total.item()})

    def represent(self, batch: RaggedBatch, num_seeds: int) -> Float[Tensor, "1 R D"]:
        """The state after each history; there is no noise to draw."""
        return self._encode(batch)[None]

    def scaled(self, h: Float[Tensor, "*n D"]) -> Float[Tensor, "*n D"]:
        """Embeddings as they enter, before positions are added."""
        return h if self.scale == 1 else h * self.scale

    def _encode(self, batch: RaggedBatch) -> Float[Tensor, "R D"]:
        return self._encode_embedded(self.table.embed(batch.tokens), batch)

    def _encode_embedded(self, h: Float[Tensor, "M D"], batch: RaggedBatch) -> Float[Tensor, "R D"]:
        """The state that each target is scored against, given the embeddings of the batch's tokens."""
        rows, places = batch.locate_tokens()
        h = self.scaled(h)
        h = h if self.position is None else h + self.position(places)
        read = batch.offsets[batch.rows] + batch.places - 1
        return self.encoder.causal(h, rows, places, batch.offsets, read)[0]
