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
from typing import Annotated, Any

import typer

from seqdiffrec import show
from seqdiffrec.cli_fit import fit_app
from seqdiffrec.cli_options import AsJson, DataRoot, Item, Items, Run, Time, User, data_of, this_command
from seqdiffrec.cli_results import results_app
from seqdiffrec.cli_serve import serve_app
from seqdiffrec.cli_similar import similar_app
from seqdiffrec.config import RunConfig, read_recipe, with_changes
from seqdiffrec.data import DATASETS, DataError, Dataset, load_corpus, statistics
from seqdiffrec.evaluation import check_ranks_path, cutoffs, report, write_ranks
from seqdiffrec.inference import load
from seqdiffrec.inference.answers import check_k
from seqdiffrec.models import MODELS
from seqdiffrec.models.settings import SettingError
from seqdiffrec.studies import source_of
from seqdiffrec.training import RunError, TrainingDiverged, TrainingInterrupted
from seqdiffrec.training.checkpoint import RunFolder, refuse_existing

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
data_app = typer.Typer(no_args_is_help=True, help="Fetch, look at and prepare data.")
app.add_typer(data_app, name="data")
app.add_typer(results_app)
app.add_typer(fit_app)
app.add_typer(similar_app)
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


@data_app.command("fetch")
def data_fetch(name: str, data_root: DataRoot = None, as_json: AsJson = False) -> None:
    """Get a named dataset and prepare it. Example: seqdiffrec data fetch ml-100k"""
    corpus = load_corpus(name, data_root)
    show.corpus(corpus, None, as_json=as_json)
    show.next_step(_train_command(name, name, {"data_root": data_root}))


@data_app.command("stats")
def data_stats(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(DATASETS)}, or a file.")],
    data_root: DataRoot = None,
    user: User = None,
    item: Item = None,
    time: Time = None,
    as_json: AsJson = False,
) -> None:
    """Users, items, actions, average length, sparsity (Table 1). Example: seqdiffrec data stats beauty --json"""
    options = {"data_root": data_root, "user": user, "item": item, "time": time}
    corpus = _dataset(name, options).corpus
    figures = {"name": corpus.name, **statistics(corpus), "content_hash": corpus.content_hash}
    if as_json:
        print(json.dumps(figures))
    else:
        show.facts(figures)
        show.next_step(_train_command(name, corpus.name, options))


