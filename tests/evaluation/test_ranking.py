"""Full ranking against a brute-force version, pytrec-eval, and cases worked by hand."""

import json
import random
import weakref

import numpy as np
import pytest
import pytrec_eval
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from seqdiffrec.data.corpus import Sequences
from seqdiffrec.data.split import Cases
from seqdiffrec.evaluation import ranking
from seqdiffrec.evaluation.ranking import Predict, Ranks, evaluate, rank_targets, report


def make_cases(histories: list[list[int]], targets: list[int], users: list[int] | None = None) -> Cases:
    lengths = np.array([len(history) for history in histories], np.int64)
    ends = np.cumsum(lengths)
    items = np.array([item for history in histories for item in history], np.int32)
    rows = np.arange(len(targets)) if users is None else np.array(users)
    return Cases(rows.astype(np.int64), Sequences(items, ends - lengths, ends), np.array(targets, np.int32))


def in_order(scores: Tensor) -> Predict:
    """A predictor that hands out the rows of `scores` block after block."""
    done = 0

    def predict(histories: Sequences) -> Tensor:
        nonlocal done
        done += len(histories)
        return scores[done - len(histories) : done]

    return predict


def rank_by_hand(scores: list[float], target: int, left_out: set[int]) -> int:
    """Sort the candidates, the target behind all that tie with it, and look up its place."""
    candidates = [item for item in range(1, len(scores) + 1) if item == target or item not in left_out]
    candidates.sort(key=lambda item: (-scores[item - 1], item == target))
    return candidates.index(target) + 1


@st.composite
def ranking_problems(draw: st.DrawFn) -> tuple[int, list[list[int]], list[int], list[list[float]]]:
    num_items = draw(st.integers(1, 8))
    num_cases = draw(st.integers(1, 6))
    item = st.integers(1, num_items)
    few_values = st.sampled_from([-1.5, 0.0, 0.25, 3.0])  # few, so that ties abound
    histories = draw(st.lists(st.lists(item, max_size=12), min_size=num_cases, max_size=num_cases))
    targets = draw(st.lists(item, min_size=num_cases, max_size=num_cases))
    row = st.lists(few_values, min_size=num_items, max_size=num_items)
    return num_items, histories, targets, draw(st.lists(row, min_size=num_cases, max_size=num_cases))


@settings(max_examples=200, deadline=None)
@given(ranking_problems(), st.integers(1, 7))
def test_equals_brute_force_at_any_block_size(problem, block_size: int) -> None:
    num_items, histories, targets, scores = problem
    cases = make_cases(histories, targets)
    ranks = rank_targets(in_order(torch.tensor(scores)), cases, num_items, block_size=block_size)
    by_hand = list(zip(scores, targets, histories, strict=True))
    assert ranks.seen_kept.tolist() == [rank_by_hand(s, t, set()) for s, t, _ in by_hand]
    assert ranks.seen_removed.tolist() == [rank_by_hand(s, t, set(h)) for s, t, h in by_hand]


def test_equals_pytrec_eval_without_ties() -> None:
    generator = torch.Generator().manual_seed(3)
    num_cases, num_items, ks = 60, 50, (1, 5, 10, 20)
    scores = torch.stack([torch.randperm(num_items, generator=generator) for _ in range(num_cases)]).float()
    choose = random.Random(3)
    histories = [choose.choices(range(1, num_items + 1), k=choose.randint(0, 30)) for _ in range(num_cases)]
    targets = [choose.randint(1, num_items) for _ in range(num_cases)]
    result = evaluate(in_order(scores), make_cases(histories, targets), num_items, ks, block_size=7)

    relevant = {str(row): {str(target): 1} for row, target in enumerate(targets)}
    cutoffs = ",".join(map(str, ks))
    evaluator = pytrec_eval.RelevanceEvaluator(
        relevant, {f"ndcg_cut.{cutoffs}", f"success.{cutoffs}", f"recall.{cutoffs}", "recip_rank"}
    )
    for protocol in ("seen_kept", "seen_removed"):
        runs = {
            str(row): {
                str(item): scores[row, item - 1].item()
                for item in range(1, num_items + 1)
                if protocol == "seen_kept" or item == targets[row] or item not in histories[row]
            }
            for row in range(num_cases)
        }
        theirs = evaluator.evaluate(runs).values()
        mine = result[protocol]
        for k in ks:
            assert mine[f"NDCG@{k}"] == pytest.approx(np.mean([case[f"ndcg_cut_{k}"] for case in theirs]), abs=1e-12)
            assert mine[f"HR@{k}"] == pytest.approx(np.mean([case[f"success_{k}"] for case in theirs]), abs=1e-12)
            assert mine[f"HR@{k}"] == pytest.approx(np.mean([case[f"recall_{k}"] for case in theirs]), abs=1e-12)
        assert mine["MRR"] == pytest.approx(np.mean([case["recip_rank"] for case in theirs]), abs=1e-12)
    assert result["seen_kept"] != result["seen_removed"]


