"""The commands `data ...`: fetch, look at and prepare data."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from seqdiffrec import show, show_survey
from seqdiffrec.cli_options import (
    AsJson,
    DataRoot,
    Item,
    Items,
    Query,
    SplitColumn,
    Time,
    User,
    named_columns,
    query_on,
)
from seqdiffrec.config import RunConfig, with_changes
from seqdiffrec.data import DATASETS, Dataset, load_corpus, statistics
from seqdiffrec.data.corpus import is_corpus
from seqdiffrec.data.sources import open_path
from seqdiffrec.data.sql import database_name, open_query, without_password
from seqdiffrec.data.survey import survey
from seqdiffrec.models.settings import SettingError
from seqdiffrec.studies import source_of

data_app = typer.Typer(no_args_is_help=True, help="Fetch, look at and prepare data.")
Source = Annotated[
    str, typer.Argument(help=f"One of {', '.join(DATASETS)}, or a log: a file, a folder of Parquet, a database's URL.")
]


@data_app.command("fetch")
def data_fetch(name: str, data_root: DataRoot = None, as_json: AsJson = False) -> None:
    """Get a named dataset and prepare it. Example: seqdiffrec data fetch ml-100k"""
    corpus = load_corpus(name, data_root)
    show.corpus(corpus, None, as_json=as_json)
    show.next_step(_train_command(name, name, {"data_root": data_root}))


@data_app.command("check")
def data_check(
    source: Annotated[str, typer.Argument(help="A log: a file, a folder of Parquet, or a database's URL.")],
    query: Query = None,
    user: Annotated[str | None, typer.Option(help="Column of user ids; without it, by its name.")] = None,
    item: Annotated[str | None, typer.Option(help="Column of item ids; without it, by its name.")] = None,
    time: Annotated[str | None, typer.Option(help="Column of times; without it, by its name.")] = None,
    as_json: AsJson = False,
) -> None:
    """What a log holds, what is odd, and how to train on it. Example: seqdiffrec data check clicks.csv"""
    if source in DATASETS or is_corpus(source):
        raise SettingError(f"{source} is prepared already; its figures: seqdiffrec data stats {source}")
    given = {"user": user, "item": item, "time": time}
    query = query_on(source, query)
    with show.waiting("reading"):
        log = open_path(Path(source)) if query is None else open_query(query, source)
    columns = named_columns(source, log.columns, given)
    with show.waiting("looking"):
        found = survey(log, columns)
    name = Path(source).name.split(".")[0] if query is None else database_name(source)
    words = {"query": query, **given}
    fit = shlex.join(["seqdiffrec", "fit", source, *_words(words), "--out", f"runs/{name}"])
    train = _train_command(source, name, words | columns)
    if as_json:
        print(json.dumps({**asdict(found), "next": [without_password(fit), without_password(train)]}, default=str))
        return
    show_survey.screen(found)
    if any(one.refused for one in found.oddities):
        show.notice("what is refused has to be mended first: until then these commands refuse it too.")
    show.next_step(without_password(train), "Next, with settings of your own")
    show.next_step(without_password(fit))


@data_app.command("stats")
def data_stats(
    name: Source,
    data_root: DataRoot = None,
    query: Query = None,
    user: User = None,
    item: Item = None,
    time: Time = None,
    as_json: AsJson = False,
) -> None:
    """Users, items, actions, average length, sparsity (Table 1). Example: seqdiffrec data stats beauty --json"""
    options = {"data_root": data_root, "query": query, "user": user, "item": item, "time": time}
    corpus = _dataset(name, options).corpus
    figures = {"name": corpus.name, **statistics(corpus), "content_hash": corpus.content_hash}
    if as_json:
        print(json.dumps(figures))
    else:
        show.facts(figures)
        show.next_step(_train_command(name, corpus.name, options))


@data_app.command("prepare")
def data_prepare(
    name: Source,
    out: Annotated[Path, typer.Option(help="Folder to write the corpus to, new or empty.")],
    data_root: DataRoot = None,
    query: Query = None,
    user: User = None,
    item: Item = None,
    time: Time = None,
    split: SplitColumn = None,
    items: Items = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="data.name=value, such as data.min_user=5")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the memory-mapped corpus of a log. Example: seqdiffrec data prepare clicks.csv --item sku --out corpus"""
    columns = {"user": user, "item": item, "time": time, "split": split}
    options = {"data_root": data_root, "query": query, "items": items, **columns}
    with show.waiting("preparing"):
        corpus = _dataset(name, options, changes).corpus
        corpus.save(out)
    show.corpus(corpus, out, as_json=as_json)
    show.next_step(_train_command(str(out), corpus.name, {}))


def _dataset(name: str, options: dict[str, str | None], changes: list[str] | None = None) -> Dataset:
    """A named dataset, or a log, with these options and changes."""
    tables = {"data": {**source_of(name), **{key: value for key, value in options.items() if value is not None}}}
    return RunConfig.of(with_changes(tables, changes or [])).data.load()


def _train_command(source: str, name: str, options: dict[str, str | None]) -> str:
    """The command that trains on this source with these options."""
    words = ["--dataset" if source in DATASETS else "--data", source, *_words(options)]
    return without_password(shlex.join(["seqdiffrec", "train", *words, "--out", f"runs/{name}"]))


def _words(options: dict[str, str | None]) -> list[str]:
    given = {option: value for option, value in options.items() if value is not None}
    return [word for option, value in given.items() for word in (f"--{option.replace('_', '-')}", value)]
