"""What a fitted model can be asked."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool
from torch import Tensor

from seqdiffrec.data import Corpus
from seqdiffrec.evaluation import check_cutoff
from seqdiffrec.inference.asked import Asked, of_histories, of_users
from seqdiffrec.inference.ids import columns_of
from seqdiffrec.inference.index import ItemIndex, Progress, catalogue_of
from seqdiffrec.inference.ranking import as_frame, top_items, top_items_each_seed, top_items_with_spread
from seqdiffrec.inference.similar import similar_items
from seqdiffrec.models import SequenceModel
from seqdiffrec.models.settings import SettingError
from seqdiffrec.training import RunError, RunFolder

MOST_SEEDS = 1000


class Filters(TypedDict, total=False):
    """Which items may be listed.

    filter_viewed: leave out what the history holds; True unless said otherwise.
    items_to_recommend, exclude_items: item ids. Raises SettingError for one that is not in the catalogue.
    """

    filter_viewed: bool
    items_to_recommend: Iterable[Any] | None
    exclude_items: Iterable[Any] | None


class Answers:
    """A model, the vocabulary and corpus that it was trained on, and an index where one was built."""

    def __init__(self) -> None:
        self.run: RunFolder | None = None
        self._model: SequenceModel | None = None
        self._vocabulary: pl.DataFrame | None = None
        self._corpus: Corpus | None = None
        self._index: ItemIndex | None = None

    def recommend(
        self,
        users: Iterable[Any],
        k: int = 10,
        *,
        recent: Mapping[Any, Iterable[Any]] | None = None,
        num_seeds: int | None = None,
        spread: bool = False,
        approximate: bool = False,
        **filters: Unpack[Filters],
    ) -> pl.DataFrame:
        """The k items that each user most probably takes next, after their whole history in the corpus.

        recent: items that users took since, oldest first, by user; a user whom only this names is new.
        num_seeds: noise draws averaged, 0 (zeros in place of noise) to 1000; None is the model's own number. Models
            that draw no noise take no notice.
        spread: add a column score_std, the standard deviation of the probability over the noise draws. It says how
            much the model's answer depends on its noise; it is no error bar of the probability.
        approximate: look only at the items that the index names (`build_index`); the frame then has a column
            approximate, and its scores are estimates.
        filters: which items may be listed, see `Filters`.
        Returns a frame user_id, item_id, score (probability), rank (from 1), and title where titles are known.
        Raises DataError for an unknown user, SettingError for a k below 1 or above the catalogue's size.
        """
        asked = of_users(self.corpus, users, recent)
        return self._lists(asked, k, num_seeds, spread, approximate, **filters)

    def recommend_sequences(
        self,
        histories: Sequence[Iterable[Any]],
        k: int = 10,
        *,
        num_seeds: int | None = None,
        spread: bool = False,
        approximate: bool = False,
        **filters: Unpack[Filters],
    ) -> pl.DataFrame:
        """The same for histories of item ids, oldest first, of people whom training has not seen.

        Items that the model does not know are skipped, with a warning that counts them; an empty history gets the
        most popular items, with a warning. The frame has ``history``, counted from 0, in place of user_id.
        """
        asked = of_histories(histories, self.vocabulary)
        return self._lists(asked, k, num_seeds, spread, approximate, **filters)

    def picks(
        self,
        users: Iterable[Any] | None = None,
        k: int = 10,
        *,
        histories: Sequence[Iterable[Any]] | None = None,
        recent: Mapping[Any, Iterable[Any]] | None = None,
        num_seeds: int | None = None,
        **filters: Unpack[Filters],
    ) -> pl.DataFrame:
        """The k items that each noise draw alone would list, for users or for histories; what `recommend` averages.

        Returns the frame of `recommend` with a column seed, from 0, after user_id or history; each seed's score is its
        own probability, ranked from 1. A model that draws no noise, and an empty history, have the same for all.
        Raises as `recommend` and `recommend_sequences` do, and SettingError unless one of users and histories is given.
        """
        asked = self._asked(users, histories, recent)
        check_k(k, self.model.num_items)
        check_seeds(num_seeds)
        allowed, filter_viewed = self._allowed(**filters)
        found = top_items_each_seed(
            self.model, asked.histories, k, allowed, filter_viewed=filter_viewed, num_seeds=num_seeds
        )
        seeds = pl.DataFrame({"seed": range(self.model.num_draws(num_seeds))})
        return as_frame(asked.keys.to_frame().join(seeds, how="cross"), found, self.vocabulary)

    def similar_items(
        self,
        items: Iterable[Any],
        k: int = 10,
        *,
        items_to_recommend: Iterable[Any] | None = None,
        exclude_items: Iterable[Any] | None = None,
    ) -> pl.DataFrame:
        """The k items most alike to each of these item ids, as the model sees them; an item itself is left out.

        Returns a frame similar_to, item_id, score (for most models the cosine of the embeddings, in [-1, 1]), rank
        (from 1), and title where titles are known. It has fewer than k rows an item where fewer are alike.
        Raises SettingError for an unknown item, a k as in `recommend`, or a model that does not tell items apart.
        """
        check_k(k, self.model.num_items)
        allowed, _ = self._allowed(items_to_recommend=items_to_recommend, exclude_items=exclude_items)
        return similar_items(self.model, items, k, allowed, self.vocabulary)

    def build_index(
        self, *, overlap: float = 0.99, histories: int = 256, progress: Progress | None = None
    ) -> ItemIndex:
        """Build an index for ``recommend(approximate=True)``, and keep it in the run's folder if there is one.

        overlap: share of the exact first ten that is to be found; the index looks as far as that needs. What it
        reaches, measured on so many users' ``histories``, is the index's ``overlap``; it may stay below.
        Raises SettingError for a model without item vectors or without faiss, RunError without the run's corpus.
        """
        if not (0 < overlap <= 1 and histories >= 1):
            raise SettingError("overlap lies above 0 and up to 1, and at least one history has to measure it")
        catalogue_of(self.model)
        users = self.corpus.sequences()
        chosen = np.random.default_rng(0).permutation(len(users))[:histories]
        index = ItemIndex.build(self.model, progress)
        index.set_breadth(self.model, users.select(np.sort(chosen)), overlap, progress)
        if self.run is not None:
            self.run.save_index(index.tensors(), index.facts())
        self._index = index
        return index

    # -- parts --------------------------------------------------------------------------------------------------------

    @property
    def model(self) -> SequenceModel:
        """The torch module. Raises SettingError before `fit`."""
        return assert_fitted(self._model)

    @property
    def corpus(self) -> Corpus:
        """The corpus of training. Raises RunError where the run's folder no longer has it."""
        assert_fitted(self._model)
        if self._corpus is None:
            raise RunError(
                "the run's folder has no corpus, so its users are not known here; ask with a history instead"
            )
        return self._corpus

    @property
    def vocabulary(self) -> pl.DataFrame:
        """item_id, title and categories; row j belongs to item index j + 1."""
        assert_fitted(self._model)
        assert self._vocabulary is not None
        return self._vocabulary

    @property
    def index(self) -> ItemIndex:
        """The index that was built, in this process or for the run. Raises SettingError where none was."""
        if self._index is None:
            saved = self.run.load_index() if self.run is not None else None
            if saved is None:
                where = "build_index()" if self.run is None else f"seqdiffrec index {self.run.path}"
                raise SettingError(f"there is no index yet to look things up in: {where} makes one")
            self._index = ItemIndex.of(self.model, *saved)
        return self._index

    def _take(self, model: SequenceModel, corpus: Corpus | None, vocabulary: pl.DataFrame | None) -> None:
        if vocabulary is None:
            assert corpus is not None
            vocabulary = corpus.vocabulary()
        self._model, self._corpus, self._vocabulary, self._index = model, corpus, vocabulary, None

    def _asked(
        self,
        users: Iterable[Any] | None,
        histories: Sequence[Iterable[Any]] | None,
        recent: Mapping[Any, Iterable[Any]] | None,
    ) -> Asked:
        if (users is None) == (histories is None):
            raise SettingError("say for whom: users, or histories of item ids")
        if users is not None:
            return of_users(self.corpus, users, recent)
        if recent is not None:
            raise SettingError("recent is for users; a history already ends with what was taken last")
        assert histories is not None
        return of_histories(histories, self.vocabulary)

    def _lists(
        self,
        asked: Asked,
        k: int,
        num_seeds: int | None,
        spread: bool,
        approximate: bool,
        **filters: Unpack[Filters],
    ) -> pl.DataFrame:
        check_k(k, self.model.num_items)
        check_seeds(num_seeds)
        allowed, filter_viewed = self._allowed(**filters)
        how: dict[str, Any] = {"filter_viewed": filter_viewed, "num_seeds": num_seeds}
        if spread:
            self._check_spread(num_seeds, approximate)
            found, deviations = top_items_with_spread(self.model, asked.histories, k, allowed, **how)
            frame = as_frame(asked.keys.to_frame(), found, self.vocabulary)
            return frame.insert_column(frame.columns.index("score") + 1, pl.Series("score_std", deviations, pl.Float64))
        index = self.index if approximate else None
        found = top_items(self.model, asked.histories, k, allowed, nearest=index, **how)
        frame = as_frame(asked.keys.to_frame(), found, self.vocabulary)
        return frame.with_columns(approximate=pl.lit(True)) if approximate else frame

    def _check_spread(self, num_seeds: int | None, approximate: bool = False) -> None:
        if approximate:
            raise SettingError("spread looks at the whole catalogue for each noise draw; leave approximate out")
        if self.model.draws_noise and self.model.num_draws(num_seeds) < 2:
            raise SettingError("the spread over one noise draw is not known; take num_seeds of 2 or more")

    def _allowed(
        self,
        *,
        filter_viewed: bool = True,
        items_to_recommend: Iterable[Any] | None = None,
        exclude_items: Iterable[Any] | None = None,
    ) -> tuple[Bool[Tensor, " V"], bool]:
        """Which items may be listed at all, and whether those of the history may not."""
        allowed = torch.ones(self.model.num_items, dtype=torch.bool)
        if items_to_recommend is not None:
            allowed[:] = False
            allowed[columns_of(items_to_recommend, self.vocabulary)] = True
        if exclude_items is not None:
            allowed[columns_of(exclude_items, self.vocabulary)] = False
        return allowed, filter_viewed


def assert_fitted(model: SequenceModel | None) -> SequenceModel:
    """The model, or a SettingError that says to call `fit` first."""
    if model is None:
        raise SettingError("this model is not fitted yet: call fit(data), or load a run")
    return model


def check_k(k: int, num_items: int) -> None:
    """Raise SettingError where no list of k items can be made from the catalogue."""
    try:
        check_cutoff(k, num_items)
    except ValueError as error:
        raise SettingError(str(error)) from error


def check_seeds(num_seeds: int | None) -> None:
    """Raise SettingError where there cannot be so many noise draws."""
    if num_seeds is not None and (type(num_seeds) is not int or not 0 <= num_seeds <= MOST_SEEDS):
        raise SettingError(f"num_seeds is {num_seeds!r}; give a whole number from 0 to {MOST_SEEDS}, or None")
