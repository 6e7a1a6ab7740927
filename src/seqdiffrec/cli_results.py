"""The commands about results: records and curves of runs, studies, searches, and recorded figures made again."""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from seqdiffrec import show
from seqdiffrec.cli_options import AsJson, DataRoot, Results, Run, StudyFile, data_of, this_command
from seqdiffrec.inference import load
from seqdiffrec.reports import chosen_metric, draw_curves, make_record, read_record, refuse_record, write_record
from seqdiffrec.reports.study import read_study
from seqdiffrec.studies import (
    Reproduction,
    make_again,
    make_queue,
    queue_rows,
    read_search,
    run_search,
    run_sweep,
)
from seqdiffrec.training import TrainingInterrupted

results_app = typer.Typer()

RESULTS = Path("results")


@results_app.command()
def record(
    run: Run,
    out: Annotated[Path, typer.Option(help="The .json file to write; it must not exist.")],
    note: Annotated[str | None, typer.Option(help="What a reader must know besides.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a run's settings, curve and figures as one JSON. Example: seqdiffrec record runs/mine --out mine.json"""
    refuse_record(out)
    recommender = load(run)
    with show.progress("ranking") as progress:
        result = make_record(recommender, data_of(recommender), note, progress)
    write_record(result, out)
    metric = chosen_metric(result)
    if as_json:
        print(json.dumps({"record": str(out), "test": result["test"]}))
    else:
        print(f"{out}: test {metric} {result['test']['seen_kept'][metric]:.4f} with all items ranked")
    show.next_step(f"seqdiffrec curves {out} --out curves.svg")


@results_app.command()
def curves(
    records: Annotated[list[Path], typer.Argument(help="Files that record or sweep wrote.")],
    out: Annotated[Path, typer.Option(help="The .svg or .png file to write.")],
    as_json: AsJson = False,
) -> None:
    """Draw validation NDCG@10 by epoch. Example: seqdiffrec curves results/*.json --out curves.svg"""
    names = [path.stem for path in records]
    # Files of one name in several folders go by their whole path.
    names = names if len(set(names)) == len(names) else list(map(str, records))
    draw_curves({name: read_record(path) for name, path in zip(names, records, strict=True)}, out)
    print(json.dumps({"picture": str(out), "curves": names}) if as_json else out)
    show.next_step("seqdiffrec sweep --help", "To compare many runs")


@results_app.command()
def sweep(
    study: StudyFile,
    runs: Annotated[Path, typer.Option(help="Folder of the run folders.")] = Path("runs"),
    results: Results = RESULTS,
    only: Annotated[list[str] | None, typer.Option(help="Name of a row; may be given often.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="One of the study's; may be given often.")] = None,
    data_root: DataRoot = None,
    dry_run: Annotated[bool, typer.Option(help="List the queue and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train and record all that a study lacks; once more to go on. Example: seqdiffrec sweep studies/mine.toml"""
    plan = read_study(study)
    if dry_run:
        queue = make_queue(plan, runs, results, only, dataset)
    else:
        try:
            queue = run_sweep(
                plan,
                runs,
                results,
                only=only,
                datasets=dataset,
                data_root=data_root,
                command=_made_by(study, only, dataset),
                notify=show.notice,
                bar=show.progress,
            )
        except (TrainingInterrupted, KeyboardInterrupt) as stopped:
            raise _interrupted(stopped) from stopped
    rows = queue_rows(queue)
    if as_json:
        print(json.dumps({"study": plan.name, "runs": rows}))
    else:
        _show_queue(rows, whole=dry_run)
    options = f" --results {results}" if results != RESULTS else ""
    if all(row["state"] in ("recorded", "failed") for row in rows):
        show.next_step(f"seqdiffrec report {study}{options}")
    else:
        show.next_step(this_command().replace(" --dry-run", ""))


@results_app.command()
def tune(
    search: Annotated[Path, typer.Argument(help="TOML with dataset, base and search.")],
    out: Annotated[Path, typer.Option(help="Folder of the search; there already, it goes on.")],
    trials: Annotated[int, typer.Option(min=1, help="How many trials in all.")],
    minutes: Annotated[float | None, typer.Option(min=0, help="Start no further trial after so long.")] = None,
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """Search settings, judged on validation. Example: seqdiffrec tune search.toml --out runs/tune --trials 20"""
    plan = read_search(search)
    try:
        found = run_search(
            plan,
            out,
            trials,
            as_toml=show.toml,
            minutes=minutes,
            data_root=data_root,
            command=this_command(),
            notify=show.notice,
        )
    except (TrainingInterrupted, KeyboardInterrupt) as stopped:
        raise _interrupted(stopped) from stopped
    if as_json:
        print(json.dumps({"best": found.best, "recipe": str(found.recipe), "trials": found.trials}))
    else:
        print(f"{out}: best validation NDCG@10 {found.best['value']:.4f}, trial {found.best['trial']}:")
        show.facts(found.best["settings"])
    show.next_step(f"seqdiffrec train --recipe {found.recipe} --out runs/best")


@results_app.command()
def reproduce(
    study: Annotated[str, typer.Argument(help="Name of a study, a folder below results.")],
    model: Annotated[str, typer.Option(help="Model of the row.")],
    dataset: Annotated[str, typer.Option(help="Dataset of the study.")],
    out: Annotated[Path, typer.Option(help="Folder of the run, new or empty.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the recorded run.")] = 0,
    row: Annotated[str | None, typer.Option(help="Row of the study, where several have the model.")] = None,
    results: Results = RESULTS,
    resume: Annotated[bool, typer.Option(help="Go on with the run in --out, cut off or interrupted.")] = False,
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """Make a recorded figure again; exit code 1 where it is not within the stated spread.

    Example: seqdiffrec reproduce table2 --model diffrec --dataset beauty --seed 0 --out runs/again
    """
    try:
        found = make_again(
            study,
            model,
            dataset,
            seed,
            out,
            results=results,
            row=row,
            resume=resume,
            data_root=data_root,
            command=this_command(),
            notify=show.notice,
            bar=show.progress,
        )
    except (TrainingInterrupted, KeyboardInterrupt) as stopped:
        raise _interrupted(stopped, "" if resume else " --resume") from stopped
    if as_json:
        print(
            json.dumps(
                {"record": str(found.record), "within": found.within, "spread": found.rule, "test": found.rows()}
            )
        )
    else:
        _show_reproduction(found)
    show.next_step(f"seqdiffrec evaluate {out}")
    if not found.within:
        raise typer.Exit(1)


@results_app.command()
def report(
    study: StudyFile,
    results: Results = RESULTS,
    out: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("docs/study"),
    check: Annotated[bool, typer.Option(help="Write nothing; exit code 1 where the page is not that of now.")] = False,
    as_json: AsJson = False,
) -> None:
    """Build a study's page and plots from its records. Example: seqdiffrec report studies/mine.toml"""
    from seqdiffrec.reports.page import build_page

    paths = build_page(study, results, out, check)
    if as_json:
        print(json.dumps({"stale" if check else "written": paths}))
    elif paths:
        print("\n".join(paths))
    again = f"seqdiffrec report {study} --results {results} --out {out}"
    if check and paths:
        show.error(f"{len(paths)} files are not what the records give now; build them again")
        show.next_step(again)
        raise typer.Exit(1)
    show.next_step(f"seqdiffrec sweep {study} --dry-run" if check else f"{again} --check")


def _made_by(study: Path, only: list[str] | None, datasets: list[str] | None) -> str:
    """What the records say that they were made by: folders are places on one machine, and decide no figure."""
    chosen = [("--only", row) for row in only or []] + [("--dataset", dataset) for dataset in datasets or []]
    return shlex.join(["seqdiffrec", "sweep", str(study), *(word for pair in chosen for word in pair)])


def _interrupted(stopped: BaseException, option: str = "") -> typer.Exit:
    """Ctrl-C: the next step is the same command."""
    show.notice(f"{str(stopped) or 'stopped'}; what was reached is kept.")
    show.next_step(this_command() + option, "Go on with")
    return typer.Exit(130)


def _show_queue(rows: list[dict[str, Any]], *, whole: bool) -> None:
    """How many runs are done, after the whole queue or after what is not simply recorded."""
    shown = [row for row in rows if whole or row["state"] != "recorded"]
    if shown:
        show.frame(pl.DataFrame(shown).drop("record"))
    failed = sum(row["state"] == "failed" for row in rows)
    print(f"{sum(row['state'] in ('recorded', 'failed') for row in rows)} of {len(rows)} done, {failed} failed")


def _show_reproduction(found: Reproduction) -> None:
    rows = [
        {
            "test": f"{one.metric}, {show.PROTOCOLS[one.protocol]}",
            "recorded": f"{one.recorded:.4f}",
            "here": f"{one.here:.4f}",
            "difference": f"{one.difference:+.4f}",
            "spread": f"{one.spread:.4f}",
            "within": "yes" if one.within else "NO",
        }
        for one in found.comparisons
    ]
    show.frame(pl.DataFrame(rows))
    verdict = "is made again" if found.within else "is NOT made again: a figure is off by more than the spread"
    print(f"{found.record} {verdict}. Spread: {found.rule}.")
