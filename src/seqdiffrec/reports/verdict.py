"""What a study's page says first: what came out, in words."""

import textwrap

from seqdiffrec.data.words import counted
from seqdiffrec.evaluation.significance import Comparison, mean_and_spread
from seqdiffrec.reports.outcomes import (
    TEST,
    Difference,
    Outcome,
    against_paper,
    best_of_each,
    difference,
    noise_of,
    number,
    p_value,
    signed,
    signed_number,
    title_of,
    trained_outcomes,
    validation_levels,
)
from seqdiffrec.reports.pairs import Pair
from seqdiffrec.reports.paper import METRICS, SYSTEMS
from seqdiffrec.reports.study import DEFAULT, Row, Study

# A figure this many percent below the paper's is as good as it, within what other seeds and data would move it.
NEAR = 5

# Where a control may stand beside a row.
ABOVE, LEVEL, BELOW = "Above it over seeds", "Not told apart from it over seeds", "Below it over seeds"
UNKNOWN, DIVERGED = "Not judged, since nothing says yet how far seeds move a figure", "Diverged"


def verdict(study: Study, outcomes: dict[str, list[Outcome]], pairs: dict[str, list[Pair]]) -> list[str]:
    """Of a study with a default, how its controls do beside it; of one without, how its rows do beside the paper."""
    if any(row.name == DEFAULT for row in study.rows):
        return _controls(study, outcomes, pairs)
    told = [_beside_paper(dataset, outcomes[dataset], pairs[dataset]) for dataset in outcomes]
    lines = [line for text in told if text for line in _wrap(text, hanging="  ")]
    return [*lines, ""] if lines else []


def _beside_paper(dataset: str, outcomes: list[Outcome], pairs: list[Pair]) -> str:
    """How many figures of DiffRec's column each row of it reaches, its best opponent, and how the nine others do.

    Rows of one system are chosen among by validation. Nothing where DiffRec has no record, or the paper not this data.
    """
    trained = trained_outcomes(outcomes)
    ours = [outcome for outcome in trained if outcome.system == "diffrec"]
    if not ours or not against_paper(ours[0], dataset):
        return ""
    cells = {outcome.row.title: against_paper(outcome, dataset) for outcome in ours}
    reached = ", ".join(f"{title} in {sum(one >= 0 for one in of)} of {len(of)} figures" for title, of in cells.items())
    levels = validation_levels(outcomes)
    best = best_of_each(levels, lambda outcome: outcome.system)
    diffrec = best.pop("diffrec")
    parts = [f"- **{title_of(dataset)}.** At or above DiffRec's column of the paper: {reached}."]
    nine = [system for system in SYSTEMS if system in best]
    if best:
        first = max(best.values(), key=levels.__getitem__)
        parts.append(_best_opponent("The best of all others", diffrec, first, pairs))
        if nine and first.system not in nine:
            of_nine = max((best[system] for system in nine), key=levels.__getitem__)
            parts.append(_best_opponent("The best of the nine systems", diffrec, of_nine, pairs))
    rows = [(outcome, _missed(outcome, dataset)) for outcome in trained if outcome.system in nine]
    low = [outcome for outcome, missed in rows if missed]
    parts.append(
        f"Recorded: {len(nine)} of the nine systems. Rows with a figure more than {NEAR} % below their system's "
        f"column: {', '.join(missed for _, missed in rows if missed) or 'none'}."
    )
    if low:
        of_best = ", ".join(best[system].row.title for system in nine if best[system] in low) or "none"
        parts.append(f"Of these, rows whose system has no row with a better validation figure: {of_best}.")
    return " ".join(parts)


def _best_opponent(kind: str, diffrec: Outcome, other: Outcome, pairs: list[Pair]) -> str:
    said = f"{kind} by validation is {other.row.title}"
    for pair in pairs:
        if pair.outcome is diffrec and pair.other is other:
            found = pair.comparison
            apart = f"{signed_number(found.difference)} in test NDCG@10, p {_equals(found.p_value)} over users"
            return f"{said}; {diffrec.row.title} beside it: {apart}, {counted(len(pair.seeds), 'seed')}."
    return f"{said}, NDCG@10 {number(_test(other))} in the test; {diffrec.row.title} has {number(_test(diffrec))}."


