"""A whole sweep on a tiny log: its records, skipping, going on, failing, and two side by side."""

import json
import math
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import seqdiffrec as sdr
from seqdiffrec.models import SASRec
from seqdiffrec.models.settings import SettingError
from seqdiffrec.studies import make_queue
from seqdiffrec.studies.lock import held, holder
from seqdiffrec.training import TrainingInterrupted

RESULTS, RUNS = Path("results/tiny/log"), Path("runs/tiny/log")
NAMES = [f"{row}-seed{seed}.json" for row in ("default", "draws-1", "sasrec") for seed in (0, 1)]


def read(name: str, folder: Path = Path()) -> dict:
    return json.loads((folder / RESULTS / f"{name}.json").read_text())


def figures(record: dict) -> dict:
    """A record without what differs from run to run: times, and how often it was cut."""
    kept = {name: value for name, value in record.items() if not name.endswith("_seconds") and name != "resumed"}
    kept["curve"] = [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in record["curve"]]
    return kept


def contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in RESULTS.iterdir()}


def test_a_record_for_every_row_and_seed_and_nothing_else(swept):
    found = sorted(path.name for path in (swept / RESULTS).iterdir())
    assert found == sorted([*NAMES, "sasrec-seed0-ranks.parquet", "sasrec-seed1-ranks.parquet"])


def test_a_record_has_the_figures_of_the_same_run_made_by_hand(swept):
    record = read("sasrec-seed1", swept)
    settings = {"hidden_size": 8, "num_layers": 1, "max_length": 6, "learning_rate": 0.01, "epochs": 2}
    model = sdr.SASRec(**settings, batch_size=32, device="cpu", precision="float32", seed=1)
    data = sdr.Dataset.from_file("log.csv", user="who", item="what")
    model.fit(data)
    for part in ("validation", "test"):
        assert record[part] == model.evaluate(data, part=part)
    assert len(record["curve"]) == 2 and record["corpus"]["content_hash"] == data.corpus.content_hash


def test_what_else_a_record_says(swept):
    record = read("sasrec-seed1", swept)
    assert record["study"] == {"name": "tiny", "row": "sasrec", "seed": 1, "dataset": "log"}
    assert record["command"] == "seqdiffrec sweep tiny.toml"
    assert record["precision"] == "float32" and record["ranking_seconds"] >= 0
    assert "inference_of" not in record and record["data"]["file"] == "log.csv"
    again = read("draws-1-seed1", swept)
    assert again["study"] == {"name": "tiny", "row": "draws-1", "seed": 1, "dataset": "log"}
    assert (again["inference_of"], again["settings"]["model_settings"]["num_seeds"]) == ("default", 1)
    assert again["curve"] == read("default-seed1", swept)["curve"]


def test_an_inference_row_has_the_figures_of_a_run_trained_with_its_settings(swept):
    """The number of noise draws at inference is no part of training, so the two ways must meet."""
    record = read("draws-1-seed1", swept)
    trained = read("default-seed1", swept)["settings"]
    settings = {**trained["model_settings"], **trained["training"], "num_seeds": 1}
    data = sdr.Dataset.from_file("log.csv", user="who", item="what")
    model = sdr.DiffRec(**settings).fit(data)
    for part in ("validation", "test"):
        assert record[part] == model.evaluate(data, part=part)
        assert record[part] != read("default-seed1", swept)[part]
    assert record["seeds_averaged"]["test"] == 1


def test_the_ranks_give_the_figures(swept):
    record = read("sasrec-seed0", swept)
    ranks = pl.read_parquet(swept / RESULTS / "sasrec-seed0-ranks.parquet")
    assert len(ranks) == 30
    for protocol in ("seen_kept", "seen_removed"):
        hits = [rank for rank in ranks[f"rank_{protocol}"] if rank <= 10]
        assert record["test"][protocol]["HR@10"] == pytest.approx(len(hits) / 30)
        assert record["test"][protocol]["NDCG@10"] == pytest.approx(sum(1 / math.log2(r + 1) for r in hits) / 30)


@pytest.mark.usefixtures("untrainable")
def test_what_is_recorded_is_skipped(again, sweep):
    before = contents()
    assert sweep(again) == []
    assert contents() == before


