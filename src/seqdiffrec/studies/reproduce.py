"""A recorded run made again, and whether its test figures are within the spread of the recorded ones."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seqdiffrec.data import Dataset
from seqdiffrec.data.storage import read_json
from seqdiffrec.models import find_model
from seqdiffrec.models.settings import SettingError, refuse_unknown
from seqdiffrec.studies.runs import config_of, load_data, precision_of, train_to_the_end
from seqdiffrec.studies.sweep import Bar, Notify, no_bar
from seqdiffrec.training.checkpoint import refuse_existing
from seqdiffrec.training.provenance import code_revision, versions

# Where fewer seeds than that are recorded, their deviation says nothing: the spread is this much, absolute.
SEEDS_NEEDED = 3
STATED = {"HR": 0.0045, "NDCG": 0.003}
# Three seeds may happen to lie close together. Another precision, processor or revision of the code that rounds
# otherwise moves a figure of the same seed, too: by 3 % in one run of decides.toml that was made by two revisions.
LEAST_SHARE = 0.05
PROTOCOLS = ("seen_kept", "seen_removed")


@dataclass(frozen=True)
class Comparison:
    """One figure on the test set: as recorded, as it came out here, and how far apart the two may be."""

    protocol: str
    metric: str
    recorded: float
    here: float
    spread: float

    @property
    def difference(self) -> float:
        """Here minus recorded."""
        return self.here - self.recorded

    @property
    def within(self) -> bool:
        """Whether the two are no further apart than the spread."""
        return abs(self.difference) <= self.spread


@dataclass(frozen=True)
class Reproduction:
    """What a recorded run brought here.

    record: the file. rule: where the spread comes from. comparisons: of both protocols.
    """

    record: Path
    rule: str
    comparisons: tuple[Comparison, ...]

    @property
    def within(self) -> bool:
        """Whether every figure is within its spread."""
        return all(comparison.within for comparison in self.comparisons)

    def rows(self) -> list[dict[str, Any]]:
        """The comparisons as plain values."""
        return [{**asdict(found), "difference": found.difference, "within": found.within} for found in self.comparisons]


def make_again(
    name: str,
    model: str,
    dataset: str,
    seed: int,
    out: Path,
    *,
    results: Path,
    row: str | None = None,
    resume: bool = False,
    data_root: str | None = None,
    command: str | None = None,
    notify: Notify = lambda line: None,
    bar: Bar = no_bar,
) -> Reproduction:
    """Train a recorded run of the study ``name`` again, into ``out``, and compare HR@10 and NDCG@10 on test.

    row: which of the study's rows with that model; without it the only one, or the one that is called as the model.
    resume: go on with what is in ``out``. Raises SettingError where there is no such record, or the data are others.
    notify: is told which row is meant where none is named, and where revision, versions or precision differ.
    """
    records = _records(results / name / dataset)
    path, record = _choose(records, model, row, seed, results / name / dataset)
    if row is None and _place(record)["row"] != model:
        notify(f"the only row with a {model} that has records is {_place(record)['row']}")
    config = config_of(record)
    if not resume:
        refuse_existing(out, can_resume=True)
    data = load_data(config, data_root)
    _check_corpus(path, record, data)
    for line in _other_conditions(record, precision_of(config.training)):
        notify(line)
    recommender = train_to_the_end(config, data, out, command)
    with bar("ranking") as progress:
        test = recommender.evaluate(data, progress=progress)
    here = {"seen_kept": test["seen_kept"], "seen_removed": test["seen_removed"]}
    rule, spreads = _spread([other for other in records.values() if _place(other)["row"] == _place(record)["row"]])
    return Reproduction(
        path,
        rule,
        tuple(
            Comparison(protocol, metric, record["test"][protocol][metric], here[protocol][metric], spread)
            for (protocol, metric), spread in spreads.items()
        ),
    )


def _records(folder: Path) -> dict[Path, dict[str, Any]]:
    """The records of one study and dataset that have figures, inference rows aside."""
    if not folder.is_dir():
        studies = sorted(path.name for path in folder.parents[1].glob("*") if path.is_dir())
        datasets = sorted(path.name for path in folder.parent.glob("*") if path.is_dir())
        known = f"datasets there: {', '.join(datasets)}" if datasets else f"studies there: {', '.join(studies)}"
        raise SettingError(f"there are no records in {folder}; {known}")
    records = {path: read_json(path) for path in sorted(folder.glob("*.json"))}
    for path, record in records.items():
        if "study" not in record:
            raise SettingError(f"{path} is not a record of a sweep: it has no study; move it out of {folder}")
    return {path: record for path, record in records.items() if record.keys().isdisjoint(("failed", "inference_of"))}


def _choose(
    records: dict[Path, dict[str, Any]], model: str, row: str | None, seed: int, folder: Path
) -> tuple[Path, dict[str, Any]]:
    """The record that is meant."""
    of_model = {path: record for path, record in records.items() if record["settings"]["model"] == model}
    rows = sorted({_place(record)["row"] for record in of_model.values()})
    if not rows:
        find_model(model)
        models = {record["settings"]["model"] for record in records.values()}
        raise SettingError(f"{folder} has no record of a {model}; it has: {', '.join(sorted(models))}")
    if row is not None and row not in rows:
        raise refuse_unknown(row, rows, what=f"row with a {model}")
    if row is None and len(rows) > 1 and model not in rows:
        raise SettingError(f"several rows of {folder} are a {model}; choose one with --row: {', '.join(rows)}")
    chosen = row or (rows[0] if len(rows) == 1 else model)
    seeds = {_place(record)["seed"]: (path, record) for path, record in of_model.items() if _is_row(record, chosen)}
    if seed not in seeds:
        raise SettingError(
            f"{folder} has no record of row {chosen} with seed {seed}; it has the seeds {', '.join(map(str, seeds))}"
        )
    return seeds[seed]


def _check_corpus(path: Path, record: dict[str, Any], data: Dataset) -> None:
    made, here = record["corpus"]["content_hash"], data.corpus.content_hash
    if made != here:
        raise SettingError(
            f"{path} was made from another log (hash {made[:12]}) than {data.corpus.name} is here (hash {here[:12]}), "
            "so its figures cannot be made again from it"
        )


def _other_conditions(record: dict[str, Any], precision: str) -> list[str]:
    """What is not as it was when the record was made, a line each."""
    lines: list[str] = []
    revision = code_revision()
    if record["revision"] != revision:
        lines.append(
            f"the record was made by revision {_short(record['revision'])} of the code, here it is {_short(revision)}: "
            "the figures may differ a little"
        )
    here = versions()
    others = [
        f"{name} {then}, here {here.get(name)}" for name, then in record["versions"].items() if here.get(name) != then
    ]
    if others:
        lines.append(f"the record was made with {'; '.join(others)}")
    then = record.get("precision")
    if then is None:
        lines.append(f"the record does not say in which precision it was trained; here it is {precision}")
    elif then != precision:
        lines.append(f"the record was trained in {then}, here it is {precision}: the figures will differ a little")
    return lines


def _short(revision: str | None) -> str:
    return "unknown" if revision is None else revision[:10] + revision[40:]


def _spread(records: Sequence[dict[str, Any]]) -> tuple[str, dict[tuple[str, str], float]]:
    """How far a figure may be off, in words and for each protocol and metric; ``records`` are the row's, all seeds."""
    k = min(10, records[0]["corpus"]["items"])
    keys = [(protocol, f"{metric}@{k}") for protocol in PROTOCOLS for metric in STATED]
    figures = {key: [record["test"][key[0]][key[1]] for record in records] for key in keys}
    least_share = f"{LEAST_SHARE:.0%} of their mean if more"
    if len(records) < SEEDS_NEEDED:
        rule = " and ".join(f"{value} for {metric}@{k}" for metric, value in STATED.items())
        rule = f"{rule}, absolute, or {least_share}"
        rule += f", since only {len(records)} of the {SEEDS_NEEDED} seeds that it takes are recorded"
        least = {key: STATED[key[1].partition("@")[0]] for key in keys}
    else:
        rule = f"3 standard deviations over the {len(records)} recorded seeds, or {least_share}"
        least = {key: 3 * statistics.stdev(of) for key, of in figures.items()}
    return rule, {key: max(least[key], LEAST_SHARE * statistics.fmean(of)) for key, of in figures.items()}


def _place(record: dict[str, Any]) -> dict[str, Any]:
    return record["study"]


def _is_row(record: dict[str, Any], row: str) -> bool:
    return _place(record)["row"] == row
