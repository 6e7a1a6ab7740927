"""The queue of a study: which runs it asks for, in which order, and how far each is."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from seqdiffrec.config import RunConfig, read_recipe, with_changes
from seqdiffrec.data import DATASETS
from seqdiffrec.data.storage import read_json
from seqdiffrec.models.settings import SettingError, refuse_unknown
from seqdiffrec.reports.study import InferenceRow, Row, Study
from seqdiffrec.studies.lock import holder
from seqdiffrec.studies.runs import changed_settings
from seqdiffrec.training import RunFolder

# Settings of DiffRec that trained weights do not depend on.
INFERENCE = ("num_seeds", "inference_steps", "sampler", "eta", "variance")


@dataclass(frozen=True)
class Job:
    """One run of a study, and all that is made from it.

    run: its folder. results: the folder of all records. config: its settings.
    inference: the rows that rank its weights again, each with the settings of the run but for its changes.
    """

    study: Study
    row: Row
    dataset: str
    seed: int
    run: Path
    results: Path
    config: RunConfig
    inference: tuple[tuple[InferenceRow, RunConfig], ...]

    @property
    def label(self) -> str:
        """What a reader calls it."""
        return f"{self.row.name} on {self.dataset}, seed {self.seed}"

    @property
    def record(self) -> Path:
        """Where its record goes."""
        return self.study.record_path(self.results, self.dataset, self.row.name, self.seed)

    @property
    def ranks(self) -> Path | None:
        """Where the ranks of its test cases go; None where they are not kept."""
        return self.study.ranks_path(self.results, self.dataset, self.row.name, self.seed) if self.row.ranks else None

    def record_of(self, row: InferenceRow) -> Path:
        """Where the record of one of its inference rows goes."""
        return self.study.record_path(self.results, self.dataset, row.name, self.seed)

    def missing(self) -> list[Path]:
        """The files that are still to be made from it."""
        if self.record.exists() and "failed" in read_json(self.record):
            return []
        wanted = [self.record, self.ranks, *(self.record_of(row) for row, _ in self.inference)]
        return [path for path in wanted if path is not None and not path.exists()]

    def state(self) -> str:
        """One of: recorded, failed, in use, to do, to resume, to record (trained already)."""
        if not self.missing():
            return "failed" if "failed" in read_json(self.record) else "recorded"
        if holder(self.run) is not None:
            return "in use"
        if self.is_trained():
            return "to record"
        return "to resume" if (self.run / "run.json").exists() else "to do"

    def is_trained(self) -> bool:
        """Whether the run has ended. Raises RunError where its folder is broken."""
        return (self.run / "run.json").exists() and RunFolder.open(self.run).record["status"] == "finished"


def make_queue(
    study: Study,
    runs: Path,
    results: Path,
    only: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
) -> list[Job]:
    """The runs of a study: the first seed of every row and dataset, then the second of every one, and so on.

    runs: the folder of run folders, each ``runs/STUDY/DATASET/ROW-seedK``. only: names of rows; datasets: of theirs;
    None takes all. Raises SettingError for settings that cannot be, an unknown row or dataset, or a run that was made
    with other settings.
    """
    rows = [row for row in study.rows if only is None or row.name in only]
    for name in only or ():
        if name not in [row.name for row in rows]:
            raise _no_such_row(study, name)
    known = sorted({dataset for row in rows for dataset in row.datasets})
    for dataset in datasets or ():
        if dataset not in known:
            raise SettingError(f"--dataset {refuse_unknown(dataset, known, what='dataset of these rows')}")
    queue: list[Job] = []
    for seeds in zip_longest(*(row.seeds for row in rows)):
        for row, seed in zip(rows, seeds, strict=True):
            if seed is not None:
                chosen = [dataset for dataset in row.datasets if datasets is None or dataset in datasets]
                queue += [_job(study, row, dataset, seed, runs, results) for dataset in chosen]
    for job in queue:
        _refuse_changed(job)
    return queue


def queue_rows(queue: Sequence[Job]) -> list[dict[str, Any]]:
    """The queue as plain rows: row, dataset, seed, state, record."""
    return [
        {
            "row": job.row.name,
            "dataset": job.dataset,
            "seed": job.seed,
            "state": job.state(),
            "record": str(job.record),
        }
        for job in queue
    ]


def _job(study: Study, row: Row, dataset: str, seed: int, runs: Path, results: Path) -> Job:
    tables = with_changes(_tables(study, row, dataset, seed), row.changes)
    config = _checked(tables, row.name)
    inference = [inference for inference in study.inference if inference.of == row.name]
    again = [(one, _checked(with_changes(tables, one.changes), one.name)) for one in inference]
    for one, changed in again:
        _refuse_training(one, config, changed)
    run = runs / study.name / dataset / f"{row.name}-seed{seed}"
    return Job(study, row, dataset, seed, run, results, config, tuple(again))


def _tables(study: Study, row: Row, dataset: str, seed: int) -> dict[str, dict[str, Any]]:
    """The recipe of a run, before its row's changes. Raises SettingError where a recipe cannot be read.

    A dataset that is no named one is a log: ``base.data.file``, with the name for ``{dataset}``.
    """
    recipe = row.recipe_for(dataset)
    try:
        tables = with_changes(study.base if recipe is None else read_recipe(recipe), [])
    except SettingError as error:
        raise SettingError(f"row {row.name}: {error}" + (f" (in {recipe})" if recipe else "")) from error
    if row.model is not None:
        tables["model"] = dict(row.model)
    tables.setdefault("training", {})["seed"] = seed
    data = tables.setdefault("data", {})
    data["dataset"] = dataset
    file = data.pop("file", None)
    if file is not None and dataset not in DATASETS:
        del data["dataset"]
        data["file"] = str(file).replace("{dataset}", dataset)
    return tables


def _checked(tables: dict[str, dict[str, Any]], row: str) -> RunConfig:
    try:
        return RunConfig.of(tables)
    except SettingError as error:
        raise SettingError(f"row {row}: {error}") from error


def _refuse_training(row: InferenceRow, trained: RunConfig, config: RunConfig) -> None:
    """Raise SettingError where an inference row changes what the weights depend on, or nothing."""
    ranking = {name: value for name, value in config.model.items() if name in INFERENCE}
    if config == trained:
        raise SettingError(f"inference row {row.name} changes nothing against {row.of}; leave it out")
    if config != trained.model_copy(update={"model": {**trained.model, **ranking}}):
        known = ", ".join(f"model.{name}" for name in INFERENCE)
        raise SettingError(
            f"inference row {row.name} changes more than how trained weights are ranked ({known}); "
            "make it one of [[rows]]"
        )


def _refuse_changed(job: Job) -> None:
    """Raise SettingError where a record or run is there that was made with other settings, or cannot be completed."""
    records = [(job.record, job.config)] + [(job.record_of(row), config) for row, config in job.inference]
    made = [(path, config, read_json(path)) for path, config in records if path.exists()]
    if not job.record.exists() and (job.run / "run.json").exists():
        made.append((job.run, job.config, RunFolder.open(job.run).record))
    for path, config, content in made:
        try:
            changed = changed_settings(config, content)
        except (KeyError, TypeError) as error:
            raise SettingError(f"{path} is not the record of a run: {error!r}; restore it or remove it") from error
        if changed:
            raise SettingError(
                f"{path} was made with other settings than row {job.row.name} has now: {'; '.join(changed)}. Give the "
                f"row another name, or remove {path} to make it anew"
            )
    _refuse_other_weights(job)
    if job.record.exists() and (missing := job.missing()) and not (job.run / "run.json").exists():
        raise SettingError(
            f"{missing[0]} is to be made from the run {job.run}, which is not there: bring it back, remove "
            f"{job.record} to train it again, or leave the row out with --only"
        )


def _refuse_other_weights(job: Job) -> None:
    """Raise SettingError where an inference row's record is not of the run whose record is there, or is to be made."""
    if not job.record.exists() and (job.run / "run.json").exists():
        return  # to be recorded once more, from the run that is still there
    curve = read_json(job.record).get("curve") if job.record.exists() else None
    for row, _ in job.inference:
        path = job.record_of(row)
        if path.exists() and read_json(path).get("curve") != curve:
            raise SettingError(
                f"{path} was ranked with other weights than those of {job.record}"
                f"{'' if job.record.exists() else ', which is still to be made'}: remove it to make it anew"
            )


def _no_such_row(study: Study, name: str) -> SettingError:
    for row in study.inference:
        if row.name == name:
            return SettingError(f"--only {name}: it is ranked along with the row it is of; say --only {row.of}")
    return SettingError(f"--only {refuse_unknown(name, [row.name for row in study.rows], what=f'row of {study.name}')}")
