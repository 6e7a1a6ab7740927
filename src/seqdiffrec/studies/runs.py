"""One run of a study: what it is made from, whether it was made so, training it, and the command for it alone."""

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqdiffrec.config import RunConfig, with_changes
from seqdiffrec.data import DATASETS, Dataset
from seqdiffrec.inference import Recommender, load
from seqdiffrec.models import MODELS
from seqdiffrec.models.device import pick_device, use_bfloat16
from seqdiffrec.models.settings import Settings
from seqdiffrec.training import RunFolder, TrainingConfig

# Where the log lies makes no figure: its content hash says whether it is the same.
PLACES = ("dataset", "file", "data_root")


def source_of(name: str) -> dict[str, str]:
    """``data.dataset`` or ``data.file``: a name is a file where it is one, or has a dot or a slash in it."""
    is_file = name not in DATASETS and ("." in name or os.sep in name or Path(name).exists())
    return {"file" if is_file else "dataset": name}


def load_data(config: RunConfig, data_root: str | None = None) -> Dataset:
    """The run's data; data_root: where to look first for a named dataset. Raises DataError or SettingError."""
    root = config.data.data_root if data_root is None or config.data.dataset is None else data_root
    return config.data.model_copy(update={"data_root": root}).load()


def settings_of(config: RunConfig) -> dict[str, Any]:
    """The settings as records and runs hold them."""
    return {
        "model": config.model_name,
        "model_settings": config.model,
        "training": config.training.model_dump(mode="json"),
    }


def config_of(record: Mapping[str, Any]) -> RunConfig:
    """The configuration that a record was made from. Raises SettingError where this version lacks a setting."""
    settings = record["settings"]
    return RunConfig.of(
        {
            "data": record.get("data") or {"dataset": record["corpus"]["name"]},
            "model": {"name": settings["model"], **settings["model_settings"]},
            "training": settings["training"],
        }
    )


def changed_settings(config: RunConfig, made: Mapping[str, Any]) -> list[str]:
    """What differs between a record, or a run's ``run.json``, and what is asked for now; a line a setting.

    A setting that is younger than the record counts as its default.
    """
    settings = made["settings"]
    if settings["model"] != config.model_name:
        return [f"model = {settings['model']} there, {config.model_name} now"]
    tables: tuple[tuple[str, dict[str, Any], dict[str, Any], type[Settings]], ...] = (
        ("model.", settings["model_settings"], config.model, MODELS[config.model_name].config_class),
        ("training.", settings["training"], config.training.model_dump(mode="json"), TrainingConfig),
        ("data.", made.get("data") or {}, config.data.model_dump(mode="json"), type(config.data)),
    )
    lines: list[str] = []
    for where, then, now, of in tables:
        for name in sorted((then.keys() | now.keys()) - set(PLACES)):
            default = of.model_fields[name].default if name in of.model_fields else None
            there, here = then.get(name, default), now.get(name)
            if there != here:
                lines.append(f"{where}{name} = {there} there, {here} now")
    return lines


def precision_of(training: TrainingConfig) -> str:
    """The precision of matrix products on this machine: float32 or bfloat16, which give slightly other figures."""
    return "bfloat16" if use_bfloat16(training.precision, pick_device(training.device)) else "float32"


def train_to_the_end(config: RunConfig, data: Dataset, out: Path, command: str | None) -> Recommender:
    """The run in ``out``, loaded: trained, or gone on with from its checkpoint, or as it is where it has ended.

    Raises as `Recommender.fit` does.
    """
    begun = (out / "run.json").exists()
    if not begun or RunFolder.open(out).record["status"] != "finished":
        facts = {
            "command": command,
            "data": without_places(config.tables()["data"]),
            "precision": precision_of(config.training),
        }
        config.recommender().fit(data, out=out, resume=begun, facts=facts)
    return load(out)


def without_places(data: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the data without the folder of one machine."""
    return {name: value for name, value in data.items() if name != "data_root"}


def one_command(config: RunConfig, out: str) -> str:
    """The command that trains this run alone, with every setting that is not the default."""
    tables = config.tables()
    model, training, data = tables["model"], tables["training"], without_places(tables["data"])
    name = model.pop("name")
    standard = RunConfig.of({"model": {"name": name}}).tables()
    words = ["seqdiffrec", "train", "--model", name, "--out", out]
    for option, key in (("--dataset", "dataset"), ("--data", "file")):
        words += [option, data.pop(key)] if key in data else []
    for section, values in (("data", data), ("model", model), ("training", training)):
        for key, value in values.items():
            if value != standard[section].get(key):
                words += ["--set", f"{section}.{key}={_as_text(value)}"]
    return shlex.join(words)


def _as_text(value: Any) -> str:
    """A value as ``--set`` takes it: text bare where it is read back as text."""
    if isinstance(value, str) and with_changes({}, [f"model.x={value}"])["model"]["x"] == value:
        return value
    return json.dumps(value, ensure_ascii=False)
