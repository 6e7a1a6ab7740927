"""The command `fit`: one log in, the best model for it out."""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from seqdiffrec import show
from seqdiffrec.cli_options import AsJson, DataRoot, Items, Query, SplitColumn, named_columns, this_command
from seqdiffrec.config import RunConfig
from seqdiffrec.data.corpus import is_corpus
from seqdiffrec.data.sources import SEQUENCES, ending, open_path
from seqdiffrec.data.sql import is_url, query_columns
from seqdiffrec.fitting import fit_log
from seqdiffrec.models import MODELS
from seqdiffrec.studies import source_of
from seqdiffrec.training import TrainingInterrupted
from seqdiffrec.training.checkpoint import refuse_existing

fit_app = typer.Typer()


@fit_app.command()
def fit(
    source: Annotated[str, typer.Argument(help="A log, or the name of a dataset.")],
    out: Annotated[Path, typer.Option(help="Folder of the chosen run and its card, new or empty.")],
    query: Query = None,
    user: Annotated[str | None, typer.Option(help="Column of user ids; without it, by its name.")] = None,
    item: Annotated[str | None, typer.Option(help="Column of item ids; without it, by its name.")] = None,
    time: Annotated[str | None, typer.Option(help="Column of times; without it, by its name.")] = None,
    items: Items = None,
    split: SplitColumn = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long it may take in all.")] = 10,
    refit: Annotated[bool, typer.Option(help="Train what was chosen once more on the whole log, for use.")] = False,
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """From a log to the best model for it, in minutes. Example: seqdiffrec fit clicks.csv --out runs/clicks"""
    refuse_existing(out)
    more = {"query": query, "split": split, "items": items, "data_root": data_root}
    columns = _columns(source, query, {"user": user, "item": item, "time": time}) | {
        name: value for name, value in more.items() if value is not None
    }
    config = RunConfig.of({"data": {**source_of(source), **columns}})
    with show.waiting("preparing the log"):
        data = config.data.load()
    facts = {"command": this_command(), "data": config.tables()["data"]}
    try:
        found = fit_log(data, out, minutes, refit=refit, say=show.notice, facts=facts)
    except TrainingInterrupted as stopped:
        show.notice("stopped; nothing is kept of a fit that was not finished.")
        raise typer.Exit(130) from stopped
    if as_json:
        print(json.dumps({"run": str(out), **found}))
        return
    _show(found, out)
    show.next_step(shlex.join(["seqdiffrec", "recommend", str(out), "--user", str(data.corpus.user_ids[0])]))


def _columns(source: str, query: str | None, given: dict[str, str | None]) -> dict[str, str]:
    """The columns that the user names, and those that their names give away."""
    path = Path(source)
    is_prepared = "file" not in source_of(source) or is_corpus(path) or ending(path) in SEQUENCES
    if is_prepared or (is_url(source) and query is None):
        return {name: value for name, value in given.items() if value is not None}
    present = open_path(path).columns if query is None else query_columns(query, source)
    return named_columns(source, present, given)


def _show(found: dict[str, Any], out: Path) -> None:
    k = found["k"]
    cases = f"{found['cases']['test']:,} test cases, {show.PROTOCOLS[found['protocol']]}"
    table = Table(title=f"{escape(found['data']['name'])}, {cases}")
    table.add_column("model", no_wrap=True)
    for name in (f"validation NDCG@{k}", f"test NDCG@{k}", f"test HR@{k}"):
        table.add_column(name, justify="right")
    for place, one in enumerate(found["systems"]):
        name = escape(MODELS[one["model"]].__name__)
        figures = [_interval(one["ndcg"]), _interval(one["hit_rate"])]
        table.add_row(f"[bold]{name}[/], chosen" if place == 0 else name, f"{one['validation']:.4f}", *figures)
    show.OUT.print(table)
    chosen = MODELS[found["chosen"]].__name__
    print(f"{out}: {chosen}, after {found['seconds'] / 60:.1f} min; all about it is in {out / 'card.html'}")


def _interval(of: dict[str, float]) -> str:
    return f"{of['value']:.4f} [{of['low']:.4f}, {of['high']:.4f}]".replace("[", r"\[")
