"""What a study's page says first: what came out, in words."""

import textwrap

from seqdiffrec.data.words import counted
from seqdiffrec.reports.outcomes import (
    TEST,
    Outcome,
    against_paper,
    difference,
    number,
    signed,
    signed_number,
    title_of,
    trained_outcomes,
    validated,
)
from seqdiffrec.reports.pairs import Pair
from seqdiffrec.reports.paper import METRICS, SYSTEMS
from seqdiffrec.reports.study import DEFAULT, Row, Study

# A figure this many percent below the paper's is as good as it, within what other seeds and data would move it.
NEAR = 5


def verdict(study: Study, outcomes: dict[str, list[Outcome]], pairs: dict[str, list[Pair]]) -> list[str]:
    """Of a study with a default, how its controls do beside it; of one without, how its rows do beside the paper."""
    if any(row.name == DEFAULT for row in study.rows):
        return _controls(study, outcomes)
    told = [_beside_paper(dataset, outcomes[dataset], pairs[dataset]) for dataset in outcomes]
    lines = [line for text in told if text for line in _wrap(text, hanging="  ")]
    return [*lines, ""] if lines else []


def _beside_paper(dataset: str, outcomes: list[Outcome], pairs: list[Pair]) -> str:
    """How many cells of the paper's DiffRec each row of it reaches, its best opponent, and how the nine others do.

    Rows of one system are chosen among by validation. Nothing where DiffRec has no record, or the paper not this data.
    """
    trained = trained_outcomes(outcomes)
    ours = [outcome for outcome in trained if outcome.kind()[0] == "diffrec"]
    if not ours or not against_paper(ours[0], dataset):
        return ""
    reached = ", ".join(
        f"{outcome.row.title} in {sum(cell >= 0 for cell in against_paper(outcome, dataset))} of {len(METRICS)} cells"
        for outcome in ours
    )
    best: dict[str, Outcome] = {}
    for outcome in trained:
        system = outcome.kind()[0]
        if system not in best or validated(outcome) > validated(best[system]):
            best[system] = outcome
    diffrec = best.pop("diffrec")
    parts = [f"- **{title_of(dataset)}.** At or above DiffRec's column of the paper: {reached}."]
    if best:
        parts.append(_best_opponent(diffrec, max(best.values(), key=validated), pairs))
    nine = [system for system in SYSTEMS if system in best]
    rows = [(outcome, _missed(outcome, dataset)) for outcome in trained if outcome.kind()[0] in nine]
    low = [outcome for outcome, missed in rows if missed]
    of_best = [best[system].row.title for system in nine if best[system] in low]
    parts.append(
        f"Recorded: {len(nine)} of the nine systems. Rows more than {NEAR} % below their system's column in a cell: "
        f"{', '.join(missed for _, missed in rows if missed) or 'none'}. Among them, the best of its system by "
        f"validation: {', '.join(of_best) or 'none'}."
    )
    return " ".join(parts)


def _best_opponent(diffrec: Outcome, other: Outcome, pairs: list[Pair]) -> str:
    said = f"The best of all others by validation is {other.row.title}"
    for pair in pairs:
        if pair.outcome is diffrec and pair.other is other:
            found = pair.comparison
            apart = f"{signed_number(found.difference)} in test NDCG@10, p = {number(found.p_value)} over users"
            return f"{said}; {diffrec.row.title} beside it: {apart}, {counted(len(pair.seeds), 'seed')}."
    return f"{said}, NDCG@10 {number(_test(other))} in the test; {diffrec.row.title} has {number(_test(diffrec))}."


def _test(outcome: Outcome) -> float:
    values = outcome.values(TEST)
    return sum(values) / len(values)


def _missed(outcome: Outcome, dataset: str) -> str:
    """The row's title, and how many cells are how far below; nothing where none is far below."""
    cells = [cell for cell in against_paper(outcome, dataset) if cell < -NEAR]
    return f"{outcome.row.title} ({len(cells)} of {len(METRICS)}, at most {signed(min(cells))} %)" if cells else ""


def _controls(study: Study, outcomes: dict[str, list[Outcome]]) -> list[str]:
    """Whether a control does as well as the default, by test NDCG@10, all items ranked; nothing without controls."""
    said: dict[str, dict[str, list[str]]] = {"**Above the default": {}, "**As good as the default": {}, "Below it": {}}
    above, as_good, below = said.values()
    spread_known = True
    for dataset, found in outcomes.items():
        trained = [outcome for outcome in found if isinstance(outcome.row, Row)]
        default = next((outcome for outcome in trained if outcome.row.name == DEFAULT), None)
        for outcome in trained:
            if default is not None and outcome.row.name in study.controls:
                apart = difference(outcome, default, TEST, trained)
                if apart is not None:
                    place = as_good if not apart.is_clear else above if apart.percent > 0 else below
                    figure = f"{title_of(dataset)} {signed(apart.percent)} %"
                    place.setdefault(outcome.row.title, []).append(figure)
                    spread_known = spread_known and apart.noise is not None
    parts: list[str] = []
    for kind, rows in said.items():
        listed = "; ".join(f"{title} ({', '.join(figures)})" for title, figures in rows.items())
        parts += [f"{kind}: {listed}.{'**' if kind.startswith('**') else ''}"] if rows else []
    if not parts:
        return []
    parts.append("In percent of the default's test NDCG@10, all items ranked.")
    if not spread_known:
        parts.append("No row has two seeds yet: the spread is unknown, and none of this is certain.")
    return [*_wrap(" ".join(parts)), ""]


def _wrap(text: str, hanging: str = "") -> list[str]:
    return textwrap.wrap(text, 120, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False)
