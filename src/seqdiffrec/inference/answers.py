"""What a fitted model can be asked."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool
from torch import Tensor

from seqdiffrec.data import Corpus
from seqdiffrec.data.frames import FrameKind, as_kind, ids_of, kind_of
from seqdiffrec.inference.asked import Asked, of_histories, of_users
from seqdiffrec.inference.checks import assert_fitted, check_k, check_seeds, fitted_temperature
from seqdiffrec.inference.ids import columns_of, in_categories
from seqdiffrec.inference.index import ItemIndex, Progress, set_breadth, time_requests
from seqdiffrec.inference.ranking import (
    as_frame,
    score_items,
    top_items,
    top_items_each_seed,
    top_items_with_spread,
    with_titles,
)
from seqdiffrec.inference.rollout import rollout
from seqdiffrec.inference.similar import similar_items
from seqdiffrec.models import SequenceModel
from seqdiffrec.models.settings import SettingError
from seqdiffrec.training import RunError, RunFolder

# Of the figures in a frame.
KINDS = {"score": pl.Float64, "score_std": pl.Float64, "rank": pl.Int64}


class Filters(TypedDict, total=False):
    """Which items may be listed.

    filter_viewed: leave out what the history holds; True unless said otherwise.
    items_to_recommend, exclude_items: item ids. Raises SettingError for one that is not in the catalogue.
    categories: only items that are in one of these; for logs with a table of items. Raises SettingError for a category
        that no item has.
    """

    filter_viewed: bool
    items_to_recommend: Iterable[Any] | None
    exclude_items: Iterable[Any] | None
    categories: Iterable[str] | None


class Answers:
    """A model, the vocabulary and corpus that it was trained on, and an index where one was built."""

    def __init__(self) -> None:
        self.run: RunFolder | None = None
        self._model: SequenceModel | None = None
        self._vocabulary: pl.DataFrame | None = None
        self._corpus: Corpus | None = None
        self._index: ItemIndex | None = None
        self.output: FrameKind = "polars"
        self.temperature: float | None = None  # see `seqdiffrec.fit_temperature`

    def recommend(
        self,
        users: Iterable[Any],
        k: int = 10,
        *,
        recent: Mapping[Any, Iterable[Any]] | None = None,
        num_seeds: int | None = None,
        spread: bool = False,
        approximate: bool = False,
        calibrated: bool = False,
        **filters: Unpack[Filters],
    ) -> Any:
        """The k items that each user most probably takes next, after their whole history in the corpus.

        recent: items that users took since, oldest first, by user; a user whom only this names is new.
        num_seeds: noise draws averaged, 0 (zeros in place of noise) to 1000; None is the model's own number. Models
            that draw no noise take no notice.
        spread: add a column score_std, the standard deviation of the probability over the noise draws. It says how
            much the model's answer depends on its noise; it is no error bar of the probability.
        approximate: look only at the items that the index names (`build_index`); the frame then has a column
            approximate, and its scores are estimates.
        calibrated: give probabilities at the temperature that `seqdiffrec.fit_temperature` found; the order stays.
            Takes a second pass of the model over all items, so it does not go with ``approximate``.
        filters: which items may be listed, see `Filters`.
        Returns a frame user_id, item_id, score (probability), rank (from 1), and title where titles are known; of the
        kind of ``users`` (pandas, Polars, Arrow), for a list of that of the log, else of Polars. So do all below.
        Raises DataError for an unknown user, SettingError for a k below 1 or above the catalogue's size.
        """
        asked = of_users(self.corpus, ids_of(users), recent)
        return self._given(self._lists(asked, k, num_seeds, spread, approximate, calibrated, **filters), users)

    def recommend_sequences(
        self,
        histories: Sequence[Iterable[Any]],
        k: int = 10,
        *,
        num_seeds: int | None = None,
        spread: bool = False,
        approximate: bool = False,
        calibrated: bool = False,
        **filters: Unpack[Filters],
    ) -> Any:
        """The same for histories of item ids, oldest first, of people whom training has not seen.

        Items that the model does not know are skipped, with a warning that counts them; an empty history gets the
        most popular items, with a warning. The frame has ``history``, counted from 0, in place of user_id.
        """
        asked = of_histories(histories, self.vocabulary)
        return self._given(self._lists(asked, k, num_seeds, spread, approximate, calibrated, **filters), histories)

    def picks(
        self,
        users: Iterable[Any] | None = None,
        k: int = 10,
        *,
        histories: Sequence[Iterable[Any]] | None = None,
        recent: Mapping[Any, Iterable[Any]] | None = None,
        num_seeds: int | None = None,
        **filters: Unpack[Filters],
    ) -> Any:
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
        frame = as_frame(asked.keys.to_frame().join(seeds, how="cross"), found, self.vocabulary)
        return self._given(frame, users, histories)

    def score(
        self,
        items: Iterable[Any],
        *,
        users: Iterable[Any] | None = None,
        histories: Sequence[Iterable[Any]] | None = None,
        recent: Mapping[Any, Iterable[Any]] | None = None,
        num_seeds: int | None = None,
        spread: bool = False,
    ) -> Any:
        """How probable each of these items is to come next, for users or for histories, seen or not.

        Returns a frame user_id or history, item_id, score (probability), score_std with ``spread``, rank (from 1, among
        all items of the catalogue, seen ones too), and title where titles are known; in the order of ``items``.
        Raises as `picks` does, and SettingError for an unknown item.
        """
        asked, columns = self._asked(users, histories, recent), columns_of(ids_of(items), self.vocabulary)
        check_seeds(num_seeds)
        if spread:
            self._check_spread(num_seeds)
        found = score_items(self.model, asked.histories, columns, num_seeds)
        deviations = {"score_std": found.deviations} if spread else {}
        parts = {"score": found.probabilities, **deviations, "rank": found.ranks}
        figures = {name: pl.Series(part.flatten().numpy()).cast(KINDS[name]) for name, part in parts.items()}
        column = pl.Series(columns.repeat(len(asked.keys)).numpy())
        frame = pl.DataFrame([asked.keys.gather(np.repeat(np.arange(len(asked.keys)), len(columns)))]).with_columns(
            self.vocabulary["item_id"].gather(column).alias("item_id"), **figures
        )
        return self._given(with_titles(frame, column, self.vocabulary), users, histories)

    def recommend_next(
        self,
        users: Iterable[Any] | None = None,
        steps: int = 5,
        *,
        histories: Sequence[Iterable[Any]] | None = None,
        recent: Mapping[Any, Iterable[Any]] | None = None,
        num_seeds: int | None = None,
        sample_seed: int | None = None,
        **filters: Unpack[Filters],
    ) -> Any:
        """The next items one after another: each is put at the end of the history before the next is asked for.

        sample_seed: without it each is the most probable; with it each is drawn by the probabilities of the items that
            may be listed, the same with the same number.
        Returns a frame user_id or history, item_id, score (the probability that the item had at its step), step (from
        1), and title where titles are known. It ends early where nothing is left that may be listed. The further the
        step, the more the model goes on from itself alone. Raises as `picks` does, and SettingError for steps below 1.
        """
        asked = self._asked(users, histories, recent)
        check_seeds(num_seeds)
        if type(steps) is not int or steps < 1:
            raise SettingError(f"steps is {steps!r}; give a whole number of 1 or more")
        if sample_seed is not None and (type(sample_seed) is not int or sample_seed < 0):
            raise SettingError(f"sample_seed is {sample_seed!r}; give a whole number of 0 or more, or None")
        allowed, filter_viewed = self._allowed(**filters)
        found = rollout(
            self.model,
            asked.histories,
            steps,
            allowed,
            filter_viewed=filter_viewed,
            num_seeds=num_seeds,
            sample_seed=sample_seed,
        )
        frame = as_frame(asked.keys.to_frame(), found, self.vocabulary).rename({"rank": "step"})
        return self._given(frame, users, histories)

    def similar_items(
        self,
        items: Iterable[Any],
        k: int = 10,
        *,
        items_to_recommend: Iterable[Any] | None = None,
        exclude_items: Iterable[Any] | None = None,
        categories: Iterable[str] | None = None,
    ) -> Any:
        """The k items most alike to each of these item ids, as the model sees them; an item itself is left out.

        Returns a frame similar_to, item_id, score (for most models the cosine of the embeddings, in [-1, 1]), rank
        (from 1), and title where titles are known. It has fewer than k rows an item where fewer are alike.
        Raises SettingError for an unknown item, a k as in `recommend`, or a model that does not tell items apart.
        """
        check_k(k, self.model.num_items)
        allowed, _ = self._allowed(
            items_to_recommend=items_to_recommend, exclude_items=exclude_items, categories=categories
        )
        return self._given(similar_items(self.model, ids_of(items), k, allowed, self.vocabulary), items)

    def build_index(
        self, *, overlap: float = 0.99, histories: int = 256, progress: Progress | None = None
    ) -> ItemIndex:
        """Build an index for ``recommend(approximate=True)`` and the service, kept in the run's folder if there is one.

        overlap: share of the exact first ten that is to be found; the index looks as far as that needs. What it
        reaches, measured on so many users' ``histories``, is the index's ``overlap``; it may stay below. What a request
        then takes, and without the index, is its ``approximate_ms`` and ``exact_ms``.
        Raises SettingError for a model without item vectors, or without faiss, and RunError without the run's corpus.
        """
        if not (0 < overlap <= 1 and histories >= 1):
            raise SettingError("overlap lies above 0 and up to 1, and at least one history has to measure it")
        users = self.corpus.sequences()
        chosen = np.random.default_rng(0).permutation(len(users))[:histories]
        index = ItemIndex.build(self.model, progress)
        asked = users.select(np.sort(chosen))
        set_breadth(index, self.model, asked, overlap, progress)
        time_requests(index, self.model, asked, progress)
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
            self._index = ItemIndex.restore(self.model, *saved)
        return self._index

    def _take(self, model: SequenceModel, corpus: Corpus | None, vocabulary: pl.DataFrame | None) -> None:
        if vocabulary is None:
            assert corpus is not None
            vocabulary = corpus.vocabulary()
        self._model, self._corpus, self._vocabulary = model, corpus, vocabulary
        self._index = self.temperature = None

    def _given(self, frame: pl.DataFrame, *asked: object) -> Any:
        """The frame in the kind that was asked with, or else in that of the log."""
        kinds: list[FrameKind] = [kind for one in asked if (kind := kind_of(one)) is not None]
        return as_kind(frame, kinds[0] if kinds else self.output)

    def _asked(
        self,
        users: Iterable[Any] | None,
        histories: Sequence[Iterable[Any]] | None,
        recent: Mapping[Any, Iterable[Any]] | None,
    ) -> Asked:
        if (users is None) == (histories is None):
            raise SettingError("say for whom: users, or histories of item ids")
        if users is not None:
            return of_users(self.corpus, ids_of(users), recent)
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
        calibrated: bool,
        **filters: Unpack[Filters],
    ) -> pl.DataFrame:
        check_k(k, self.model.num_items)
        check_seeds(num_seeds)
        allowed, filter_viewed = self._allowed(**filters)
        how: dict[str, Any] = {"filter_viewed": filter_viewed, "num_seeds": num_seeds}
        temperature = fitted_temperature(self.temperature, self.run, approximate) if calibrated else None
        if spread:
            if calibrated:
                raise SettingError("the spread is that of the model's own probabilities; leave calibrated out")
            self._check_spread(num_seeds, approximate)
            found, deviations = top_items_with_spread(self.model, asked.histories, k, allowed, **how)
            frame = as_frame(asked.keys.to_frame(), found, self.vocabulary)
            return frame.insert_column(frame.columns.index("score") + 1, pl.Series("score_std", deviations, pl.Float64))
        index = self.index if approximate else None
        found = top_items(self.model, asked.histories, k, allowed, nearest=index, temperature=temperature, **how)
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
        categories: Iterable[str] | None = None,
    ) -> tuple[Bool[Tensor, " V"], bool]:
        """Which items may be listed at all, and whether those of the history may not."""
        allowed = torch.ones(self.model.num_items, dtype=torch.bool)
        if items_to_recommend is not None:
            allowed[:] = False
            allowed[columns_of(items_to_recommend, self.vocabulary)] = True
        if categories is not None:
            allowed &= in_categories(categories, self.vocabulary)
        if exclude_items is not None:
            allowed[columns_of(exclude_items, self.vocabulary)] = False
        return allowed, filter_viewed
