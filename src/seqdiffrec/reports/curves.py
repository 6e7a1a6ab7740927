"""The course of training, drawn from records."""

import io
from pathlib import Path
from typing import Any

from seqdiffrec.data.storage import replace_file
from seqdiffrec.models.settings import SettingError
from seqdiffrec.reports.record import course


def draw_curves(records: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw validation NDCG@10 (all items ranked) of each epoch, a line a record, to an .svg or .png file.

    Raises SettingError where matplotlib, the extra ``plots``, is not installed, or for another ending.
    """
    if path.suffix not in (".svg", ".png"):
        raise SettingError(f"{path}: a picture's name must end in .svg or .png")
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingError("pictures need matplotlib: pip install 'seqdiffrec[plots]'") from error
    mpl.rcParams["svg.hashsalt"] = "seqdiffrec"  # the same records give the same file
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, record in records.items():
        epochs, values, best = course(record)
        (line,) = axes.plot(epochs, values, marker=".", label=name)
        axes.plot([epochs[best]], [values[best]], marker="o", fillstyle="none", markersize=10, color=line.get_color())
    axes.set(xlabel="epoch", ylabel="validation NDCG@10", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix[1:], metadata={"Date": None} if path.suffix == ".svg" else {})
    replace_file(path, content.getvalue())