def _equals(value: float) -> str:
    said = p_value(value)
    return said if said.startswith("≤") else f"= {said}"


def _test(outcome: Outcome) -> float:
    return mean_and_spread(outcome.values(TEST))[0]


def _missed(outcome: Outcome, dataset: str) -> str:
    """The row's title, and how many figures are how far below; nothing where none is far below."""
    far = [percent for percent in against_paper(outcome, dataset) if percent < -NEAR]
    return f"{outcome.row.title} ({len(far)} of {len(METRICS)}, at most {signed(min(far))} %)" if far else ""


def _controls(study: Study, outcomes: dict[str, list[Outcome]], pairs: dict[str, list[Pair]]) -> list[str]:
    """Where each control stands beside each row that they are held against; nothing without controls."""
    rows = [row for row in study.rows if row.name in study.controls_beside]
    told = [_controls_beside(row, study, outcomes, pairs) for row in rows]
    parts = [text for text in told if text]
    if not parts:
        return []
    parts.append(
        "In percent of that row's test NDCG@10, all items ranked, and from where to where it goes for 95 % over seeds, "
        "by which rows are sorted here; p, where there is one, is that of the test over users below, which may say "
        "otherwise."
    )
    return [line for text in parts for line in (*_wrap(text), "")]


def _controls_beside(other: Row, study: Study, outcomes: dict[str, list[Outcome]], pairs: dict[str, list[Pair]]) -> str:
    """Where each control stands beside another row, by test NDCG@10, all items ranked."""
    said: dict[str, dict[str, list[str]]] = {kind: {} for kind in (ABOVE, LEVEL, BELOW, UNKNOWN, DIVERGED)}
    lows: list[float] = []
    for dataset, found in outcomes.items():
        rows = [outcome for outcome in found if isinstance(outcome.row, Row)]
        base = next((outcome for outcome in rows if outcome.row.name == other.name and outcome.records), None)
        noise = noise_of(TEST, rows, next((outcome for outcome in rows if outcome.row.name == DEFAULT), None))
        for outcome in rows:
            if base is not None and outcome.paths and outcome.row.name in study.controls:
                apart = difference(outcome, base, TEST, noise)
                figure = _figure(apart, _test_over_users(outcome, base, pairs[dataset]))
                place = said[_kind(outcome, apart)].setdefault(outcome.row.title, [])
                place.append(f"{title_of(dataset)} {figure}".rstrip())
                lows += [] if apart is None or apart.low is None else [apart.low]
    parts = [
        f"{kind}: {listed}."
        for kind, rows in said.items()
        if (listed := "; ".join(f"{title} ({', '.join(figures)})" for title, figures in rows.items()))
    ]
    if not parts:
        return ""
    head = f'**Beside "{other.title}"'
    if any(said[kind] for kind in (BELOW, UNKNOWN, DIVERGED)):
        return " ".join([f"{head}.**", *parts])
    count = counted(len(said[ABOVE] | said[LEVEL]), "control")
    none = f"none of {count} is below it over seeds; no interval reaches below {signed(min(lows))} %"
    return " ".join([f"{head}: {none}.**", *parts])


def _kind(outcome: Outcome, apart: Difference | None) -> str:
    if not outcome.records:
        return DIVERGED
    if apart is not None and apart.is_far_below:
        return BELOW
    if apart is None or apart.low is None:
        return UNKNOWN
    if not apart.is_clear:
        return LEVEL
    return ABOVE if apart.percent > 0 else BELOW


def _figure(apart: Difference | None, over_users: Comparison | None) -> str:
    if apart is None:
        return ""
    known = "" if apart.low is None or apart.high is None else f", {signed(apart.low)} to {signed(apart.high)}"
    tested = "" if over_users is None else f", p {_equals(over_users.p_value)}"
    return f"{signed(apart.percent)} %{known}{tested}"


def _test_over_users(outcome: Outcome, other: Outcome, pairs: list[Pair]) -> Comparison | None:
    both = {outcome.row.name, other.row.name}
    return next((pair.comparison for pair in pairs if {pair.outcome.row.name, pair.other.row.name} == both), None)


def _wrap(text: str, hanging: str = "") -> list[str]:
    return textwrap.wrap(text, 120, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False)
