"""MFGAN (Ren et al. 2020, arXiv 2005.10602): SASRec as the generator of a game with one discriminator for each factor.

A discriminator sees a sequence only by one factor of its items, such as how popular they are, through a bidirectional
Transformer with positions, and says whether the last item was really taken. The reward of an item a after a history s
is the discriminators' mixed verdict, Q(s, a) = sum over factors of w y, with w = softmax(reward_sharpness y); the
generator G learns by policy gradient, grad E[Q] = E over a from G of Q grad log G(a | s).

The phases follow one another by how many targets have been trained, counted in epochs: the generator alone by
likelihood, the discriminators alone, then generator and discriminators in turn. In each phase only one side has
gradients, so that the one optimiser is as good as one for each side (docs/adr/0012). Before the generator's first turn
in the game all is pre-training: no such epoch counts for ``patience``, and none is the best once there is a later one.

Factors: the ``item`` itself; its ``popularity``, in buckets of as many items each; its ``recency``, in such buckets
too: where in people's sequences it stands on the mean, since what is new stands late; its ``categories``, where the
data have them, of which an item may have several. Where they have none, the game goes on without that factor, and that
is said.

Differs from the paper or the authors' code (github.com/RUCAIBox/MFGAN, TensorFlow):

- The code has no drawn actions: it multiplies the likelihood of the true items by the reward of the generator's best
  one. Here a is drawn, as in the paper; the likelihood stays beside it with ``likelihood_weight``, which is 0 in the
  paper's equation. The reward is for one target of each stretch, drawn anew, in the code for all by the last one's.
- Negatives for the discriminators are drawn from the generator anew in each step; in the code they are its ten best
  items but the true one, found once a phase. Real and generated sequences weigh the same; in the code one against ten.
- The code's knowledge graph is left out, recency is added. A discriminator sees training data only; there the test's.
- The code has half a feed-forward part before and half behind attention in the generator, and a penalty of 0.2 on the
  discriminators' output weights; here both are as in `Encoder`, without it.
- Phases change between two steps, wherever in an epoch that is. A batch has one size for both sides; the code's are
  an eighth as large for the discriminators, which so take eight times as many steps an epoch.
- See `sasrec` for what the generator has otherwise than SASRec.
"""

import logging
import math
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, cast

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from seqdiffrec.data.batches import RaggedBatch, spread
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.data.words import counted
from seqdiffrec.models.base import Loss, ModelConfig
from seqdiffrec.models.duorec import one_of_each_sequence
from seqdiffrec.models.encoder import Encoder, initialize
from seqdiffrec.models.item_table import TableModel
from seqdiffrec.models.sasrec import SASRec, SASRecConfig
from seqdiffrec.models.settings import SettingError

log = logging.getLogger("seqdiffrec")

Factor = Literal["item", "popularity", "recency", "categories"]
FACTORS: tuple[Factor, ...] = ("item", "popularity", "recency", "categories")


class MFGANConfig(SASRecConfig):
    """Settings of MFGAN: those of SASRec, which are the generator's, of the discriminators, and of the game.

    factors: what there is a discriminator for.
    num_buckets: of popularity and of recency. num_categories: how many categories are told apart, those of most items.
    discriminator_layers, discriminator_dropout: of each discriminator; its size and heads are the generator's. Its
        dropout stands where the code has it: at the input, on attention weights, within and behind feed-forward parts.
    pretraining_epochs, discriminator_pretraining_epochs: how long either side is trained alone, the generator by
        likelihood; after that they take turns of ``generator_epochs`` and ``discriminator_epochs``. Parts of an epoch
        will do.
    num_generated: items drawn from the generator for each real one, in either phase.
    reward_sharpness: lambda; 0 takes the mean of the discriminators, more leans to the most convinced of them.
    likelihood_weight: of the recommendation loss beside the policy's in the generator's turns.
    """

    factors: Annotated[list[Factor], Field(min_length=1)] = Field(default_factory=lambda: list(FACTORS))
    num_buckets: Annotated[int, Field(ge=2, le=10_000)] = 10
    num_categories: Annotated[int, Field(ge=1, le=100_000)] = 1000
    discriminator_layers: Annotated[int, Field(ge=1, le=64)] = 1
    discriminator_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.25
    pretraining_epochs: Annotated[float, Field(ge=0, le=100_000)] = 20
    discriminator_pretraining_epochs: Annotated[float, Field(ge=0, le=100_000)] = 1
    generator_epochs: Annotated[float, Field(gt=0, le=100_000)] = 4
    discriminator_epochs: Annotated[float, Field(ge=0, le=100_000)] = 1
    num_generated: Annotated[int, Field(ge=1, le=1000)] = 10
    reward_sharpness: Annotated[float, Field(ge=0, le=1000)] = 0.0
    likelihood_weight: Annotated[float, Field(ge=0, le=1e6)] = 1.0


