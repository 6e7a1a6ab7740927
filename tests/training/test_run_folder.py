"""A run's folder: what it holds, what it refuses, and that no failure leaves it broken."""

import errno
import hashlib
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors import SafetensorError

from seqdiffrec.data import DataError
from seqdiffrec.training import RunError, RunFolder, TrainingInterrupted, TrainingState, checkpoint


@pytest.fixture(scope="module")
def stopped(build, trainer_for, corpus, tmp_path_factory) -> Path:
    run = RunFolder.create(tmp_path_factory.mktemp("runs") / "run", {}, corpus, {"versions": {"seqdiffrec": "1.2"}})
    with pytest.raises(TrainingInterrupted):
        trainer_for(build(), run=run, stop_after=7).train()
    return run.path


@pytest.fixture
def trained(stopped, tmp_path) -> Path:
    """A run that was stopped in its second epoch: it has weights and a checkpoint."""
    return shutil.copytree(stopped, tmp_path / "run")


def weight_file(path: Path) -> Path:
    return path / RunFolder.open(path).record["weights"]


def check_whole(path: Path) -> None:
    """Every file that run.json names is there, with its size and hash; nothing is half written.

    Until the run has ended, its metrics may be a line ahead.
    """
    record = json.loads((path / "run.json").read_text())
    for name, fingerprint in record["files"].items():
        content = (path / name).read_bytes()
        if name == "metrics.jsonl" and record["status"] == "training":
            assert [json.loads(line)["epoch"] for line in content.splitlines()]
            continue
        assert len(content) == fingerprint["bytes"], name
        assert hashlib.sha256(content).hexdigest() == fingerprint["sha256"], name
    assert not [found for found in path.rglob("*") if "partial" in found.name]


def snapshot(path: Path) -> dict[str, bytes]:
    return {str(found.relative_to(path)): found.read_bytes() for found in sorted(path.rglob("*")) if found.is_file()}


def test_a_fresh_folder_holds_what_the_run_is_about(run, corpus):
    opened = RunFolder.open(run.path)
    assert opened.record == run.record
    assert opened.record["corpus"]["content_hash"] == corpus.content_hash
    assert opened.record["settings"] == {"model": {"name": "diffrec"}}
    assert opened.items()["item_id"].to_list() == corpus.item_ids.to_list()
    assert opened.items()["title"].null_count() == corpus.num_items
    assert opened.corpus().content_hash == corpus.content_hash
    check_whole(run.path)


def test_a_run_recommends_without_its_data(trained, build):
    for found in sorted((trained / "corpus").iterdir()):
        found.unlink()
    (trained / "corpus").rmdir()
    opened = RunFolder.open(trained)
    assert opened.corpus() is None
    build(seed=3).load_state_dict(opened.load_weights())
    assert opened.items().height == 25


def test_titles_are_kept(tmp_path, corpus):
    titled = replace(corpus, titles=pl.Series([None, *(f"title {n}" for n in range(1, 25))]))
    run = RunFolder.create(tmp_path / "titled", {}, titled, {})
    assert run.items()["title"].to_list() == titled.titles.to_list()


def test_a_stopped_run_is_whole(trained):
    check_whole(trained)
    names = {found.name for found in trained.iterdir()}
    assert len([name for name in names if name.endswith(".safetensors")]) == 2
    assert names >= {"run.json", "metrics.jsonl", "items.arrow", "corpus"}


def test_metrics_are_a_line_an_epoch(build, trainer_for, run):
    state = trainer_for(build(), run=run, epochs=3).train()
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == state.history
    back = RunFolder.open(run.path).state()
    assert (back.epoch, back.best_epoch, back.history) == (3, state.best_epoch, state.history)
    check_whole(run.path)


def test_creating_over_a_run_is_refused_and_touches_nothing(trained, corpus):
    before = snapshot(trained)
    with pytest.raises(RunError, match=r"exists already; .*--resume"):
        RunFolder.create(trained, {}, corpus, {})
    assert snapshot(trained) == before


def test_creating_over_something_else_is_refused(tmp_path, corpus):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    for name in ("file", "folder"):
        with pytest.raises(RunError, match="exists already") as told:
            RunFolder.create(tmp_path / name, {}, corpus, {})
        assert "--resume" not in str(told.value)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_failed_creation_leaves_nothing(tmp_path, corpus, monkeypatch):
    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(DataError, match=r"No space left.*free some space"):
        RunFolder.create(tmp_path / "run", {}, corpus, {})
    assert list(tmp_path.iterdir()) == []


