"""ACVAE (Xie et al. 2021, arXiv 2103.10693): a recurrent and convolutional variational autoencoder, adversarial and
contrastive.

A posterior draw z of each place comes out of gated recurrent units and a convolution over their states, into which
learned noise is mixed; z decodes to the next item. In place of a closed-form divergence an adversary T(x, z), x being
the item's embedding, learns to tell z from the standard normal prior, and the mean of T stands for the divergence
(adversarial variational Bayes). A second one, recurrent, tells whether z belongs to its sequence or to another of the
batch; encoder and this one lower that loss together, so that z says whose it is. The loss is

    -log p(item | z) + kl_weight T(x, z) + contrastive_weight (softplus(-C(x, z)) + softplus(C(x, z')))
    and, for T alone, softplus(-T(x, z)) + softplus(T(x, n)), n standard normal,

each a mean over targets. T has a value for each number of z, the mean of which counts, and adds z squared over two.

This follows the authors' code (github.com/ACVAE/ACVAE-PyTorch). ``convolution`` is the ``causal`` one that its training
script names, or the vertical and horizontal one (``crossed``) that stands beside it. Differs from it in:

- One optimiser, with one rate, takes all steps at once (docs/adr/0012): there the network has AdamW, and plain gradient
  descent with smaller rates, and a weight decay of 0.1, moves both adversaries, and the encoder a second time.
- Without noise at inference, where theirs draws anew; no item is drawn as a prior for the logarithm's sake (1e-9).
- z' is the z at the same place of the sequence that comes next in length; there it is the next in the batch, with what
  stands in its padding where it is shorter. A place that only one sequence has is contrasted with nothing.
- Padding embeds as zeros and is no candidate. An epoch trains every target; there the last 200 items of each user.
"""

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.models.attention import dropout
from seqdiffrec.models.base import Loss, ModelConfig
from seqdiffrec.models.item_table import ItemTable, ItemTableConfig, TableModel
from seqdiffrec.models.recurrent import Steps

CAUSAL_WIDTH, VERTICAL_WIDTH, HORIZONTAL_WIDTH, HORIZONTAL_FILTERS = 5, 4, 16, 32


class ACVAEConfig(ItemTableConfig):
    """Settings of ACVAE: those of the item table, with the authors' sizes, and its own.

    hidden_size: of an item's embedding. recurrent_size, latent_size, adversary_size: of the recurrent state, of z, and
        of the adversaries' hidden layers.
    convolution: over the newest five states (``causal``), or a filter over the newest four that multiplies the state
        beside filters along the state's own numbers (``crossed``).
    dropout: of what enters the recurrent layer and of what the convolution gives. adversary_dropout: of T.
    kl_weight, contrastive_weight: the paper's alpha and beta.
    embedding_std: of the embeddings alone; an output that is not tied starts as Glorot has it.
    """

    hidden_size: Annotated[int, Field(ge=2, le=8192)] = 128
    recurrent_size: Annotated[int, Field(ge=1, le=8192)] = 100
    latent_size: Annotated[int, Field(ge=1, le=8192)] = 64
    adversary_size: Annotated[int, Field(ge=1, le=8192)] = 128
    convolution: Literal["causal", "crossed"] = "causal"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    adversary_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    kl_weight: Annotated[float, Field(ge=0, le=1e6)] = 0.05
    contrastive_weight: Annotated[float, Field(ge=0, le=1e6)] = 0.1
    embedding_std: Annotated[float, Field(gt=0, le=10)] = 1.0


