"""The command `similar`."""

import json
import shlex
from typing import Annotated

import typer

from seqdiffrec import show
from seqdiffrec.cli_options import AsJson, Run
from seqdiffrec.inference import load

similar_app = typer.Typer()


@similar_app.command()
def similar(
    run: Run,
    items: Annotated[list[str], typer.Argument(help="Item ids.", metavar="ID...")],
    k: Annotated[int, typer.Option("-k", help="How many for each.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Items that the model sees as alike. Example: seqdiffrec similar runs/mine 50 181 -k 5"""
    found = load(run).similar_items(items, k)
    if as_json:
        print(json.dumps({"run": str(run), "similar": found.to_dicts()}, default=str))
    else:
        show.frame(found.rename({"score": "similarity"}))
        show.next_step(shlex.join(["seqdiffrec", "recommend", str(run), "--history", *items]))
