"""The worker's side: laps of steps and of seconds, orders between them, and ranks as our own evaluation has them."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.protocol import Channel, Log, Pace, padded, validation_ranks
from benchmarks.workload import Workload
from seqdiffrec.evaluation import rank_targets

NUM_ITEMS = 9


def channel(*orders: dict[str, Any]) -> Channel:
    return Channel(io.StringIO("".join(json.dumps(order) + "\n" for order in orders)), io.StringIO(), {})


def said(by: Channel) -> list[dict[str, Any]]:
    return [json.loads(line) for line in by.out.getvalue().splitlines()]


@pytest.fixture
def log() -> Log:
    lengths = [3, 5, 8, 4, 3, 7]
    items = np.random.default_rng(1).integers(1, NUM_ITEMS + 1, sum(lengths)).astype(np.int32)
    return Log(items, np.concatenate([[0], np.cumsum(lengths)]), NUM_ITEMS)


def train(pace: Pace, targets: list[int]) -> None:
    pace.begin()
    for count in targets:
        pace.step(count)


def test_laps_of_steps_with_an_order_between() -> None:
    lines = channel({"train": {"steps": 2}}, {"double": {"number": 21}}, {"train": {"steps": 1}})
    pace = Pace(
        lines,
        {"batch": "3 rows"},
        {"double": lambda number: {"result": 2 * number}},
        besides=lambda: {"x": 1, "result": 0},
    )
    with pytest.raises(SystemExit) as end:
        train(pace, [3, 4, 5, 6])
    assert end.value.code == 0
    facts, first, double, second = said(lines)
    assert facts["batch"] == "3 rows" and facts["threads"] == torch.get_num_threads()
    assert (first["targets"], first["steps"], first["all_targets"], first["x"]) == (7, 2, 7, 1)
    assert first["peak"] > 2**20 and first["seconds"] > 0
    assert (double["result"], double["all_targets"]) == (42, 7)
    assert (second["targets"], second["steps"], second["all_targets"]) == (5, 1, 12)


def test_a_lap_of_seconds_ends_with_the_step_that_passes_them() -> None:
    ticks = iter([0.0, 0.4, 0.8, 1.2, 1.2, 5.0])  # the start, three steps, the lap's end, the next start
    lines = channel({"train": {"seconds": 1.0}}, {"train": {"seconds": 1.0}})
    with pytest.raises(StopIteration):
        train(Pace(lines, {}, clock=lambda: next(ticks)), [1] * 9)
    assert said(lines)[1] | {"peak": 0} == {"targets": 3, "steps": 3, "seconds": 1.2, "all_targets": 3, "peak": 0}


def test_a_log_comes_back_from_its_file(tmp_path: Path, log: Log) -> None:
    log.write(tmp_path / "log.npz")
    back = Log.read(tmp_path / "log.npz")
    assert (back.items.tolist(), back.offsets.tolist(), back.num_items) == (
        log.items.tolist(),
        log.offsets.tolist(),
        NUM_ITEMS,
    )


def test_a_log_is_split_as_ours_is(log: Log) -> None:
    split = Workload(log, "").split
    assert [row.tolist() for row in log.training] == [split.train[row].tolist() for row in range(len(split.train))]
    assert log.validation_targets.tolist() == split.validation.targets.tolist()
    assert log.num_targets == sum(max(0, length - 1) for length in split.train.lengths)


def test_ranks_are_those_of_our_evaluation_whatever_a_library_calls_its_items(log: Log) -> None:
    rng = np.random.default_rng(2)
    ours = rng.integers(0, 4, (NUM_ITEMS + 1, NUM_ITEMS)).astype(np.float32)  # scores after an item, with many ties
    columns = rng.permutation(NUM_ITEMS) + 2  # theirs: two more in front, and in another order
    theirs = np.full((NUM_ITEMS + 1, NUM_ITEMS + 2), 99, np.float32)
    theirs[:, columns] = ours

    def score(histories: list[NDArray[np.int32]]) -> torch.Tensor:
        return torch.from_numpy(theirs[[history[-1] for history in histories]])

    cases = Workload(log, "").split.validation
    expected = rank_targets(
        lambda histories: torch.from_numpy(ours[[histories[row][-1] for row in range(len(histories))]]),
        cases,
        NUM_ITEMS,
    )
    assert validation_ranks(log, score, columns, block=4) == {"ranks": expected.seen_kept.tolist()}


def test_an_item_that_a_library_does_not_know_comes_last(log: Log) -> None:
    columns = np.arange(NUM_ITEMS)
    unknown = int(log.validation_targets[2])
    columns[unknown - 1] = -1
    ranks = validation_ranks(log, lambda histories: torch.ones(len(histories), NUM_ITEMS), columns)["ranks"]
    same = log.validation_targets == unknown
    assert ranks == np.where(same, NUM_ITEMS, NUM_ITEMS - 1).tolist()


def test_padding_keeps_the_last_items_on_either_side() -> None:
    rows = [np.array([1, 2, 3, 4]), np.array([5])]
    assert padded(rows, 3, fill=0, left=True).tolist() == [[2, 3, 4], [0, 0, 5]]
    assert padded(rows, 3, fill=9, left=False).tolist() == [[2, 3, 4], [5, 9, 9]]
