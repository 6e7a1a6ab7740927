"""A worker's lines, its end, and what is told when it dies."""

from pathlib import Path

import pytest

from benchmarks.workers import BenchmarkError, Worker, WorkerError, kept

FAKE = """
import json, os, sys
spec = json.loads(sys.stdin.readline())
print("a library greets", file=sys.stderr, flush=True)
if spec.get("fails"):
    raise RuntimeError("no such model")
print(json.dumps({"batch": "2 rows", "threads": os.environ.get("OMP_NUM_THREADS")}), flush=True)
for line in sys.stdin:
    order = json.loads(line)
    if "die" in order:
        os.kill(os.getpid(), 9)
    print(json.dumps({"targets": 2 * order["train"]["steps"], "order": order}), flush=True)
"""


@pytest.fixture(autouse=True)
def fake_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake_worker.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_a_lap_is_so_many_steps_and_its_result_the_targets() -> None:
    with kept() as workers:
        worker = workers["fake"] = Worker("fake", "fake_worker", {}, steps=3, threads=7)
        assert worker.facts == {"batch": "2 rows", "threads": "7"}
        assert worker() == 6
        assert worker.told["order"] == {"train": {"steps": 3}}
        assert worker.ask("train", steps=1)["targets"] == 2
    assert worker.process.returncode == 0 and not Path(worker.folder.name).exists()


def test_a_worker_that_fails_at_the_start_says_why() -> None:
    with pytest.raises(
        WorkerError, match=r"worker of fake ended with 1 when started(?s:.)*RuntimeError: no such model"
    ):
        Worker("fake", "fake_worker", {"fails": True})


def test_a_worker_that_is_killed_says_so_and_what_it_said_last() -> None:
    with kept() as workers:
        workers["fake"] = Worker("fake", "fake_worker", {})
        with pytest.raises(BenchmarkError) as caught:
            workers["fake"].ask("die")
    assert "killed by signal 9 (out of memory?) when told to die" in str(caught.value)
    assert str(caught.value).endswith("a library greets")


def test_a_module_that_is_not_there_is_told_too() -> None:
    with pytest.raises(WorkerError, match="No module named"):
        Worker("gone", "no_such_worker", {})


def test_all_workers_end_when_one_dies() -> None:
    with kept() as workers:
        workers["lives"] = Worker("lives", "fake_worker", {})
        workers["dies"] = Worker("dies", "fake_worker", {})
        with pytest.raises(WorkerError):
            workers["dies"].ask("die")
    assert workers["lives"].process.returncode == 0