class ACVAE(TableModel):
    """A variational autoencoder: the latent variable after an item decodes to the next one.

    The loss is the one at the head of this file: `Adversary` is its T, `Contrast` its C, ``kl_weight`` the paper's
    alpha and ``contrastive_weight`` its beta.
    """

    name: ClassVar[str] = "acvae"
    config_class: ClassVar[type[ModelConfig]] = ACVAEConfig
    summary: ClassVar[str] = "recurrent variational autoencoder, adversarial, contrastive"
    paper: ClassVar[str | None] = "Xie et al. 2021"
    cost: ClassVar[str] = "1.5"

    def __init__(self, config: ACVAEConfig, num_items: int):
        super().__init__(config, num_items)
        self.config = config
        self.table = ItemTable(config, num_items, config.hidden_size)
        self.gru = nn.GRU(config.hidden_size, config.recurrent_size)
        kind = CausalConvolution if config.convolution == "causal" else CrossedConvolution
        self.convolution = kind(config)
        self.decoder = nn.Linear(config.latent_size, config.hidden_size)
        self.adversary = Adversary(config)
        self.contrast = Contrast(config)
        with torch.no_grad():
            self.table.embedding.weight.normal_(std=config.embedding_std)[0] = 0
            nn.init.xavier_normal_(self.decoder.weight)
            if self.table.output is not None:
                nn.init.xavier_normal_(self.table.output.weight)
                self.table.output.bias.zero_()

    def loss(self, batch: RaggedBatch) -> Loss:
        """Mean over targets of cross-entropy, divergence and contrast, and of what the adversary learns by."""
        steps = Steps.of(batch)
        x, z = self._encode(batch, steps)
        with torch.autocast(x.device.type, enabled=False):
            divergence, adversary = self._divergence(x[self._read(batch)], z[self._read(batch)])
            contrastive = self._contrast(x, z, batch, steps)
        recommendation = self.table.loss(self._decode(z[self._read(batch)]), batch).mean()
        weighted = self.config.kl_weight * divergence + self.config.contrastive_weight * contrastive
        parts = {
            "loss": recommendation + weighted + adversary,
            "recommendation": recommendation,
            "divergence": divergence,
            "contrastive": contrastive,
            "adversary": adversary,
        }
        return Loss(parts["loss"], {name: part.item() for name, part in parts.items()})

    def represent(self, batch: RaggedBatch, num_seeds: int) -> Float[Tensor, "1 R D"]:
        """The decoded z after each history; at inference without noise."""
        return self._decode(self._encode(batch, Steps.of(batch))[1][self._read(batch)])[None]

    def _encode(self, batch: RaggedBatch, steps: Steps) -> tuple[Float[Tensor, "M D"], Float[Tensor, "M Z"]]:
        """Each token's embedding, and z after it."""
        x = self.table.embed(batch.tokens)
        _, places = batch.locate_tokens()
        # In float32, as the recurrent layer: all layers are small beside the output.
        with torch.autocast(x.device.type, enabled=False):
            entering = dropout(self.convolution.enter(x), self.config.dropout if self.training else 0.0)
            states = steps.run(self.gru, entering[steps.order])[steps.place_of]
            return x, self.convolution(states, places)

    def _decode(self, z: Float[Tensor, "R Z"]) -> Float[Tensor, "R D"]:
        return torch.tanh(self.decoder(z))

    def _read(self, batch: RaggedBatch) -> Int64[Tensor, " R"]:
        """The newest token that each target sees."""
        return batch.offsets[batch.rows] + batch.places - 1

    def _divergence(
        self, x: Float[Tensor, "R D"], z: Float[Tensor, "R Z"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The mean of T, which the encoder lowers and T does not see, and T's own loss, which the encoder does not."""
        as_it_is = {name: parameter.detach() for name, parameter in self.adversary.named_parameters()}
        divergence = functional_call(self.adversary, as_it_is, (x, z)).mean()
        x, z = x.detach(), z.detach()
        own = F.softplus(-self.adversary(x, z)) + F.softplus(self.adversary(x, torch.randn_like(z)))
        return divergence, own.mean()

    def _contrast(
        self, x: Float[Tensor, "M D"], z: Float[Tensor, "M Z"], batch: RaggedBatch, steps: Steps
    ) -> Float[Tensor, ""]:
        """Whether each target's z is told from that of another sequence at the same place."""
        other, alone = next_in_step(steps)
        x, z = x[steps.order], z[steps.order]
        at = steps.place_of[self._read(batch)]
        own = self.contrast(x, z, steps)[at]
        foreign = F.softplus(self.contrast(x, z[other], steps)[at]).masked_fill(alone[at], 0)
        return (F.softplus(-own) + foreign).mean()


def next_in_step(steps: Steps) -> tuple[Int64[Tensor, " M"], Tensor]:
    """For each token, in the order of ``steps``: the next one of the same step, the first behind the last; and whether
    that is itself."""
    running = steps.running.to(steps.order.device)
    step = torch.repeat_interleave(running)
    first = (running.cumsum(0) - running)[step]
    number = torch.arange(len(step), device=step.device) - first
    return first + (number + 1) % running[step], running[step] == 1


class Noise(nn.Module):
    """Adds a learned function of standard normal noise; nothing is drawn at inference, where it is that of zeros."""

    def __init__(self, size: int):
        super().__init__()
        self.linear = nn.Linear(size, size)

    def forward(self, x: Float[Tensor, "M D"]) -> Float[Tensor, "M D"]:
        """``x + tanh(W noise + b)``."""
        return x + torch.tanh(self.linear(torch.randn_like(x) if self.training else torch.zeros_like(x)))


class CausalConvolution(nn.Module):
    """z from the newest five states: point by point, over time, point by point again, and the state added."""

    def __init__(self, config: ACVAEConfig):
        super().__init__()
        size, self.rate = config.recurrent_size, config.dropout
        self.noise = Noise(size)
        self.first = nn.Linear(size, size)
        self.wide = nn.Linear(CAUSAL_WIDTH * size, 2 * size)
        self.narrow = nn.Linear(2 * size, size)
        self.output = nn.Linear(size, config.latent_size)

    def enter(self, x: Float[Tensor, "M D"]) -> Float[Tensor, "M D"]:
        """What the recurrent layer takes in: the embeddings."""
        return x

    def forward(self, x: Float[Tensor, "M h"], places: Int64[Tensor, " M"]) -> Float[Tensor, "M Z"]:
        """z of each place from the recurrent states."""
        y = self.noise(F.softplus(self.first(self.noise(x))))
        y = F.softplus(self.wide(newest(y, places, CAUSAL_WIDTH).flatten(1)))
        y = x + F.softplus(self.narrow(y))
        return self.output(dropout(y, self.rate if self.training else 0.0))


class CrossedConvolution(nn.Module):
    """z from the state, a vertical filter over the newest four times the state, and horizontal filters in it."""

    def __init__(self, config: ACVAEConfig):
        super().__init__()
        size, self.rate = config.recurrent_size, config.dropout
        self.embedding_noise, self.noise = Noise(config.hidden_size), Noise(size)
        self.vertical = nn.Linear(VERTICAL_WIDTH, 1)
        self.width = min(HORIZONTAL_WIDTH, size)
        self.horizontal = nn.Linear(self.width, HORIZONTAL_FILTERS)
        self.mixed = nn.Linear(2 * size + HORIZONTAL_FILTERS, size)
        self.output = nn.Linear(size, config.latent_size)
        nn.init.xavier_normal_(self.mixed.weight)

    def enter(self, x: Float[Tensor, "M D"]) -> Float[Tensor, "M D"]:
        """What the recurrent layer takes in: the embeddings with noise."""
        return self.embedding_noise(x)

    def forward(self, x: Float[Tensor, "M h"], places: Int64[Tensor, " M"]) -> Float[Tensor, "M Z"]:
        """z of each place from the recurrent states."""
        rate = self.rate if self.training else 0.0
        x = self.noise(x)
        over_time = self.vertical(newest(x, places, VERTICAL_WIDTH).mT).squeeze(2) * x
        along = F.relu(self.horizontal(x.unfold(1, self.width, 1))).sum(1)
        y = torch.tanh(self.mixed(torch.cat([along, x, over_time], 1)))
        return dropout(self.output(dropout(y, rate)), rate)


def newest(x: Float[Tensor, "M D"], places: Int64[Tensor, " M"], width: int) -> Float[Tensor, "M W D"]:
    """Each place's ``width`` newest states, its own last; zeros before a sequence's first."""
    back = torch.arange(width - 1, -1, -1, device=x.device)
    index = torch.arange(len(x), device=x.device)[:, None] - back
    return x[index.clamp(min=0)] * (places[:, None] >= back)[:, :, None]


class Adversary(nn.Module):
    """T(x, z): how much more likely z is under the posterior than under the prior, a value for each number of z."""

    def __init__(self, config: ACVAEConfig):
        super().__init__()
        size, self.rate = config.adversary_size, config.adversary_dropout
        self.enter = nn.Linear(config.hidden_size + config.latent_size, size)
        self.inner = nn.ModuleList(nn.Sequential(nn.Linear(size, size), nn.Linear(size, size)) for _ in range(2))
        self.output = nn.Linear(size, config.latent_size)

    def forward(self, x: Float[Tensor, "R D"], z: Float[Tensor, "R Z"]) -> Float[Tensor, "R Z"]:
        """T of each item's embedding and z."""
        rate = self.rate if self.training else 0.0
        h = dropout(self.enter(torch.cat([x, z], 1)), rate)
        for layer in self.inner:
            h = F.elu(h + layer(h))
        return dropout(self.output(h), rate) + z.square() / 2


class Contrast(nn.Module):
    """C(x, z): whether the z up to a place are those of the items up to it, as a logit."""

    def __init__(self, config: ACVAEConfig):
        super().__init__()
        self.gru = nn.GRU(config.hidden_size + config.latent_size, config.adversary_size)
        self.output = nn.Linear(config.adversary_size, 1)

    def forward(self, x: Float[Tensor, "M D"], z: Float[Tensor, "M Z"], steps: Steps) -> Float[Tensor, " M"]:
        """C after each token, all in the order of ``steps``."""
        return self.output(F.gelu(steps.run(self.gru, torch.cat([x, z], 1)))).squeeze(1)
