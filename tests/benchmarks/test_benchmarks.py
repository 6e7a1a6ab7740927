"""The count of operations, the pairing of laps and the reference are right; nothing here is timed."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.operations import forward_flop, padded_work, training_flop, work_of
from benchmarks.own_worker import OwnSystem, batches, first
from benchmarks.padded_sasrec import PaddedSASRec, padded
from benchmarks.pairs import Lap, ratios, take_turns
from benchmarks.protocol import Log
from benchmarks.tables import command, shown
from benchmarks.workload import Workload, generated
from seqdiffrec.data.batches import RaggedBatch, history_batch
from seqdiffrec.models import DiffRec, DiffRecConfig, SASRec, SASRecConfig
from seqdiffrec.training import TrainingConfig

TINY = {"hidden_size": 4, "num_layers": 2, "num_heads": 2, "feed_forward_factor": 2, "max_length": 6, "dropout": 0.0}
NUM_ITEMS = 10


def batch(lengths: list[int], rows: list[int], places: list[int]) -> RaggedBatch:
    rng = np.random.default_rng(0)
    draw = [rng.integers(1, NUM_ITEMS + 1, count) for count in (sum(lengths), len(rows))]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    nothing = np.zeros(0), np.zeros(0), np.zeros_like(offsets), np.full(len(rows), -1)
    return RaggedBatch(*(torch.as_tensor(part) for part in (draw[0], offsets, rows, places, draw[1], *nothing)))


# d = 4, f = 2, V = 10: a whole place takes 2 (4 + 4) 16 = 256, key and value 64, a pair 16, a target 80.
def test_operations_of_a_shared_history_by_hand() -> None:
    model = DiffRec(DiffRecConfig(**TINY, attention="shared_history"), NUM_ITEMS)
    work = work_of(model, batch([3, 1], rows=[0, 0, 1], places=[2, 3, 1]))
    # 4 items and 3 targets. Items see 1 + 2 + 3 and 1 places, targets 3, 4 and 2; only targets are read at the end.
    forward = (4 + 3) * 256 + 16 * (7 + 9) + 3 * 256 + 4 * 64 + 16 * 9 + 3 * 80
    assert training_flop(work, model.config, NUM_ITEMS) == 3 * forward
    # Ranked by 5 draws: one pass over the 4 items, 5 targets each, which see 4 and 2 places.
    asked = work_of(model, batch([3, 1], rows=[0, 1], places=[3, 1]), draws=5)
    forward = (4 + 10) * 256 + 16 * (7 + 30) + 10 * 256 + 4 * 64 + 16 * 30 + 10 * 80
    assert forward_flop(asked, model.config, NUM_ITEMS) == forward


def test_operations_where_the_history_is_read_too_by_hand() -> None:
    model = DiffRec(DiffRecConfig(**TINY, attention="shared_history", history_skip=True), NUM_ITEMS)
    asked = work_of(model, batch([3, 1], rows=[0, 1], places=[3, 1]), draws=5)
    # As above, and the newest items, once for all draws: 2 places that go through the last layer, and see 3 and 1.
    forward = (4 + 10) * 256 + 16 * (7 + 30) + (10 + 2) * 256 + (4 - 2) * 64 + 16 * (30 + 4) + 10 * 80
    assert forward_flop(asked, model.config, NUM_ITEMS) == forward
    # Trained by 3 draws of each target, every one of them reads its newest item: its query and what follows, not its
    # key and value, which are there once.
    trained = work_of(model, batch([3, 1], rows=[0, 1], places=[3, 1]).repeat_targets(3))
    forward = (4 + 6) * 256 + 16 * (7 + 18) + 6 * 256 + 6 * (256 - 64) + 4 * 64 + 16 * (18 + 12) + 6 * 80
    assert training_flop(trained, model.config, NUM_ITEMS) == 3 * forward


def test_operations_of_bidirectional_attention_by_hand() -> None:
    model = DiffRec(DiffRecConfig(**TINY), NUM_ITEMS)
    work = work_of(model, batch([3, 1], rows=[0, 1], places=[3, 1]))
    # sequences of 4 and 2 places, targets included
    forward = (4 + 2) * 256 + 16 * (16 + 4) + 2 * 256 + 4 * 64 + 16 * (4 + 2) + 2 * 80
    assert training_flop(work, model.config, NUM_ITEMS) == 3 * forward
    asked = work_of(model, batch([3, 1], rows=[0, 1], places=[3, 1]), draws=5)
    # Four times the query, key and value of the first layer, 96, are not computed again for the 4 items.
    assert forward_flop(asked, model.config, NUM_ITEMS) == 5 * forward - 4 * 4 * 96


def test_operations_of_sasrec_and_of_padded_rows_by_hand() -> None:
    config = SASRecConfig(**TINY)
    work = work_of(SASRec(config, NUM_ITEMS), batch([3, 1], rows=[0, 0, 1], places=[2, 3, 1]))
    forward = 4 * 256 + 16 * 7 + 3 * 256 + 1 * 64 + 16 * (2 + 3 + 1) + 3 * 80
    assert training_flop(work, config, NUM_ITEMS) == 3 * forward
    rows_of_5 = 2 * (2 * 5 * 256 + 16 * 2 * 25) + 2 * 80
    assert training_flop(padded_work(2, 5), config, NUM_ITEMS) == 3 * rows_of_5


@pytest.mark.parametrize("tied", [True, False])
def test_operations_are_those_that_torch_counts(tied: bool) -> None:
    """32 sequences of 8 places leave nothing to pad, and torch's softmax has the row of padding more than ours.

    Untied, the items' biases are two columns more of the output's product, which we do not count.
    """
    torch.manual_seed(0)
    model = DiffRec(DiffRecConfig(**TINY | {"max_length": 8, "tied_output": tied}), NUM_ITEMS)
    biases = 0 if tied else 32 * 2 * 2 * (NUM_ITEMS + 1)
    whole = batch([7] * 32, rows=list(range(32)), places=[7] * 32)
    with FlopCounterMode(display=False) as counted:
        model.loss(whole).total.backward()
    assert counted.get_total_flops() == biases + training_flop(work_of(model, whole), model.config, NUM_ITEMS + 1)


def test_systems_take_turns_and_are_compared_within_a_round() -> None:
    order: list[str] = []
    now = 0.0

    def task(name: str, seconds: list[float], units: int) -> Iterator[int]:
        nonlocal now
        for lap in seconds:
            order.append(name)
            now += lap
            yield units

    # The machine slows down by a factor of ten in the middle: rates move, ratios do not.
    slow = task("slow", [2, 2, 20, 20, 20, 4], units=10)
    fast = task("fast", [1, 1, 10, 10, 10, 1], units=20)
    tasks = {"slow": lambda: next(slow), "fast": lambda: next(fast)}
    laps = take_turns(tasks, 6, clock=lambda: now)
    assert order == ["slow", "fast", "fast", "slow"] * 3
    assert laps["fast"][2] == Lap(units=20, seconds=10)
    against = ratios(laps, "slow")
    assert vars(against["fast"]) == {"median": 4, "least": 4, "greatest": 8}
    assert vars(against["slow"]) == {"median": 1, "least": 1, "greatest": 1}


def test_too_few_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="4 rounds are too few"):
        take_turns({}, 4)


def test_the_reference_computes_what_sasrec_computes() -> None:
    torch.manual_seed(0)
    config = SASRecConfig(**TINY)
    ours, reference = SASRec(config, NUM_ITEMS), PaddedSASRec(config, NUM_ITEMS)
    reference.load_state_dict(as_torch_names(ours.state_dict()))
    one_a_row = batch([3, 1, 5], rows=[0, 1, 2], places=[3, 1, 5])
    expected = reference.loss(padded(one_a_row, 6), one_a_row.targets)
    assert ours.loss(one_a_row).total.item() == pytest.approx(expected.item(), abs=1e-6)


def as_torch_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {
        "table.embedding": "item",
        "position": "position",
        "encoder.input_norm": "norm",
        ".output.": ".self_attn.out_proj.",
        ".attention_norm.": ".norm1.",
        ".feed_forward_norm.": ".norm2.",
        ".wide.": ".linear1.",
        ".narrow.": ".linear2.",
    }
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith(("item_counts", ".key_value.weight", ".key_value.bias")):
            continue
        if ".query." in name:
            together = torch.cat([tensor, state[name.replace("query", "key_value")]])
            renamed[name.replace("query.", "self_attn.in_proj_")] = together
            continue
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        renamed[name] = tensor
    return renamed


def log_of(lengths: list[int]) -> Log:
    items = np.random.default_rng(0).integers(1, NUM_ITEMS + 1, sum(lengths)).astype(np.int32)
    return Log(items, np.concatenate([[0], np.cumsum(lengths)]), NUM_ITEMS)


@pytest.mark.parametrize(("attention", "draws"), [("bidirectional", 1), ("shared_history", 1), ("shared_history", 3)])
def test_a_step_trains_through_the_trainer_and_ranking_lets_it_go_on(attention: str, draws: int) -> None:
    split = Workload(log_of([6] * 10), "").split
    model = DiffRec(DiffRecConfig(**TINY, attention=attention, noise_draws=draws), NUM_ITEMS)
    before = model.table.embedding.weight.detach().clone()
    system = OwnSystem(model, model.config, split, TrainingConfig(device="cpu"))
    assert system.step() == 30  # 3 targets in each of 10 sequences, all in one batch
    answer = system.rank()
    assert answer["cases"] == 10 and all(1 <= rank <= NUM_ITEMS for rank in answer["ranks"])
    work = work_of(model, history_batch(first(split.test, 4).histories, 6), draws=2)
    assert system.rank(part="test", seeds=2, cases=4, list_ranks=False) == {"cases": 4}
    counted = system.count(part="test", seeds=2, cases=4)
    assert counted == {"flop": forward_flop(work, model.config, NUM_ITEMS)}
    assert model.training
    assert system.step() == 30
    expected = next(batches(split.train, 6, 256, shared=model.shares_history, seed=0))
    assert system.flop == 2 * training_flop(work_of(model, expected.repeat_targets(draws)), model.config, NUM_ITEMS)
    assert not torch.equal(model.table.embedding.weight, before)


def test_the_made_up_log_has_the_size_and_the_lengths_of_beauty() -> None:
    log = generated()
    lengths = np.diff(log.offsets)
    assert (len(lengths), log.num_items) == (22_363, 12_101)
    assert lengths.mean() == pytest.approx(8.88, abs=0.1)  # 198,502 actions / 22,363 users
    assert np.median(lengths) == 6
    assert (lengths.min(), lengths.max()) == (5, pytest.approx(204, abs=40))
    assert (log.items.min(), log.items.max()) == (1, log.num_items)


def test_made_up_logs_of_other_sizes() -> None:
    log = generated(50, 7, length=12)
    assert [len(row) for row in log.training] == [12] * 50 and set(log.items) == set(range(1, 8))
    assert log.num_targets == 50 * 11


@pytest.mark.parametrize("words", [["--data-root", "/home/me/data"], ["--data-root=/home/me/data"]])
def test_a_record_says_how_to_make_it_again_but_not_where_the_data_lie(words: list[str]) -> None:
    said = command(["training", *words, "--save"])
    assert "home" not in said
    assert said.replace("=", " ") == "python -m benchmarks training --data-root DIR --save"


def test_figures_are_shown_with_three_digits_and_their_spread() -> None:
    assert shown({"median": 1234.5, "least": 0.012345, "greatest": 98765}) == "1,230 (0.0123 to 98,800)"
    assert shown(12.5) == "12.5"
    assert shown(None) == "–"
    assert shown(12_101) == "12,101"
