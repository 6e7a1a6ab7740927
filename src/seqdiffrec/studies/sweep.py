"""A sweep: work through a study's queue, and leave a record of every run.

A sweep that was cut goes on where it was: what is recorded is skipped, a run with a checkpoint is resumed from it.
Several sweeps may work on one queue side by side; each takes what no other is at.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from seqdiffrec.config import RunConfig
from seqdiffrec.data import DataError, Dataset
from seqdiffrec.data.storage import read_json
from seqdiffrec.evaluation import Progress, write_ranks
from seqdiffrec.inference import Recommender, load
from seqdiffrec.inference.recommender import made_by
from seqdiffrec.models import DiffRec, DiffRecConfig
from seqdiffrec.models.settings import SettingError
from seqdiffrec.reports import make_record, write_record
from seqdiffrec.reports.study import InferenceRow, Study
from seqdiffrec.studies.lock import held
from seqdiffrec.studies.queue import Job, make_queue
from seqdiffrec.studies.runs import (
    load_data,
    one_command,
    precision_of,
    settings_of,
    train_to_the_end,
    without_places,
)
from seqdiffrec.training import RunError, TrainingDiverged, TrainingInterrupted
from seqdiffrec.training.checkpoint import corpus_facts

# What the user has to mend, or asked for: the whole sweep stops.
_STOPS = (DataError, RunError, SettingError, TrainingInterrupted, OSError)

Notify = Callable[[str], None]
Bar = Callable[[str], AbstractContextManager[Progress | None]]


def no_bar(what: str) -> AbstractContextManager[Progress | None]:
    """Shows nothing."""
    return nullcontext()


def run_sweep(
    study: Study,
    runs: Path,
    results: Path,
    *,
    only: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    data_root: str | None = None,
    command: str | None = None,
    notify: Notify = lambda line: None,
    bar: Bar = no_bar,
) -> list[Job]:
    """Make every record of the study that is not there yet, and return the queue.

    runs, results: the folders that run folders and records go below. only: names of rows; datasets: of
    theirs; None takes all.
    command: what the records say that they were made by. notify: takes a line before each run; bar: shows a ranking.
    A run whose loss diverges is recorded as failed, and the next one starts. A run that another process is at is left
    to it. Raises SettingError as `make_queue` does, before anything is trained, and where the data are not those of a
    record; DataError, RunError; TrainingInterrupted on Ctrl-C: the same call goes on then. What is a fault of this
    program ends its run only; all such faults are raised at the end, as an ExceptionGroup.
    """
    queue = make_queue(study, runs, results, only, datasets)
    data = _load_all(queue, data_root)
    faults: list[Exception] = []
    for number, job in enumerate(queue, start=1):
        if not job.missing():
            continue
        with held(job.run) as mine:
            if not mine:
                notify(f"run {number} of {len(queue)}: {job.label}: another process is at it")
            elif job.missing():  # another sweep may have made it while this one was at the run before
                notify(f"run {number} of {len(queue)}: {job.label}{_time_left(queue)}")
                try:
                    _complete(job, data[job.config.data], command, bar)
                except _STOPS:
                    raise
                except Exception as fault:
                    fault.add_note(f"in the run {job.label}")
                    faults.append(fault)
                    notify(f"{job.label} ended by a fault of seqdiffrec ({fault!r}), which is told whole at the end")
    if faults:
        raise ExceptionGroup("runs that ended by a fault of seqdiffrec", faults)
    return queue


def _load_all(queue: Sequence[Job], data_root: str | None) -> dict[Any, Dataset]:
    """The data of what is to be done, each log once: what is wrong with one shows before hours of training.

    Raises SettingError where a record of the queue was made from other data.
    """
    data: dict[Any, Dataset] = {}
    for job in queue:
        if job.missing() and job.config.data not in data:
            data[job.config.data] = load_data(job.config, data_root)
    for job in queue:
        if job.record.exists() and job.config.data in data:
            _check_corpus(job.record, data[job.config.data])
    return data


def _check_corpus(record: Path, data: Dataset) -> None:
    made = read_json(record)["corpus"]
    if made["content_hash"] != data.corpus.content_hash:
        raise SettingError(
            f"{record} was made from another log (hash {made['content_hash'][:12]}) than {data.corpus.name} is now "
            f"(hash {data.corpus.content_hash[:12]}); bring that log back, or remove the records made from it"
        )


def _complete(job: Job, data: Dataset, command: str | None, bar: Bar) -> None:
    """Train the run if need be, and write what is missing of its record, its ranks and its inference rows."""
    job.record.parent.mkdir(parents=True, exist_ok=True)
    if not job.record.exists():
        try:
            recommender = train_to_the_end(job.config, data, job.run, command)
        except TrainingDiverged as error:
            write_record(_failed(job, data, command, str(error)), job.record)
            return
        write_record(_record(job, recommender, data, bar), job.record)
    recommender = load(job.run)
    if job.ranks is not None and not job.ranks.exists():
        with bar("ranking") as progress:
            ranks = recommender.rank(data, progress=progress)
        write_ranks(ranks, data.corpus.user_ids, data.corpus.item_ids, job.ranks)
    for row, config in job.inference:
        if not job.record_of(row).exists():
            again = _with_inference(recommender, config)
            write_record(_record(job, again, data, bar, row, config), job.record_of(row))


def _record(
    job: Job,
    recommender: Recommender,
    data: Dataset,
    bar: Bar,
    row: InferenceRow | None = None,
    config: RunConfig | None = None,
) -> dict[str, Any]:
    """The record of a run, or of one of its inference rows. Its ``ranking_seconds`` are of validation and test."""
    assert recommender.run is not None
    with bar("ranking") as progress:
        started = time.monotonic()
        record = make_record(recommender, data, progress=progress)
        seconds = round(time.monotonic() - started, 1)
    return {
        **record,
        "settings": settings_of(config or job.config),
        "precision": recommender.run.record.get("precision"),
        "one_command": _one_command(job),
        "ranking_seconds": seconds,
        "study": _place(job, (row or job.row).name),
        **({} if row is None else {"inference_of": row.of}),
    }


def _failed(job: Job, data: Dataset, command: str | None, message: str) -> dict[str, Any]:
    """The record of a run that brought no figures."""
    return {
        "failed": message,
        "command": command,
        "one_command": _one_command(job),
        "settings": settings_of(job.config),
        "data": without_places(job.config.tables()["data"]),
        "corpus": corpus_facts(data.corpus),
        **made_by(),
        "precision": precision_of(job.config.training),
        "study": _place(job, job.row.name),
    }


def _place(job: Job, row: str) -> dict[str, Any]:
    return {"name": job.study.name, "row": row, "seed": job.seed, "dataset": job.dataset}


def _one_command(job: Job) -> str:
    return one_command(job.config, f"runs/{job.study.name}-{job.dataset}-{job.row.name}-seed{job.seed}")


def _with_inference(recommender: Recommender, config: RunConfig) -> Recommender:
    """The loaded run, which from now on ranks with the settings of ``config``."""
    model = recommender.model
    assert isinstance(model, DiffRec), "make_queue lets no other model change how it ranks"
    model.config = DiffRecConfig.checked(config.model)
    return recommender


def _time_left(queue: Sequence[Job]) -> str:
    """In words, from what recorded runs took: those of the same row and dataset, or else of the dataset.

    Empty where a dataset has none.
    """
    took: dict[tuple[str, str], list[float]] = {}
    left: list[Job] = []
    for job in queue:
        if not job.record.exists():
            left += [] if job.is_trained() else [job]
        elif "failed" not in (record := read_json(job.record)):
            for row in (job.row.name, ""):
                took.setdefault((job.dataset, row), []).append(record["training_seconds"])
    of_each = [took.get((job.dataset, job.row.name)) or took.get((job.dataset, "")) for job in left]
    if not left or None in of_each:
        return ""
    return f", about {_duration(sum(sum(some) / len(some) for some in of_each if some))} left"


def _duration(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours else f"{rest} min"
