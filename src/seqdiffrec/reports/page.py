"""The page of a study: a Markdown file and its plots, made from records alone."""

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from seqdiffrec.data import DataError
from seqdiffrec.data.storage import replace_file
from seqdiffrec.reports.outcomes import Outcome, load_outcomes, model_name, title_of
from seqdiffrec.reports.pairs import compare_pairs
from seqdiffrec.reports.plots import Plot, draw, make_plots
from seqdiffrec.reports.study import DEFAULT, Study, read_study
from seqdiffrec.reports.tables import Link, inference_table, links_from, main_table, pairs_table, paper_table
from seqdiffrec.reports.verdict import verdict

_READING = """\
## How to read the tables

- A figure is the mean over the seeds ± their standard deviation (n - 1). Fewer recorded seeds than asked for are
  said with n. Every row links to the record of each seed, which holds settings, curve, versions and revision."""

_READING_DEFAULT = """\
- "Against default" is the difference in NDCG@10, all items ranked, in percent of the default's, over the seeds that
  both rows have: a seed draws the initial weights and the batches of all rows, and moves them all alike. In brackets
  is from where to where it goes for 95 % over seeds, by Student's t; bold where that leaves out 0. How far a single
  figure is off is what neither row nor seed explains (two-way least squares on logarithms), taken together over the
  rows that reach four fifths of the default's figure. Rows below that have no interval, and are bold: seeds move them
  by far more, in percent, but not up to it. No correction is made for the number of rows: of twenty that change
  nothing, one will seem to."""

_READING_END = """\
- Every choice is to be made by the validation columns. The test columns are what that choice then gives.
- Where the setting above names several precisions, machines or revisions, runs of one row may differ in these, too.
- Minutes are the clock's, of training and validation. Other work ran beside most runs, and some were stopped for a
  while: they are no timing."""

_PAIRS = """\
Ranks of the same users under two rows, drawn 10,000 times with replacement (paired bootstrap; two-sided p, not
corrected for the number of pairs). Where there are several seeds, each user's NDCG@10 is averaged over them first. The
interval is over users: it says nothing about other seeds."""

_INFERENCE = """\
The same trained weights, ranked again with other settings. Differences are within each seed, ± their standard deviation
over seeds. Seconds are those of ranking validation and test, on the machine of the record."""

_PAPER = """\
Test, all items ranked: for each kind of model the row with the best validation NDCG@10 of this study, and the rows
whose ranks are kept, beside Table 2 of the paper, whose models have d 256 and T 50. Rows have the size, the epochs and
the tuning of this study, which may be others than the paper's. The paper says that it ranks "on the whole dataset", not
whether seen items are removed before, so the difference under that protocol stands below."""


