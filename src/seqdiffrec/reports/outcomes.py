"""What became of a study's rows: the records of each row on one dataset, and how far rows stand apart."""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from seqdiffrec.data.storage import read_json
from seqdiffrec.evaluation.significance import SeedNoise, mean_and_spread, row_levels, seed_noise
from seqdiffrec.models import MODELS
from seqdiffrec.models.settings import SettingError
from seqdiffrec.reports.paper import METRICS, table2
from seqdiffrec.reports.record import read_record
from seqdiffrec.reports.study import InferenceRow, Row, Study

_TITLES = {"ml-100k": "MovieLens 100K", "ml-1m": "MovieLens 1M", "beauty": "Amazon Beauty", "toys": "Amazon Toys"}
K = TypeVar("K", bound=Hashable)
# A row that stands lower than this share of the default is far below it. Seeds move it by far more, in percent, than
# the rows that are worth comparing, so it says nothing about how far they move these.
NEAR_DEFAULT = 0.8
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
        """The figure of each recorded seed, in their order; as `by_seed`."""
        return list(self.by_seed(measure).values())

    def by_seed(self, measure: Measure) -> dict[int, float]:
        """The figure of each recorded seed. Raises SettingError where a record has no such figure."""
        try:
            return {seed: one[measure.part][measure.protocol][measure.metric] for seed, one in self.records.items()}
        except (KeyError, TypeError) as error:
            at = " and ".join(str(self.paths[seed]) for seed in self.records)
            raise SettingError(f"{at}: no {measure.metric} of {measure.part}, {measure.protocol}") from error

    @property
    def system(self) -> str:
        """The name of the model that it counts as: what its row says, or that of its records, which all have one."""
        said = self.row.system if isinstance(self.row, Row) else None
        return said or str(next(iter(self.records.values()))["settings"]["model"])

    def kind(self) -> tuple[str, str]:
        """Its system, and the model's name to read."""
        return self.system, model_name(next(iter(self.records.values())))


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


def validation_levels(outcomes: Iterable[Outcome]) -> dict[Outcome, float]:
    """What rows are chosen by, of each that was trained: its validation, as if all rows had all seeds.

    A seed moves all rows alike, so a mean over fewer seeds is no fair match for one over all.
    """
    trained = trained_outcomes(outcomes)
    levels = row_levels([outcome.by_seed(VALIDATION) for outcome in trained]) if trained else ()
    return dict(zip(trained, map(float, levels), strict=True))


def best_of_each(levels: Mapping[Outcome, float], key: Callable[[Outcome], K]) -> dict[K, Outcome]:
    """Of those with the same key the one with the highest level, by key; of equal ones the first."""
    best: dict[K, Outcome] = {}
    for outcome, level in levels.items():
        of = key(outcome)
        if of not in best or level > levels[best[of]]:
            best[of] = outcome
    return best


