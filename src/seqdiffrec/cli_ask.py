"""The commands that ask a run: `recommend`, `score`, `similar`."""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from seqdiffrec import show
from seqdiffrec.cli_options import AsJson, Run
from seqdiffrec.inference import Recommender, load
from seqdiffrec.models.settings import SettingError

ask_app = typer.Typer()

More = Annotated[list[str] | None, typer.Argument(help="Further items of --history or --recent.", metavar="[ID]...")]
AskedUser = Annotated[list[str] | None, typer.Option(help="A user of the log; may be given often.")]
History = Annotated[list[str] | None, typer.Option(help="Item ids, oldest first.", metavar="ID ...")]
Recent = Annotated[
    list[str] | None, typer.Option(help="Items that --user took since, oldest first; the user may be new.")
]
Seeds = Annotated[int | None, typer.Option(help="Noise draws averaged.  [default: the model's own number]")]
Spread = Annotated[bool, typer.Option(help="Add score_std: how far the noise draws differ. It is no error bar.")]


@ask_app.command()
def recommend(
    run: Run,
    more: More = None,
    user: AskedUser = None,
    history: History = None,
    recent: Recent = None,
    k: Annotated[int, typer.Option("-k", help="Length of the list.")] = 10,
    keep_viewed: Annotated[bool, typer.Option(help="Recommend also what the history has.")] = False,
    category: Annotated[list[str] | None, typer.Option(help="Only items of it; may be given often.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="An item never to list; may be given often.")] = None,
    seeds: Seeds = None,
    spread: Spread = False,
    each_seed: Annotated[bool, typer.Option(help="The list of each noise draw on its own.")] = False,
    steps: Annotated[int | None, typer.Option(help="The next items one after another, so many.")] = None,
    sample: Annotated[int | None, typer.Option(help="With --steps, draw them, by this seed.")] = None,
    approximate: Annotated[bool, typer.Option(help="Look things up in the run's index, which `index` makes.")] = False,
    calibrated: Annotated[
        bool, typer.Option("--calibrated", help="Probabilities at the temperature of `calibrate --fit`.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What comes next.

    With --user 196 --recent 50 181 a user's history goes on; with --steps 5 the next five come one after another.

    Example: seqdiffrec recommend runs/mine --history 50 181 172 -k 5
    """
    whom = _whom(more, user, history, recent)
    alone = each_seed or steps is not None
    if (each_seed and steps is not None) or (alone and (spread or approximate or calibrated)):
        raise SettingError(
            "--each-seed and --steps go with neither each other nor --spread, --approximate or --calibrated"
        )
    if sample is not None and steps is None:
        raise SettingError("--sample says how --steps are drawn; give both")
    recommender = load(run)
    how: dict[str, Any] = {
        "num_seeds": seeds,
        "filter_viewed": not keep_viewed,
        "categories": category,
        "exclude_items": exclude,
    }
    if each_seed:
        frame = recommender.picks(k=k, **whom, **how)
    elif steps is not None:
        frame = recommender.recommend_next(steps=steps, sample_seed=sample, **whom, **how)
    else:
        ask = recommender.recommend if user is not None else recommender.recommend_sequences
        frame = ask(**whom, k=k, spread=spread, approximate=approximate, calibrated=calibrated, **how)
    if spread or each_seed:
        _tell_of_no_noise(recommender)
    found = recommender.index.facts() if approximate else {}
    if as_json:
        answer = {"run": str(run), "approximate": approximate, **found, "recommendations": frame.to_dicts()}
        print(json.dumps(answer, default=str))
    else:
        show.frame(frame.drop("approximate", strict=False))
        if approximate:
            show.notice(f"approximate: {show.overlap(found)}; probabilities are estimates")
        show.next_step(f"seqdiffrec info {run}")


@ask_app.command()
def score(
    run: Run,
    more: More = None,
    item: Annotated[list[str] | None, typer.Option(help="An item to score; may be given often.")] = None,
    user: AskedUser = None,
    history: History = None,
    recent: Recent = None,
    seeds: Seeds = None,
    spread: Spread = False,
    as_json: AsJson = False,
) -> None:
    """How probable given items are. Example: seqdiffrec score runs/mine --item 172 --item 7 --history 50 181"""
    if not item:
        raise SettingError("say which items to score: --item ID, once for each")
    whom = _whom(more, user, history, recent)
    recommender = load(run)
    frame = recommender.score(item, num_seeds=seeds, spread=spread, **whom)
    if spread:
        _tell_of_no_noise(recommender)
    _print(run, "scores", frame, as_json)
    if not as_json:
        show.next_step(shlex.join(["seqdiffrec", "similar", str(run), *item]))


@ask_app.command()
def similar(
    run: Run,
    items: Annotated[list[str], typer.Argument(help="Item ids.", metavar="ID...")],
    k: Annotated[int, typer.Option("-k", help="How many for each.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Items that the model sees as alike. Example: seqdiffrec similar runs/mine 50 181 -k 5"""
    found = load(run).similar_items(items, k)
    _print(run, "similar", found if as_json else found.rename({"score": "similarity"}), as_json)
    if not as_json:
        show.next_step(shlex.join(["seqdiffrec", "recommend", str(run), "--history", *items]))


def _tell_of_no_noise(recommender: Recommender) -> None:
    """Why --spread and --each-seed have nothing to show, where a model draws no noise."""
    if not recommender.model.draws_noise:
        name = type(recommender.model).__name__
        show.notice(f"{name} draws no noise here: the spread is 0, and there is one list, as without the option.")


def _whom(
    more: list[str] | None, user: list[str] | None, history: list[str] | None, recent: list[str] | None
) -> dict[str, Any]:
    """For whom is asked, as `Recommender.picks` takes it. Raises SettingError where that is not clear."""
    if user is not None and history is not None:
        raise SettingError("give one of --user and --history; what a user took since goes with --user and --recent")
    if (user is None) == (history is None) or (more and history is None and recent is None):
        raise SettingError("say for whom: --user ID, or --history ID ID ... with the oldest item first")
    name, items = ("--history", history) if history is not None else ("--recent", recent)
    if more and items is not None and len(items) > 1:
        raise SettingError(f"the order of the items is not clear: write {name} once, and all items after it")
    if history is not None:
        if recent is not None:
            raise SettingError("--recent goes with --user; a --history already ends with what was taken last")
        return {"histories": [[*history, *(more or [])]]}
    assert user is not None
    if recent is None:
        return {"users": user}
    if len(user) > 1:
        raise SettingError("--recent are the items of one user; give --user once")
    return {"users": user, "recent": {user[0]: [*recent, *(more or [])]}}


def _print(run: Path, name: str, frame: pl.DataFrame, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"run": str(run), name: frame.to_dicts()}, default=str))
    else:
        show.frame(frame)
