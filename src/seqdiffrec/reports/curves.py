"""Pictures in files of their own: the course of training, and reliability curves."""

import io
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from seqdiffrec.data.storage import replace_file
from seqdiffrec.evaluation.calibration import Calibration
from seqdiffrec.models.settings import SettingError
from seqdiffrec.reports.record import course


def check_picture(path: Path) -> None:
    """Raise SettingError where no picture can be drawn there, before the work rather than after it."""
    if path.suffix not in (".svg", ".png"):
        raise SettingError(f"{path}: a picture's name must end in .svg or .png")
    if not path.parent.is_dir():
        raise SettingError(f"{path} cannot be written: the folder {path.parent} does not exist; make it first")
    if find_spec("matplotlib") is None:
        raise SettingError("pictures need matplotlib: pip install 'seqdiffrec[plots]'")


def draw_curves(records: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw validation NDCG@10 (all items ranked) of each epoch, a line a record, to an .svg or .png file.

    Raises SettingError as `check_picture` does.
    """
    with _picture(path, (7, 3.6)) as axes:
        for name, record in records.items():
            epochs, values, best = course(record)
            (line,) = axes.plot(epochs, values, marker=".", label=name)
            ring = {"marker": "o", "fillstyle": "none", "markersize": 10, "color": line.get_color()}
            axes.plot([epochs[best]], [values[best]], **ring)
        axes.set(xlabel="epoch", ylabel="validation NDCG@10", ylim=(0, None))
        axes.legend()


def draw_reliability(found: Sequence[Calibration], k: int, path: Path) -> None:
    """Draw how often predictions of the first k came true against how probable they were said to be.

    A line for each temperature, with 95 % intervals. Raises SettingError as `check_picture` does.
    """
    with _picture(path, (5, 4.5)) as axes:
        for one in found:
            bins = one.top_k.bins
            said, came = [part.said for part in bins], [part.came for part in bins]
            bars = [[part.came - part.low for part in bins], [part.high - part.came for part in bins]]
            name = "the model's own" if one.temperature == 1 else f"temperature {one.temperature:.3f}"
            label = f"{name}: error {one.top_k.error:.4f}"
            axes.errorbar(said, came, yerr=bars, marker=".", capsize=2, linewidth=1, label=label)
        most = max(max(part.said, part.high) for one in found for part in one.top_k.bins)
        axes.plot([0, most], [0, most], color="black", linewidth=0.8, linestyle="--", label="as often as said")
        axes.set(xlabel=f"probability of the first {k}, in ten equal parts", ylabel="share that was the target")
        axes.legend()


@contextmanager
def _picture(path: Path, size: tuple[float, float]) -> Generator[Any]:
    """Axes to draw on, written to the file at the end; the same content gives the same SVG file."""
    check_picture(path)
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "seqdiffrec"}):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        yield axes
        axes.grid(alpha=0.3)
        content = io.BytesIO()
        figure.savefig(content, format=path.suffix[1:], metadata={"Date": None} if path.suffix == ".svg" else {})
    replace_file(path, content.getvalue())
