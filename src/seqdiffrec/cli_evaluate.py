"""The commands `evaluate` and `calibrate`: how good a run is, for whom, what its lists are like, its probabilities."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from seqdiffrec import show
from seqdiffrec.cli_options import AsJson, DataRoot, Run, data_of
from seqdiffrec.evaluation import check_ranks_path, cutoffs, report, write_ranks
from seqdiffrec.evaluation.calibration import Calibration
from seqdiffrec.evaluation.segments import SegmentFigures
from seqdiffrec.evaluation.significance import Protocol
from seqdiffrec.inference import evaluate_calibration, evaluate_lists, fit_temperature, load
from seqdiffrec.inference.checks import check_k
from seqdiffrec.inference.judging import ListEvaluation, segments_of
from seqdiffrec.models.device import Precision
from seqdiffrec.models.settings import SettingError
from seqdiffrec.reports import check_picture, draw_reliability

evaluate_app = typer.Typer()

Data = Annotated[str | None, typer.Option(help="Dataset or file, where the run's own corpus is gone.")]
KeepViewed = Annotated[bool, typer.Option("--keep-viewed", help="Lists and segments with what the history has.")]
Part = Annotated[str, typer.Option(help="test or validation")]

MEANING = {
    "Coverage": "share of all items that stand in any list",
    "Gini": "0: all items equally often, near 1: a few always",
    "Novelty": "bits: -log2 of the share of people who took an item",
    "Popularity": "how many people took an item",
    "HeadShare": "share of items of the most taken 20 %",
    "Diversity": "1 less how alike two items of a list are, by {}",
    "CategoryKL": "nats: from the categories of the history; 0 is the same",
}
# Segments of categories that are shown; --json has all.
CATEGORIES_SHOWN = 8


@evaluate_app.command()
def evaluate(
    run: Run,
    segments: Annotated[bool, typer.Option("--segments", help="By length of history, popularity, category.")] = False,
    lists: Annotated[bool, typer.Option("--lists", help="Coverage, novelty, diversity, popularity of lists.")] = False,
    keep_viewed: KeepViewed = False,
    ranks: Annotated[Path | None, typer.Option(help="Write each user's rank to this .csv or .parquet file.")] = None,
    ks: Annotated[str | None, typer.Option("--k", help="Cutoffs, with commas between.  [default: 5,10,20]")] = None,
    precision: Annotated[
        Precision, typer.Option(help="Of the ranking: bfloat16 is faster on a CPU with AMX.")
    ] = "float32",
    part: Part = "test",
    data: Data = None,
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """Full-ranking metrics, for whom, and of lists.

    Segments and lists take the second cutoff (10), or the only one.

    Example: seqdiffrec evaluate runs/mine --segments --lists
    """
    if ranks is not None:
        _check_ranks_path(ranks)
    recommender = load(run)
    num_items = recommender.model.num_items
    wanted = cutoffs(num_items) if ks is None else [_whole_number(text, "--k") for text in ks.split(",")]
    for k in wanted:
        check_k(k, num_items)
    k = wanted[min(1, len(wanted) - 1)]
    dataset = data_of(recommender, data, data_root)
    with show.progress("ranking") as progress:
        found = recommender.rank(dataset, part=part, progress=progress, precision=precision)
    metrics = report(found, num_items, wanted)
    more: dict[str, Any] = {}
    if segments:
        more["segments"] = segments_of(found, recommender.cases(dataset, part), dataset, k)
    if lists:
        with show.progress("making lists") as progress:
            filtered = not keep_viewed
            more["lists"] = evaluate_lists(
                recommender, dataset, k=k, part=part, filter_viewed=filtered, progress=progress
            )
    if ranks is not None:
        write_ranks(found, dataset.corpus.user_ids, dataset.corpus.item_ids, ranks)
    if as_json:
        facts = {"run": str(run), "part": part, "precision": precision, "seeds": recommender.model.default_seeds}
        print(json.dumps({**facts, **metrics, **more}))
        return
    rounded = ", ranked in bfloat16" * (precision == "bfloat16")
    print(f"{run}, {part}: {metrics['cases']:,} users, {metrics['num_items']:,} items, ties against the model{rounded}")
    show.metrics({"seen_kept": metrics["seen_kept"], "seen_removed": metrics["seen_removed"]})
    if segments:
        _show_segments(more["segments"], k, "seen_kept" if keep_viewed else "seen_removed")
    if lists:
        _show_lists(more["lists"])
    user = str(dataset.corpus.user_ids[0])
    show.next_step(shlex.join(["seqdiffrec", "recommend", str(run), "--user", user]))


@evaluate_app.command()
def calibrate(
    run: Run,
    fit: Annotated[bool, typer.Option("--fit", help="Fit a temperature on validation; keep it in the run.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the curves to this .svg or .png file.")] = None,
    k: Annotated[int, typer.Option("-k", help="Length of the lists whose probabilities are checked.")] = 10,
    keep_viewed: KeepViewed = False,
    part: Part = "test",
    data: Data = None,
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """Whether the probabilities come true as often as they say. Example: seqdiffrec calibrate runs/mine --fit"""
    if plot is not None:
        check_picture(plot)
    recommender = load(run)
    check_k(k, recommender.model.num_items)
    dataset = data_of(recommender, data, data_root)
    fitted = None
    if fit:
        with show.progress("fitting") as progress:
            fitted = fit_temperature(recommender, dataset, progress=progress)
        if fitted.at_the_end:
            show.notice(f"{fitted.value:g} is as far as temperatures are looked for: the model is far off.")
    with show.progress("checking") as progress:
        found = evaluate_calibration(
            recommender, dataset, k=k, part=part, filter_viewed=not keep_viewed, progress=progress
        )
    if plot is not None:
        draw_reliability(found, k, plot)
    if as_json:
        facts = {"run": str(run), "part": part, "k": k, "filter_viewed": not keep_viewed}
        told = None if fitted is None else asdict(fitted)
        print(json.dumps({**facts, "fitted": told, "calibration": [asdict(one) for one in found]}))
        return
    _show_calibration(found, f"{run}, {part}: {found[0].log_loss.users:,} users", k)
    if recommender.temperature is None:
        show.next_step(shlex.join(["seqdiffrec", "calibrate", str(run), "--fit"]))
    else:
        user = str(dataset.corpus.user_ids[0])
        show.next_step(shlex.join(["seqdiffrec", "recommend", str(run), "--user", user, "--calibrated"]))


def _show_segments(segments: Sequence[SegmentFigures], k: int, protocol: Protocol) -> None:
    table = Table(title=f"by segment, {show.PROTOCOLS[protocol]}; in brackets 95 % intervals over users")
    for name in ("segment", "cases", "users", f"HR@{k}", f"NDCG@{k}"):
        told = name in ("segment", "cases")
        table.add_column(name, justify="left" if told else "right", no_wrap=name != "cases")
    by_category = [one for one in segments if one["told"].startswith("category")]
    shown = [one for one in segments if one not in by_category] + by_category[:CATEGORIES_SHOWN]
    for one in shown:
        figures = one[protocol]
        cells = [_interval(figures[f"{metric}@{k}"]) for metric in ("HR", "NDCG")]
        table.add_row(escape(one["segment"]), one["told"], f"{one['users']:,}", *cells)
    show.OUT.print(table)
    if len(by_category) > CATEGORIES_SHOWN:
        show.notice(f"{len(by_category) - CATEGORIES_SHOWN} further categories are in --json")


def _show_lists(found: ListEvaluation) -> None:
    viewed = "viewed items left out" if found["filter_viewed"] else "viewed items kept"
    table = Table(title=f"lists of {found['k']} for {found['users']:,} users, {viewed}")
    for name in ("", "lists", "targets", "meaning"):
        table.add_column(name, justify="right" if name in ("lists", "targets") else "left", no_wrap=name != "meaning")
    for name, figure in found["metrics"].items():
        bare = name.partition("@")[0]
        taken = found["targets"].get(bare)
        meaning = MEANING[bare].format(found["diversity_by"])
        table.add_row(name, _interval(figure), "" if taken is None else _number(taken["value"]), meaning)
    show.OUT.print(table)


def _show_calibration(found: Sequence[Calibration], title: str, k: int) -> None:
    table = Table(title=escape(title))
    table.add_column("")
    for one in found:
        told = "the model's own" if one.temperature == 1 else f"temperature {one.temperature:.3f}"
        table.add_column(told, justify="right")
    table.add_row("log-loss of the target, nats", *(_interval(asdict(one.log_loss)) for one in found))
    rows = {"calibration error, first place": "top_1", f"first {k}": "top_k", "all items": "all_items"}
    for name, scope in rows.items():
        parts = [getattr(one, scope) for one in found]
        table.add_row(name, *(f"{part.error:.4f} (by chance {part.by_chance:.4f})" for part in parts))
    show.OUT.print(table)
    last = found[-1]
    if last.impossible:
        show.notice(f"{last.impossible:,} targets had the probability 0; each counts as 1e-12 in the log-loss.")
    bins = Table(title=f"the first {k} in ten equal parts" + ("" if last.temperature == 1 else ", at the temperature"))
    for name in ("says", "came true", "95 % interval", "predictions"):
        bins.add_column(name, justify="right")
    for one in last.top_k.bins:
        bins.add_row(f"{one.said:.2%}", f"{one.came:.2%}", f"{one.low:.2%} to {one.high:.2%}", f"{one.count:,}")
    show.OUT.print(bins)


def _interval(of: dict[str, Any]) -> str:
    if of["low"] is None:
        return _number(of["value"])
    return rf"{_number(of['value'])} \[{_number(of['low'])}, {_number(of['high'])}]"


def _number(value: float | None) -> str:
    assert value is not None
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"


def _check_ranks_path(path: Path) -> None:
    try:
        check_ranks_path(path)
    except ValueError as error:
        raise SettingError(str(error)) from error


def _whole_number(text: str, option: str) -> int:
    if not text.strip().isdecimal():
        raise SettingError(f"{option} takes whole numbers with commas between, not {text!r}")
    return int(text)