@dataclass(frozen=True)
class Difference:
    """How far one row stands above another within the seeds that both have, in percent of the other.

    low, high: its 95 % interval over seeds; None where nothing tells how far seeds move a figure, and far below.
    is_far_below: whether the row is so far below the other that no interval is asked for.
    """

    percent: float
    low: float | None = None
    high: float | None = None
    is_far_below: bool = False

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0, or the row is far below; not where nothing is known."""
        return self.is_far_below or (self.low is not None and self.high is not None and not self.low <= 0 <= self.high)

    def __str__(self) -> str:
        if self.is_far_below:
            text = f"{signed(self.percent)} %"
        elif self.low is None or self.high is None:
            text = f"{signed(self.percent)} % (spread unknown)"
        else:
            text = f"{signed(self.percent)} % ({signed(self.low)} to {signed(self.high)})"
        return f"**{text}**" if self.is_clear else text


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign; 0 has none, also where it is only rounded to it."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def number(value: float) -> str:
    """A metric with four digits, and no 0 before the point."""
    return f"{value:.4f}".removeprefix("0")


def p_value(value: float) -> str:
    """As `number`; at the least that 10,000 resamples can say it is a bound."""
    return f"≤ {number(value)}" if value * 10_001 < 1.5 else number(value)


def signed_number(value: float) -> str:
    """A difference between metrics with its sign: five digits, so that the end of an interval is seldom all zeros."""
    return signed(value, 5).replace("0.", ".", 1)


def against_paper(outcome: Outcome, dataset: str, protocol: str = "seen_kept") -> list[float]:
    """By how many percent the mean of each of the paper's metrics stands above its column, under a protocol.

    Empty where the paper has none, or a record is not of the whole log under the paper's split.
    """
    paper = table2(outcome.system, dataset)
    if paper is None or not all(_is_as_in_paper(record.get("data") or {}) for record in outcome.records.values()):
        return []
    means = {metric: mean_and_spread(outcome.values(Measure("test", protocol, metric)))[0] for metric in METRICS}
    return [100 * (means[metric] / paper[metric] - 1) for metric in METRICS]


def _is_as_in_paper(data: dict[str, Any]) -> bool:
    return data.get("user_share", 1) == 1 and data.get("split") is None and data.get("test_time") is None


def noise_of(measure: Measure, trained: Sequence[Outcome], default: Outcome | None) -> SeedNoise | None:
    """How far seeds move a figure of this study, by the rows that are not far below the default."""
    if default is None or not default.records:
        return None
    enough = NEAR_DEFAULT * mean_and_spread(default.values(measure))[0]
    figures = [outcome.by_seed(measure) for outcome in trained if outcome.records]
    return seed_noise([of for of in figures if min(of.values()) > 0 and mean_and_spread([*of.values()])[0] >= enough])


def difference(outcome: Outcome, other: Outcome, measure: Measure, noise: SeedNoise | None) -> Difference | None:
    """How far `outcome` stands above `other`; None where they share no seed that has a figure, or `other` has 0."""
    ours, theirs = outcome.by_seed(measure), other.by_seed(measure)
    seeds = ours.keys() & theirs.keys()
    base = math.fsum(theirs[seed] for seed in seeds)
    if not base:
        return None
    ratio = math.fsum(ours[seed] for seed in seeds) / base
    if noise is None:
        return Difference(100 * (ratio - 1))
    if ratio < NEAR_DEFAULT:
        return Difference(100 * (ratio - 1), is_far_below=True)
    factor = math.exp(noise.half_width(len(seeds)))
    return Difference(100 * (ratio - 1), 100 * (ratio / factor - 1), 100 * (ratio * factor - 1))


def load_outcomes(study: Study, results: Path, dataset: str) -> list[Outcome]:
    """What became of the rows and then of the inference rows that `dataset` has.

    Raises SettingError or DataError for a file that is no record of that row, or where two records have different data.
    """
    trained = [row for row in study.rows if dataset in row.datasets]
    outcomes = [_load(study, results, dataset, row, row.seeds) for row in trained]
    for row in study.inference:
        outcomes += [_load(study, results, dataset, row, of.seeds) for of in trained if of.name == row.of]
    for outcome in outcomes:
        _check_same_run(outcome, outcomes)
    seen: dict[str, Path] = {}
    for outcome in outcomes:
        for seed, record in outcome.records.items():
            seen.setdefault(record["corpus"]["content_hash"], outcome.paths[seed])
    if len(seen) > 1:
        one, other = list(seen.values())[:2]
        raise SettingError(f"{one} and {other} were not run on the same data: their corpus hashes differ")
    return outcomes


def _check_same_run(outcome: Outcome, outcomes: list[Outcome]) -> None:
    """Raise SettingError where an inference row's figures are of other weights than its base's."""
    if not isinstance(outcome.row, InferenceRow):
        return
    base = next(one for one in outcomes if one.row.name == outcome.row.of)
    for seed, record in outcome.records.items():
        if seed not in base.records or record["curve"] != base.records[seed]["curve"]:
            raise SettingError(
                f"{outcome.paths[seed]} was not ranked with the weights of {base.row.name}, seed {seed}: its curve is "
                "another; remove both records to make them anew from one run"
            )


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
