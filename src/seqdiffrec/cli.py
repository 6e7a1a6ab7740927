"""The command line: parse, call one function, print.

Results go to standard output, progress, notices and the next step to standard error. Exit codes: 0 done, 2 the user's
input, 1 our fault or a check that does not hold, 130 interrupted.
"""

import json
import logging
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from seqdiffrec import show
from seqdiffrec.cli_ask import ask_app
from seqdiffrec.cli_data import data_app
from seqdiffrec.cli_evaluate import evaluate_app
from seqdiffrec.cli_export import export_app
from seqdiffrec.cli_fit import fit_app
from seqdiffrec.cli_grow import grow_app
from seqdiffrec.cli_options import AsJson, DataRoot, Item, Items, Query, Run, SplitColumn, Time, User, this_command
from seqdiffrec.cli_results import results_app
from seqdiffrec.cli_serve import serve_app
from seqdiffrec.config import RunConfig, read_recipe, with_changes
from seqdiffrec.data import DATASETS, DataError
from seqdiffrec.data.dataset import WHOLE_LOG
from seqdiffrec.inference import load
from seqdiffrec.models import MODELS
from seqdiffrec.models.settings import SettingError
from seqdiffrec.training import RunError, TrainingDiverged, TrainingInterrupted
from seqdiffrec.training.checkpoint import RunFolder, refuse_existing

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
app.add_typer(data_app, name="data")
app.add_typer(results_app)
app.add_typer(fit_app)
app.add_typer(evaluate_app)
app.add_typer(ask_app)
app.add_typer(grow_app)
app.add_typer(export_app)
app.add_typer(serve_app)


