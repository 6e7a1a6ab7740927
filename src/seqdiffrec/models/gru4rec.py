"""GRU4Rec (Hidasi et al. 2016; losses of Hidasi and Karatzoglou 2018, *Recurrent Neural Networks with Top-k Gains*).

Differs from the papers and the authors' code (hidasib/GRU4Rec and GRU4Rec_PyTorch_Official) in this:

- The gradient runs back through all places of a window; theirs stops at each step, and the state is carried over from
  batch to batch. A state starts from zeros at the window's first item, at most ``max_length - 1`` places back.
- A batch holds whole windows, theirs one action of each of so many sessions. So the batch's other targets, which serve
  as negatives, include some of the same sequence. A negative that is the row's own target is left out (theirs leaves
  out the row's own place, not the same item in another row), and repetitions count as often as they occur.
- The update gate is PyTorch's, which keeps the old state where it is 1; in the paper it is the other way round.
- The reset gate acts behind the recurrent product, as in cuDNN and the authors' PyTorch code; in the paper and the
  Theano code before it.
- Dropout is on what a layer gives upwards, not on the state that it carries on.
- Items enter by embeddings, tied to the output's weights by default (their ``constrained_embedding``), then without the
  output's bias; there is no one-hot input. A drawn softmax corrects its negatives for how often they are drawn, but not
  the target (their ``logq`` corrects both).
- Adam instead of Adagrad with momentum; the loss is a mean over targets. Items start from a normal distribution,
  theirs from a uniform one within Glorot's bound.
"""

import math
from typing import Annotated, ClassVar, cast

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.models.attention import dropout
from seqdiffrec.models.base import Loss, ModelConfig
from seqdiffrec.models.encoder import initialize
from seqdiffrec.models.item_table import ItemTable, ItemTableConfig, TableModel
from seqdiffrec.models.recurrent import Steps


class GRU4RecConfig(ItemTableConfig):
    """Settings of GRU4Rec: those of the item table, with the authors' number of draws, and its own.

    hidden_size: units of a layer, and size of an embedding.
    embedding_dropout, hidden_dropout: rates on what enters the first layer, and on what each layer gives.
    """

    hidden_size: Annotated[int, Field(ge=1, le=8192)] = 100
    num_layers: Annotated[int, Field(ge=1, le=64)] = 1
    embedding_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    hidden_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    tied_output: bool = True
    num_negatives: Annotated[int, Field(ge=1, le=10_000_000)] = 2048


class GRU4Rec(TableModel):
    """Gated recurrent units: the state after an item predicts the next one.

    ``h' = (1 - z) n + z h`` with the gates ``r, z = sigmoid(W x + U h)`` and ``n = tanh(W x + r (U h))``, biases
    aside; item i's score is ``h' . E_i``. Its losses are `bpr_max`, `top1_max` and the softmax.
    """

    name: ClassVar[str] = "gru4rec"
    config_class: ClassVar[type[ModelConfig]] = GRU4RecConfig
    summary: ClassVar[str] = "gated recurrent units"
    paper: ClassVar[str | None] = "Hidasi et al. 2016"
    cost: ClassVar[str] = "about 1"

    def __init__(self, config: GRU4RecConfig, num_items: int):
        super().__init__(config, num_items)
        self.config = config
        size = config.hidden_size
        self.table = ItemTable(config, num_items, size)
        self.layers = nn.ModuleList(nn.GRU(size, size) for _ in range(config.num_layers))
        initialize(self, weight_std=config.embedding_std, embedding_std=config.embedding_std)
        # A gate's matrices are uniform within Glorot's bound, the biases zero, as in the authors' Theano code and their
        # PyTorch code's compatibility mode.
        for name, parameter in self.layers.named_parameters():
            bound = 0.0 if "bias" in name else math.sqrt(6 / (size + size))
            nn.init.uniform_(parameter, -bound, bound)

    def loss(self, batch: RaggedBatch) -> Loss:
        """Mean loss of the targets, as set by ``loss``."""
        total = self.table.loss(self._encode(batch), batch).mean()
        return Loss(total, {"loss": total.item()})

    def represent(self, batch: RaggedBatch, num_seeds: int) -> Float[Tensor, "1 R D"]:
        """The state after each history; there is no noise to draw."""
        return self._encode(batch)[None]

    def _encode(self, batch: RaggedBatch) -> Float[Tensor, "R D"]:
        steps = Steps.of(batch)
        x = self._drop(self.table.embed(batch.tokens), self.config.embedding_dropout)[steps.order]
        for layer in self.layers:
            x = self._drop(steps.run(cast(nn.GRU, layer), x), self.config.hidden_dropout)
        return x[steps.place_of[batch.offsets[batch.rows] + batch.places - 1]]

    def _drop(self, x: Tensor, rate: float) -> Tensor:
        return dropout(x, rate if self.training else 0.0)
