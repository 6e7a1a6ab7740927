"""The library's front door: settings in, `fit`, `evaluate`, `recommend`, `save`, `load`."""

import logging
import shutil
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import torch

from seqdiffrec.data import Corpus, Dataset, Sequences
from seqdiffrec.data.frames import FrameKind, as_kind, check_kind, ids_of, kind_of
from seqdiffrec.evaluation import Evaluation, Progress, Ranks, check_cutoff, cutoffs, rank_targets, report
from seqdiffrec.inference.ids import columns_of, known_items
from seqdiffrec.inference.index import ItemIndex, Progress as IndexProgress, catalogue_of
from seqdiffrec.inference.pretrained import Pretrained
from seqdiffrec.inference.ranking import as_frame, top_items
from seqdiffrec.inference.resuming import is_untrained, run_to_resume, starts_over
from seqdiffrec.inference.similar import similar_items
from seqdiffrec.models import MODELS, SequenceModel, find_model
from seqdiffrec.models.settings import SettingError, refuse_unknown
from seqdiffrec.training import Reporter, RunError, RunFolder, TerminalReporter, Trainer, TrainingConfig, TrainingState
from seqdiffrec.training.provenance import code_revision, machine, versions
from seqdiffrec.training.trackers import tracked

log = logging.getLogger("seqdiffrec")