def full_disk(*args: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_missing_folder(tmp_path):
    with pytest.raises(RunError, match=r"absent does not exist; check the path, or train one"):
        RunFolder.open(tmp_path / "absent")


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(RunError, match=r"has no run.json, so it is not a run"):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b'{"format": 1, "sta', b"\xff\xfe\x00", b"[1, 2]", b'{"name": "npm package"}', b'{"format": 1}'],
    ids=["empty", "cut off", "binary", "list", "other", "hollow"],
)
def test_a_broken_record(trained, content):
    (trained / "run.json").write_bytes(content)
    with pytest.raises(RunError, match=r"run\.json.*train again"):
        RunFolder.open(trained)


def test_a_run_of_another_version(trained):
    record = json.loads((trained / "run.json").read_text())
    (trained / "run.json").write_text(json.dumps({**record, "format": 99}))
    with pytest.raises(RunError, match=r"format 99.*reads format 1.*\(1\.2\)"):
        RunFolder.open(trained)


def damage(kind: str, path: Path) -> str:
    """Break a file; what the error must tell."""
    content = bytearray(path.read_bytes())
    if kind == "truncated":
        path.write_bytes(content[:-10])
        return r"bytes, run.json says \d+: it was cut off or swapped"
    if kind == "flipped":
        content[-5] ^= 1
        path.write_bytes(content)
        return "was changed or swapped"
    if kind == "emptied":
        path.write_bytes(b"")
        return "has 0 bytes"
    path.unlink()
    return "cannot be read"


@pytest.mark.parametrize("kind", ["truncated", "flipped", "emptied", "missing"])
def test_a_damaged_weight_file(trained, kind):
    told = damage(kind, weight_file(trained))
    with pytest.raises(RunError, match=told):
        RunFolder.open(trained).load_weights()


@pytest.mark.parametrize("kind", ["truncated", "flipped", "emptied", "missing"])
def test_a_damaged_checkpoint(trained, build, trainer_for, kind):
    told = damage(kind, trained / RunFolder.open(trained).record["checkpoint"])
    with pytest.raises(RunError, match=told):
        trainer_for(build(), run=RunFolder.open(trained)).resume()


@pytest.mark.parametrize("kind", ["truncated", "flipped", "emptied", "missing"])
def test_a_damaged_vocabulary(trained, kind):
    told = damage(kind, trained / "items.arrow")
    with pytest.raises(RunError, match=told):
        RunFolder.open(trained).items()


@pytest.mark.parametrize("kind", ["truncated", "flipped", "emptied", "missing"])
def test_damaged_metrics_of_a_finished_run(trained, kind):
    opened = RunFolder.open(trained)
    opened.finish(opened.state(), "all epochs done")
    told = damage(kind, trained / "metrics.jsonl")
    with pytest.raises(RunError, match=rf"metrics\.jsonl.*{told}"):
        RunFolder.open(trained).state()


def test_metrics_of_a_run_in_training_that_were_cut_off(trained):
    """Their hash is not checked yet, but what is no line of metrics is told with its file."""
    damage("truncated", trained / "metrics.jsonl")
    with pytest.raises(RunError, match=r"metrics\.jsonl"):
        RunFolder.open(trained).state()


def test_a_weight_file_swapped_for_another_runs(trained, tmp_path, build, trainer_for, corpus):
    """Of the same shape and size, so only its hash tells."""
    other = RunFolder.create(tmp_path / "other", {}, corpus, {})
    trainer_for(build(seed=77), run=other, epochs=1).train()
    ours, theirs = weight_file(trained), weight_file(other.path)
    assert ours.stat().st_size == theirs.stat().st_size
    ours.write_bytes(theirs.read_bytes())
    with pytest.raises(RunError, match="was changed or swapped"):
        RunFolder.open(trained).load_weights()


def test_weights_that_are_not_numbers(trained):
    """Written through the folder itself, so that size and hash are right."""
    opened = RunFolder.open(trained)
    weights = opened.load_weights()
    for value in (math.nan, math.inf):
        broken = {name: tensor.clone() for name, tensor in weights.items()}
        broken["table.embedding.weight"][3, 2] = value
        opened.save_epoch(opened.state(), broken)
        with pytest.raises(RunError, match=r"table\.embedding\.weight holds values that are not numbers"):
            RunFolder.open(trained).load_weights()


def test_a_file_of_right_hash_that_holds_no_tensors(trained):
    name, content = RunFolder.open(trained).record["weights"], b"not tensors at all"
    (trained / name).write_bytes(content)
    record = json.loads((trained / "run.json").read_text())
    record["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (trained / "run.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match="not a whole safetensors file"):
        RunFolder.open(trained).load_weights()


def test_weights_before_the_first_epoch(run):
    with pytest.raises(RunError, match="no weights yet"):
        run.load_weights()


