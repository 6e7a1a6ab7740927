"""VSAN (Zhao et al. 2021, *Variational Self-attention Network for Sequential Recommendation*): a VAE at every place.

A causal Transformer, the inference network, makes of the items up to a place the mean and log-variance of a Gaussian;
``z = mean + exp(log_variance / 2) noise`` is drawn from it, and a second one, the generative network, makes of the z up
to a place what all items are scored against. The loss of a target is its cross-entropy and beta times the KL divergence
of the Gaussian at its place from a standard normal one, beta rising from 0 in a line (KL annealing).

The authors published no code, and the paper's text was not at hand: this follows its abstract and what others tell of
it. What that leaves open, and what is done:

- Both networks are made of `EncoderLayer`; by default with norms behind the residuals, GELU and a feed-forward part of
  four times the width. Positions and the input's norm and dropout are at the entry of the inference network only.
- Mean and log-variance are two linear layers of one network's states. Others who built it (ContrastVAE's attentive VAE,
  FedDCSR's VSAN) gave each a network of its own.
- In training there is one draw of z for each place in a step, common to all targets that look back on it; the
  divergence is summed over dimensions and counted once for each target, so that a batch's mean is that over all places.
- Recommendations take the mean for z and draw nothing; ContrastVAE's code takes the mean and one deviation.
- The divergence is a mean over real targets; in that code it is one over all places of a padded window, so that its
  weight of 0.2 on Beauty's short histories is about 0.024 in our unit. Its loss is smaller by a like factor, too.
- A target is the one next item, not several of those that follow.
- Items are scored by a weight and bias of their own (``tied_output = false``).
- beta reaches ``kl_weight`` after ``anneal_steps`` steps, which are counted in a buffer: a run that goes on where it
  was cut has the same beta.
"""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor, nn

from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.models.base import Loss, ModelConfig
from seqdiffrec.models.encoder import Encoder, EncoderConfig, initialize, whole
from seqdiffrec.models.item_table import ItemTable, ItemTableConfig, TableModel


class VSANConfig(EncoderConfig, ItemTableConfig):
    """Settings of VSAN: those of the encoder, the item table, and of what is variational.

    num_layers, num_generative_layers: of the inference network, and of the generative one.
    kl_weight: where beta, the weight of the KL divergence, ends.
    anneal_steps: training steps in which it rises there from 0; with 0 it is there at once.
    """

    num_layers: Annotated[int, Field(ge=1, le=64)] = 1
    num_generative_layers: Annotated[int, Field(ge=1, le=64)] = 1
    kl_weight: Annotated[float, Field(ge=0, le=1e6)] = 0.2
    anneal_steps: Annotated[int, Field(ge=0, le=10**12)] = 2000


class VSAN(TableModel):
    """Two causal Transformers with a draw between them: what comes after an item is uncertain, and by how much.

    ``-log p(item | z) + beta KL(q(z | history) || N(0, 1))`` with ``z = mean + deviation noise``: the evidence lower
    bound for beta 1, turned round.
    """

    name: ClassVar[str] = "vsan"
    config_class: ClassVar[type[ModelConfig]] = VSANConfig
    summary: ClassVar[str] = "two causal Transformers, a Gaussian drawn between them"
    paper: ClassVar[str | None] = "Zhao et al. 2021"
    cost: ClassVar[str] = "1.1, one layer in each network; 1.3 with a third"

    def __init__(self, config: VSANConfig, num_items: int):
        super().__init__(config, num_items)
        size = config.hidden_size
        self.kl_weight, self.anneal_steps = config.kl_weight, config.anneal_steps
        self.table = ItemTable(config, num_items, size)
        self.position = nn.Embedding(config.max_length, size) if config.position_embedding else None
        self.inference = Encoder(config)
        self.mean, self.log_variance = nn.Linear(size, size), nn.Linear(size, size)
        generative = {"num_layers": config.num_generative_layers, "input_norm": False, "input_dropout": False}
        self.generative = Encoder(config.model_copy(update=generative))
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.int64))
        initialize(self, config.weight_std, config.embedding_std)

    steps_done: Int64[Tensor, ""]

    def loss(self, batch: RaggedBatch) -> Loss:
        """The mean over targets of the cross-entropy and beta times the KL divergence."""
        mean, log_variance = self._infer(batch)
        z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        recommendation = self.table.loss(self._generate(z, batch), batch).mean()
        divergence = kl_divergence(mean, log_variance)[_read(batch)].mean()
        total = recommendation + self._beta() * divergence
        if self.training:
            self.steps_done += 1
        parts = {"loss": total, "recommendation": recommendation, "kl": divergence}
        return Loss(total, {name: part.item() for name, part in parts.items()})

    def represent(self, batch: RaggedBatch, num_seeds: int) -> Float[Tensor, "1 R D"]:
        """What is generated of the means; nothing is drawn."""
        return self._generate(self._infer(batch)[0], batch)[None]

    def _beta(self) -> float:
        rising = self.anneal_steps > 0
        return self.kl_weight * (min(1.0, int(self.steps_done) / self.anneal_steps) if rising else 1.0)

    def _infer(self, batch: RaggedBatch) -> tuple[Float[Tensor, "M D"], Float[Tensor, "M D"]]:
        """Mean and log-variance at every place of the histories, in float32."""
        rows, places = batch.locate_tokens()
        h = self.table.embed(batch.tokens)
        h = h if self.position is None else h + self.position(places)
        all_places = torch.arange(len(rows), device=rows.device)
        h, _ = self.inference.causal(h, rows, places, batch.offsets, all_places)
        return whole(self.mean, h).float(), whole(self.log_variance, h).float()

    def _generate(self, z: Float[Tensor, "M D"], batch: RaggedBatch) -> Float[Tensor, "R D"]:
        return self.generative.causal(z, *batch.locate_tokens(), batch.offsets, _read(batch))[0]


def kl_divergence(mean: Float[Tensor, "n D"], log_variance: Float[Tensor, "n D"]) -> Float[Tensor, " n"]:
    """KL(N(mean, variance) || N(0, 1)), summed over dimensions: half of ``mean^2 + variance - log variance - 1``."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(-1)


def _read(batch: RaggedBatch) -> Int64[Tensor, " R"]:
    """The newest item that each target sees."""
    return batch.offsets[batch.rows] + batch.places - 1
