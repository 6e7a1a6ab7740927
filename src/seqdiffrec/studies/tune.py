"""A search for settings: trials by Optuna's TPE, the hopeless ones cut short, judged on validation alone.

All is kept in one folder: ``tune.db``, the storage that a search goes on from; the run of the trial at hand; and at the
end ``best.toml``, ``trials.json`` and ``tune.svg``. A trial's values depend on the seed, its number and the trials
before it, so a search that was cut ends as one that was not.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from seqdiffrec.config import RunConfig
from seqdiffrec.data import Dataset
from seqdiffrec.data.storage import replace_file
from seqdiffrec.inference.recommender import made_by
from seqdiffrec.models.settings import SettingError
from seqdiffrec.studies.lock import held
from seqdiffrec.studies.runs import load_data, without_places
from seqdiffrec.studies.search import Search
from seqdiffrec.studies.sweep import Notify
from seqdiffrec.studies.trials import TrialRow, best_of, draw_trials, trial_rows
from seqdiffrec.training import EpochRow, RunFolder, TerminalReporter, TrainingDiverged, TrainingState

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import RDBStorage
    from optuna.trial import Trial

AsToml = Callable[[Mapping[str, Mapping[str, Any]]], str]

NAME = "tune"
# The median says little before that: every model starts from chance, and the first trials are random.
JUDGED_FROM_EPOCH = 3
JUDGED_FROM_TRIAL = 5


@dataclass(frozen=True)
class Found:
    """What a search has brought so far: its best trial, all trials, and the recipe of the best."""

    best: TrialRow
    trials: list[TrialRow]
    recipe: Path


class Judge(TerminalReporter):
    """Shows a trial's training, tells Optuna each epoch's value, and ends the trial where it is below the median.

    told: of how many epochs Optuna knows already, where the trial was cut before; not of those of pre-training.
    """

    def __init__(self, epochs: int, trial: "Trial", told: int = 0):
        super().__init__(epochs)
        self.trial = trial
        self.told = told

    def start_epoch(self, state: TrainingState, num_targets: int) -> None:
        """A trial that goes on from a checkpoint first tells what it had reached."""
        self._tell(state)
        super().start_epoch(state, num_targets)

    def end_epoch(self, row: EpochRow, state: TrainingState) -> None:
        """A lasting line, then the judgement. Raises optuna's TrialPruned."""
        super().end_epoch(row, state)
        self._tell(state)

    def _tell(self, state: TrainingState) -> None:
        from optuna import TrialPruned

        judged = [row for row in state.history if not row.get("pretraining")]
        for row in judged[self.told :]:
            assert row["value"] is not None, "a search has validation cases"
            self.trial.report(row["value"], row["epoch"])
        self.told = len(judged)
        seconds = sum(row["train_seconds"] + row["validation_seconds"] for row in state.history)
        self.trial.set_user_attr("seconds", round(seconds, 1))
        if self.trial.should_prune():
            raise TrialPruned


def run_search(
    search: Search,
    out: Path,
    trials: int,
    *,
    as_toml: AsToml,
    minutes: float | None = None,
    data_root: str | None = None,
    command: str = "",
    notify: Notify = lambda line: None,
) -> Found:
    """Go on with the search in ``out`` until it has so many trials in all, and write what it found.

    minutes: after so long no further trial is started. as_toml: writes tables as TOML. command: goes into the recipe.
    Raises SettingError where Optuna or matplotlib is not installed, ``out`` holds another search or all trials failed;
    TrainingInterrupted on Ctrl-C: the same call goes on then.
    """
    optuna = _optuna()
    data = load_data(search.config({}), data_root)
    out.mkdir(parents=True, exist_ok=True)
    with held(out / NAME) as mine:
        if not mine:
            raise SettingError(f"another process is at the search in {out}; wait for it, or choose another --out")
        storage = optuna.storages.RDBStorage(f"sqlite:///{out / 'tune.db'}")
        study = _study(optuna, storage, search, data, out)
        started = time.monotonic()
        while minutes is None or time.monotonic() - started < 60 * minutes:
            trial = _next_trial(optuna, storage, study, search, trials)
            if trial is None:
                break
            notify(f"trial {trial.number + 1} of {trials}")
            _run(trial, study, search, data, out / "trials" / f"{trial.number + 1:03}")
        return _write(study, search, out, as_toml, command)


