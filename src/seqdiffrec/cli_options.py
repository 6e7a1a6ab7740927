"""What several commands share: options, and a run's own data."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from seqdiffrec import show
from seqdiffrec.config import RunConfig
from seqdiffrec.data import DATASETS, Dataset
from seqdiffrec.data.columns import guess_columns
from seqdiffrec.data.sql import is_url, without_password
from seqdiffrec.inference import Recommender
from seqdiffrec.models.settings import SettingError
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
SplitColumn = Annotated[
    str | None, typer.Option("--split", help="Name of a column that says train, validation or test.")
]
Query = Annotated[str | None, typer.Option(help="SELECT ..., where the log is the URL of a database.")]


def this_command() -> str:
    """The command line that is running, as it can be typed again; passwords in URLs are hidden."""
    return without_password(shlex.join(["seqdiffrec", *sys.argv[1:]]))


def query_on(source: str, query: str | None) -> str | None:
    """The query, which a database needs and nothing else takes. Raises SettingError where that is not so."""
    if is_url(source) and query is None:
        raise SettingError("a database needs a query that says which rows to take: --query 'SELECT ...'")
    if query is not None and not is_url(source):
        raise SettingError(f"--query has no effect on {source}, which is no database; leave it out")
    return query


def named_columns(source: str, present: Sequence[str], given: Mapping[str, str | None]) -> dict[str, str]:
    """The columns `user`, `item` and `time` that the user names, and those that their names give away, which are told.

    present: the columns of the log. Raises DataError where there is none for the user or the item.
    """
    named = {name: value for name, value in given.items() if value is not None}
    guessed = guess_columns(without_password(source), present, [name for name in given if name not in named])
    if guessed:
        show.notice("by their names: " + ", ".join(f"{name} is {column!r}" for name, column in guessed.items()))
    return guessed | named


def data_of(recommender: Recommender, data: str | None = None, data_root: str | None = None) -> Dataset:
    """The data of a loaded run: its own corpus, or the dataset or file that the user names.

    Raises RunError where neither is there.
    """
    assert recommender.run is not None
    recommender.check_judgeable()
    settings: dict[str, Any] = recommender.run.record.get("data", {})
    if data is None:
        if not (recommender.run.path / "corpus").exists():
            raise RunError(
                f"{recommender.run.path} no longer has its corpus; name the log that it was trained on: evaluate --data"
            )
        times = RunConfig.of({"data": recommender.run.record.get("split") or {}}).data.times()
        return Dataset.of(recommender.corpus, times)
    source = {"dataset" if data in DATASETS else "file": data, "data_root": data_root}
    place = ("dataset", "file", "data_root", *(() if is_url(data) else ("query",)))
    prepared = {name: value for name, value in settings.items() if name not in place}
    return RunConfig.of({"data": prepared | source}).data.load()
