"""The plots of a study's page, each known by a fingerprint of what it shows.

Two versions of matplotlib write different files for the same plot. So whether a plot is up to date is asked of its
fingerprint, which stands in the SVG file, and not of the file's bytes; and asking does not need matplotlib.
"""

import hashlib
import io
import json
import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from seqdiffrec.models.settings import SettingError
from seqdiffrec.reports.outcomes import TEST, VALIDATION, Difference, Outcome, difference, noise_of, validation_levels
from seqdiffrec.reports.record import course
from seqdiffrec.reports.study import DEFAULT, Row

_MOST_LINES = 8
_LONGEST = 90  # letters of a row's title
_LINEAR = 10  # percent up to which differences are drawn in proportion, and by their logarithm beyond
_LOOKS = 3  # raised when the drawing changes, so that all plots are drawn again


Dot = tuple[float, float | None, float | None]
"""A difference in percent, and the low and the high end of its interval where that is known."""


@dataclass(frozen=True)
class Plot:
    """What a plot shows.

    Attributes:
        name: the file's name, without ``.svg``.
        alt: what it shows, for those who do not see it.
        label: of the axis of values.
        lines: for a plot by epoch: for each row the (epoch, value) of each seed.
        dots: for a plot of differences: for each row the percents of validation and test, each with its interval.
    """

    name: str
    alt: str
    label: str
    lines: dict[str, list[list[tuple[float, float]]]] | None = None
    dots: dict[str, list[Dot | None]] | None = None

    def fingerprint(self) -> str:
        """The SHA-256 of all that the plot shows."""
        content = json.dumps([_LOOKS, asdict(self)], ensure_ascii=False)
        return f"seqdiffrec:{hashlib.sha256(content.encode()).hexdigest()}"


def make_plots(outcomes: Sequence[Outcome], dataset: str) -> list[Plot]:
    """Validation by epoch and embedding norm by epoch of the main rows, and differences of all rows; those there are.

    The main rows are the default, the rows that keep ranks, and the best by validation: at most eight. Norms are those
    of the default and of the rows that end farthest from it; of the main rows where there is no default.
    """
    trained = [outcome for outcome in outcomes if isinstance(outcome.row, Row) and outcome.records]
    main = _main_rows(trained)
    labels = _labels(trained)
    names = ", ".join(labels[one] for one in main)
    curves = {labels[one]: [_curve(record) for record in one.records.values()] for one in main}
    of_norms = _norm_rows(trained) or main
    norms = {labels[one]: [_norms(record) for record in one.records.values()] for one in of_norms}
    dots = {labels[one]: row for one, row in _differences(trained).items()}
    plots: list[Plot] = []
    if main:
        alt = f"Validation NDCG@10 by epoch on {dataset}: {names}"
        plots.append(Plot(f"{dataset}-curves", alt, "validation NDCG@10", lines=curves))
    if dots:
        alt = f"NDCG@10 on {dataset} against the default, in percent: {', '.join(dots)}"
        label = "NDCG@10 against the default, % (bars: 95 % over seeds)"
        plots.append(Plot(f"{dataset}-differences", alt, label, dots=dots))
    if any(line for lines in norms.values() for line in lines):
        alt = f"Mean norm of the item embeddings by epoch on {dataset}: {', '.join(norms)}"
        plots.append(Plot(f"{dataset}-norms", alt, "mean norm of the item embeddings", lines=norms))
    return plots


