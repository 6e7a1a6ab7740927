"""The best k of each history, against a sort written out."""

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqdiffrec.data import Sequences
from seqdiffrec.inference import ranking
from seqdiffrec.inference.ranking import as_frame, top_items

V = 6


def sequences(histories: list[list[int]]) -> Sequences:
    ends = np.cumsum([len(history) for history in histories], dtype=np.int64)
    items = np.array([item for history in histories for item in history], dtype=np.int32)
    return Sequences(items, ends - [len(history) for history in histories], ends)


# Few different scores, zero among them, so that ties and impossible items come up.
row = st.lists(st.sampled_from([0.0, 0.125, 0.25, 0.5]), min_size=V, max_size=V)
history = st.lists(st.integers(1, V), max_size=4)


@given(
    st.lists(st.tuples(history, row), min_size=1, max_size=5),
    st.integers(1, V),
    st.lists(st.booleans(), min_size=V, max_size=V),
    st.booleans(),
)
def test_against_a_sort(cases, k, allowed, filter_viewed):
    histories, scores = [case[0] for case in cases], [case[1] for case in cases]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "BLOCK", 2)  # so that there are several blocks
        table = iter([torch.tensor(scores[start : start + 2]) for start in range(0, len(scores), 2)])
        found = top_items(
            lambda block: next(table), sequences(histories), k, torch.tensor(allowed), filter_viewed=filter_viewed
        )
    expected = []
    for number, (viewed, of) in enumerate(cases):
        left = [i for i in range(1, V + 1) if allowed[i - 1] and not (filter_viewed and i in viewed)]
        best = sorted(left, key=lambda i: (-of[i - 1], i))[:k]
        expected += [(number, item, of[item - 1]) for item in best]
    assert list(zip(*found, strict=True)) == expected


def test_the_frame_has_ids_ranks_and_titles_where_known():
    keys = pl.Series("user_id", ["x", "y", "z"])
    vocabulary = pl.DataFrame({"item_id": [70, 80, 90], "title": ["Seventy", None, "Ninety"]})
    frame = as_frame(keys, [0, 0, 2], [3, 1, 2], [0.5, 0.25, 0.125], vocabulary)
    assert frame.rows(named=True) == [
        {"user_id": "x", "item_id": 90, "score": 0.5, "rank": 1, "title": "Ninety"},
        {"user_id": "x", "item_id": 70, "score": 0.25, "rank": 2, "title": "Seventy"},
        {"user_id": "z", "item_id": 80, "score": 0.125, "rank": 1, "title": None},
    ]
    untitled = vocabulary.with_columns(title=pl.lit(None, pl.String))
    assert as_frame(keys, [], [], [], untitled).columns == ["user_id", "item_id", "score", "rank"]
