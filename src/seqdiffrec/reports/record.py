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


def make_record(
    recommender: Recommender, data: Dataset, note: str | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """What a loaded run was made from and what it reached, on validation and on test, under both protocols.

    note: what a reader must know besides, such as how the run was started.
    """
    assert recommender.run is not None
    run = recommender.run.record
    history = recommender.state.history
    return {
        "command": run.get("command"),
        "note": note,
        "settings": run["settings"],
        "data": run.get("data"),
        "corpus": run["corpus"],
        "versions": run["versions"],
        "revision": run["revision"],
        "machine": run["machine"],
        "ended": run.get("ended", {"epochs": len(history), "reason": "cut off"}),
        "best_epoch": run["best"]["epoch"],
        "chosen_by": "NDCG@10 on validation, all items ranked",
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


def write_record(record: dict[str, Any], path: Path) -> None:
    """Write a record, whole or not at all. Raises RunError where there is one already, DataError on a full disk."""
    if path.exists():
        raise RunError(f"{path} exists already: a result is not overwritten; choose another name")
    replace_file(path, json.dumps(record, indent=1).encode() + b"\n")


def read_record(path: Path) -> dict[str, Any]:
    """Read a record. Raises SettingError where it is none."""
    try:
        record = json.loads(path.read_bytes())
        return {**record, "curve": record["curve"]}
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SettingError(f"{path} is not the record of a run: {error}") from error
