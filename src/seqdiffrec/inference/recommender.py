"""The library's front door: settings in, `fit`, `evaluate`, `save`, `load`, and all `Answers`."""

import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from seqdiffrec.data import Corpus, Dataset
from seqdiffrec.evaluation import Evaluation, Progress, Ranks, cutoffs, rank_targets, report
from seqdiffrec.inference.answers import Answers, assert_fitted, check_k
from seqdiffrec.inference.resuming import is_untrained, run_to_resume, starts_over
from seqdiffrec.models import MODELS, SequenceModel, find_model
from seqdiffrec.models.settings import SettingError, refuse_unknown
from seqdiffrec.training import Reporter, RunError, RunFolder, TerminalReporter, Trainer, TrainingConfig, TrainingState
from seqdiffrec.training.provenance import code_revision, machine, versions


class Recommender(Answers):
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
        self._split_times: dict[str, Any] | None = None
        super().__init__()

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
            self.state, self.run = trainer.train(), run
        except BaseException:
            if begun is None and run is not None and is_untrained(run):
                shutil.rmtree(run.path)
            raise
        self._take(model, data.corpus, None)
        self._split_times = data.split_times
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
    def load(cls, path: str | Path) -> "Recommender":
        """Open a run's folder, with the weights of its best epoch. Raises RunError where it is broken."""
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
        recommender.run = run
        recommender.state = run.state()
        recommender._split_times = run.record.get("split")
        return recommender

    # -- evaluation ---------------------------------------------------------------------------------------------------

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


def load(path: str | Path) -> Recommender:
    """Open a run's folder; see `Recommender.load`."""
    return Recommender.load(path)


def made_by() -> dict[str, Any]:
    """What makes a figure besides its settings and data."""
    return {"versions": versions(), "revision": code_revision(), "machine": machine()}