def build_page(study_path: Path, results: Path, out: Path, check: bool = False) -> list[str]:
    """Write `<out>/<study>.md` and its plots, `<out>/<study>/*.svg`; the same records give the same bytes.

    Args:
        study_path: the study's TOML file.
        results: the folder that holds a folder of records for each study.
        out: where the page goes.
        check: write nothing.

    Returns:
        The files written; with `check` a line for each that is missing or not made from these records.

    Raises:
        SettingError, DataError: the study or a record cannot be read or belongs elsewhere, or matplotlib is missing.
    """
    study = read_study(study_path)
    page = out / f"{study.name}.md"
    plots = out / study.name
    text, drawn = _compose(study, study_path, results, out)
    if check:
        known = {_file(plots, plot): plot.fingerprint().encode() for plot in drawn}
        stale = [page] if _content(page) != text.encode() else []
        stale += [file for file, fingerprint in known.items() if fingerprint not in _content(file)]
        return [f"{file} is not what its records give" for file in stale]
    try:
        (plots if drawn else out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{plots} cannot be made: {error.strerror}; name another folder") from error
    files = {_file(plots, plot): draw(plot) for plot in drawn}
    for file, content in {**files, page: text.encode()}.items():
        replace_file(file, content)
    return [str(file) for file in (*files, page)]


def _reading(study: Study) -> str:
    has_default = study.row(DEFAULT) is not None
    return "\n".join([_READING, *([_READING_DEFAULT] if has_default else []), _READING_END])


def _file(folder: Path, plot: Plot) -> Path:
    return folder / f"{plot.name}.svg"


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _compose(study: Study, study_path: Path, results: Path, out: Path) -> tuple[str, list[Plot]]:
    """The page's text and the plots that it shows."""
    link = links_from(out)
    outcomes = {dataset: load_outcomes(study, results, dataset) for dataset in study.datasets}
    pairs = {dataset: compare_pairs(found) for dataset, found in outcomes.items()}
    plots = {dataset: make_plots(found, dataset) for dataset, found in outcomes.items()}
    lines = [
        f"<!-- Made from the records of this study by: seqdiffrec report {study_path.name}. Do not edit. -->",
        "",
        f"# {study.title}",
        "",
        *verdict(study, outcomes, pairs),
        *([*textwrap.wrap(study.note, 120, break_long_words=False, break_on_hyphens=False), ""] if study.note else []),
        *_setting(study, study_path, outcomes, link),
        "",
        *_reading(study).splitlines(),
    ]
    for dataset, found in outcomes.items():
        lines += ["", f"## {title_of(dataset)}", "", *main_table(found, dataset, link)]
        for plot in plots[dataset]:
            lines += ["", f"![{plot.alt}]({study.name}/{plot.name}.svg)"]
        lines += _part("Inference settings", _INFERENCE, inference_table(found, link))
        lines += _part("Pairwise tests over users", _PAIRS, pairs_table(pairs[dataset], link))
        lines += _part("Beside the paper", _PAPER, paper_table(found, dataset, link))
    return "\n".join(lines) + "\n", [plot for found in plots.values() for plot in found]


def _part(title: str, text: str, table: list[str]) -> list[str]:
    return ["", f"### {title}", "", *text.splitlines(), "", *table] if table else []


def _setting(study: Study, study_path: Path, outcomes: dict[str, list[Outcome]], link: Link) -> list[str]:
    """What all figures have in common, as far as the records say it."""
    records = [record for found in outcomes.values() for record in _records(found)]
    seeds = ", ".join(map(str, study.seeds))
    made = f"Rows and queue: [{study_path.name}]({link(study_path)})."
    if not records:
        return [f"Datasets {', '.join(map(title_of, study.datasets))}; seeds {seeds}. No run is recorded yet. {made}"]
    defaults = [one for found in outcomes.values() for one in found if one.row.name == DEFAULT and one.records]
    corpora = [next(iter(_records(found)))["corpus"] for found in outcomes.values() if _records(found)]
    sizes = "; ".join(
        f"{title_of(one['name'])}, {one['users']:,} users, {one['items']:,} items, {one['actions']:,} actions"
        for one in corpora
    )
    parts = [
        f"**Setting.** {sizes}.",
        *([_size([record for one in defaults for record in one.records.values()])] if defaults else []),
        f"{_split(records[0])} All items of the catalogue are",
        "ranked, none is sampled; ties count against the model. Seen items are kept in the ranking; where a column",
        f"says so, they are removed. Seeds {seeds}. The epoch is chosen by validation NDCG@10 with seen items kept;",
        "test figures are those of that epoch. Rows are chosen by it, too, as if all had all seeds (least squares).",
        f"{_ends(records)} {_draws(records)} Precision: {_precisions(records)}.",
        f"Machine: {_machines(records)}. Code revision: {_revisions(records)}. {made}",
    ]
    return textwrap.wrap(" ".join(parts), 120, break_long_words=False, break_on_hyphens=False)


def _split(record: dict[str, Any]) -> str:
    data: dict[str, Any] = record.get("data") or {}
    if data.get("split") is not None:
        return f"The log's own column `{data['split']}` says which actions are for training, validation and the test."
    if data.get("test_time") is not None:
        return "All users are split at one point in time; the test target is the first item after it."
    return "The test target is the last item of each user, the validation target the one before (leave-one-out)."


def _size(defaults: list[dict[str, Any]]) -> str:
    """Of the default; where it differs between the datasets, in the order of these."""
    parts = [
        text.format(_either(_all(defaults, "settings", "model_settings", key)))
        for key, text in (("hidden_size", "d {}"), ("num_layers", "layers {}"), ("max_length", "T {}"))
        if key in defaults[0]["settings"]["model_settings"]
    ]
    parts += [
        f"batches of {_either(_all(defaults, 'settings', 'training', 'batch_size'))} targets",
        f"at most {_either(_all(defaults, 'settings', 'training', 'epochs'))} epochs",
    ]
    return f"The default is {model_name(defaults[0])}: {', '.join(parts)}."


def _ends(records: list[dict[str, Any]]) -> str:
    """How many runs were still rising when they ended: more epochs would have moved them."""
    trained = [one for one in records if len(one["curve"]) > 1 and "inference_of" not in one]
    last = sum(record["best_epoch"] == record["curve"][-1]["epoch"] for record in trained)
    return f"In {last} of {len(trained)} runs of more than one epoch the last epoch is the best."


def _draws(records: list[dict[str, Any]]) -> str:
    curve, test = (_all(records, "seeds_averaged", part) for part in ("curve", "test"))
    return f"Noise draws averaged: {_either(curve)} after each epoch, {_either(test)} in the tables, by the row."


def _precisions(records: list[dict[str, Any]]) -> str:
    """What the products were computed in; where a record does not say it, what was asked for."""
    asked = (record.get("precision") or record["settings"]["training"]["precision"] for record in records)
    return _either("auto (bfloat16 where the machine has it, else float32)" if one == "auto" else one for one in asked)


def _machines(records: list[dict[str, Any]]) -> str:
    machines = (record["machine"] for record in records)
    return _either(f"{one['processor']}, {one['cores']} cores, {one['system']}" for one in machines)


def _revisions(records: list[dict[str, Any]]) -> str:
    """Shortened, with "+changes" kept where the code differed from the commit."""
    revisions = [record["revision"] for record in records]
    return _either("unknown" if one is None else f"`{one[:10]}{one[40:]}`" for one in revisions)


def _records(outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
    return [record for outcome in outcomes for record in outcome.records.values()]


def _all(records: Iterable[dict[str, Any]], *keys: str) -> list[Any]:
    """The value below these keys of each record that has it."""
    found: list[Any] = list(records)
    for key in keys:
        found = [value[key] for value in found if key in value]
    return found


def _either(values: Iterable[object]) -> str:
    """The different values, in the order in which they come."""
    return " or ".join(dict.fromkeys(map(str, values)))