def _optuna() -> ModuleType:
    if find_spec("optuna") is None or find_spec("matplotlib") is None:  # the picture at the end: better refused now
        raise SettingError("a search needs Optuna and matplotlib: pip install 'seqdiffrec[tune]'")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _study(optuna: ModuleType, storage: "RDBStorage", search: Search, data: Dataset, out: Path) -> "Study":
    """The search in the storage, a new one or the one to go on with."""
    study = optuna.create_study(
        storage=storage,
        study_name=NAME,
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(JUDGED_FROM_TRIAL, JUDGED_FROM_EPOCH),
    )
    what = {"search": search.plain(), "corpus": data.corpus.content_hash}
    for key, value in what.items():
        if study.user_attrs.get(key, value) != value:
            other = "settings or ranges" if key == "search" else "data"
            raise SettingError(f"{out} holds a search with other {other}; choose another --out")
        study.set_user_attr(key, value)
    return study


def _next_trial(
    optuna: ModuleType, storage: "RDBStorage", study: "Study", search: Search, wanted: int
) -> "Trial | None":
    """The trial that was cut, else a new one; None where there are as many as wanted."""
    if not study.get_trials(deepcopy=False):  # first the base itself, so that no search ends below its start
        study.enqueue_trial(search.base_values())
    known = study.get_trials(deepcopy=False)
    cut = [trial.number for trial in known if trial.state == optuna.trial.TrialState.RUNNING]
    waiting = [trial.number for trial in known if trial.state == optuna.trial.TrialState.WAITING]
    if not cut and not waiting and len(known) >= wanted:
        return None
    number = [*cut, *waiting, len(known)][0]
    seed = search.config({}).training.seed
    study.sampler = optuna.samplers.TPESampler(seed=int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
    if not cut:
        return study.ask()
    study_id = storage.get_study_id_from_name(NAME)
    return optuna.trial.Trial(study, storage.get_trial_id_from_study_id_trial_number(study_id, number))


def _run(trial: "Trial", study: "Study", search: Search, data: Dataset, folder: Path) -> None:
    """Train one trial, to its end or until it is pruned, and tell the storage; its folder goes then."""
    from optuna import TrialPruned
    from optuna.trial import TrialState

    try:
        config = search.config({one.name: one.sample(trial) for one in search.ranges})
        told = len(study.get_trials(deepcopy=False)[trial.number].intermediate_values)
        value = _train(config, data, folder, Judge(config.training.epochs, trial, told))
    except TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except (SettingError, TrainingDiverged) as error:
        trial.set_user_attr("failed", str(error))
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, value)
    shutil.rmtree(folder, ignore_errors=True)


def _train(config: RunConfig, data: Dataset, folder: Path, judge: Judge) -> float:
    """Train from the start or from the checkpoint; the best epoch's validation NDCG@10."""
    begun = (folder / "run.json").exists()
    if not begun or RunFolder.open(folder).record["status"] != "finished":
        config.recommender().fit(data, out=folder, resume=begun, reporter=judge)
    state = RunFolder.open(folder).state()
    value = state.history[state.best_epoch]["value"]
    assert value is not None, "a search has validation cases"
    return value


def _write(study: "Study", search: Search, out: Path, as_toml: AsToml, command: str) -> Found:
    rows = trial_rows(study)
    best = best_of(rows, out)
    recipe = out / "best.toml"
    tables = search.config(best["settings"]).tables()
    tables["data"] = without_places(tables["data"])
    found_by = f"# {command}\n# Trial {best['trial']} of {len(rows)}, validation NDCG@10 {best['value']:.4f}\n\n"
    replace_file(recipe, f"{found_by}{as_toml(tables)}\n".encode())
    record = {"command": command, **made_by(), "trials": rows}
    replace_file(out / "trials.json", json.dumps(record, indent=1).encode() + b"\n")
    draw_trials(rows, out / "tune.svg")
    return Found(best, rows, recipe)