def test_the_two_protocols_by_hand() -> None:
    scores = torch.tensor([[9.0, 8.0, 7.0, 6.0, 5.0]])
    # Item 4 stands behind 1, 2, 3. Of those 1 and 2 were seen (2 twice); item 5 was seen too but stands behind.
    ranks = rank_targets(in_order(scores), make_cases([[2, 1, 5, 2]], [4]), 5)
    assert (ranks.seen_kept.tolist(), ranks.seen_removed.tolist()) == ([4], [2])


def test_a_target_that_was_seen_stays_a_candidate() -> None:
    scores = torch.tensor([[9.0, 8.0, 7.0]])
    ranks = rank_targets(in_order(scores), make_cases([[3, 1, 3]], [3]), 3)
    assert (ranks.seen_kept.tolist(), ranks.seen_removed.tolist()) == ([3], [2])  # only item 1 leaves


def test_an_empty_history_removes_nothing() -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    ranks = rank_targets(in_order(scores), make_cases([[], [3]], [1, 1]), 3)
    assert (ranks.seen_kept.tolist(), ranks.seen_removed.tolist()) == ([3, 3], [3, 2])


def test_equal_scores_give_the_last_rank() -> None:
    cases = make_cases([[1, 2], [], [4, 4, 5]], [3, 1, 4])
    ranks = rank_targets(lambda histories: torch.zeros(len(histories), 6), cases, 6)
    assert ranks.seen_kept.tolist() == [6, 6, 6]
    assert ranks.seen_removed.tolist() == [4, 6, 5]  # the last among the candidates that are left


@pytest.mark.parametrize("limit", [1, 3, 4, 50])
def test_stretches_of_the_catalogue_are_counted_together(monkeypatch, limit: int) -> None:
    monkeypatch.setattr(ranking, "EXACT_SUM", limit)
    scores = torch.randint(0, 5, (9, 10), generator=torch.Generator().manual_seed(5)).float()
    targets = [1 + row for row in range(9)]
    ranks = rank_targets(in_order(scores), make_cases([[]] * 9, targets), 10, block_size=4)
    assert ranks.seen_kept.tolist() == [
        rank_by_hand(s, t, set()) for s, t in zip(scores.tolist(), targets, strict=True)
    ]


def test_a_rank_that_float32_cannot_hold() -> None:
    """All items tie, so the target has the last rank: 2^24 + 1, which float32 rounds."""
    num_items = 2**24 + 1
    ranks = rank_targets(in_order(torch.ones(1, num_items)), make_cases([[7, 8]], [num_items]), num_items)
    assert (ranks.seen_kept.tolist(), ranks.seen_removed.tolist()) == ([num_items], [num_items - 2])


def test_one_row_of_counts_for_everybody() -> None:
    counts = torch.tensor([5.0, 9.0, 9.0, 1.0, 5.0])
    cases = make_cases([[2], [2, 3], [4]], [1, 5, 2])
    ranks = rank_targets(lambda histories: counts.expand(len(histories), -1), cases, 5, block_size=2)
    assert ranks.seen_kept.tolist() == [4, 4, 2]
    assert ranks.seen_removed.tolist() == [3, 2, 2]
    assert counts.tolist() == [5.0, 9.0, 9.0, 1.0, 5.0]  # the predictor's own tensor is not written to


def test_differences_in_the_last_bit_of_float32_are_seen() -> None:
    low = torch.tensor(1.0)
    scores = torch.stack([low, torch.nextafter(low, torch.tensor(2.0)), low - 1])[None]
    ranks = rank_targets(in_order(scores.repeat(2, 1)), make_cases([[], []], [1, 2]), 3)
    assert ranks.seen_kept.tolist() == [2, 1]


def test_ranks_say_whose_they_are() -> None:
    cases = make_cases([[1], [2]], [2, 1], users=[40, 7])
    ranks = rank_targets(lambda histories: torch.zeros(len(histories), 2), cases, 2)
    assert (ranks.users.tolist(), ranks.targets.tolist()) == ([40, 7], [2, 1])
    assert ranks.seen_kept.dtype == ranks.seen_removed.dtype == np.int64


