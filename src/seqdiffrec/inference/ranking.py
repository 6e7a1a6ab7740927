"""From probabilities to lists: the best k items of each history, without those that may not be recommended."""

from collections.abc import Callable

import polars as pl
import torch
from torch import Tensor

from seqdiffrec.data.corpus import Sequences

BLOCK = 256


def top_items(
    predict: Callable[[Sequences], Tensor], histories: Sequences, k: int, allowed: Tensor, *, filter_viewed: bool
) -> tuple[list[int], list[int], list[float]]:
    """The best items of each history: row, item index and score of each, best first within a row.

    predict: histories to probabilities (B, V), column j for item index j + 1.
    allowed: bool (V,), items that may be recommended at all.
    filter_viewed: leave out the items of the history, all of them.

    A row has fewer than k items where fewer are left. Ties go to the smaller index.
    """
    rows: list[int] = []
    items: list[int] = []
    scores: list[float] = []
    for start in range(0, len(histories), BLOCK):
        block = histories.select(slice(start, start + BLOCK))
        probabilities = predict(block).cpu()
        probabilities = probabilities.masked_fill(~allowed, -1.0)
        if filter_viewed:
            for row in range(len(block)):
                probabilities[row, torch.from_numpy(block[row].astype("int64")) - 1] = -1.0
        value, column = torch.sort(probabilities, dim=1, descending=True, stable=True)
        for row in range(len(block)):
            count = int((value[row, :k] >= 0).sum())
            rows += [start + row] * count
            items += (column[row, :count] + 1).tolist()
            scores += value[row, :count].tolist()
    return rows, items, scores


def as_frame(
    keys: pl.Series, rows: list[int], items: list[int], scores: list[float], vocabulary: pl.DataFrame
) -> pl.DataFrame:
    """Columns: the key's name, item_id, score, rank (from 1), and title where the vocabulary has titles."""
    index = pl.Series(rows, dtype=pl.Int64)
    column = pl.Series(items, dtype=pl.Int64) - 1
    frame = pl.DataFrame(
        {
            keys.name: keys.gather(index),
            "item_id": vocabulary["item_id"].gather(column),
            "score": pl.Series(scores, dtype=pl.Float64),
            "rank": pl.int_range(1, len(rows) + 1, eager=True) - index.search_sorted(index, side="left"),
        }
    )
    if vocabulary["title"].null_count() < len(vocabulary):
        frame = frame.with_columns(vocabulary["title"].gather(column).alias("title"))
    return frame
