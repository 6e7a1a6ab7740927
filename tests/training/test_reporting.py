"""What is shown while a training runs, and what is noted about where it ran."""

import subprocess
from importlib import metadata
from pathlib import Path

import pytest

import seqdiffrec
from seqdiffrec.training import EpochRow, TerminalReporter, TrainingState
from seqdiffrec.training.provenance import code_revision, machine, versions


def row(**changes: object) -> EpochRow:
    given = {
        "epoch": 3,
        "chosen_by": "NDCG@10",
        "value": 0.1234,
        "train": {"loss": 2.5, "recommendation": 2.25, "mse": 0.25},
        "embedding_norm": 0.4321,
        "validation": {"seen_kept": {"NDCG@10": 0.1234}, "seen_removed": {"NDCG@10": 0.2}},
        "improved": True,
        "targets": 5000,
        "train_seconds": 2.0,
        "validation_seconds": 0.5,
    }
    return EpochRow(**{**given, **changes})


def test_a_line_an_epoch_on_standard_error(capsys):
    with TerminalReporter(epochs=5) as reporter:
        state = TrainingState(epoch=2)
        reporter.start_epoch(state, 100)
        state.add({"loss": 1.0}, 25, 0.5)
        reporter.step(state)
        reporter.validation(1, 2)
        reporter.end_epoch(row(), state)
        reporter.end_epoch(row(epoch=4, improved=False, embedding_norm=None, pretraining=True), state)
    shown = capsys.readouterr()
    assert shown.out == ""
    first, second = shown.err.splitlines()
    for part in ("epoch   3", "loss 2.5000", "recommendation 2.2500", "mse 0.2500", "norm 0.432", "NDCG@10 0.1234 *"):
        assert part in first
    assert "2,500 targets/s" in first and "left" in first
    assert "*" not in second and "norm" not in second
    assert "pre-training" not in first and second.startswith("epoch   4, pre-training")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_device_and_precision_are_told_before_the_first_epoch(capsys, build, trainer_for, precision):
    trainer_for(build(), precision=precision, epochs=1, reporter=TerminalReporter(1)).train()
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("training on cpu") and f"{precision} products" in first
    assert second.startswith("epoch   1")


def test_a_model_without_training_has_no_speed(capsys):
    with TerminalReporter(epochs=1) as reporter:
        reporter.end_epoch(row(train={}, embedding_norm=None, targets=0, train_seconds=0.0), TrainingState())
    assert "targets/s" not in capsys.readouterr().err


def test_state_counts_targets_and_weighs_by_them():
    state = TrainingState()
    state.add({"loss": 1.0, "mse": 0.0}, 10, 0.5)
    state.add({"loss": 4.0, "mse": 3.0}, 20, 0.25)
    assert (state.step, state.targets, state.seconds) == (2, 30, 0.75)
    assert state.means() == pytest.approx({"loss": 3.0, "mse": 2.0})
    state.end_epoch(row())
    assert (state.epoch, state.step, state.targets, state.seconds, state.sums) == (1, 0, 0, 0.0, {})
    assert (state.best_epoch, state.best_value) == (0, 0.1234)
    state.end_epoch(row(improved=False, value=0.1))
    assert (state.best_epoch, state.best_value, len(state.history)) == (0, 0.1234, 2)


def test_versions_and_machine():
    assert versions()["torch"] == metadata.version("torch")
    assert versions().keys() >= {"python", "seqdiffrec", "numpy", "polars"}
    assert machine()["cores"] >= 1 and machine()["system"] and machine()["processor"] is not None


def test_the_code_revision_is_gits():
    folder = Path(seqdiffrec.__file__).parent
    git = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True)
    revision = code_revision()
    if git.returncode != 0:
        assert revision is None
    else:
        assert revision is None or revision.removesuffix("+changes") == git.stdout.strip()


def test_without_git_there_is_no_revision(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert code_revision() is None
