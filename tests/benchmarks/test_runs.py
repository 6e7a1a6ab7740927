"""The benchmarks from their options to their records, with workers that only pretend to train."""

import argparse
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks import (
    draws_speed,
    epoch_speed,
    exported_speed,
    growth,
    index_speed,
    machine,
    model_speed,
    prepare_speed,
    prepare_worker,
    quality,
    ranking_speed,
    request_speed,
    training_speed,
)
from benchmarks.__main__ import make_parser
from benchmarks.machine import available_memory
from benchmarks.own_worker import REFERENCE
from benchmarks.pairs import take_turns
from benchmarks.protocol import Log
from benchmarks.workers import BenchmarkError, WorkerError
from benchmarks.workload import SIZE, generated

TARGETS = {REFERENCE: 100, "SASRec": 400, "RecBole SASRec": 50, "RecTools SASRec": 200, "sasrec, padded": 60}


class FakeWorker:
    """Trains a set number of targets a step at a set rate; its list gets better with the targets it has seen."""

    made: list["FakeWorker"]
    asked: list[tuple[str, dict[str, Any]]]  # of all workers: the order, and with what

    def __init__(self, name: str, module: str, spec: dict[str, Any], **more: Any):
        self.name, self.module, self.spec, self.more = name, module, spec, more
        self.steps = more.get("steps", 1)
        self.facts: dict[str, Any] = {"batch": f"{spec.get('sequences', spec.get('rows'))} of something"}
        self.facts |= {"versions": {"peer": "1.0"}} if "peers" in module else {}
        self.all_targets, self.told, self.ended = 0, dict[str, Any](), False
        FakeWorker.made.append(self)

    def __call__(self) -> int:
        return self.ask("train", steps=self.steps)["targets"]

    def ask(self, order: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = {"peak": 3 * 2**20}
        FakeWorker.asked.append((order, arguments))
        if order == "train":
            seconds = arguments.get("seconds", 1.0)
            targets = int(TARGETS.get(self.name, 300) * seconds)
            self.all_targets += targets
            steps = arguments.get("steps")
            answer |= {"targets": targets, "steps": steps, "seconds": seconds, "all_targets": self.all_targets}
            answer |= {} if "peers" in self.module else {"flop": 10**6 * self.all_targets}
        elif order == "rank":
            # Each user at rank 7 adds a third, 1 / log2(8): one for every thousand targets, beside one far below.
            answer |= {"ranks": [7] * min(9, self.all_targets // 1000) + [99], "cases": 10}
        elif order == "count":
            answer |= {"flop": 2 * 10**12, "peak": 9 * 2**20}
        elif order == "compare":
            answer |= {"overlap": 0.98765}
        elif order == "index":
            answer |= {"build_seconds": 4.0, "overlap@10": arguments["overlap"], "breadth": 64, "cells": 128}
        else:
            is_fast = arguments.get("by_index") or "exported" in self.module
            each = 0.002 * arguments["seeds"] / (4 if is_fast else 1)
            answer |= {"seconds": each * arguments.get("users", 1)}
        self.told = answer
        return answer

    def end(self) -> None:
        self.ended = True


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeWorker.made, FakeWorker.asked = [], []
    for module in (
        training_speed,
        epoch_speed,
        model_speed,
        quality,
        growth,
        request_speed,
        index_speed,
        exported_speed,
        ranking_speed,
        draws_speed,
    ):
        monkeypatch.setattr(module, "Worker", FakeWorker)
    for module in (training_speed, model_speed, quality, draws_speed):
        monkeypatch.setattr(module, "load", lambda root: FakeLoad())
    for module in (training_speed, epoch_speed, ranking_speed):
        monkeypatch.setattr(module, "matmul_rates", lambda device: {"matmul": 1e9, "bfloat16_matmul": 4e9})
    monkeypatch.setattr(machine, "matmul_rates", lambda device: {"matmul": 1e9, "bfloat16_matmul": 4e9})
    monkeypatch.setattr(training_speed, "python_of", lambda name, folder: Path("python"))


class FakeLoad:
    log, source = generated(100, 30), "made up"


def options(name: str, *words: str) -> argparse.Namespace:
    parsed = make_parser().parse_args([name, *words])
    parsed.size = SIZE
    return parsed


def test_training_beside_peers_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_speed, "ratios", fixed_ratios)
    record = training_speed.run(options("training", "--peers", "recbole", "rectools", "--steps", "2"))
    rows = record["rows"]
    assert list(rows)[-5:] == [
        "RecBole SASRec",
        "RecBole BERT4Rec",
        "RecBole GRU4Rec",
        "RecTools SASRec",
        "RecTools BERT4Rec",
    ]
    assert record["peer_versions"] == {"recbole": {"peer": "1.0"}, "rectools": {"peer": "1.0"}}
    assert rows["SASRec"]["times_reference"] == {"median": 4} and rows["SASRec"]["times_recbole"] == {"median": 8}
    assert record["matmul_gflop_per_second"] == 1 and record["bfloat16_matmul_gflop_per_second"] == 4
    in_float32, in_bfloat16 = (rows["SASRec"][f"share_of_{key}_rate"] for key in ("matmul", "bfloat16_matmul"))
    assert in_float32 == pytest.approx(4 * in_bfloat16, rel=0.01)
    assert rows["SASRec"]["mflop_per_target"] == 1 and rows["SASRec"]["peak_memory_mib"] == 3
    assert rows["RecTools SASRec"]["mflop_per_target"] is None
    by_name = {worker.name: worker for worker in FakeWorker.made}
    mean = FakeLoad.log.num_targets / 100
    assert by_name["RecTools SASRec"].spec["sequences"] == round(256 / mean)
    assert by_name["RecTools BERT4Rec"].spec["sequences"] == 128
    assert by_name["RecBole GRU4Rec"].spec["model"] == "GRU4Rec" and by_name["RecBole GRU4Rec"].spec["rows"] == 256
    assert len({worker.more["threads"] for worker in FakeWorker.made}) == 1
    assert all(worker.ended for worker in FakeWorker.made)


def fixed_ratios(laps: Any, base: str) -> dict[str, Any]:
    class Ratio:
        def __init__(self, value: float):
            self.median = value

    units = {name: own[0].units for name, own in laps.items()}
    return {name: Ratio(count / units[base]) for name, count in units.items()}


def test_an_epoch_in_as_many_laps_as_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch_speed, "load", lambda root, name: FakeLoad())
    monkeypatch.setattr(epoch_speed, "take_turns", lambda tasks, rounds: take_turns(tasks, rounds, Clock()))
    record = epoch_speed.run(options("epoch", "--rounds", "6", "--datasets", "beauty", "ml-1m"))
    assert list(record["rows"]) == [
        f"{dataset}, {name}" for dataset in ("beauty", "ml-1m") for name in ("SASRec", "DiffRec shared_history")
    ]
    row, targets = record["rows"]["ml-1m, SASRec"], FakeLoad.log.num_targets
    # 400 targets in a lap of a second, of a million operations each.
    assert row["seconds"] == pytest.approx(targets / 400, abs=0.05) and row["targets"] == targets
    assert (row["mflop_per_target"], row["gflop_per_second"]) == (1, 0.4)
    assert (row["share_of_matmul_rate"], row["share_of_bfloat16_matmul_rate"]) == (0.4, 0.1)
    # Its warm-up of 8 steps had 400 targets, so 50 a step.
    by_name = {worker.name: worker for worker in FakeWorker.made}
    assert by_name["SASRec"].steps == math.ceil(targets / 6 / 50)


@pytest.mark.parametrize("share", ["0", "-1", "1.5"])
def test_no_share_of_an_epoch(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options("epoch", "--share", share)
    assert f"{share} is no share" in capsys.readouterr().err


def test_training_without_peers_has_no_columns_of_theirs() -> None:
    record = training_speed.run(options("training"))
    assert list(record["rows"]) == [REFERENCE, "DiffRec bidirectional", "DiffRec shared_history", "SASRec"]
    assert "times_recbole" not in record["rows"]["SASRec"] and "notes" not in record


def test_every_model_beside_its_padded_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_speed, "take_turns", lambda tasks, rounds: take_turns(tasks, rounds, Clock()))
    words = ["models", "--models", "diffrec", "sasrec", "--seconds", "3"]
    parsed = make_parser().parse_args(words)
    assert parsed.hidden_size == 64
    record = model_speed.run(options(*words))
    assert list(record["rows"]) == ["diffrec, bidirectional", "diffrec, shared_history", "sasrec"]
    row = record["rows"]["sasrec"]
    assert row["times_padded"] == {"median": 5, "least": 5, "greatest": 5}  # 300 targets a second, and 60
    assert row["targets_per_second"]["median"] == 5 * row["padded_targets_per_second"]["median"]
    assert row["peak_memory_mib"] == row["padded_peak_memory_mib"] == 3
    specs = [(worker.spec["model"], worker.spec["padded"], worker.spec["settings"]) for worker in FakeWorker.made]
    assert specs[2:] == [
        ("diffrec", False, {"attention": "shared_history", "tied_output": True}),
        ("diffrec", True, {"attention": "shared_history", "tied_output": True}),
        ("sasrec", False, {}),
        ("sasrec", True, {}),
    ]
    assert all(worker.ended for worker in FakeWorker.made)
    with pytest.raises(BenchmarkError, match="--seconds 0 is no time"):
        model_speed.run(options("models", "--seconds", "0"))


class Clock:
    """A second between any two looks at it."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_quality_stops_at_the_figure_or_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--peers", "recbole", "--systems", "SASRec", "--figure", "0.29", "--limit", "100"]
    record = quality.run(options("quality", *words))
    rows = record["rows"]
    assert list(rows) == ["SASRec", "RecBole SASRec"]  # of the peers, SASRec alone
    # 400 targets a second: 4 of 5 users at rank 7 after 10 seconds, 8 of 9 after 20, which is above 0.29.
    own = rows["SASRec"]
    assert own["curve"][0]["seconds"] == 10 and own["curve"][0]["ndcg"] == pytest.approx(4 / 5 / 3, abs=1e-5)
    assert own["seconds"] == own["curve"][-1]["seconds"] == 20 and own["best_ndcg"] == pytest.approx(
        8 / 9 / 3, abs=1e-5
    )
    assert own["epochs"] == round(8000 / FakeLoad.log.num_targets, 3)
    assert record["peer_versions"] == {"RecBole SASRec": {"peer": "1.0"}}
    slow = rows["RecBole SASRec"]
    assert slow["seconds"] is None and slow["seconds_trained"] == 100 and slow["times_recbole"] is None
    gaps = [b["seconds"] - a["seconds"] for a, b in zip(slow["curve"], slow["curve"][1:], strict=False)]
    assert min(gaps[:-1]) >= 10 and slow["curve"][-1]["seconds"] == 100


def test_growth_varies_one_size_at_a_time_and_says_where_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Small(FakeWorker):
        def __init__(self, name: str, module: str, spec: dict[str, Any], **more: Any):
            super().__init__(name, module, spec, **more)
            made.append((spec["size"]["max_length"], Log.read(spec["data"]).num_items, spec["settings"]))

        def ask(self, order: str, **arguments: Any) -> dict[str, Any]:
            if self.spec["model"] == REFERENCE and self.spec["size"]["max_length"] == 20:
                raise WorkerError("ended", "DefaultCPUAllocator: can't allocate memory: you tried ...")
            return super().ask(order, **arguments)

    monkeypatch.setattr(growth, "Worker", Small)
    record = growth.run(options("growth", "--axes", "length", "--values", "10", "20", "--laps", "2"))
    assert list(record["rows"])[:2] == [f"length 10, {REFERENCE}", "length 10, DiffRec bidirectional"]
    assert {length for length, _, _ in made} == {10, 20} and all(items == 12_101 for _, items, _ in made)
    row = record["rows"]["length 20, SASRec"]
    assert row["value"] == 20 and row["laps"] == 2 and row["targets_per_second"]["median"] == 300
    assert record["rows"][f"length 20, {REFERENCE}"]["peak_memory_mib"].startswith("more than ")
    made.clear()
    rows = growth.run(options("growth", "--axes", "catalogue", "--values", "100000"))["rows"]
    assert "catalogue 100,000, SASRec, sampled loss" in rows and f"catalogue 100,000, {REFERENCE}" in rows
    assert {"loss": "sampled"} in [settings for _, _, settings in made] and {items for _, items, _ in made} == {100_000}


def test_growth_does_not_hide_other_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **more: Any) -> None:
        raise WorkerError("ended", "TypeError: not a model")

    monkeypatch.setattr(growth, "Worker", broken)
    with pytest.raises(WorkerError, match="not a model"):
        growth.run(options("growth", "--axes", "threads"))
    with pytest.raises(ValueError, match="of one axis"):
        growth.run(options("growth", "--values", "3"))


def test_requests_of_an_exported_file() -> None:
    rows = exported_speed.run(options("exported", "--requests", "3", "--catalogues", "300", "1000000"))["rows"]
    plain, file = rows["300 items, torch, 10 seeds"], rows["300 items, exported, 10 seeds"]
    assert (plain["p50_ms"], plain["times_reference"], plain["overlap@10"]) == (20, 1, None)
    assert (file["p50_ms"], file["times_reference"], file["overlap@10"]) == (5, 0.25, 0.9877)
    assert rows["300 items, exported, 1 seed"]["p50_ms"] == 0.5
    assert [row["output"] for name, row in rows.items() if name.endswith("torch, 1 seed")] == ["cosine", "product"]
    assert [worker.spec["settings"]["cosine_output"] for worker in FakeWorker.made] == [True, True, False, False]
    assert all(worker.ended for worker in FakeWorker.made)


def test_requests_side_by_side_or_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    gib = 2**30
    monkeypatch.setattr(request_speed, "available_memory", lambda: 18 * gib)
    monkeypatch.setattr(request_speed, "has_bfloat16", lambda device: True)
    rows = request_speed.run(options("requests", "--requests", "3", "--bulk", "16"))["rows"]
    small, big = rows["12,101 items, DiffRec, 10 seeds"], rows["10,000,000 items, DiffRec, 10 seeds"]
    assert small["p50_ms"] == small["p99_ms"] == 20 and small["times_reference"] == 10
    assert (small["turns"], small["bulk_users"]) == ("taken", 16)
    assert (big["turns"], big["bulk_users"]) == ("one after the other", 8)
    # Each is asked untimed right before, and round by round the other way round.
    asked = [(how["number"], how["seeds"]) for order, how in FakeWorker.asked if order == "request"]
    assert asked[:6] == [(-1, 1), (0, 1), (-1, 1), (0, 1), (-1, 10), (0, 10)]  # SASRec, DiffRec, and with ten draws
    assert asked[6:12] == [(-1, 10), (1, 10), (-1, 1), (1, 1), (-1, 1), (1, 1)]
    specs = [worker.spec for worker in FakeWorker.made if worker.spec["num_items"] == 10_000_000]
    assert [spec["settings"]["cosine_output"] for spec in specs] == [True, True]
    monkeypatch.setattr(request_speed, "available_memory", lambda: 8 * gib)
    record = request_speed.run(options("requests", "--catalogues", "10000000"))
    assert record["rows"] == {"10,000,000 items": {"not_asked": "needs 16 GiB, there are 8"}}


def test_requests_with_and_without_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_speed, "available_memory", lambda: 8 * 2**30)
    monkeypatch.setattr(index_speed, "has_bfloat16", lambda device: True)
    rows = index_speed.run(options("index", "--requests", "3"))["rows"]
    exact, near = rows["1,000,000 items, exact"], rows["1,000,000 items, index"]
    assert (exact["p50_ms"], exact["times_reference"], near["p50_ms"], near["times_reference"]) == (20, 1, 5, 0.25)
    assert (near["build_seconds"], near["overlap@10"], near["breadth"], near["cells"]) == (4.0, 0.99, 64, 128)
    assert "breadth" not in exact
    assert rows["10,000,000 items"] == {"not_asked": "needs 17 GiB, there are 8"}
    assert all(worker.ended for worker in FakeWorker.made)


def test_numbers_of_draws_take_turns_on_one_model() -> None:
    record = draws_speed.run(options("draws", "--hidden-size", "64"))
    assert list(record["rows"])[:6] == ["0 draws", "1 draw", "2 draws", "5 draws", "10 draws", "20 draws"]
    assert record["rows"]["1 draw"]["times_reference"] == {"median": 1, "least": 1, "greatest": 1}
    assert list(record["rows"])[6:] == ["training, 1 draw", "training, 2 draws", "training, 4 draws"]
    row = record["rows"]["training, 1 draw"]
    assert row["times_reference"] == {"median": 1, "least": 1, "greatest": 1}
    assert row["seconds"]["median"] == pytest.approx(FakeLoad.log.num_targets / row["cases_per_second"]["median"])
    ranking, *training = FakeWorker.made
    assert "noise_draws" not in ranking.spec["settings"] and all(worker.ended for worker in FakeWorker.made)
    assert [worker.spec["settings"]["noise_draws"] for worker in training] == [1, 2, 4]
    assert all(worker.steps == 20 and worker.spec["rows"] == 1024 for worker in training)
    turns = [how["seeds"] for order, how in FakeWorker.asked if order == "rank"]
    assert turns[:13] == [20, 0, 1, 2, 5, 10, 20, 20, 10, 5, 2, 1, 0], "a warm-up, then back and forth"


def test_ranking_has_a_process_for_each_system_and_number_of_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking_speed, "load", lambda root, name: FakeLoad())
    monkeypatch.setattr(ranking_speed, "rounds_factors", lambda device: False)
    assert len(ranking_speed.run(options("ranking", "--datasets", "beauty"))["rows"]) == 5
    assert {how["precision"] for order, how in FakeWorker.asked if order == "rank"} == {"float32"}
    FakeWorker.made, FakeWorker.asked = [], []
    monkeypatch.setattr(ranking_speed, "rounds_factors", lambda device: True)
    record = ranking_speed.run(options("ranking", "--datasets", "beauty", "ml-1m"))
    assert len(record["rows"]) == 14 and len(FakeWorker.made) == 14
    rounded = [how["seeds"] for order, how in FakeWorker.asked if how.get("precision") == "bfloat16"]
    assert set(rounded) == {10} and len(rounded) == 4 * (1 + record["settings"]["rounds"])  # and a warm-up each
    row = record["rows"]["ml-1m, DiffRec bidirectional, 10 seeds"]
    assert row["peak_memory_mib"] == 3 and row["cases_per_second"]["median"] > 0
    assert row["tflop"] == 2
    # 2 TFLOP in the row's seconds, beside what the machine multiplies.
    for key, rate in (("matmul", 1e9), ("bfloat16_matmul", 4e9)):
        assert record[f"{key}_gflop_per_second"] == rate / 1e9
        assert row[f"share_of_{key}_rate"] == pytest.approx(2e12 / row["seconds"]["median"] / rate, rel=0.01)


def test_preparing_and_checking_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_speed, "PART", 4000)
    monkeypatch.setattr(prepare_speed, "MOST_CHECKED", 10_000)

    class Here:
        def __init__(self, *spec: Any):
            self.told = dict[str, Any]()

        def ask(self, order: str, path: str) -> dict[str, Any]:
            return {**getattr(prepare_worker, order)(path), "peak": 2**21}

        def end(self) -> None: ...

    monkeypatch.setattr(prepare_speed, "Worker", Here)
    rows = prepare_speed.run(options("prepare", "--events", "10000", "20000"))["rows"]
    assert list(rows) == [
        "10,000 events, prepare, Parquet",
        "10,000 events, prepare, CSV",
        "10,000 events, check, Parquet",
        "20,000 events, prepare, Parquet",
        "20,000 events, prepare, CSV",
    ]
    for row in rows.values():
        assert row["peak_memory_mib"] == 2 and row["events_per_second"] > 1000


def test_memory_of_the_machine_is_told_where_the_system_does() -> None:
    found = available_memory()
    assert found is None or found > 2**24


def test_a_training_is_looked_at_less_often_the_longer_it_lasts() -> None:
    curve = quality.train_until(FakeWorker("SASRec", "own", {"rows": 1}), 1.0, 200, targets_an_epoch=100)
    seconds = [point["seconds"] for point in curve]
    assert seconds[:9] == [10, 20, 30, 40, 50, 60, 70, 80, 90] and seconds[9:11] == [101.25, 113.91]
    assert seconds[-1] == 200 and curve[-1]["epochs"] == pytest.approx(800, abs=1)
