"""The tables of a study's page, in Markdown."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from seqdiffrec.evaluation.significance import SeedNoise, mean_and_spread
from seqdiffrec.models import MODELS
from seqdiffrec.reports.outcomes import (
    TEST,
    VALIDATION,
    Measure,
    Outcome,
    against_paper,
    best_of_each,
    difference,
    noise_of,
    number,
    p_value,
    signed,
    signed_number,
    trained_outcomes,
    validation_levels,
)
from seqdiffrec.reports.pairs import Pair
from seqdiffrec.reports.paper import METRICS, table2
from seqdiffrec.reports.study import DEFAULT, InferenceRow, Row

Link = Callable[[Path], str]
"""From a file to how the page links to it."""

_HIT = Measure("test", "seen_kept", "HR@10")
_REMOVED = (Measure("test", "seen_removed", "HR@10"), Measure("test", "seen_removed", "NDCG@10"))


def links_from(folder: Path) -> Link:
    """Links relative to a page in `folder`."""
    return lambda path: Path(os.path.relpath(path, folder)).as_posix()


def main_table(outcomes: Sequence[Outcome], dataset: str, link: Link) -> list[str]:
    """A row for each trained row of the study, under the headings of their groups."""
    trained = [outcome for outcome in outcomes if isinstance(outcome.row, Row)]
    default = next((outcome for outcome in trained if outcome.row.name == DEFAULT), None)
    head = ["row", "change", *(title for title, _ in _columns(trained, default)), "best epoch", "minutes"]
    head.append("records by seed")
    rows: list[list[str]] = []
    group = None
    for outcome in trained:
        assert isinstance(outcome.row, Row)
        if outcome.row.group != group:
            group = outcome.row.group
            rows.append([f"**{_plain(group)}**", *[""] * (len(head) - 1)])
        recipe = outcome.row.recipe_for(dataset)
        linked = [] if recipe is None else [f"[{recipe.name}]({link(recipe)})"]
        rows.append(_main_row(outcome, linked, _columns(trained, default), link))
    return _table(head, rows)


Column = tuple[str, Callable[[Outcome], str]]
"""A column of figures: its head, and the cell of a row."""


def _columns(trained: Sequence[Outcome], default: Outcome | None) -> list[Column]:
    """Validation and test, each with the difference to the default if there is one, then test with seen removed."""
    columns: list[Column] = []
    for part, measure in (("validation", VALIDATION), ("test", TEST)):
        if measure is TEST:
            columns.append(("test HR@10", partial(_figure, measure=_HIT)))
        columns.append((f"{part} NDCG@10", partial(_figure, measure=measure)))
        if default is not None:
            noise = noise_of(measure, trained, default)
            against = partial(_against, default=default, measure=measure, noise=noise)
            columns.append((f"{part} against default", against))
    return columns + [
        (f"test {measure.metric}, seen removed", partial(_figure, measure=measure)) for measure in _REMOVED
    ]


def _main_row(outcome: Outcome, recipe: list[str], columns: Sequence[Column], link: Link) -> list[str]:
    row = outcome.row
    assert isinstance(row, Row)
    model = [f"model.{key}={value}" for key, value in (row.model or {}).items()]
    changes = [f"`{_plain(change)}`" for change in (*model, *row.changes)]
    name = [_plain(row.title), ", ".join(recipe + changes) or "–"]
    if not outcome.records:
        nothing = [""] * (len(columns) + 1)
        return [*name, "diverged" if outcome.paths else "not run", *nothing, _records(outcome, link)]
    return [
        *name,
        *(cell(outcome) for _, cell in columns),
        ", ".join(str(record["best_epoch"]) for record in outcome.records.values()),
        f"{mean_and_spread([record['training_seconds'] / 60 for record in outcome.records.values()])[0]:.1f}",
        _records(outcome, link),
    ]


def inference_table(outcomes: Sequence[Outcome], link: Link) -> list[str]:
    """The weights of trained rows under other inference settings, each set below the row that it comes from."""
    head = ["row", "change", "noise draws", "validation NDCG@10", "test HR@10", "test NDCG@10"]
    head += [
        "test NDCG@10, seen removed",
        "test NDCG@10 against the bold row",
        "seconds to rank",
        "records by seed",
    ]
    rows: list[list[str]] = []
    for base in outcomes:
        below = [one for one in outcomes if isinstance(one.row, InferenceRow) and one.row.of == base.row.name]
        if below:
            rows += [_inference_row(outcome, base, link) for outcome in (base, *below)]
    return _table(head, rows)


def _inference_row(outcome: Outcome, base: Outcome, link: Link) -> list[str]:
    row = outcome.row
    is_base = outcome is base
    title = f"**{_plain(row.title)}**" if is_base else _plain(row.title)
    name = [title, "–" if is_base else ", ".join(f"`{_plain(change)}`" for change in row.changes)]
    if not outcome.records:
        return [*name, "", "diverged" if outcome.paths else "not run", *[""] * 5, _records(outcome, link)]
    draws = {record["settings"]["model_settings"].get("num_seeds", 1) for record in outcome.records.values()}
    seconds = [record["ranking_seconds"] for record in outcome.records.values() if "ranking_seconds" in record]
    return [
        *name,
        ", ".join(map(str, sorted(draws))),
        _figure(outcome, VALIDATION),
        _figure(outcome, Measure("test", "seen_kept", "HR@10")),
        _figure(outcome, TEST),
        _figure(outcome, _REMOVED[1]),
        "–" if is_base else _paired(outcome, base),
        f"{mean_and_spread(seconds)[0]:.1f}" if seconds else "",
        _records(outcome, link),
    ]


def _paired(outcome: Outcome, base: Outcome) -> str:
    """The difference to the same weights under the row's own settings, seed by seed."""
    shared = [seed for seed in outcome.records if seed in base.records]
    ours, theirs = (_only(one, shared).values(TEST) for one in (outcome, base))
    if not shared or not all(theirs):
        return ""
    mean, spread = mean_and_spread([100 * (our / their - 1) for our, their in zip(ours, theirs, strict=True)])
    return f"{signed(mean)} %" + (f" ± {spread:.1f} %" if spread is not None else "")


