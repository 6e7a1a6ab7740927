"""What several commands share: options, and a run's own data."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from seqdiffrec.config import RunConfig
from seqdiffrec.data import DATASETS, Dataset
from seqdiffrec.inference import Recommender
from seqdiffrec.training import RunError

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
DataRoot = Annotated[str | None, typer.Option(help="Folder to look in first for a named dataset.")]
Results = Annotated[Path, typer.Option(help="Folder of the records.")]
Run = Annotated[Path, typer.Argument(help="A run's folder, as train made it.")]
StudyFile = Annotated[Path, typer.Argument(help="A study: TOML with datasets, seeds, base and rows.")]
User = Annotated[str | None, typer.Option(help="Name of the column of user ids.  [default: user_id]")]
Item = Annotated[str | None, typer.Option(help="Name of the column of item ids.  [default: item_id]")]
Items = Annotated[str | None, typer.Option(help="Table of item_id, and title or category or both.")]
Time = Annotated[str | None, typer.Option(help="Name of the column of times.  [default: timestamp, if there]")]


def this_command() -> str:
    """The command line that is running, as it can be typed again."""
    return shlex.join(["seqdiffrec", *sys.argv[1:]])


def data_of(recommender: Recommender, data: str | None = None, data_root: str | None = None) -> Dataset:
    """The data of a loaded run: its own corpus, or the dataset or file that the user names.

    Raises RunError where neither is there.
    """
    assert recommender.run is not None
    settings: dict[str, Any] = recommender.run.record.get("data", {})
    if data is None:
        if not (recommender.run.path / "corpus").exists():
            raise RunError(
                f"{recommender.run.path} no longer has its corpus; name the log that it was trained on: evaluate --data"
            )
        times = RunConfig.of({"data": recommender.run.record.get("split") or {}}).data.times()
        return Dataset.of(recommender.corpus, times)
    source = {"dataset" if data in DATASETS else "file": data, "data_root": data_root}
    prepared = {name: value for name, value in settings.items() if name not in ("dataset", "file", "data_root")}
    return RunConfig.of({"data": prepared | source}).data.load()
