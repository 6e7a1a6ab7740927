"""A run's result as one JSON file: the figures, and all that is needed to make them again."""

import json
from pathlib import Path
from typing import Any

from seqdiffrec.data import Dataset
from seqdiffrec.data.storage import replace_file
from seqdiffrec.evaluation import Progress
from seqdiffrec.inference import Recommender
from seqdiffrec.models.settings import SettingError
from seqdiffrec.training import RunError
from seqdiffrec.training.loop import SELECT_AT


def make_record(
    recommender: Recommender, data: Dataset, note: str | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """What a loaded run was made from and what it reached, on validation and on test, under both protocols.

    note: what a reader must know besides, such as how the run was started.
    """
    assert recommender.run is not None
    run = recommender.run.record
    if run["best"] is None or not run["best"]["validation"]:
        raise RunError(
            f"{recommender.run.path} has no validated epoch, so there is no figure to record; train it first"
        )
    history = recommender.state.history
    return {
        "command": run.get("command"),
        "note": note,
        "settings": run["settings"],
        "data": run.get("data"),
        "corpus": run["corpus"],
        "versions": run["versions"],
        "revision": run["revision"],
        "resumed": run.get("resumed", []),
        "machine": run["machine"],
        "ended": run.get("ended", {"epochs": len(history), "reason": "cut off"}),
        "best_epoch": run["best"]["epoch"],
        "chosen_by": f"{chosen_metric(run)} on validation, all items ranked",
        "training_seconds": round(sum(row["train_seconds"] + row["validation_seconds"] for row in history)),
        "seeds_averaged": {
            "curve": recommender.training.validation_seeds,
            "validation": recommender.model.default_seeds,
            "test": recommender.model.default_seeds,
        },
        "validation": recommender.evaluate(data, part="validation", progress=progress),
        "test": recommender.evaluate(data, part="test", progress=progress),
        "curve": history,
    }


def chosen_metric(record: dict[str, Any]) -> str:
    """What the best epoch of a run was chosen by: NDCG@10, or at the catalogue's size where that is smaller."""
    return f"NDCG@{min(SELECT_AT, record['corpus']['items'])}"


def course(record: dict[str, Any]) -> tuple[list[int], list[float], int]:
    """The epochs of a record, their validation values of `chosen_metric`, and the place (from 0) of the best."""
    epochs = [row["epoch"] for row in record["curve"]]
    values = [row["validation"]["seen_kept"][chosen_metric(record)] for row in record["curve"]]
    return epochs, values, epochs.index(record["best_epoch"])


def refuse_record(path: Path) -> None:
    """Raise RunError where no record can be written, before the ranking rather than after it."""
    if path.exists():
        raise RunError(f"{path} exists already: a result is not overwritten; choose another name")
    if not path.parent.is_dir():
        raise RunError(f"{path} cannot be written: the folder {path.parent} does not exist; make it first")


def write_record(record: dict[str, Any], path: Path) -> None:
    """Write a record, whole or not at all. Raises RunError as `refuse_record` does, DataError on a full disk."""
    refuse_record(path)
    replace_file(path, json.dumps(record, indent=1).encode() + b"\n")


def read_record(path: Path) -> dict[str, Any]:
    """Read a record. Raises SettingError where it is none."""
    try:
        record = json.loads(path.read_bytes())
        course(record)
        return record
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SettingError(f"{path} is not the record of a run: {error!r}; make one with: seqdiffrec record") from error