def pairs_table(pairs: Sequence[Pair], link: Link) -> list[str]:
    """A row for each comparison over users."""
    head = ["row", "against", "difference in test NDCG@10", "95 % interval", "p", "ranks by seed", "the other's"]
    return _table(head, [_pair_row(pair, link) for pair in pairs])


def _pair_row(pair: Pair, link: Link) -> list[str]:
    found = pair.comparison
    return [
        _plain(pair.outcome.row.title),
        _plain(pair.other.row.title),
        signed_number(found.difference),
        f"{signed_number(found.low)} to {signed_number(found.high)}",
        p_value(found.p_value),
        *(" ".join(f"[{seed}]({link(of.ranks[seed])})" for seed in pair.seeds) for of in (pair.outcome, pair.other)),
    ]


def paper_table(outcomes: Sequence[Outcome], dataset: str, link: Link) -> list[str]:
    """Rows beside the paper's Table 2: the best by validation of each kind of model, and those whose ranks are kept.

    Empty where the paper has none of them.
    """
    trained = trained_outcomes(outcomes)
    best = best_of_each(validation_levels(outcomes), Outcome.kind)
    rows: list[list[str]] = []
    for outcome in trained:
        system, shown = outcome.kind()
        keeps_ranks = isinstance(outcome.row, Row) and outcome.row.ranks
        if not (keeps_ranks or outcome in best.values()):
            continue
        paper, off = table2(system, dataset), against_paper(outcome, dataset)
        removed = against_paper(outcome, dataset, "seen_removed")
        if paper is None or not off:
            continue
        size = next(iter(outcome.records.values()))["settings"]["model_settings"].get("hidden_size")
        figures = [_figure(outcome, Measure("test", "seen_kept", metric)) for metric in METRICS]
        rows += [
            [f"{_plain(outcome.row.title)} ({shown}, d {size})", *figures, _records(outcome, link)],
            [f"{MODELS[system].__name__} in the paper", *(number(paper[metric]) for metric in METRICS), ""],
            ["difference", *(f"{signed(percent)} %" for percent in off), ""],
            ["the same with seen items removed", *(f"{signed(percent)} %" for percent in removed), ""],
        ]
    return _table(["", *METRICS, "records by seed"], rows)


def _only(outcome: Outcome, seeds: list[int]) -> Outcome:
    kept = {seed: record for seed, record in outcome.records.items() if seed in seeds}
    return Outcome(outcome.row, outcome.seeds, outcome.paths, kept, outcome.ranks)


def _against(outcome: Outcome, default: Outcome, measure: Measure, noise: SeedNoise | None) -> str:
    if outcome is default:
        return "–"
    found = difference(outcome, default, measure, noise)
    return "" if found is None else str(found)


def _figure(outcome: Outcome, measure: Measure) -> str:
    """Mean ± standard deviation over the recorded seeds."""
    mean, spread = mean_and_spread(outcome.values(measure))
    return number(mean) + (f" ± {number(spread)}" if spread is not None else "")


def _records(outcome: Outcome, link: Link) -> str:
    """A link for each recorded seed, and how many are missing."""
    parts = [
        f"[{seed}{'' if seed in outcome.records else ' diverged'}]({link(path)})"
        for seed, path in outcome.paths.items()
    ]
    if outcome.paths and len(outcome.records) < len(outcome.seeds):
        parts.append(f"(n = {len(outcome.records)} of {len(outcome.seeds)})")
    return " ".join(parts)


def _plain(text: str) -> str:
    return text.replace("|", r"\|")


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    if not rows:
        return []
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]
