"""The plots of docs/benchmarks.md, each known by a fingerprint of what it shows.

As in the studies' reports: two versions of matplotlib write different files for the same plot, so whether a plot is up
to date is asked of its fingerprint, which stands in the file, and asking does not need matplotlib.
"""

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from typing import Any

from seqdiffrec.models.settings import SettingError

_LOOKS = 1  # raised when the drawing changes, so that all plots are drawn again

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One pair of axes: lines by name over a logarithmic axis, or a bar a name with its least and greatest value.

    level: a height to mark.
    """

    x_label: str
    y_label: str = ""
    lines: dict[str, Points] | None = None
    bars: dict[str, tuple[float, float, float]] | None = None
    log_y: bool = True
    level: float | None = None


@dataclass(frozen=True)
class Plot:
    """Panels side by side. name: the file's, without ``.svg``. alt: what it shows, for those who do not see it."""

    name: str
    alt: str
    panels: list[Panel]

    def fingerprint(self) -> str:
        """The SHA-256 of all that the plot shows."""
        content = json.dumps([_LOOKS, asdict(self)], ensure_ascii=False)
        return f"seqdiffrec:{hashlib.sha256(content.encode()).hexdigest()}"


def draw(plot: Plot) -> bytes:
    """The plot as SVG. Raises SettingError where matplotlib, the extra ``plots``, is not installed."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingError("plots need matplotlib: pip install 'seqdiffrec[plots]'") from error
    bars = max(len(panel.bars or {}) for panel in plot.panels)
    with mpl.rc_context({"svg.hashsalt": "seqdiffrec"}):  # the same plot gives the same file
        figure = Figure(figsize=(9.0, 1.2 + 0.32 * bars if bars else 3.8), layout="constrained")
        for axes, panel in zip(figure.subplots(1, len(plot.panels), squeeze=False)[0], plot.panels, strict=True):
            if panel.bars is not None:
                _draw_bars(axes, panel.bars)
            if panel.lines is not None:
                _draw_lines(axes, panel)
            axes.set(xlabel=panel.x_label, ylabel=panel.y_label)
            axes.grid(alpha=0.3)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, fontsize="small", loc="outside upper left", ncols=3, frameon=False)
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Description": plot.fingerprint()})
    return content.getvalue()


def _draw_lines(axes: Any, panel: Panel) -> None:
    """A colour a line, the same in all panels that have the same lines."""
    assert panel.lines is not None
    for place, (name, points) in enumerate(panel.lines.items()):
        xs, ys = [x for x, _ in points], [y for _, y in points]
        axes.plot(xs, ys, color=f"C{place}", linewidth=1.2, marker=".", markersize=5, label=name)
    axes.set_xscale("log")
    if panel.log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, None)
    if panel.level is not None:
        axes.axhline(panel.level, color="black", linewidth=0.8, linestyle="--")


def _draw_bars(axes: Any, bars: dict[str, tuple[float, float, float]]) -> None:
    """The first on top; a thin line from the least to the greatest."""
    middle = [value for value, _, _ in bars.values()]
    off = [[value - least for value, least, _ in bars.values()], [most - value for value, _, most in bars.values()]]
    axes.barh(range(len(bars)), middle, xerr=off, color="C0", error_kw={"linewidth": 0.8, "capsize": 2})
    axes.set_yticks(range(len(bars)), list(bars))
    axes.invert_yaxis()
    axes.set_xscale("log")
