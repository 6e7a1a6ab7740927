"""What became of a study's rows: the records of each row on one dataset, and how far rows stand apart."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from seqdiffrec.data.storage import read_json
from seqdiffrec.evaluation.significance import mean_and_spread, pooled_spread
from seqdiffrec.models import MODELS
from seqdiffrec.models.settings import SettingError
from seqdiffrec.reports.paper import METRICS, table2
from seqdiffrec.reports.record import read_record
from seqdiffrec.reports.study import InferenceRow, Row, Study

_TITLES = {"ml-100k": "MovieLens 100K", "ml-1m": "MovieLens 1M", "beauty": "Amazon Beauty", "toys": "Amazon Toys"}
_NEEDED = ("settings", "corpus", "machine", "revision", "training_seconds", "seeds_averaged", "validation", "test")


class Measure(NamedTuple):
    """Where a figure stands in a record, such as test, seen_kept, NDCG@10."""

    part: str
    protocol: str
    metric: str


VALIDATION = Measure("validation", "seen_kept", "NDCG@10")
TEST = Measure("test", "seen_kept", "NDCG@10")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one row on one dataset.

    Attributes:
        row: the row of the study.
        seeds: those that the study asks for.
        paths: where the record of each seed stands that has one, also of a run that diverged.
        records: of the runs that have figures, by seed.
        ranks: the files of ranks that are there, by seed.
    """

    row: Row | InferenceRow
    seeds: tuple[int, ...]
    paths: dict[int, Path]
    records: dict[int, dict[str, Any]]
    ranks: dict[int, Path]

    def values(self, measure: Measure) -> list[float]:
        """The figure of each recorded seed. Raises SettingError where a record has no such figure."""
        try:
            return [record[measure.part][measure.protocol][measure.metric] for record in self.records.values()]
        except (KeyError, TypeError) as error:
            at = " and ".join(str(self.paths[seed]) for seed in self.records)
            raise SettingError(f"{at}: no {measure.metric} of {measure.part}, {measure.protocol}") from error

    def kind(self) -> tuple[str, str]:
        """The model's name in settings, and the one to read; of the records, which all have the same."""
        record = next(iter(self.records.values()))
        return str(record["settings"]["model"]), model_name(record)


def model_name(record: dict[str, Any]) -> str:
    """The model's name to read, with the attention pattern of DiffRec."""
    name = str(record["settings"]["model"])
    attention = record["settings"]["model_settings"].get("attention")
    shown = MODELS[name].__name__ if name in MODELS else name
    return shown + (f", {attention.replace('_', ' ')}" if attention else "")


def title_of(dataset: str) -> str:
    """The name of a dataset to read."""
    return _TITLES.get(dataset, dataset)


def trained_outcomes(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Those of rows that were trained and have figures."""
    return [outcome for outcome in outcomes if isinstance(outcome.row, Row) and outcome.records]


def validated(outcome: Outcome) -> float:
    """The mean over seeds of what epochs and rows are chosen by."""
    return mean_and_spread(outcome.values(VALIDATION))[0]


@dataclass(frozen=True)
class Difference:
    """How far one row stands above another, in percent of the other.

    noise: the standard deviation that it is measured by, in percent; None where no row has two seeds.
    """

    percent: float
    noise: float | None

    @property
    def is_clear(self) -> bool:
        """Whether it is more than the spread over seeds explains; not where that is unknown."""
        return self.noise is not None and abs(self.percent) >= 2 * self.noise

    def __str__(self) -> str:
        if self.noise is None:
            return f"{signed(self.percent)} % (one seed, spread unknown)"
        return f"{signed(self.percent)} %" + ("" if self.is_clear else " (no difference)")


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign; 0 has none, also where it is only rounded to it."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def number(value: float) -> str:
    """A metric with four digits, and no 0 before the point."""
    return f"{value:.4f}".removeprefix("0")


def signed_number(value: float) -> str:
    """A difference between metrics, as `number`, with its sign."""
    return signed(value, 4).replace("0.", ".", 1)


def against_paper(outcome: Outcome, dataset: str) -> list[float]:
    """By how many percent the mean of each of the paper's metrics stands above its column; empty where it has none."""
    paper = table2(outcome.kind()[0], dataset)
    if paper is None:
        return []
    means = {metric: mean_and_spread(outcome.values(Measure("test", "seen_kept", metric)))[0] for metric in METRICS}
    return [100 * (means[metric] / paper[metric] - 1) for metric in METRICS]


def difference(outcome: Outcome, other: Outcome, measure: Measure, everything: list[Outcome]) -> Difference | None:
    """How far `outcome` stands above `other`; None where either has no figure, or `other` has 0.

    The noise is that of the two rows, the root of their mean variance over seeds, where both have two seeds or more;
    else that of `everything`, pooled over the rows that have.
    """
    ours, theirs = outcome.values(measure), other.values(measure)
    if not ours or not theirs or not any(theirs):
        return None
    (mean, spread), (base, base_spread) = mean_and_spread(ours), mean_and_spread(theirs)
    if spread is not None and base_spread is not None:
        noise = math.sqrt((spread**2 + base_spread**2) / 2)
    else:
        noise = pooled_spread([one.values(measure) for one in everything])
    return Difference(100 * (mean / base - 1), None if noise is None else 100 * noise / base)


def load_outcomes(study: Study, results: Path, dataset: str) -> list[Outcome]:
    """What became of the rows and then of the inference rows that `dataset` has.

    Raises SettingError or DataError for a file that is no record of that row, or where two records have different data.
    """
    trained = [row for row in study.rows if dataset in row.datasets]
    outcomes = [_load(study, results, dataset, row, row.seeds) for row in trained]
    for row in study.inference:
        outcomes += [_load(study, results, dataset, row, of.seeds) for of in trained if of.name == row.of]
    seen: dict[str, Path] = {}
    for outcome in outcomes:
        for seed, record in outcome.records.items():
            seen.setdefault(record["corpus"]["content_hash"], outcome.paths[seed])
    if len(seen) > 1:
        one, other = list(seen.values())[:2]
        raise SettingError(f"{one} and {other} were not run on the same data: their corpus hashes differ")
    return outcomes


def _load(study: Study, results: Path, dataset: str, row: Row | InferenceRow, seeds: tuple[int, ...]) -> Outcome:
    paths: dict[int, Path] = {}
    records: dict[int, dict[str, Any]] = {}
    ranks: dict[int, Path] = {}
    for seed in seeds:
        path = study.record_path(results, dataset, row.name, seed)
        if not path.exists():
            continue
        paths[seed] = path
        record = read_json(path)
        expected = {"name": study.name, "row": row.name, "seed": seed, "dataset": dataset}
        if record.get("study") != expected:
            raise SettingError(f"{path} says that it is of {record.get('study')}, but stands where {expected} belongs")
        if "failed" in record:
            continue
        records[seed] = _complete(read_record(path), path)
        ranks_path = study.ranks_path(results, dataset, row.name, seed)
        if ranks_path.exists():
            ranks[seed] = ranks_path
    return Outcome(row, seeds, paths, records, ranks)


def _complete(record: dict[str, Any], path: Path) -> dict[str, Any]:
    missing = [key for key in _NEEDED if key not in record]
    if missing:
        raise SettingError(f"{path} has no {', '.join(missing)}, so it is not a whole record; make it again")
    return record
