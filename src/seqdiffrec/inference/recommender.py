"""The library's front door: settings in, `fit`, `evaluate`, `save`, `load`, and all `Answers`."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from seqdiffrec.data import Corpus, Dataset, Interactions, Sequences
from seqdiffrec.data.dataset import WHOLE_LOG
from seqdiffrec.data.frames import check_kind
from seqdiffrec.data.growth import longer, with_items
from seqdiffrec.data.items import items_from_frame
from seqdiffrec.data.split import Cases
from seqdiffrec.evaluation import Evaluation, Progress, Ranks, cutoffs, rank_targets, report
from seqdiffrec.inference.checks import assert_fitted, check_k
from seqdiffrec.inference.growing import (
    as_sequences,
    beside_in_log,
    learned_before,
    like_by_categories,
    named_like,
    new_ids,
    to_learn,
)
from seqdiffrec.inference.pretrained import Pretrained
from seqdiffrec.inference.resuming import is_untrained, run_to_resume, starts_over
from seqdiffrec.models import MODELS, SequenceModel, find_model
from seqdiffrec.models.device import Precision, device_to_answer_on, rank_in
from seqdiffrec.models.item_table import TableModel
from seqdiffrec.models.settings import SettingError, refuse_unknown
from seqdiffrec.training import Reporter, RunError, RunFolder, TerminalReporter, Trainer, TrainingConfig, TrainingState
from seqdiffrec.training.checkpoint import refuse_existing
from seqdiffrec.training.provenance import code_revision, machine, versions
from seqdiffrec.training.trackers import tracked

# An update's epochs over what is new, and its learning rate as a share of the training's.
UPDATE_EPOCHS, UPDATE_RATE = 3, 0.3


class Recommender(Pretrained):
    """A model with its settings, its data's vocabulary and, once fitted, its weights. What to ask it: `Answers`.

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
        self._split: dict[str, Any] | None = None
        self._grown: dict[str, Any] = {}
        super().__init__()

    def __repr__(self) -> str:
        name = MODELS[self.model_name].__name__
        if self._model is None:
            return f"{name}(not fitted)"
        of = "" if self._corpus is None else f" on {self._corpus.name!r}"
        where = "" if self.run is None else f", run {self.run.path}"
        return f"{name}(fitted{of}, {self._model.num_items:,} items{where})"

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
        model = self._new_model_of(data.corpus)
        if reporter is None:
            reporter = TerminalReporter(self.training.epochs)
        run = begun
        if begun is None and out is not None:
            run = self._new_run(Path(out), data.corpus, data.split_settings, facts or {})
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
        self._split, self.output = data.split_settings, data.output
        return self

    def save(self, path: str | Path) -> None:
        """Write a fitted model as a run's folder, whole or not at all. Raises RunError where there is one already."""
        assert_fitted(self._model)
        if self._corpus is None:
            raise RunError("this run was loaded without its corpus, so copy its folder instead of saving it anew")
        run = self._new_run(Path(path), self._corpus, self._split, self._grown)
        weights = {name: tensor.detach().cpu() for name, tensor in self.model.state_dict().items()}
        try:
            run.save_final(self.state, weights)
            if self.temperature is not None:
                run.save_temperature({"value": self.temperature})
        except BaseException:
            shutil.rmtree(run.path)
            raise
        self.run = run

    def add_items(self, neighbours: Mapping[Any, Iterable[Any]] | None = None, *, items: Any = None) -> "Recommender":
        """A model that knows further items, which its log lacks. This one stays as it is; `save` writes the new one.

        neighbours: for each new item id the ids of known items that it is like. Its embedding, and its weight and bias
            at the output, are the means of theirs. So its score before the softmax is the mean of their scores, unless
            the output is a cosine: its probability is the geometric mean of theirs, never above the best of them.
        items: a table of items, with the columns item_id, and title or category or both. Of those that are new and
            have no ``neighbours``, each is like the known items that share most of its categories with it.

        What to expect: a new item comes up where its neighbours do. Few that are truly alike place it well; many that
        differ blur it, and all items of a genre say little more than the genre. It was never taken, so an empty
        history never gets it. Once there are actions with it, `fit_partial` learns from them.

        Raises SettingError for a model without item vectors, an unknown neighbour, an item that is like none;
        DataError for an id that is there already or of another type; RunError without the run's corpus.
        """
        model, corpus = self.model, self.corpus
        if not isinstance(model, TableModel):
            raise SettingError(f"{model.name} has no item vectors to make new ones of; fit it anew, which is quick")
        table, named = None if items is None else items_from_frame(items), dict(neighbours or {})
        ids = new_ids(named, table, corpus)
        grown = with_items(corpus, ids, table)
        by_name = named_like(named, self.vocabulary)
        by_category = like_by_categories(grown.vocabulary(), corpus.num_items, corpus.num_items + len(named))
        like = as_sequences([by_name, by_category], len(ids))
        return self._with_corpus(grown, like, {"items_added": len(ids)})

    def fit_partial(
        self,
        data: Any,
        *,
        user: str = "user_id",
        item: str = "item_id",
        time: str | None = None,
        items: Any = None,
        epochs: int = UPDATE_EPOCHS,
        learning_rate: float | None = None,
        old_share: float = 1.0,
        out: str | Path | None = None,
        reporter: Reporter | None = None,
        facts: dict[str, Any] | None = None,
    ) -> "Recommender":
        """A model that has learned from what happened since, from this one's weights on. This one stays as it is.

        data: the new actions: a frame, an Arrow table, or an `Interactions`. New users and new items are welcome.
        user, item, time: names of its columns, as in `Dataset.from_interactions`.
        items: a table of items (item_id, and title or category or both), for the new ones.
        epochs, learning_rate: over the new actions; without a rate it is `UPDATE_RATE` times the run's own.
        old_share: for each new target so many old ones, of other users, so that what was learned is not forgotten.
        out: a run's folder for the new model; without it, it stays in memory until `save`.

        It learns from each user's first action on that this model has not learned from: the new ones, and what was
        held back for validation and test, so nothing is left to evaluate it by. A new item starts as the mean of the
        known items near it in the new actions, or of all. Models that count, count the whole log.

        What to expect: docs/asking.md. Raises DataError for actions that are not new or not of this log, RunError
        without the run's corpus or for a folder that is there.
        """
        corpus = self.corpus
        if out is not None:
            refuse_existing(Path(out))
        more = (
            data if isinstance(data, Interactions) else Interactions.from_frame(data, user=user, item=item, time=time)
        )
        found = longer(corpus, more, None if items is None else items_from_frame(items))
        rate = UPDATE_RATE * self.training.learning_rate if learning_rate is None else learning_rate
        training = TrainingConfig.checked(
            {
                **self.training.model_dump(),
                "epochs": epochs,
                "patience": epochs,
                "learning_rate": rate,
                "warmup_epochs": 0.0,
                "decay": "constant",
                "device": str(self.model.item_counts.device),
            }
        )
        split = to_learn(
            found,
            learned_before(corpus, self._split),
            self.model.max_length,
            old_share,
            self.training.seed,
        )
        update = {
            "actions": int(found.is_new.sum()),
            "users_added": found.corpus.num_users - corpus.num_users,
            "items_added": found.corpus.num_items - corpus.num_items,
            "epochs": epochs,
            "learning_rate": rate,
            "old_share": old_share,
        }
        grown = self._with_corpus(found.corpus, beside_in_log(found.corpus, corpus.num_items), update)
        grown.model.start_update()
        grown.state = Trainer(grown.model, split, training, reporter or TerminalReporter(epochs)).train()
        grown._split = WHOLE_LOG
        grown._grown |= facts or {}
        if out is not None:
            grown.save(out)
        return grown

    def _with_corpus(self, corpus: Corpus, like: Sequences, facts: dict[str, Any]) -> "Recommender":
        """A copy with a longer corpus. like: of each item that the model lacks, the known items that it is made of."""
        settings = self._settings()
        grown = recommender_class(self.model_name)(**settings["model_settings"], **settings["training"])
        model = grown._new_model_of(corpus)
        if isinstance(self.model, TableModel):
            assert isinstance(model, TableModel)
            model.grow_from(self.model, like)
        else:  # it only counts
            model.count_items(corpus.sequences())
        grown._take(model.to(self.model.item_counts.device), corpus, None)
        grown.state, grown._split, grown.output = self.state, self._split, self.output
        origin = {} if self.run is None else {"run": self.run.path.name, "weights": self.run.weights_hash()}
        grown._grown = {"grown_from": {**origin, **facts}}
        return grown

    @classmethod
    def load(cls, path: str | Path, *, output: str = "polars") -> "Recommender":
        """Open a run's folder, with the weights of its best epoch. Raises RunError where it is broken.

        The model goes to the device that its training asked for, as that is here: with ``auto`` to a GPU where there is
        one, and to the CPU, with a warning, where the GPU that it was trained on is not there.
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
        try:
            recommender = recommender_class(name)(**settings["model_settings"], **settings["training"])
        except SettingError as error:
            raise RunError(f"{path} has settings that this version refuses, so train it again: {error}") from error
        model = recommender._new_model(run.record["corpus"]["items"])
        try:
            model.load_state_dict(run.load_weights())
        except RuntimeError as error:
            raise RunError(
                f"{path}: the weights do not fit the settings in run.json; restore it or train again"
            ) from error
        recommender._take(model.to(device_to_answer_on(recommender.training.device)), run.corpus(), run.items())
        recommender.run, recommender.output = run, kind
        recommender.state, recommender.temperature = run.state(), run.temperature()
        recommender._split = run.record.get("split")
        return recommender

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def evaluate(
        self,
        data: Dataset,
        *,
        ks: Sequence[int] | None = None,
        part: str = "test",
        progress: Progress | None = None,
        precision: Precision = "float32",
    ) -> Evaluation:
        """HR, NDCG and MRR by full ranking, with seen items kept and removed. ``part`` is test or validation.

        ks: the cutoffs; without them 5, 10 and 20, or the catalogue's size where it is smaller. precision: of matrix
        products; bfloat16 is faster on a CPU with AMX, and moves a figure by some thousandths of itself.

        Raises RunError where ``data`` is not the corpus of training, SettingError for a k above the catalogue's size
        or a machine without AMX.
        """
        ks = cutoffs(self.model.num_items) if ks is None else ks
        for k in ks:
            check_k(k, self.model.num_items)
        found = self.rank(data, part=part, progress=progress, precision=precision)
        return report(found, self.model.num_items, ks)

    def rank(
        self,
        data: Dataset,
        *,
        part: str = "test",
        progress: Progress | None = None,
        precision: Precision = "float32",
    ) -> Ranks:
        """The rank of each case's target under both protocols; arguments and errors as those of `evaluate`."""
        cases, predict = self.cases(data, part), self.model.predict_histories
        with rank_in(precision, self.model.item_counts.device):
            return rank_targets(predict, cases, self.model.num_items, progress=progress)

    def cases(self, data: Dataset, part: str = "test") -> Cases:
        """The cases to judge this model by. Raises RunError where ``data`` is not the corpus or split of training."""
        if part not in ("test", "validation"):
            raise SettingError(f"part is {part!r}; give test or validation")
        self.check_judgeable()
        if self._corpus is not None and data.corpus.content_hash != self._corpus.content_hash:
            raise RunError(f"the data {data.corpus.name!r} are not those that this model was trained on")
        if self._corpus is None and self.run is not None:
            self.run.check_corpus(data.corpus)
        if data.split_settings != self._split:
            raise RunError(f"this model was trained with the split {self._split or 'leave-one-out'}; give that one")
        return data.split.test if part == "test" else data.split.validation

    def check_judgeable(self) -> None:
        """Raise RunError where training left out nothing that the model could be judged by."""
        if self._split == WHOLE_LOG:
            raise RunError(
                "this model was trained on the whole log, so nothing is left to judge it by; its figures are those of "
                "the run before it: in card.md after fit --refit, in the run that was updated after update"
            )

    # -- parts --------------------------------------------------------------------------------------------------------

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

    def _new_model_of(self, corpus: Corpus) -> SequenceModel:
        """The same for this corpus, whose items it is told about."""
        model, categories = self._new_model(corpus.num_items), corpus.categories
        model.describe_items(None if categories is None else categories.to_list())
        return model

    def _new_run(self, path: Path, corpus: Corpus, split: dict[str, Any] | None, facts: dict[str, Any]) -> RunFolder:
        return RunFolder.create(path, self._settings(), corpus, {"split": split, **made_by(), **facts})


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
