"""Negatives of a target's own: which may be drawn, and how often."""

import pytest
import torch

from seqdiffrec.losses import draw_others, draw_unseen

DRAWS = 40_000


def frequencies(drawn: torch.Tensor, size: int) -> list[float]:
    return (torch.bincount(drawn, minlength=size) / len(drawn)).tolist()


@pytest.mark.parametrize("target", [1, 3, 5])
def test_all_but_the_target_come_equally_often(target):
    torch.manual_seed(0)
    drawn = draw_others(torch.tensor([target, 2]), num_items=5, count=DRAWS)
    assert drawn.shape == (2, DRAWS)
    expected = [0.0 if item in (0, target) else 1 / 4 for item in range(6)]
    assert frequencies(drawn[0], 6) == pytest.approx(expected, abs=0.012)


def test_there_is_no_other_item_than_the_only_one():
    assert draw_others(torch.tensor([1, 1]), num_items=1, count=3).tolist() == [[0] * 3] * 2
    assert draw_others(torch.tensor([1, 2]), num_items=2, count=2).tolist() == [[2, 2], [1, 1]]


SEEN = {0: [1, 2, 7], 1: [], 2: [4, 3, 4, 6], 3: [1, 2, 3, 4, 5, 6, 7], 4: [7], 5: [1, 3, 5, 6, 7, 4]}


def test_what_a_row_has_not_seen_comes_equally_often():
    torch.manual_seed(0)
    pairs = torch.tensor([(row, item) for row, items in SEEN.items() for item in items]).T
    rows = torch.tensor([2, 0, 1, 4, 5, 2])  # in any order, and more than once
    drawn = draw_unseen(rows, *pairs[:, torch.randperm(pairs.shape[1])], num_items=7, count=DRAWS)
    assert drawn.shape == (6, DRAWS)
    for row, of_row in zip(rows.tolist(), drawn, strict=True):
        unseen = set(range(1, 8)) - set(SEEN[row])
        expected = [1 / len(unseen) if item in unseen else 0.0 for item in range(8)]
        assert frequencies(of_row, 8) == pytest.approx(expected, abs=0.012)
    assert not torch.equal(drawn[0], drawn[5])


def test_a_row_that_has_seen_all_gets_none():
    pairs = torch.tensor([(row, item) for row, items in SEEN.items() for item in items]).T
    assert draw_unseen(torch.tensor([3, 5]), *pairs, num_items=7, count=2).tolist() == [[0, 0], [2, 2]]
