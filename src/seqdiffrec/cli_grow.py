"""The commands that make a new run of an old one: `add-items`, `update`."""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from seqdiffrec import show
from seqdiffrec.cli_options import AsJson, Items, Query, Run, query_on, this_command
from seqdiffrec.data import Interactions
from seqdiffrec.data.items import read_items
from seqdiffrec.data.sql import open_query
from seqdiffrec.data.words import counted
from seqdiffrec.inference import load
from seqdiffrec.inference.recommender import UPDATE_EPOCHS, UPDATE_RATE
from seqdiffrec.models.settings import SettingError
from seqdiffrec.training import TrainingInterrupted
from seqdiffrec.training.checkpoint import refuse_existing

grow_app = typer.Typer()

Out = Annotated[Path, typer.Option(help="Folder of the new run, new or empty.")]


@grow_app.command("add-items")
def add_items(
    run: Run,
    out: Out,
    new: Annotated[str | None, typer.Option(help="Id of a new item, which is like the items of --like.")] = None,
    like: Annotated[list[str] | None, typer.Option(help="A known item; may be given often.")] = None,
    items: Items = None,
    as_json: AsJson = False,
) -> None:
    """Items that the log lacks.

    With --items every item of the table that is new is made of those that share most categories with it.

    Example: seqdiffrec add-items runs/mine --new 9001 --like 50 --like 181 --out runs/more
    """
    refuse_existing(out)
    if (new is None) != (like is None):
        raise SettingError("--new ID and --like ID go together: a new item is made of the known ones that it is like")
    if new is None and items is None:
        raise SettingError("say what is new: --new ID --like ID, or --items with a table of items and their categories")
    table = None if items is None else read_items(items)
    recommender = load(run)
    known = recommender.model.num_items
    grown = recommender.add_items({new: like or []} if new is not None else None, items=table)
    grown.save(out)
    added = grown.vocabulary["item_id"][known:].to_list()
    if as_json:
        print(json.dumps({"run": str(out), "added": added, "items": grown.model.num_items}, default=str))
    else:
        named = ", ".join(map(str, added[:3])) + ", ..." * (len(added) > 3)
        print(f"{out}: {counted(len(added), 'new item')} ({named}), {grown.model.num_items:,} in all")
        show.next_step(shlex.join(["seqdiffrec", "similar", str(out), str(added[0])]))


@grow_app.command()
def update(
    run: Run,
    data: Annotated[
        str,
        typer.Option(help="What happened since: a file, a folder of Parquet or a database's URL, new actions alone."),
    ],
    out: Out,
    query: Query = None,
    user: Annotated[str | None, typer.Option(help="Column of user ids.  [default: the run's]")] = None,
    item: Annotated[str | None, typer.Option(help="Column of item ids.  [default: the run's]")] = None,
    time: Annotated[str | None, typer.Option(help="Column of times.  [default: the run's]")] = None,
    items: Items = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over what is new.")] = UPDATE_EPOCHS,
    learning_rate: Annotated[
        float | None, typer.Option(help=f"[default: {UPDATE_RATE:g} of the run's own]", show_default=False)
    ] = None,
    old_share: Annotated[float, typer.Option(min=0, help="Old targets to go over again for each new one.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Go on with what happened since. Example: seqdiffrec update runs/mine --data today.csv --out runs/today"""
    refuse_existing(out)
    query = query_on(data, query)
    recommender = load(run)
    assert recommender.run is not None
    settings: dict[str, Any] = recommender.run.record.get("data", {})
    given = {"user": user, "item": item, "time": time}
    columns = {name: settings.get(name) if value is None else value for name, value in given.items()}
    named = {name: value for name, value in columns.items() if value is not None}
    with show.waiting("reading"):
        log = (
            Interactions.read(data, **named)
            if query is None
            else Interactions.from_log(open_query(query, data), **named)
        )
    try:
        grown = recommender.fit_partial(
            log,
            items=None if items is None else read_items(items),
            epochs=epochs,
            learning_rate=learning_rate,
            old_share=old_share,
            out=out,
            facts={"command": this_command(), "data": settings},
        )
    except TrainingInterrupted as stopped:
        show.notice("stopped; nothing is kept of an update that was not finished.")
        raise typer.Exit(130) from stopped
    assert grown.run is not None
    facts = grown.run.record["grown_from"]
    if as_json:
        print(json.dumps({"run": str(out), "grown_from": facts}))
    else:
        counts = f"{counted(facts['users_added'], 'new user')}, {counted(facts['items_added'], 'new item')}"
        print(f"{out}: {counted(facts['actions'], 'new action')}, {counts}; {grown.model.num_items:,} items in all")
        show.next_step(shlex.join(["seqdiffrec", "recommend", str(out), "--user", str(grown.corpus.user_ids[-1])]))