class MFGAN(SASRec):
    """SASRec that plays against discriminators, each of which judges what comes next by one factor of the items.

    The generator G lowers ``-E over a from G of Q(s, a)``, with the gradient ``-E[Q grad log G(a | s)]``; a
    discriminator lowers ``-log y(s, true) - E over a from G of log(1 - y(s, a))``; ``Q = sum over factors of w y``.
    """

    name: ClassVar[str] = "mfgan"
    config_class: ClassVar[type[ModelConfig]] = MFGANConfig
    summary: ClassVar[str] = "SASRec against a discriminator for each factor of items"
    paper: ClassVar[str | None] = "Ren et al. 2020"
    cost: ClassVar[str] = "1 while the generator is alone, then 1.5"
    by_item: ClassVar[tuple[str, ...]] = (*TableModel.by_item, "discriminators.item.embedding.weight")

    def __init__(self, config: MFGANConfig, num_items: int):
        super().__init__(config, num_items)
        self.config = config
        sizes = {"item": num_items, "categories": config.num_categories}
        self.discriminators = nn.ModuleDict(
            {factor: Discriminator(config, sizes.get(factor, config.num_buckets)) for factor in config.factors}
        )
        for name in ("targets_trained", "targets_an_epoch"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))
        self.register_load_state_dict_pre_hook(MFGAN._fill_in)
        self.categories: Sequence[Sequence[str] | None] | None = None

    targets_trained: Int64[Tensor, ""]
    targets_an_epoch: Int64[Tensor, ""]

    def _fill_in(self, state: dict[str, Tensor], *_: object) -> None:
        """An older state lacks how many targets an epoch had: 0, not known."""
        state.setdefault("targets_an_epoch", torch.zeros_like(self.targets_an_epoch))

    def describe_items(self, categories: Sequence[Sequence[str] | None] | None) -> None:
        """Take in the items' categories; where there are none, that factor is left out, and that is said."""
        self.categories = categories
        factors = set(self.config.factors)
        if categories is not None or "categories" not in factors:
            return
        lack = "the data have no categories of items, which a table of items would bring (--items FILE)"
        if factors == {"categories"}:
            raise SettingError(f"{lack}, so MFGAN has nothing to judge by; bring them, or name more model.factors")
        left = [factor for factor in ("popularity", "recency") if factor in factors]
        runs_on = f"{counted(len(left), 'factor')}: {' and '.join(left)}" if left else "the items themselves alone"
        beside = ", beside the items themselves" if left and "item" in factors else ""
        log.warning("%s, so MFGAN runs on %s%s", lack, runs_on, beside)

    def count_items(self, train: Sequences) -> None:
        """Record how often each item occurs in training, what its factors are, and how many targets there may be."""
        super().count_items(train)
        self.start_epoch(int(np.maximum(train.lengths - 1, 0).sum()))
        values = {"item": np.arange(1, self.num_items + 1)[:, None]}
        values["popularity"] = buckets(self.item_counts.cpu().numpy().astype(np.float64), self.config.num_buckets)
        values["recency"] = buckets(mean_places(train, self.num_items), self.config.num_buckets)
        if self.categories is not None:
            values["categories"] = most_frequent(self.categories, self.config.num_categories)
        for factor, discriminator in self.discriminators.items():
            if factor in values:
                cast(Discriminator, discriminator).describe(values[factor], self.item_counts.device)

    def start_epoch(self, num_targets: int) -> None:
        """Count epochs by so many targets; those that are done stay as many, where an update has shorter ones."""
        before = int(self.targets_an_epoch)
        if before not in (0, num_targets):
            self.targets_trained.copy_(-(-self.targets_trained * num_targets // before))  # no less: a turn stays begun
        self.targets_an_epoch.fill_(num_targets)

    @torch.no_grad()
    def grow_from(self, smaller: TableModel, neighbours: Sequences) -> None:
        """As every model with a table; a category keeps its vector, also where new items change its number.

        Call `describe_items` first, with the categories of all items.
        """
        super().grow_from(smaller, neighbours)
        if self.categories is None or "categories" not in self.discriminators:
            return
        count = self.config.num_categories
        before, now = (
            category_numbers(some, count) for some in (self.categories[: smaller.num_items], self.categories)
        )
        free = iter(sorted(set(range(1, count + 1)) - {before[name] for name in now if name in before}))
        rows = [before[name] if name in before else next(free) for name in now]
        weight = cast(Discriminator, self.discriminators["categories"]).embedding.weight
        weight[1 : len(rows) + 1] = weight[rows]

    def loss(self, batch: RaggedBatch) -> Loss:
        """What the side whose turn it is has to lower: the recommendation loss and minus the reward, or errors."""
        phase = self.phase()
        if self.training:
            self.targets_trained += len(batch.targets)
        if phase == "discriminators":
            return self._discriminator_loss(batch)
        state = self._encode(batch)
        recommendation = self.table.loss(state, batch).mean()
        if phase == "pretraining":
            return Loss(recommendation, {"loss": recommendation.item(), "recommendation": recommendation.item()})
        policy, reward = self._policy(state, batch)
        total = self.config.likelihood_weight * recommendation + policy
        parts = {"loss": total, "recommendation": recommendation, "policy": policy, "reward": reward}
        return Loss(total, {name: part.item() for name, part in parts.items()})

    def phase(self) -> Literal["pretraining", "generator", "discriminators"]:
        """Whose turn it is."""
        config = self.config
        epochs = self._epochs() - config.pretraining_epochs
        if epochs < 0:
            return "pretraining"
        epochs -= config.discriminator_pretraining_epochs
        if epochs < 0:
            return "discriminators"
        into = epochs % (config.generator_epochs + config.discriminator_epochs)
        return "generator" if into < config.generator_epochs else "discriminators"

    def start_update(self) -> None:
        """A generator's turn begins: the discriminators' would change no recommendation. Its pre-training goes on."""
        if self.phase() == "pretraining":
            return
        config = self.config
        before = config.pretraining_epochs + config.discriminator_pretraining_epochs
        rounds, turn = max(0.0, self._epochs() - before), config.generator_epochs + config.discriminator_epochs
        done = math.ceil(rounds / turn)
        self.targets_trained.fill_(math.ceil((before + done * turn) * int(self.targets_an_epoch)))

    @property
    def is_pretraining(self) -> bool:
        """Whether the generator's first turn in the game has not begun."""
        return self._epochs() <= self.config.pretraining_epochs + self.config.discriminator_pretraining_epochs

    def _epochs(self) -> float:
        """How many epochs' targets were trained."""
        return (self.targets_trained.double() / self.targets_an_epoch.clamp(min=1)).item()

    def _policy(self, state: Float[Tensor, "R D"], batch: RaggedBatch) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Minus the mean of Q log G over items drawn from G, whose gradient is that of minus E[Q]; and the mean Q."""
        chosen = one_of_each_sequence(batch)
        picked, log_probability = self._generate(state[chosen], batch.of_targets(chosen))
        self.discriminators.eval()
        with torch.no_grad():
            verdicts = self._judge(batch.of_targets(chosen), picked).sigmoid()  # (factors, B, K)
            reward = (verdicts * (self.config.reward_sharpness * verdicts).softmax(0)).sum(0)
        self.discriminators.train(self.training)
        return -(reward * log_probability).mean(), reward.mean()

    def _discriminator_loss(self, batch: RaggedBatch) -> Loss:
        """Binary cross-entropy of the true item and, with the same weight, of drawn ones; the sum over factors."""
        chosen = one_of_each_sequence(batch)
        asked = batch.of_targets(chosen)
        with torch.no_grad():
            picked, _ = self._generate(self._encode(batch)[chosen], asked)
        verdicts = self._judge(asked, torch.cat([asked.targets[:, None], picked], 1))
        real, generated = verdicts[:, :, :1], verdicts[:, :, 1:]
        total = (F.softplus(-real).mean((1, 2)) + F.softplus(generated).mean((1, 2))).sum()
        return Loss(total, {"loss": total.item(), "discriminators": total.item()})

    def _generate(
        self, state: Float[Tensor, "B D"], asked: RaggedBatch
    ) -> tuple[Int64[Tensor, "B K"], Float[Tensor, "B K"]]:
        """Items drawn from the generator after each history, and the logarithms of their probabilities."""
        probabilities = self.table.probabilities(state[None], asked)
        drawn = torch.multinomial(probabilities.detach(), self.config.num_generated, replacement=True)
        return drawn + 1, probabilities.gather(1, drawn).clamp(min=1e-30).log()

    def _judge(self, asked: RaggedBatch, picked: Int64[Tensor, "B K"]) -> Float[Tensor, "F B K"]:
        """Each discriminator's logit that an item was really taken after its target's history."""
        times, length = picked.shape[1], asked.places
        row, place = spread(length.repeat_interleave(times) + 1)
        owner = row // times
        is_last = place == length[owner]
        start = asked.offsets[asked.rows[owner]]
        history = asked.tokens[torch.where(is_last, start, start + place)]
        items = torch.where(is_last, picked.flatten()[row], history)
        all_of_them = cast(list[Discriminator], list(self.discriminators.values()))
        known = [one for one in all_of_them if one.values is not None]
        return torch.stack([one(items, row, place, is_last) for one in known]).view(len(known), *picked.shape).float()


class Discriminator(nn.Module):
    """A bidirectional Transformer over one factor of the items; the last place's state says whether its item is real.

    Attributes:
        values: (V + 1, C), the factor's values of each item, from 1, as many as it has, 0 behind them; in no state,
            since every run has the training data. None before `describe`.
    """

    def __init__(self, config: MFGANConfig, num_values: int):
        super().__init__()
        self.register_buffer("values", None, persistent=False)
        self.embedding = nn.Embedding(num_values + 1, config.hidden_size, padding_idx=0)
        self.position = nn.Embedding(config.max_length, config.hidden_size)
        update = {
            "num_layers": config.discriminator_layers,
            "dropout": config.discriminator_dropout,
            "attention_dropout": None,
            "attention_output_dropout": 0.0,
            "inner_dropout": config.discriminator_dropout,
            "filter_share": 0.0,
            "linear_bias": False,
        }
        self.encoder = Encoder(config.model_copy(update=update))
        self.output = nn.Linear(config.hidden_size, 1)
        initialize(self, config.weight_std, config.embedding_std)

    values: Int64[Tensor, "V1 C"] | None

    def describe(self, values: NDArray[np.int64], device: torch.device) -> None:
        """Take in the values of items 1..V, (V, C)."""
        self.values = F.pad(torch.from_numpy(values.astype(np.int64)), (0, 0, 1, 0)).to(device)

    def forward(
        self,
        items: Int64[Tensor, " M"],
        rows: Int64[Tensor, " M"],
        places: Int64[Tensor, " M"],
        is_last: Tensor,
    ) -> Float[Tensor, " B"]:
        """A logit for each sequence."""
        assert self.values is not None, "a factor needs count_items first"
        values = self.values[items]
        count = (values > 0).sum(1, keepdim=True).clamp(min=1)
        h = self.embedding(values).sum(1) / count + self.position(places)
        offsets = F.pad(rows.bincount().cumsum(0), (1, 0))
        read = torch.nonzero(is_last).squeeze(1)
        return self.output(self.encoder.bidirectional(h, rows, offsets, read)).squeeze(1)


def buckets(numbers: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """In which of so many parts of all items, from the lowest, each stands, 1..count; equal ones together. (V, 1)."""
    lower = np.searchsorted(np.sort(numbers), numbers)
    return (lower * count // len(numbers) + 1)[:, None]


def mean_places(train: Sequences, num_items: int) -> NDArray[np.float64]:
    """Where in people's sequences each item stands on the mean, 0 at their start, 1 at their end; 0 for one in none."""
    rows, items = train.flat()
    lengths = train.lengths
    first = np.cumsum(lengths) - lengths
    place = (np.arange(len(rows)) - first[rows]) / np.maximum(lengths[rows] - 1, 1)
    total, times = (np.bincount(items, weights, num_items + 1)[1:] for weights in (place, None))
    return total / np.maximum(times, 1)


def category_numbers(categories: Sequence[Sequence[str] | None], count: int) -> dict[str, int]:
    """Numbers of categories from 1, those of most items first; rarer than the first ``count``: left out."""
    items_of = Counter(name for names in categories for name in names or ())
    return {name: place for place, (name, _) in enumerate(items_of.most_common(count), start=1)}


def most_frequent(categories: Sequence[Sequence[str] | None], count: int) -> NDArray[np.int64]:
    """Each item's categories by their `category_numbers`, 0 behind them. (V, C)."""
    number = category_numbers(categories, count)
    known = [[number[name] for name in names or () if name in number] for names in categories]
    values = np.zeros((len(known), max([1, *map(len, known)])), np.int64)
    for item, numbers in enumerate(known):
        values[item, : len(numbers)] = numbers
    return values