def test_a_corpus_that_does_not_fit(trained, corpus, other_corpus):
    opened = RunFolder.open(trained)
    opened.check_corpus(corpus)
    with pytest.raises(RunError, match=r"is not the one that .* was trained on"):
        opened.check_corpus(other_corpus)
    for found in (trained / "corpus").iterdir():
        found.unlink()
    (trained / "corpus").rmdir()
    other_corpus.save(trained / "corpus")
    with pytest.raises(RunError, match=r"is not the one that .* was trained on"):
        opened.corpus()


def fail_writing(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> None:
    """Let the next write of a file of that name fail, before anything of it is in place."""
    for function in ("replace_file", "replace_with"):
        real = getattr(checkpoint, function)

        def replace(path: Path, what: Any, real: Any = real) -> None:
            if path.name.startswith(name):
                raise error
            real(path, what)

        monkeypatch.setattr(checkpoint, function, replace)


def resumed(build, trainer_for, path: Path):
    trainer = trainer_for(build(seed=9), run=RunFolder.open(path))
    trainer.resume()
    return trainer


def test_a_full_disk_while_a_checkpoint_is_written(trained, build, trainer_for, monkeypatch):
    """The system says that the disk is full after half of the bytes: the checkpoint before stays, no trace is left."""
    trainer, before = resumed(build, trainer_for, trained), snapshot(trained)
    trainer.reporter.steps = 1
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full_disk)
        with pytest.raises(DataError, match=r"checkpoint-.*No space left.*free some space"):
            trainer.train()
    assert snapshot(trained) == before
    assert (resumed(build, trainer_for, trained).state.epoch, before.keys()) == (1, snapshot(trained).keys())


@pytest.mark.parametrize("name", ["checkpoint-", "weights-", "metrics.jsonl", "run.json"])
def test_a_crash_at_any_file_leaves_a_run_to_go_on_from(trained, build, trainer_for, monkeypatch, name):
    """A kill between two files: every file that run.json names is the one it was written for."""

    class Crash(Exception):
        pass

    trainer = resumed(build, trainer_for, trained)
    monkeypatch.setattr("seqdiffrec.training.loop.evaluate", always_better())
    with monkeypatch.context() as patch:
        fail_writing(patch, name, Crash())
        with pytest.raises(Crash):
            trainer.train()
    check_whole(trained)
    again = resumed(build, trainer_for, trained)
    assert again.state.epoch == 1
    RunFolder.open(trained).load_weights()
    again.train()
    check_whole(trained)
    assert RunFolder.open(trained).record["status"] == "finished"


def always_better():
    values = iter(range(1, 100))

    def evaluate(*args: object, **kwargs: object) -> dict[str, object]:
        value = 0.9 + next(values) / 1000  # better than all before
        return {"seen_kept": {"NDCG@10": value}, "seen_removed": {"NDCG@10": value}}

    return evaluate


def test_after_a_failed_write_the_same_run_can_still_save(trained, build, trainer_for, monkeypatch):
    """run.json could not be replaced once (a disk that was full for a while); the next save leaves no stray file."""
    trainer = resumed(build, trainer_for, trained)
    with monkeypatch.context() as patch:
        fail_writing(patch, "run.json", DataError("full"))
        trainer.state.step += 1
        with pytest.raises(DataError):
            trainer.run.save_checkpoint(trainer.model, trainer.optimizer, trainer.average, trainer.state)
    trainer.state.step += 1
    trainer.run.save_checkpoint(trainer.model, trainer.optimizer, trainer.average, trainer.state)
    check_whole(trained)
    record = RunFolder.open(trained).record
    stray = {found.name for found in trained.iterdir()} - set(record["files"]) - {"run.json", "corpus"}
    assert stray == set()


def test_a_model_from_memory_is_saved_as_a_finished_run(run, build):
    weights = build().state_dict()
    run.save_final(TrainingState(), weights)
    opened = RunFolder.open(run.path)
    assert opened.record["status"] == "finished"
    assert all(torch.equal(value, weights[name]) for name, value in opened.load_weights().items())
    check_whole(run.path)


def test_others_may_read_what_the_umask_lets_them(trained):
    """The library that writes tensors makes files that only their owner may read."""
    modes = {path.name: path.stat().st_mode & 0o777 for path in trained.iterdir() if path.is_file()}
    assert len(modes) >= 4
    assert set(modes.values()) == {modes["run.json"]}


def test_a_full_disk_that_the_tensors_meet_is_told_as_one(trained, build, trainer_for, monkeypatch):
    def full(*args: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    trainer = resumed(build, trainer_for, trained)
    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(DataError, match=r"No space left on device; free some space there"):
        trainer.run.save_checkpoint(trainer.model, trainer.optimizer, trainer.average, trainer.state)