class Recommender(Pretrained):
    """A model with its settings, its data's vocabulary and, once fitted, its weights.

    Keyword arguments are the settings of the model and of training, all by name; see ``docs/settings.md``.
    Raises SettingError for an unknown one or a value out of range.
    """

    model_name: ClassVar[str]

    def __init__(self, **settings: Any):
        config_class = MODELS[self.model_name].config_class
        of_training = {name: settings[name] for name in settings if name in TrainingConfig.model_fields}
        of_model = {name: settings[name] for name in settings if name not in of_training}
        for name in of_model:
            if name not in config_class.model_fields:
                raise refuse_unknown(name, [*config_class.model_fields, *TrainingConfig.model_fields])
        self.config = config_class.checked(of_model)
        self.training = TrainingConfig.checked(of_training)
        self.state = TrainingState()
        self.run: RunFolder | None = None
        self.output: FrameKind = "polars"
        self._model: SequenceModel | None = None
        self._vocabulary: pl.DataFrame | None = None
        self._corpus: Corpus | None = None
        self._split_times: dict[str, Any] | None = None
        self._index: ItemIndex | None = None

    # -- training -----------------------------------------------------------------------------------------------------

    def fit(
        self,
        data: Dataset,
        *,
        out: str | Path | None = None,
        resume: bool = False,
        reporter: Reporter | None = None,
        facts: dict[str, Any] | None = None,
    ) -> Self:
        """Train on ``data.split.train``, choosing the epoch with the best validation NDCG@10.

        out: a run's folder, where checkpoints and the best weights go; without it all stays in memory.
        resume: go on with the run in ``out``, which must have the same settings and data.
        reporter: takes progress; by default it is shown on standard error.
        facts: what else to note in the run's record, such as the command.
        Raises RunError for a folder that cannot be used, TrainingInterrupted on Ctrl-C, TrainingDiverged where the
        loss is no longer a number. A start that fails leaves no folder.
        """
        begun = run_to_resume(out, data, self._settings()) if resume else None
        model = self._new_model(data.corpus.num_items)
        if reporter is None:
            reporter = TerminalReporter(self.training.epochs)
        run = begun
        if begun is None and out is not None:
            run = self._new_run(Path(out), data.corpus, data.split_times, facts or {})
        try:
            trainer = Trainer(model, data.split, self.training, reporter, run)
            # A run that was killed before its first checkpoint starts over.
            if begun is not None and not starts_over(begun):
                trainer.resume()
                begun.note_resumed(self._settings(), {**made_by(), **(facts or {})})
            trainer.reporter = tracked(reporter, self.training.tracker, run, self._settings())
            self.state, self.run = trainer.train(), run
        except BaseException:
            if begun is None and run is not None and is_untrained(run):
                shutil.rmtree(run.path)
            raise
        self._take(model, data.corpus, None)
        self._split_times, self.output = data.split_times, data.output
        return self

    def save(self, path: str | Path) -> None:
        """Write a fitted model as a run's folder, whole or not at all. Raises RunError where there is one already."""
        assert_fitted(self._model)
        if self._corpus is None:
            raise RunError("this run was loaded without its corpus, so copy its folder instead of saving it anew")
        run = self._new_run(Path(path), self._corpus, self._split_times, {})
        weights = {name: tensor.detach().cpu() for name, tensor in self.model.state_dict().items()}
        try:
            run.save_final(self.state, weights)
        except BaseException:
            shutil.rmtree(run.path)
            raise
        self.run = run

    @classmethod
    def load(cls, path: str | Path, *, output: str = "polars") -> "Recommender":
        """Open a run's folder, with the weights of its best epoch. Raises RunError where it is broken.

        output: the kind of frames that it answers with: polars, pandas or pyarrow.
        """
        kind = check_kind(output)
        run = RunFolder.open(Path(path))
        settings = run.record["settings"]
        missing = {"model", "model_settings", "training"} - settings.keys()
        if missing or "items" not in run.record["corpus"]:
            lacks = ", ".join(sorted(missing)) or "corpus.items"
            raise RunError(f"{run.path / 'run.json'} lacks {lacks}; restore it or train again")
        name = settings["model"]
        if name not in MODELS:
            raise RunError(f"{path} holds a model {name!r}, which this version does not have")
        recommender = recommender_class(name)(**settings["model_settings"], **settings["training"])
        model = recommender._new_model(run.record["corpus"]["items"])
        try:
            model.load_state_dict(run.load_weights())
        except RuntimeError as error:
            raise RunError(
                f"{path}: the weights do not fit the settings in run.json; restore it or train again"
            ) from error
        recommender._take(model, run.corpus(), run.items())
        recommender.run, recommender.output = run, kind
        recommender.state = run.state()
        recommender._split_times = run.record.get("split")
        return recommender

    # -- answers ------------------------------------------------------------------------------------------------------

    def recommend(
        self,
        users: Iterable[Any],
        k: int = 10,
        *,
        filter_viewed: bool = True,
        items_to_recommend: Iterable[Any] | None = None,
        exclude_items: Iterable[Any] | None = None,
        approximate: bool = False,
    ) -> Any:
        """The k items that each user most probably takes next, after their whole history in the corpus.

        filter_viewed: leave out what the user has had. items_to_recommend, exclude_items: item ids.
        approximate: look only at the items that the index names (`build_index`); the frame then has a column
            approximate, and its scores are estimates.
        Returns a frame user_id, item_id, score (probability), rank (from 1), and title where titles are known; of
        the kind of ``users`` (pandas, Polars, Arrow), for a list of that of the log, else of Polars.
        Raises DataError for an unknown user, SettingError for a k below 1 or above the catalogue's size.
        """
        corpus = self.corpus
        wanted = ids_of(users)
        rows = corpus.user_indices(wanted)
        for place in np.flatnonzero(rows < 0)[:1].tolist():
            corpus.user_index(wanted[place])  # raises, and says which are known
        keys = corpus.user_ids.gather(rows).alias("user_id")
        allowed = self._allowed(items_to_recommend, exclude_items)
        found = self._rank(corpus.sequences().select(rows), keys, k, filter_viewed, allowed, approximate)
        return as_kind(found, kind_of(users) or self.output)

    def recommend_sequences(
        self,
        histories: Sequence[Iterable[Any]],
        k: int = 10,
        *,
        filter_viewed: bool = True,
        items_to_recommend: Iterable[Any] | None = None,
        exclude_items: Iterable[Any] | None = None,
        approximate: bool = False,
    ) -> Any:
        """The same for histories of item ids, oldest first, of people whom training has not seen.

        Items that the model does not know are skipped, with a warning that counts them; an empty history gets the
        most popular items, with a warning. The frame has ``history``, counted from 0, in place of user_id.
        """
        known = [known_items(history, number, self.vocabulary) for number, history in enumerate(histories)]
        lengths = np.array([len(items) for items in known], dtype=np.int64)
        ends = np.cumsum(lengths)
        items = np.concatenate([np.empty(0, np.int32), *known])
        for number in np.flatnonzero(lengths == 0).tolist():
            log.warning("history %d has no known item: it gets the most popular items", number)
        keys = pl.int_range(0, len(known), eager=True).alias("history")
        allowed = self._allowed(items_to_recommend, exclude_items)
        found = self._rank(Sequences(items, ends - lengths, ends), keys, k, filter_viewed, allowed, approximate)
        return as_kind(found, kind_of(histories) or self.output)

    def similar_items(
        self,
        items: Iterable[Any],
        k: int = 10,
        *,
        items_to_recommend: Iterable[Any] | None = None,
        exclude_items: Iterable[Any] | None = None,
    ) -> Any:
        """The k items most alike to each of these item ids, as the model sees them; an item itself is left out.

        Returns a frame similar_to, item_id, score (for most models the cosine of the embeddings, in [-1, 1]), rank
        (from 1), and title where titles are known. It has fewer than k rows an item where fewer are alike.
        Raises SettingError for an unknown item, a k as in `recommend`, or a model that does not tell items apart.
        """
        check_k(k, self.model.num_items)
        allowed = self._allowed(items_to_recommend, exclude_items)
        found = similar_items(self.model, ids_of(items), k, allowed, self.vocabulary)
        return as_kind(found, kind_of(items) or self.output)

    def build_index(
        self, *, overlap: float = 0.99, histories: int = 256, progress: IndexProgress | None = None
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

    def evaluate(
        self,
        data: Dataset,
        *,
        ks: Sequence[int] | None = None,
        part: str = "test",
        progress: Progress | None = None,
    ) -> Evaluation:
        """HR, NDCG and MRR by full ranking, with seen items kept and removed. ``part`` is test or validation.

        ks: the cutoffs; without them 5, 10 and 20, or the catalogue's size where it is smaller.

        Raises RunError where ``data`` is not the corpus of training, SettingError for a k above the catalogue's size.
        """
        ks = cutoffs(self.model.num_items) if ks is None else ks
        for k in ks:
            check_k(k, self.model.num_items)
        return report(self.rank(data, part=part, progress=progress), self.model.num_items, ks)

    def rank(self, data: Dataset, *, part: str = "test", progress: Progress | None = None) -> Ranks:
        """The rank of each case's target under both protocols."""
        if part not in ("test", "validation"):
            raise SettingError(f"part is {part!r}; give test or validation")
        if self._corpus is not None and data.corpus.content_hash != self._corpus.content_hash:
            raise RunError(f"the data {data.corpus.name!r} are not those that this model was trained on")
        if self._corpus is None and self.run is not None:
            self.run.check_corpus(data.corpus)
        if data.split_times != self._split_times:
            raise RunError(
                f"this model was trained with the split {self._split_times or 'leave-one-out'}; give that one"
            )
        cases = data.split.test if part == "test" else data.split.validation
        return rank_targets(self.model.predict_histories, cases, self.model.num_items, progress=progress)

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
        """item_id and title; row j belongs to item index j + 1."""
        assert_fitted(self._model)
        assert self._vocabulary is not None
        return self._vocabulary

    def _rank(
        self,
        histories: Sequences,
        keys: pl.Series,
        k: int,
        filter_viewed: bool,
        allowed: torch.Tensor,
        approximate: bool,
    ) -> pl.DataFrame:
        check_k(k, self.model.num_items)
        index = self.index if approximate else None
        found = top_items(self.model, histories, k, allowed, filter_viewed=filter_viewed, nearest=index)
        frame = as_frame(keys, *found, self.vocabulary)
        return frame.with_columns(approximate=pl.lit(True)) if approximate else frame

    def _allowed(self, items_to_recommend: Iterable[Any] | None, exclude_items: Iterable[Any] | None) -> torch.Tensor:
        allowed = torch.ones(self.model.num_items, dtype=torch.bool)
        if items_to_recommend is not None:
            allowed[:] = False
            allowed[columns_of(items_to_recommend, self.vocabulary)] = True
        if exclude_items is not None:
            allowed[columns_of(exclude_items, self.vocabulary)] = False
        return allowed

    def _take(self, model: SequenceModel, corpus: Corpus | None, vocabulary: pl.DataFrame | None) -> None:
        if vocabulary is None:
            assert corpus is not None
            vocabulary = corpus.vocabulary()
        self._model, self._corpus, self._vocabulary, self._index = model, corpus, vocabulary, None

    def _settings(self) -> dict[str, Any]:
        return {
            "model": self.model_name,
            "model_settings": self.config.model_dump(mode="json"),
            "training": self.training.model_dump(mode="json"),
        }

    def _new_model(self, num_items: int) -> SequenceModel:
        """With initial weights that depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.training.seed)
            return MODELS[self.model_name](self.config, num_items)

    def _new_run(
        self, path: Path, corpus: Corpus, split_times: dict[str, Any] | None, facts: dict[str, Any]
    ) -> RunFolder:
        return RunFolder.create(path, self._settings(), corpus, {"split": split_times, **made_by(), **facts})


def recommender_class(name: str) -> type[Recommender]:
    """The recommender of a model by the model's name, the same class each time; it is called as the model's class is.

    Raises SettingError for a model that is not there, with the nearest that is.
    """
    return _recommender_class(find_model(name))


@cache
def _recommender_class(model: type[SequenceModel]) -> type[Recommender]:
    config = model.config_class
    says = f"{model.summary[:1].upper()}{model.summary[1:]}. Settings: `{config.__module__}.{config.__name__}`."
    # Found where people find it, so that objects of it can be sent to other processes.
    return type(model.__name__, (Recommender,), {"model_name": model.name, "__doc__": says, "__module__": "seqdiffrec"})


def load(path: str | Path, *, output: str = "polars") -> Recommender:
    """Open a run's folder; see `Recommender.load`."""
    return Recommender.load(path, output=output)


def made_by() -> dict[str, Any]:
    """What makes a figure besides its settings and data."""
    return {"versions": versions(), "revision": code_revision(), "machine": machine()}


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