def _version(asked: bool) -> None:
    if asked:
        print(f"seqdiffrec {metadata.version('seqdiffrec')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Sequential recommendation with diffusion models: from a log of (user, item, time) to what each takes next.

    Start with: seqdiffrec demo
    """


@app.command()
def models(as_json: AsJson = False) -> None:
    """All models, a line each, those with the oldest papers first. Example: seqdiffrec models --json"""
    shown = ("name", "summary", "paper", "cost")
    ordered = sorted(MODELS.values(), key=lambda model: (model.paper or "")[-4:])
    rows = [{key: getattr(model, key) for key in shown} for model in ordered]
    if as_json:
        print(json.dumps({"models": rows}))
    else:
        heads = {"name": "model", "summary": "what it is", "paper": "paper", "cost": "training, SASRec's being 1"}
        show.lines([heads, *rows])
    show.next_step("seqdiffrec train --model sasrec --dataset ml-100k --out runs/sasrec")


@app.command()
def train(
    out: Annotated[Path | None, typer.Option(help="Folder of the run, new or empty.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file with the tables data, model, training.")] = None,
    dataset: Annotated[str | None, typer.Option(help=f"One of {', '.join(DATASETS)}.")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="A log: .csv, .tsv, .parquet, .arrow or .txt, a folder of Parquet, a database's URL."),
    ] = None,
    query: Query = None,
    user: User = None,
    item: Item = None,
    time: Time = None,
    items: Items = None,
    split: SplitColumn = None,
    model: Annotated[str | None, typer.Option(help=f"One of {', '.join(MODELS)}.  [default: diffrec]")] = None,
    track: Annotated[str | None, typer.Option(help="tensorboard, mlflow, wandb or trackio.")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="table.name=value; may be given often.")] = None,
    data_root: DataRoot = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in --out, cut off or interrupted.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Print the settings and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model. Example: seqdiffrec train --dataset ml-100k --out runs/mine --set model.hidden_size=64"""
    values = read_recipe(recipe) if recipe is not None else {}
    options = {
        "data.dataset": dataset,
        "data.file": data,
        "data.query": query,
        "data.user": user,
        "data.item": item,
        "data.time": time,
        "data.items": items,
        "data.split": split,
        "data.data_root": data_root,
        "model.name": model,
        "training.tracker": track,
    }
    values = with_changes(
        values,
        [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in options.items() if value is not None],
    )
    # A source on the command line takes the place of the recipe's.
    if data is not None and dataset is None:
        values["data"].pop("dataset", None)
    if dataset is not None and data is None:
        values["data"].pop("file", None)
    config = RunConfig.of(with_changes(values, changes or []))
    if dry_run:
        print(json.dumps(config.tables()) if as_json else show.toml(config.tables()))
        return
    if out is None:
        raise SettingError("say where the run goes: --out runs/NAME")
    if not resume:
        refuse_existing(out, can_resume=True)
    facts = {"command": this_command(), "data": config.tables()["data"]}
    recommender = config.recommender()
    with show.waiting("preparing the data"):
        loaded = config.data.load()
    try:
        recommender.fit(loaded, out=out, resume=resume, facts=facts)
    except TrainingInterrupted as stopped:
        show.notice(f"{stopped}; the checkpoint is written.")
        again = this_command() + ("" if resume else " --resume")
        show.next_step(again, "Go on with")
        raise typer.Exit(130) from stopped
    best = RunFolder.open(out).record["best"]
    if as_json:
        print(json.dumps({"run": str(out), "best": best}))
    else:
        print(f"{out}: best epoch {best['epoch']} of {recommender.state.epoch}, on validation:")
        show.metrics(best["validation"])
        show.next_step(f"seqdiffrec evaluate {out}")


@app.command()
def index(
    run: Run,
    overlap: Annotated[float, typer.Option(help="Share of the exact first ten that is to be found.")] = 0.99,
    histories: Annotated[int, typer.Option(help="Users whose histories measure that.")] = 256,
    as_json: AsJson = False,
) -> None:
    """Index a large catalogue, for recommend and serve with --approximate. Example: seqdiffrec index runs/mine"""
    recommender = load(run)
    with show.progress("indexing") as progress:
        index = recommender.build_index(overlap=overlap, histories=histories, progress=progress)
    found = index.facts()
    if as_json:
        print(json.dumps({"run": str(run), **found}))
    else:
        print(f"{run}: {recommender.model.num_items:,} items indexed; {show.overlap(found)}")
        print(
            f"Ten items for one user take {found['approximate_ms']:g} ms, {found['exact_ms']:g} by the pass over all."
        )
        if found["overlap@10"] < overlap:
            show.notice(f"The overlap is below {overlap:g}, even with all cells looked into.")
        elif found["approximate_ms"] >= found["exact_ms"]:
            show.notice("The index is not faster here: leave --approximate out.")
    user = str(recommender.corpus.user_ids[0])
    show.next_step(shlex.join(["seqdiffrec", "recommend", str(run), "--user", user, "--approximate"]))


@app.command()
def info(run: Run, as_json: AsJson = False) -> None:
    """What a run is and how it went. Example: seqdiffrec info runs/mine"""
    folder = RunFolder.open(run)
    if as_json:
        print(json.dumps({**folder.record, "epochs": folder.state().history}))
        return
    show.run(folder)
    whole = folder.record.get("split") == WHOLE_LOG
    show.next_step(f"seqdiffrec {'serve' if whole else 'evaluate'} {run}")


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Folder of the demo's runs.")] = Path("runs/demo")) -> None:
    """Train DiffRec and SASRec on ML-100K, compare them, recommend; some minutes. Example: seqdiffrec demo"""
    from seqdiffrec.demo import run_demo

    run_demo(out)


def main() -> None:
    """Run the command line; turns a user's mistake into one message and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="seqdiffrec: %(message)s", stream=sys.stderr)
    try:
        app()
    except (DataError, RunError, SettingError, TrainingDiverged) as error:
        show.error(str(error))
        raise SystemExit(2) from None
    except OSError as error:
        show.error(f"{error.filename or 'a file'}: {error.strerror or error}")
        raise SystemExit(2) from None