def test_one_block_of_scores_is_held_at_a_time() -> None:
    blocks: list[int] = []
    earlier: list[weakref.ref[Tensor]] = []

    def predict(histories: Sequences) -> Tensor:
        assert all(scores() is None for scores in earlier)
        blocks.append(len(histories))
        scores = torch.zeros(len(histories), 3)
        earlier.append(weakref.ref(scores))
        return scores

    told: list[tuple[int, int]] = []
    cases = make_cases([[1]] * 10, [2] * 10)
    rank_targets(predict, cases, 3, block_size=4, progress=lambda done, total: told.append((done, total)))
    assert blocks == [4, 4, 2]
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_the_predictor_gets_each_cases_own_history() -> None:
    histories = [[3, 1], [2], [], [1, 2, 3, 3]]
    got: list[list[int]] = []

    def predict(sequences: Sequences) -> Tensor:
        assert not torch.is_grad_enabled()
        got.extend(sequences[row].tolist() for row in range(len(sequences)))
        return torch.zeros(len(sequences), 3)

    rank_targets(predict, make_cases(histories, [1, 1, 1, 1]), 3, block_size=3)
    assert got == histories


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_not_finite_are_refused_with_the_user(value: float) -> None:
    scores = torch.zeros(3, 4)
    scores[2, 1] = value
    cases = make_cases([[1], [2], [3]], [2, 3, 4], users=[5, 6, 77])
    with pytest.raises(ValueError, match=rf"user row 77 are not finite: item index 2 has {value}"):
        rank_targets(in_order(scores), cases, 4, block_size=2)


def test_both_infinities_in_a_row_do_not_hide_each_other() -> None:
    scores = torch.tensor([[float("inf"), 0.0, float("-inf")]])
    with pytest.raises(ValueError, match="item index 1 has inf"):
        rank_targets(in_order(scores), make_cases([[]], [2]), 3)


def test_finite_scores_whose_sum_overflows_are_ranked() -> None:
    scores = torch.tensor([[3e38, 2e38, 1e38]])
    assert rank_targets(in_order(scores), make_cases([[]], [2]), 3).seen_kept.tolist() == [2]


def test_scores_of_another_shape_or_type_are_refused() -> None:
    cases = make_cases([[1], [2]], [2, 1])
    with pytest.raises(ValueError, match=r"shape \(2, 3\).*not \(2, 4\)"):  # a column for padding
        rank_targets(lambda histories: torch.zeros(len(histories), 4), cases, 3)
    with pytest.raises(ValueError, match=r"float32 scores, not torch\.bfloat16"):
        rank_targets(lambda histories: torch.zeros(len(histories), 3, dtype=torch.bfloat16), cases, 3)


@pytest.mark.parametrize(
    ("history", "target", "what"), [([1], 4, "target"), ([1], 0, "target"), ([2, 0], 1, "history")]
)
def test_items_outside_the_catalogue_are_refused(history: list[int], target: int, what: str) -> None:
    cases = make_cases([[1], history], [1, target], users=[3, 8])
    with pytest.raises(ValueError, match=rf"the {what} of user row 8 .*outside 1\.\.3"):
        rank_targets(lambda histories: torch.zeros(len(histories), 3), cases, 3)


def test_a_block_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="block_size must be at least 1, not 0"):
        rank_targets(lambda histories: torch.zeros(len(histories), 3), make_cases([[1]], [2]), 3, block_size=0)


def test_evaluate_reports_both_protocols() -> None:
    scores = torch.tensor([[9.0, 8.0, 7.0], [1.0, 2.0, 3.0]])
    cases = make_cases([[1], [3, 2]], [2, 1])
    result = evaluate(in_order(scores), cases, 3, [1, 2])
    assert result["seen_kept"] == pytest.approx(
        {"HR@1": 0, "NDCG@1": 0, "MRR@1": 0, "HR@2": 0.5, "NDCG@2": 0.5 / np.log2(3), "MRR@2": 0.25, "MRR": 5 / 12}
    )
    assert result["seen_removed"] == dict.fromkeys(result["seen_kept"], 1.0)
    assert (result["cases"], result["num_items"], result["ties"]) == (2, 3, "against the model")
    assert json.loads(json.dumps(result)) == result
    assert report(rank_targets(in_order(scores), cases, 3), 3, [1, 2]) == result


def test_evaluate_refuses_a_cutoff_before_it_asks_for_scores() -> None:
    def predict(histories: Sequences) -> Tensor:
        raise AssertionError("asked for scores")

    with pytest.raises(ValueError, match="catalogue of 3 items"):
        evaluate(predict, make_cases([[1]], [2]), 3, [10])


def test_evaluate_refuses_a_split_without_cases() -> None:
    with pytest.raises(ValueError, match="no cases"):
        evaluate(lambda histories: torch.zeros(len(histories), 3), make_cases([], []), 3, [1])
    none = rank_targets(lambda histories: torch.zeros(len(histories), 3), make_cases([], []), 3)
    assert isinstance(none, Ranks)
    assert len(none.seen_kept) == 0
