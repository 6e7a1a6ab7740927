"""Which rows of a study are compared user by user, and what comes of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seqdiffrec.evaluation.significance import Comparison, paired_bootstrap, paired_ranks
from seqdiffrec.reports.outcomes import Outcome, best_of_each, validation_levels
from seqdiffrec.reports.paper import SYSTEMS
from seqdiffrec.reports.study import DEFAULT, Row


@dataclass(frozen=True, eq=False)
class Pair:
    """Two rows over the same users, by test NDCG@10, all items ranked.

    seeds: those whose ranks both rows have; each user's figure is the mean over them.
    """

    outcome: Outcome
    other: Outcome
    seeds: tuple[int, ...]
    comparison: Comparison


def compare_pairs(outcomes: Sequence[Outcome]) -> list[Pair]:
    """Each row that has ranks against the default, SASRec, what it names, and the best by validation.

    Of these there are two: the best of the paper's nine systems that DiffRec is compared with, and of all without it.

    Empty where no two rows have ranks of the same seed.
    """
    ranked = [outcome for outcome in outcomes if outcome.ranks]
    opponents = [outcome for outcome in ranked if outcome.row.name == DEFAULT]
    opponents += [outcome for outcome in ranked if outcome.system == "sasrec"][:1]
    others = [outcome for outcome in ranked if outcome.system != "diffrec"]
    levels = {outcome: level for outcome, level in validation_levels(outcomes).items() if outcome in others}
    opponents += best_of_each(levels, lambda _: "all").values()
    opponents += best_of_each({one: levels[one] for one in levels if one.system in SYSTEMS}, lambda _: "nine").values()
    pairs: dict[frozenset[str], Pair] = {}
    for outcome in ranked:
        named = outcome.row.against if isinstance(outcome.row, Row) else ()
        for other in (*opponents, *(one for one in ranked if one.row.name in named)):
            seeds = tuple(seed for seed in outcome.ranks if seed in other.ranks)
            names = frozenset((outcome.row.name, other.row.name))
            if len(names) == 2 and names not in pairs and seeds:
                pairs[names] = Pair(outcome, other, seeds, _compare(outcome, other, seeds))
    return list(pairs.values())


def _compare(outcome: Outcome, other: Outcome, seeds: tuple[int, ...]) -> Comparison:
    ranks = [paired_ranks(outcome.ranks[seed], other.ranks[seed]) for seed in seeds]
    ours, theirs = (np.stack([pair[place] for pair in ranks]) for place in (0, 1))
    return paired_bootstrap(ours, theirs, "NDCG", 10)
