"""Segments of cases, and their figures against those of the cases alone."""

import numpy as np
import polars as pl
import pytest

from seqdiffrec.data.corpus import Sequences
from seqdiffrec.data.split import Cases
from seqdiffrec.evaluation.background import Background, Categories
from seqdiffrec.evaluation.metrics import hit_rate, mrr, ndcg
from seqdiffrec.evaluation.ranking import Ranks
from seqdiffrec.evaluation.segments import make_segments, segment_figures

LENGTHS = [1, 2, 4, 5, 6, 7, 20, 21, 40]
TARGETS = [1, 2, 3, 4, 5, 1, 1, 2, 3]
# Item 1 was taken by three people, 2 by two, 3 and 4 by one, 5 by nobody: the first fifth of five is item 1 alone.
BACKGROUND = Background.of(np.array([0, 1, 2, 0, 1, 2, 3]), np.array([1, 1, 1, 2, 2, 3, 4]), 5)


@pytest.fixture
def cases() -> Cases:
    ends = np.cumsum(LENGTHS)
    items = np.ones(ends[-1], np.int32)
    return Cases(np.arange(9), Sequences(items, ends - LENGTHS, ends), np.array(TARGETS, np.int32))


def test_who_is_in_which_segment(cases) -> None:
    genres = Categories.of(pl.Series([["a"], ["a", "b"], None, ["b"], ["b"]]))
    found = {one.name: (one.told, one.cases.tolist()) for one in make_segments(cases, BACKGROUND, genres)}
    assert list(found)[:2] == ["all", "short history"] and list(found)[-2:] == ["a", "b"]
    assert found["all"] == ("", list(range(9)))
    assert found["short history"] == ("at most 4 actions", [0, 1, 2])
    assert found["middle history"] == ("5 to 7 actions", [3, 4, 5])
    assert found["long history"] == ("more than 7 actions", [6, 7, 8])
    assert found["new user"] == ("fewer than 5 actions", [0, 1, 2])
    assert found["popular target"][1] == [0, 5, 6]
    assert found["rare target"][1] == [1, 2, 3, 7, 8]
    assert found["new target"][1] == [4]
    assert found["a"][1] == [0, 1, 5, 6, 7] and found["b"][1] == [1, 3, 4, 7]  # the more frequent first


def test_segments_without_cases_are_left_out(cases) -> None:
    same = Cases(cases.users[:3], Sequences(np.ones(9, np.int32), np.arange(3), np.arange(3) + 6), cases.targets[:3])
    names = [one.name for one in make_segments(same, BACKGROUND)]
    assert names == ["all", "short history", "popular target", "rare target"]


def test_figures_are_those_of_the_cases_alone(cases) -> None:
    kept = np.array([1, 3, 30, 2, 11, 5, 1, 9, 12])
    ranks = Ranks(cases.users, cases.targets, kept, np.maximum(kept - 2, 1))
    segments = make_segments(cases, BACKGROUND)
    for segment, found in zip(segments, segment_figures(ranks, segments, 10), strict=True):
        assert (found["segment"], found["users"]) == (segment.name, len(segment.cases))
        for protocol, of in (("seen_kept", ranks.seen_kept), ("seen_removed", ranks.seen_removed)):
            here = of[segment.cases]
            expected = {"HR@10": hit_rate(here, 10), "NDCG@10": ndcg(here, 10), "MRR@10": mrr(here, 10)}
            assert {name: one["value"] for name, one in found[protocol].items()} == pytest.approx(expected)
            assert all(one["low"] - 1e-9 <= one["value"] <= one["high"] + 1e-9 for one in found[protocol].values())
    with pytest.raises(ValueError, match="integer of at least 1"):
        segment_figures(ranks, segments, 0)