@pytest.mark.usefixtures("untrainable")
def test_a_run_that_has_ended_is_only_recorded(again, sweep):
    before = {name: figures(read(name.removesuffix(".json"))) for name in NAMES}
    ranks = (RESULTS / "sasrec-seed1-ranks.parquet").read_bytes()
    for path in RESULTS.iterdir():
        if path.name != "sasrec-seed0.json":
            path.unlink()
    lines = sweep(again)
    assert [line.partition(",")[0] for line in lines] == [
        "run 1 of 4: default on log",
        "run 2 of 4: sasrec on log",
        "run 3 of 4: default on log",
        "run 4 of 4: sasrec on log",
    ]
    assert {name: figures(read(name.removesuffix(".json"))) for name in NAMES} == before
    assert (RESULTS / "sasrec-seed1-ranks.parquet").read_bytes() == ranks


@pytest.mark.parametrize("step", [2, 8])
def test_a_sweep_that_was_cut_goes_on_and_ends_as_an_uncut_one(again, swept, sweep, at_step, step):
    """Cut in the first and in the second epoch of the third run, in a folder where the first two are done."""
    for name in ("default-seed1", "draws-1-seed1", "sasrec-seed1"):
        (RESULTS / f"{name}.json").unlink()
    for name in ("default-seed1", "sasrec-seed1"):
        shutil.rmtree(RUNS / name)
    at_step(step, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(TrainingInterrupted):
        sweep(again, command="seqdiffrec sweep tiny.toml")
    states = [job.state() for job in make_queue(again, Path("runs"), Path("results"))]
    assert states == ["recorded", "recorded", "to resume", "to do"]
    lines = sweep(again, command="seqdiffrec sweep tiny.toml")
    assert len(lines) == 2
    for name in NAMES:
        name = name.removesuffix(".json")
        assert figures(read(name)) == figures(read(name, swept))
    assert len(read("default-seed1")["resumed"]) == 1 and read("sasrec-seed1")["resumed"] == []


def test_changed_settings_are_refused_before_anything_is_trained(again, sweep, untrainable):
    shutil.rmtree(RUNS / "default-seed0")  # to be trained first, were it not for the record of a later one
    (RESULTS / "default-seed0.json").unlink()
    (RESULTS / "draws-1-seed0.json").unlink()
    path = RESULTS / "sasrec-seed1.json"
    path.write_text(path.read_text().replace('"learning_rate": 0.01', '"learning_rate": 0.5'))
    with pytest.raises(SettingError, match=r"sasrec-seed1\.json was made .*learning_rate = 0.5 there, 0.01 now"):
        sweep(again)
    assert not (RUNS / "default-seed0").exists()


def test_another_log_than_that_of_the_records_is_refused(again, sweep, untrainable):
    lines = Path("log.csv").read_text().splitlines(keepends=True)
    Path("log.csv").write_text("".join(lines[:-1]))
    (RESULTS / "sasrec-seed1.json").unlink()
    with pytest.raises(SettingError, match=r"default-seed0\.json was made from another log"):
        sweep(again)


def test_a_run_that_diverges_is_recorded_and_the_queue_goes_on(sweep, again, monkeypatch):
    shutil.rmtree("results")
    shutil.rmtree("runs")
    real = SASRec.loss

    def not_a_number(self, batch):
        loss = real(self, batch)
        return type(loss)(loss.total * float("nan"), loss.parts)

    with monkeypatch.context() as patch:
        patch.setattr(SASRec, "loss", not_a_number)
        lines = sweep(again, command="seqdiffrec sweep tiny.toml")
    assert len(lines) == 4
    record = read("sasrec-seed0")
    assert record["failed"].startswith("the loss is nan in epoch 1, step 1")
    assert record["study"] == {"name": "tiny", "row": "sasrec", "seed": 0, "dataset": "log"}
    assert record["settings"]["training"]["learning_rate"] == 0.01
    assert "test" not in record and not (RESULTS / "sasrec-seed0-ranks.parquet").exists()
    assert read("default-seed1")["test"]["seen_kept"]["HR@14"] == 1
    assert sweep(again) == [], "a failed run is a result, not to be tried again"
    states = [job.state() for job in make_queue(again, Path("runs"), Path("results"))]
    assert states == ["recorded", "failed", "recorded", "failed"]
    (RESULTS / "sasrec-seed0.json").unlink()
    assert len(sweep(again)) == 1 and "test" in read("sasrec-seed0"), "until its record is removed"


def test_the_time_left_is_that_of_the_recorded_runs_of_the_row_or_else_the_dataset(again, sweep):
    for seed, seconds in ((0, 1200), (1, 3600)):  # a mean of 40 minutes
        path = RESULTS / f"default-seed{seed}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "training_seconds": seconds}))
    for seed in (0, 1):
        (RESULTS / f"sasrec-seed{seed}.json").unlink()
        shutil.rmtree(RUNS / f"sasrec-seed{seed}")
    first, second = sweep(again)
    assert first == "run 2 of 4: sasrec on log, seed 0, about 1 h 20 min left"
    path = RESULTS / "sasrec-seed0.json"
    assert second == "run 4 of 4: sasrec on log, seed 1, about 1 min left", "the row's first run took a moment"
    path.write_text(json.dumps({**json.loads(path.read_text()), "training_seconds": 300}))
    (RESULTS / "sasrec-seed1.json").unlink()
    shutil.rmtree(RUNS / "sasrec-seed1")
    assert sweep(again) == ["run 4 of 4: sasrec on log, seed 1, about 5 min left"]


# Two sweeps side by side.

# The file of the lock alone is loaded, which spares the seconds that torch takes.
HOLD = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("lock", {lock!r})
lock = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lock)
with lock.held(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other_process():
    """other_process(path): a process that holds the lock of path."""
    started = []
    lock = sys.modules[held.__module__].__file__

    def start(path: Path) -> subprocess.Popen[str]:
        code = HOLD.format(lock=lock)
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "True\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_lock_is_held_by_one_and_ends_with_its_process(other_process):
    path = Path("runs/run")
    assert holder(path) is None
    process = other_process(path)
    assert holder(path) == process.pid
    with held(path) as mine:
        assert not mine
    process.kill()  # nothing is cleaned up
    process.wait()
    assert holder(path) is None
    with held(path) as mine:
        assert mine
        with held(path) as twice:
            assert not twice
    with pytest.raises(KeyError), held(path):
        raise KeyError
    assert holder(path) is None
    assert not path.exists()


def test_a_run_that_another_process_is_at_is_left_to_it(again, sweep, other_process):
    (RESULTS / "sasrec-seed0.json").unlink()
    (RESULTS / "sasrec-seed1.json").unlink()
    process = other_process(RUNS / "sasrec-seed0")
    states = [job.state() for job in make_queue(again, Path("runs"), Path("results"))]
    assert states == ["recorded", "in use", "recorded", "to record"]
    lines = sweep(again)
    assert lines[0] == "run 2 of 4: sasrec on log, seed 0: another process is at it"
    assert not (RESULTS / "sasrec-seed0.json").exists() and (RESULTS / "sasrec-seed1.json").exists()
    process.kill()
    process.wait()
    assert len(sweep(again)) == 1
    assert (RESULTS / "sasrec-seed0.json").exists()


def test_what_another_sweep_made_meanwhile_is_not_made_again(again, sweep, monkeypatch, untrainable):
    """It is recorded between the moment that this one builds its queue and the moment that it gets there."""
    import seqdiffrec.studies.sweep as module

    path = RESULTS / "sasrec-seed1.json"
    content = path.read_bytes()
    path.unlink()
    shutil.rmtree(RUNS / "sasrec-seed1")
    real = module.held

    def held_after_the_other(run):
        path.write_bytes(content)
        return real(run)

    monkeypatch.setattr(module, "held", held_after_the_other)
    assert sweep(again) == []
    assert path.read_bytes() == content


def test_a_fault_of_ours_ends_its_run_and_is_told_at_the_end(sweep, again, monkeypatch):
    shutil.rmtree("results")
    shutil.rmtree("runs")

    def broken(self, batch):
        raise KeyError("exp_avg")

    with monkeypatch.context() as patch:
        patch.setattr(SASRec, "loss", broken)
        with pytest.raises(ExceptionGroup, match="fault of seqdiffrec") as told:
            sweep(again)
    assert [repr(fault) for fault in told.value.exceptions] == ["KeyError('exp_avg')"] * 2
    assert told.value.exceptions[1].__notes__ == ["in the run sasrec on log, seed 1"]
    states = [job.state() for job in make_queue(again, Path("runs"), Path("results"))]
    assert states == ["recorded", "to do", "recorded", "to do"]