def draw(plot: Plot) -> bytes:
    """The plot as SVG. Raises SettingError where matplotlib, the extra ``plots``, is not installed."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingError("a study's plots need matplotlib: pip install 'seqdiffrec[plots]'") from error
    height = 3.2 + 0.25 * len(plot.lines or ()) if plot.dots is None else 1.4 + 0.3 * len(plot.dots)
    with mpl.rc_context({"svg.hashsalt": "seqdiffrec"}):  # the same plot gives the same file
        figure = Figure(figsize=(7.5, height), layout="constrained")
        axes: Any = figure.subplots()
        if plot.lines is not None:
            _draw_lines(axes, plot.lines)
            axes.set(xlabel="epoch", ylabel=plot.label, ylim=(0, None))
            axes.xaxis.get_major_locator().set_params(integer=True)
        if plot.dots is not None:
            _draw_dots(axes, plot.dots)
            axes.set(xlabel=plot.label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Description": plot.fingerprint()})
    return content.getvalue()


def _draw_lines(axes: Any, lines: dict[str, list[list[tuple[float, float]]]]) -> None:
    """One colour a row, one line a seed."""
    for place, (title, seeds) in enumerate(lines.items()):
        for number, points in enumerate(seeds):
            epochs, values = [point[0] for point in points], [point[1] for point in points]
            label = textwrap.shorten(title, _LONGEST, placeholder=" ...") if number == 0 else "_nolegend_"
            axes.plot(epochs, values, color=f"C{place}", linewidth=1, marker=".", markersize=3, label=label)


def _draw_dots(axes: Any, dots: dict[str, list[Dot | None]]) -> None:
    """The first row on top."""
    for part, (label, marker, shift) in enumerate((("validation", "o", -0.14), ("test", "s", 0.14))):
        there = [(place + shift, *dot) for place, row in enumerate(dots.values()) if (dot := row[part]) is not None]
        values, places = [value for _, value, _, _ in there], [place for place, _, _, _ in there]
        # An interval that is not known has no bar, rather than one of length 0: NaN is not drawn.
        ends = [
            [math.nan if low is None else value - low for _, value, low, _ in there],
            [math.nan if high is None else high - value for _, value, _, high in there],
        ]
        axes.errorbar(values, places, xerr=ends, fmt=marker, markersize=4, capsize=2, linewidth=1, label=label)
    axes.axvline(0, color="black", linewidth=0.8)
    # Rows that learn next to nothing lie near -90 %; what is worth comparing lies within ten or so.
    axes.set_xscale("symlog", linthresh=_LINEAR, linscale=2)
    axes.set_xticks([-100, -30, -10, -5, 0, 5, 10, 30], ["−100", "−30", "−10", "−5", "0", "+5", "+10", "+30"])
    axes.minorticks_off()
    axes.set_yticks(range(len(dots)), [textwrap.fill(title, _LONGEST // 2) for title in dots])
    axes.set_ylim(len(dots) - 0.5, -0.5)


def _main_rows(trained: list[Outcome]) -> list[Outcome]:
    best = max(levels := validation_levels(trained), key=levels.__getitem__, default=None)
    first = [one for one in trained if one.row.name == DEFAULT]
    kept = [one for one in trained if isinstance(one.row, Row) and one.row.ranks]
    chosen = [*first, *([best] if best is not None else []), *kept]
    names = list(dict.fromkeys(one.row.name for one in chosen))[:_MOST_LINES]
    return [one for one in trained if one.row.name in names]


def _norm_rows(trained: list[Outcome]) -> list[Outcome]:
    """The default and those whose norms end farthest from its own, in their ratio; none without such a default."""
    ends = {
        one: [math.log(line[-1][1]) for line in map(_norms, one.records.values()) if line and line[-1][1] > 0]
        for one in trained
    }
    means = {one: math.fsum(of) / len(of) for one, of in ends.items() if of}
    default = next((one for one in means if one.row.name == DEFAULT), None)
    if default is None:
        return []
    farthest = sorted(means, key=lambda one: abs(means[one] - means[default]), reverse=True)
    kept = {default, *farthest[: _MOST_LINES - 1]}
    return [one for one in trained if one in kept]


def _labels(trained: list[Outcome]) -> dict[Outcome, str]:
    """Titles; where two rows share one, with their names, which they never share."""
    titles = [one.row.title for one in trained]
    return {
        one: one.row.title if titles.count(one.row.title) == 1 else f"{one.row.title} ({one.row.name})"
        for one in trained
    }


def _curve(record: dict[str, Any]) -> list[tuple[float, float]]:
    epochs, values, _ = course(record)
    return list(zip(epochs, values, strict=True))


def _norms(record: dict[str, Any]) -> list[tuple[float, float]]:
    return [(row["epoch"], row["embedding_norm"]) for row in record["curve"] if row.get("embedding_norm") is not None]


def _differences(trained: list[Outcome]) -> dict[Outcome, list[Dot | None]]:
    default = next((one for one in trained if one.row.name == DEFAULT), None)
    if default is None:
        return {}
    noises = {measure: noise_of(measure, trained, default) for measure in (VALIDATION, TEST)}
    return {
        one: [_dot(difference(one, default, measure, noise)) for measure, noise in noises.items()]
        for one in trained
        if one is not default
    }


def _dot(found: Difference | None) -> Dot | None:
    return None if found is None else (found.percent, found.low, found.high)
