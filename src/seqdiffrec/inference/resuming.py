"""Runs that were cut off: which may be gone on with, and from where."""

from pathlib import Path
from typing import Any

from seqdiffrec.data import Dataset
from seqdiffrec.models import find_model
from seqdiffrec.models.settings import SettingError
from seqdiffrec.training import RunError, RunFolder, TrainingConfig


def run_to_resume(out: str | Path | None, data: Dataset, mine: dict[str, Any]) -> RunFolder:
    """The run in ``out``, to go on with.

    mine: model, model_settings and training, as run.json has them.
    Raises SettingError without a folder, RunError where it is not of this model and data.
    """
    if out is None:
        raise SettingError("resume needs out, the folder of the run to go on with")
    run = RunFolder.open(Path(out))
    run.check_corpus(data.corpus)
    if run.record.get("split") != data.split_settings:
        raise RunError(
            f"{run.path} was started with the split {run.record.get('split') or 'leave-one-out'}; resume with it"
        )
    theirs = run.record["settings"]
    if mine["model"] != theirs["model"]:
        raise RunError(f"{run.path} holds a run of {theirs['model']}, not of {mine['model']}; start a new run")
    # More epochs or patience than planned, or another tracker, may be asked of a run that is cut, unless the
    # learning rate falls over the epochs; all else would mix two runs.
    free = ("patience", "tracker", *(["epochs"] if mine["training"]["decay"] == "constant" else []))
    config_class = find_model(mine["model"]).config_class
    fields = {"model_settings": config_class.model_fields, "training": TrainingConfig.model_fields}
    for part in ("model_settings", "training"):
        for name in mine[part]:
            # A setting that is newer than the run had its default then: what was there before it.
            begun_with = theirs[part].get(name, fields[part][name].default)
            if mine[part][name] != begun_with and name not in free:
                raise RunError(
                    f"{run.path} was started with {name} = {begun_with!r}, not {mine[part][name]!r}; "
                    "resume it with its own settings, or start a new run"
                )
    return run


def is_untrained(run: RunFolder) -> bool:
    """Whether nothing has been learned yet that is worth keeping: the run was cut before its first checkpoint."""
    return run.record["checkpoint"] is None and run.record["weights"] is None


def starts_over(run: RunFolder) -> bool:
    """Whether a run that is gone on with has no checkpoint: it was killed before its first was written."""
    return run.record["checkpoint"] is None and run.record["status"] != "finished"
