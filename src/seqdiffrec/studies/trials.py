"""The trials of a search as plain rows, the best of them, and a picture of its course."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from seqdiffrec.data.storage import replace_file
from seqdiffrec.models.settings import SettingError

if TYPE_CHECKING:
    from optuna import Study


class TrialRow(TypedDict):
    """One trial.

    trial: its number, from 1. state: complete, pruned or fail. value: the best validation NDCG@10 where it is
    complete, that of the last epoch where it was pruned. epochs: how many it was trained. failed: why it failed.
    """

    trial: int
    state: str
    value: float | None
    epochs: int
    seconds: float
    settings: dict[str, Any]
    failed: str | None


def trial_rows(study: "Study") -> list[TrialRow]:
    """All trials that have ended, in order."""
    return [
        TrialRow(
            trial=trial.number + 1,
            state=trial.state.name.lower(),
            value=trial.value,
            epochs=len(trial.intermediate_values),
            seconds=trial.user_attrs.get("seconds", 0.0),
            settings=dict(trial.params),
            failed=trial.user_attrs.get("failed"),
        )
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished()
    ]


def best_of(rows: list[TrialRow], out: Path) -> TrialRow:
    """The complete trial with the highest value, the first of equals. Raises SettingError where none is complete."""
    complete = [row for row in rows if row["state"] == "complete"]
    if not complete:
        failed = [row["failed"] for row in rows if row["failed"] is not None]
        why = f"the first to fail said: {failed[0]}" if failed else "give it more trials or minutes"
        raise SettingError(f"no trial of the search in {out} has come to an end; {why}")
    return max(complete, key=_value)


def draw_trials(rows: list[TrialRow], path: Path) -> None:
    """Draw each trial's value, pruned ones hollow, and the best so far, to an .svg file."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "seqdiffrec"  # the same trials give the same file
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    complete = [row for row in rows if row["state"] == "complete"]
    pruned = [row for row in rows if row["state"] == "pruned" and row["value"] is not None]
    axes.plot(*_points(complete), "o", label="complete")
    axes.plot(*_points(pruned), "o", fillstyle="none", color="0.5", label="pruned: its last epoch")
    axes.step(*_running_best(complete, len(rows)), where="post", label="best so far")
    axes.set(xlabel="trial", ylabel="validation NDCG@10", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    replace_file(path, content.getvalue())


def _points(rows: list[TrialRow]) -> tuple[list[int], list[float]]:
    return [row["trial"] for row in rows], [_value(row) for row in rows]


def _running_best(complete: list[TrialRow], last: int) -> tuple[list[int], list[float]]:
    """The best value so far at each complete trial, and on to the last trial."""
    places, values = _points(complete)
    best = [max(values[: number + 1]) for number in range(len(values))]
    return [*places, last], [*best, best[-1]]


def _value(row: TrialRow) -> float:
    assert row["value"] is not None
    return row["value"]