@data_app.command("prepare")
def data_prepare(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(DATASETS)}, or a file.")],
    out: Annotated[Path, typer.Option(help="Folder to write the corpus to; it must not exist.")],
    data_root: DataRoot = None,
    user: User = None,
    item: Item = None,
    time: Time = None,
    items: Items = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="data.name=value, such as data.min_user=5")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the memory-mapped corpus of a log. Example: seqdiffrec data prepare clicks.csv --item sku --out corpus"""
    options = {"data_root": data_root, "user": user, "item": item, "time": time, "items": items}
    corpus = _dataset(name, options, changes).corpus
    corpus.save(out)
    show.corpus(corpus, out, as_json=as_json)
    show.next_step(_train_command(str(out), corpus.name, {}))


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
    out: Annotated[Path | None, typer.Option(help="Folder of the run; it must not exist.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file with the tables data, model, training.")] = None,
    dataset: Annotated[str | None, typer.Option(help=f"One of {', '.join(DATASETS)}.")] = None,
    data: Annotated[str | None, typer.Option(help="A log: .csv, .tsv, .parquet, .arrow or .txt.")] = None,
    user: User = None,
    item: Item = None,
    time: Time = None,
    items: Items = None,
    model: Annotated[str | None, typer.Option(help=f"One of {', '.join(MODELS)}.  [default: diffrec]")] = None,
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
        "data.user": user,
        "data.item": item,
        "data.time": time,
        "data.items": items,
        "data.data_root": data_root,
        "model.name": model,
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
        refuse_existing(out)
    facts = {"command": this_command(), "data": config.tables()["data"]}
    recommender = config.recommender()
    try:
        recommender.fit(config.data.load(), out=out, resume=resume, facts=facts)
    except TrainingInterrupted as stopped:
        show.notice(f"{stopped}; the checkpoint is written.")
        again = shlex.join(["seqdiffrec", *sys.argv[1:], *([] if resume else ["--resume"])])
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
def evaluate(
    run: Run,
    ranks: Annotated[Path | None, typer.Option(help="Write each user's rank to this .csv or .parquet file.")] = None,
    ks: Annotated[str | None, typer.Option("--k", help="Cutoffs, with commas between.  [default: 5,10,20]")] = None,
    part: Annotated[str, typer.Option(help="test or validation")] = "test",
    data: Annotated[str | None, typer.Option(help="Dataset or file, where the run's own corpus is gone.")] = None,
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """Full-ranking metrics, seen items kept and removed. Example: seqdiffrec evaluate runs/mine --json"""
    if ranks is not None:
        _check_ranks_path(ranks)
    recommender = load(run)
    num_items = recommender.model.num_items
    wanted = cutoffs(num_items) if ks is None else [_whole_number(text, "--k") for text in ks.split(",")]
    for k in wanted:
        check_k(k, num_items)
    dataset = data_of(recommender, data, data_root)
    with show.progress("ranking") as progress:
        found = recommender.rank(dataset, part=part, progress=progress)
    metrics = report(found, num_items, wanted)
    if ranks is not None:
        write_ranks(found, dataset.corpus.user_ids, dataset.corpus.item_ids, ranks)
    if as_json:
        print(json.dumps({"run": str(run), "part": part, "seeds": recommender.model.default_seeds, **metrics}))
    else:
        print(f"{run}, {part}: {metrics['cases']:,} users, {metrics['num_items']:,} items, ties against the model")
        show.metrics({"seen_kept": metrics["seen_kept"], "seen_removed": metrics["seen_removed"]})
        user = str(dataset.corpus.user_ids[0])
        show.next_step(shlex.join(["seqdiffrec", "recommend", str(run), "--user", user]))


@app.command()
def recommend(
    run: Run,
    more: Annotated[list[str] | None, typer.Argument(help="Further items of --history.", metavar="[ID]...")] = None,
    user: Annotated[list[str] | None, typer.Option(help="A user of the log; may be given often.")] = None,
    history: Annotated[list[str] | None, typer.Option(help="Item ids, oldest first.", metavar="ID ...")] = None,
    k: Annotated[int, typer.Option("-k", help="Length of the list.")] = 10,
    keep_viewed: Annotated[bool, typer.Option(help="Recommend also what the history has.")] = False,
    approximate: Annotated[bool, typer.Option(help="Look things up in the run's index, which `index` makes.")] = False,
    as_json: AsJson = False,
) -> None:
    """What comes next. Example: seqdiffrec recommend runs/mine --history 50 181 172 -k 5"""
    if (user is None) == (history is None) or (more and history is None):
        raise SettingError("say for whom: --user ID, or --history ID ID ... with the oldest item first")
    if more and history is not None and len(history) > 1:
        raise SettingError("the order of the items is not clear: write --history once, and all items after it")
    recommender = load(run)
    how: dict[str, Any] = {"k": k, "filter_viewed": not keep_viewed, "approximate": approximate}
    if user is not None:
        frame = recommender.recommend(user, **how)
    else:
        frame = recommender.recommend_sequences([[*(history or []), *(more or [])]], **how)
    found = recommender.index.facts() if approximate else {}
    if as_json:
        answer = {"run": str(run), "approximate": approximate, **found, "recommendations": frame.to_dicts()}
        print(json.dumps(answer, default=str))
    else:
        show.frame(frame.drop("approximate", strict=False))
        if approximate:
            show.notice(f"approximate: {_overlap(found)}; probabilities are estimates")
        show.next_step(f"seqdiffrec info {run}")


@app.command()
def index(
    run: Run,
    overlap: Annotated[float, typer.Option(help="Share of the exact first ten that is to be found.")] = 0.99,
    histories: Annotated[int, typer.Option(help="Users whose histories measure that.")] = 256,
    as_json: AsJson = False,
) -> None:
    """Index the items of a large catalogue, for recommend --approximate. Example: seqdiffrec index runs/mine"""
    recommender = load(run)
    with show.progress("indexing") as progress:
        found = recommender.build_index(overlap=overlap, histories=histories, progress=progress).facts()
    if as_json:
        print(json.dumps({"run": str(run), **found}))
    else:
        print(f"{run}: {recommender.model.num_items:,} items indexed; {_overlap(found)}")
        if found["overlap@10"] < overlap:
            show.notice(f"That is below {overlap:g}, with as many candidates as an index looks at: prefer exact lists.")
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
    show.next_step(f"seqdiffrec evaluate {run}")


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


def _dataset(name: str, options: dict[str, str | None], changes: list[str] | None = None) -> Dataset:
    """A named dataset, or a file, with these options and changes."""
    tables = {"data": {**source_of(name), **{key: value for key, value in options.items() if value is not None}}}
    return RunConfig.of(with_changes(tables, changes or [])).data.load()


def _check_ranks_path(path: Path) -> None:
    try:
        check_ranks_path(path)
    except ValueError as error:
        raise SettingError(str(error)) from error


def _overlap(found: dict[str, Any]) -> str:
    return f"{found['overlap@10']:.1%} of the exact first ten are found, by {found['histories']:,} histories"


def _whole_number(text: str, option: str) -> int:
    if not text.strip().isdecimal():
        raise SettingError(f"{option} takes whole numbers with commas between, not {text!r}")
    return int(text)


def _train_command(source: str, name: str, options: dict[str, str | None]) -> str:
    """The command that trains on this source with these options."""
    words = ["--dataset" if source in DATASETS else "--data", source]
    for option, value in options.items():
        words += [] if value is None else [f"--{option.replace('_', '-')}", value]
    return shlex.join(["seqdiffrec", "train", *words, "--out", f"runs/{name}"])
