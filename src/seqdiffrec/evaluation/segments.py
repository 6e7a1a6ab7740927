"""How good a model is for whom: short and long histories, new users, popular and rare targets, categories."""

from dataclasses import asdict, dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from seqdiffrec.data.split import Cases
from seqdiffrec.evaluation.background import Background, Categories
from seqdiffrec.evaluation.metrics import check_cutoff
from seqdiffrec.evaluation.ranking import Ranks
from seqdiffrec.evaluation.significance import Metric, Protocol, mean_interval

# A history of fewer actions is that of a new user.
NEW_USER = 5
METRICS: tuple[Metric, ...] = ("HR", "NDCG", "MRR")


@dataclass(frozen=True, eq=False)
class Segment:
    """Some of the cases.

    Attributes:
        name: what they are called.
        told: what makes them so, with numbers.
        cases: places among the cases, rising.
    """

    name: str
    told: str
    cases: NDArray[np.int64]


class SegmentFigures(TypedDict):
    """The figures of one segment; for each protocol and metric, such as HR@10: value, low, high (95 % over users)."""

    segment: str
    told: str
    users: int
    seen_kept: dict[str, dict[str, float]]
    seen_removed: dict[str, dict[str, float]]


def make_segments(cases: Cases, background: Background, categories: Categories | None = None) -> list[Segment]:
    """All cases, then the segments that have any; one case may be in several.

    Histories are cut where a third and two thirds of the cases are no longer. A target is popular where it is among the
    20 % of the items that most people took before, else rare, and new where nobody took it. With categories there is
    a segment for those of the targets, the most frequent first.
    """
    lengths, targets = cases.histories.lengths, cases.targets
    low, high = (int(bound) for bound in np.quantile(lengths, (1 / 3, 2 / 3), method="inverted_cdf"))
    cold = background.users[targets] == 0
    popular = background.head[targets] & ~cold
    parts = [
        ("all", "", np.ones(len(cases), np.bool_)),
        ("short history", f"at most {low:,} actions", lengths <= low),
        ("middle history", f"{low + 1:,} to {high:,} actions", (lengths > low) & (lengths <= high)),
        ("long history", f"more than {high:,} actions", lengths > high),
        ("new user", f"fewer than {NEW_USER} actions", lengths < NEW_USER),
        ("popular target", "of the most taken 20 %", popular),
        ("rare target", "of the other 80 %", ~popular & ~cold),
        ("new target", "taken by nobody", cold),
    ]
    found = [Segment(name, told, np.flatnonzero(rows)) for name, told, rows in parts]
    if categories is not None:
        of_targets = categories.of_items[targets].tocsc()
        by_name = [
            Segment(name, "category of the target", np.sort(of_targets.indices[begin:end]).astype(np.int64))
            for name, begin, end in zip(categories.names, of_targets.indptr[:-1], of_targets.indptr[1:], strict=True)
        ]
        found += sorted(by_name, key=lambda segment: -len(segment.cases))
    return [segment for segment in found if len(segment.cases)]


def segment_figures(ranks: Ranks, segments: list[Segment], k: int) -> list[SegmentFigures]:
    """HR, NDCG and MRR at `k` of each segment under both protocols, with 95 % intervals by a bootstrap over users.

    Raises ValueError where `k` is no cutoff.
    """
    check_cutoff(k)

    def of(segment: Segment, protocol: Protocol) -> dict[str, dict[str, float]]:
        here = getattr(ranks, protocol)[segment.cases]
        return {f"{metric}@{k}": asdict(mean_interval(here, metric, k)) for metric in METRICS}

    return [
        {
            "segment": segment.name,
            "told": segment.told,
            "users": len(segment.cases),
            "seen_kept": of(segment, "seen_kept"),
            "seen_removed": of(segment, "seen_removed"),
        }
        for segment in segments
    ]
