"""What every model offers to training, evaluation and inference, and the table of all models."""

from collections.abc import Callable, Sequence as PySequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from pydantic import Field
from torch import Tensor, nn

from seqdiffrec.data.batches import RaggedBatch, history_batch
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models.nearest import Nearest
from seqdiffrec.models.settings import SettingError, Settings, refuse_unknown
from seqdiffrec.models.top import Barred, Top, best


class ModelConfig(Settings):
    """Settings that every model has.

    max_length: T, places in a sequence, the target's included; a model sees at most T - 1 history items.
    """

    max_length: Annotated[int, Field(ge=2, le=100_000)] = 50


@dataclass(frozen=True)
class Loss:
    """A batch's loss to descend, and the parts that it is made of, by name, as plain numbers."""

    total: Float[Tensor, ""]
    parts: dict[str, float]


MODELS: dict[str, type["SequenceModel"]] = {}
"""All models by name. A class that says its name enters itself, so a module of models need only be imported."""


def find_model(name: object) -> type["SequenceModel"]:
    """The model of that name. Raises SettingError where there is none, with the nearest that there is."""
    if isinstance(name, str) and name in MODELS:
        return MODELS[name]
    raise refuse_unknown(str(name), list(MODELS), what="model")


class SequenceModel(nn.Module):
    """A model that gives each item's probability to come next after a history.

    Class attributes:
        name: what the command line calls it: the class's name in small letters.
        config_class: its settings.
        summary: what it is, in a few words.
        paper: authors and year; None where there is none to name.
        cost: of its training, relative to that of SASRec with the same settings and as many targets; in words.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[ModelConfig]]
    summary: ClassVar[str]
    paper: ClassVar[str | None]
    cost: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):
            return  # a base of models
        taken = MODELS.get(cls.name)
        # The same class once more is a notebook's cell run again.
        if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            raise SettingError(
                f"two models are called {cls.name}: {taken.__module__} has one, {cls.__module__} another"
            )
        MODELS[cls.name] = cls

    def __init__(self, config: ModelConfig, num_items: int):
        super().__init__()
        self.max_length, self.num_items = config.max_length, num_items
        self.register_buffer("item_counts", torch.zeros(num_items, dtype=torch.int64))

    item_counts: Int64[Tensor, " V"]

    @property
    def shares_history(self) -> bool:
        """Whether training batches give all targets of a stretch one shared history."""
        return True

    @property
    def is_pretraining(self) -> bool:
        """Whether all that was trained so far only prepares for what the model is about.

        Such epochs are validated, but they use up no patience, and the first one after them is the best anew.
        """
        return False

    def describe_items(self, categories: PySequence[PySequence[str] | None] | None) -> None:
        """Take in each item's categories, in the order of the indices; None where the data have none.

        Called once before training, ahead of `count_items`. Most models have no use for them.
        """

    def count_items(self, train: Sequences) -> None:
        """Record how often each item occurs in training: the answer to an empty history."""
        counts = np.bincount(train.flat()[1], minlength=self.num_items + 1)[1:]
        self.item_counts.copy_(torch.from_numpy(counts))

    def start_epoch(self, num_targets: int) -> None:
        """Told how many targets an epoch trains, where it starts and where it is gone on with."""

    def start_update(self) -> None:
        """Told, before an update trains on after a whole training, so that what follows teaches what to recommend."""

    def loss(self, batch: RaggedBatch) -> Loss:
        """The mean loss over the batch's targets."""
        raise NotImplementedError

    def predict(self, batch: RaggedBatch, num_seeds: int) -> Float32[Tensor, "B V"]:
        """Probabilities of all items after each non-empty history; column j is item index j + 1.

        ``num_seeds`` is the number of noise draws averaged, for models that draw noise.
        """
        raise NotImplementedError

    def predict_each_seed(self, batch: RaggedBatch, num_seeds: int) -> Float32[Tensor, "S B V"]:
        """As `predict`, for each noise draw on its own; the mean over the draws is what `predict` gives."""
        if self.draws_noise:
            raise NotImplementedError
        return self.predict(batch, num_seeds)[None]

    def top(self, batch: RaggedBatch, num_seeds: int, k: int, barred: Barred) -> Top:
        """The k best items after each non-empty history, of those that are not barred."""
        probabilities = self.predict(batch, num_seeds).clone()
        barred.put_into(probabilities)
        return best(probabilities, k)

    def top_near(self, batch: RaggedBatch, num_seeds: int, k: int, barred: Barred, nearest: Nearest) -> Top:
        """As `top`, over the items that an index names; for models whose items are vectors."""
        raise NotImplementedError

    def similarity(self, items: Int64[Tensor, " n"]) -> Float32[Tensor, "n V"]:
        """How alike each of these item indices is to all items, column j being item index j + 1.

        Higher is more alike; minus infinity is not alike at all.

        Raises SettingError for a model that does not know.
        """
        raise SettingError(f"{self.name} learns nothing about single items, so it does not know which are alike")

    def embedding_norm(self) -> float | None:
        """Mean Euclidean norm of the item embeddings; None for a model without."""
        return None

    @property
    def draws_noise(self) -> bool:
        """Whether what is predicted depends on noise; without it there is one draw, whatever ``num_seeds`` says."""
        return False

    @property
    def default_seeds(self) -> int:
        """Noise draws averaged at inference; 1 for a model without noise."""
        return 1

    def num_draws(self, num_seeds: int | None = None) -> int:
        """How many draws there are with ``num_seeds``, None for `default_seeds`. No seeds are one draw, of zeros."""
        num_seeds = self.default_seeds if num_seeds is None else num_seeds
        return max(1, num_seeds) if self.draws_noise else 1

    @torch.inference_mode()
    def predict_histories(self, histories: Sequences, num_seeds: int | None = None) -> Float32[Tensor, "B V"]:
        """Probabilities of all items after each history; popularity where a history is empty."""
        return self._predict(self.predict, histories, num_seeds, ())

    @torch.inference_mode()
    def predict_histories_each_seed(
        self, histories: Sequences, num_seeds: int | None = None
    ) -> Float32[Tensor, "S B V"]:
        """The same for each noise draw on its own, seed by seed; popularity is the same for all."""
        return self._predict(self.predict_each_seed, histories, num_seeds, (self.num_draws(num_seeds),))

    def _predict(
        self,
        predict: Callable[[RaggedBatch, int], Tensor],
        histories: Sequences,
        num_seeds: int | None,
        before: tuple[int, ...],
    ) -> Float32[Tensor, "*before B V"]:
        if self.training:  # a walk over all parts, which a request would feel
            self.eval()
        num_seeds = self.default_seeds if num_seeds is None else num_seeds
        known = histories.lengths > 0
        shape = *before, len(histories), self.num_items
        if not known.any():
            return self.popularity().expand(shape)
        batch = history_batch(histories.select(known), self.max_length).to(self.item_counts.device)
        probabilities = predict(batch, num_seeds)
        if known.all():
            return probabilities
        result = self.popularity().expand(shape).clone()
        result[..., torch.from_numpy(known).to(result.device), :] = probabilities
        return result

    @torch.inference_mode()
    def top_of_histories(
        self,
        histories: Sequences,
        k: int,
        allowed: Bool[Tensor, " V"],
        *,
        filter_viewed: bool,
        num_seeds: int | None = None,
        nearest: Nearest | None = None,
    ) -> Top:
        """The k best items after each history, of those that are allowed; the most popular where a history is empty.

        filter_viewed: leave out what the history holds, all of it. Ties go to the smaller index.
        nearest: look only at the items that an index names, in place of all (`top_near`).
        """
        if self.training:
            self.eval()
        device = self.item_counts.device
        known = histories.lengths > 0
        seen = histories.select(known)
        barred = barred_items(seen, allowed, filter_viewed=filter_viewed, device=device)
        parts: list[tuple[Tensor, Top]] = []  # which histories, and their lists
        if known.any():
            batch = history_batch(seen, self.max_length).to(device)
            num_seeds = self.default_seeds if num_seeds is None else num_seeds
            if nearest is None:
                top = self.top(batch, num_seeds, k, barred)
            else:
                top = self.top_near(batch, num_seeds, k, barred, nearest)
            parts.append((torch.from_numpy(known).to(device), top))
        if not known.all():
            popular = self.popularity()[None].clone()
            barred.on(slice(0, 0)).put_into(popular)
            parts.append((torch.from_numpy(~known).to(device), best(popular, k)))
        shape = len(histories), min(k, self.num_items)
        result = Top(torch.empty(shape, device=device), torch.empty(shape, dtype=torch.int64, device=device))
        for mask, top in parts:
            for whole, part in zip(result, top, strict=True):
                whole[mask] = part
        return result

    def popularity(self) -> Float32[Tensor, " V"]:
        """Each item's share of the training actions."""
        return (self.item_counts / self.item_counts.sum().clamp(min=1)).float()


def barred_items(
    histories: Sequences, allowed: Bool[Tensor, " V"], *, filter_viewed: bool, device: torch.device
) -> Barred:
    """What may not be recommended after each history: what is not allowed, and with `filter_viewed` what it holds."""
    rows, items = histories.flat() if filter_viewed else (np.empty(0, np.int64), np.empty(0, np.int32))
    pairs = (torch.from_numpy(part.astype(np.int64)).to(device) for part in (rows, items - 1))
    return Barred.all_but(allowed.to(device), *pairs)
