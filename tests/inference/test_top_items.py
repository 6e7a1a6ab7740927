"""From lists of columns to a frame."""

import numpy as np
import polars as pl
import pytest
import torch

from seqdiffrec.data import Sequences
from seqdiffrec.inference import ranking
from seqdiffrec.inference.ranking import Lists, as_frame, top_items
from seqdiffrec.models import Popularity
from seqdiffrec.models.base import ModelConfig


@pytest.mark.parametrize("block", [1, 2, 256])
def test_rows_items_and_scores_over_blocks(monkeypatch, block):
    """Popularity 3 > 1 > 4 > 2 = 5; the second history has had three of the four that are allowed, so one is left."""
    monkeypatch.setattr(ranking, "BLOCK", block)
    model = Popularity(ModelConfig(), 5)
    model.item_counts.copy_(torch.tensor([3, 0, 4, 1, 0]))
    items, ends = np.array([1, 3, 1, 4], dtype=np.int32), np.array([1, 4, 4])
    histories = Sequences(items, np.array([0, 1, 4]), ends)
    allowed = torch.tensor([True, True, True, True, False])
    rows, found, scores = top_items(model, histories, 2, allowed, filter_viewed=True)
    assert list(zip(rows, found, scores, strict=True)) == [
        (0, 3, 0.5),
        (0, 4, 0.125),
        (1, 2, 0.0),
        (2, 3, 0.5),
        (2, 1, 0.375),
    ]


def test_the_frame_has_ids_ranks_and_titles_where_known():
    keys = pl.DataFrame({"user_id": ["x", "y", "z"]})
    vocabulary = pl.DataFrame({"item_id": [70, 80, 90], "title": ["Seventy", None, "Ninety"]})
    frame = as_frame(keys, Lists([0, 0, 2], [3, 1, 2], [0.5, 0.25, 0.125]), vocabulary)
    assert frame.rows(named=True) == [
        {"user_id": "x", "item_id": 90, "score": 0.5, "rank": 1, "title": "Ninety"},
        {"user_id": "x", "item_id": 70, "score": 0.25, "rank": 2, "title": "Seventy"},
        {"user_id": "z", "item_id": 80, "score": 0.125, "rank": 1, "title": None},
    ]
    untitled = vocabulary.with_columns(title=pl.lit(None, pl.String))
    assert as_frame(keys, Lists([], [], []), untitled).columns == ["user_id", "item_id", "score", "rank"]
