"""From probabilities to lists: the best k items of each history, without those that may not be recommended."""

import polars as pl
import torch
from torch import Tensor

from seqdiffrec.data.corpus import Sequences
from seqdiffrec.evaluation.temperature import calibrated
from seqdiffrec.models import SequenceModel
from seqdiffrec.models.nearest import Nearest
from seqdiffrec.models.top import BARRED

BLOCK = 256


def top_items(
    model: SequenceModel,
    histories: Sequences,
    k: int,
    allowed: Tensor,
    *,
    filter_viewed: bool,
    nearest: Nearest | None = None,
    temperature: float | None = None,
) -> tuple[list[int], list[int], list[float]]:
    """The best items of each history: row, item index and score of each, best first within a row.

    allowed: bool (V,), items that may be recommended at all.
    filter_viewed: leave out the items of the history, all of them.
    nearest: an index that names the items to look at, in place of all.
    temperature: of the probabilities, where they are to be calibrated; an empty history's popularity stays as it is.

    A row has fewer than k items where fewer are left. Ties go to the smaller index.
    """
    rows: list[int] = []
    items: list[int] = []
    scores: list[float] = []
    for start in range(0, len(histories), BLOCK):
        block = histories.select(slice(start, start + BLOCK))
        top = model.top_of_histories(block, k, allowed, filter_viewed=filter_viewed, nearest=nearest)
        if temperature is not None:
            top = top._replace(probabilities=_at_temperature(model, block, top.probabilities, temperature))
        row, place = torch.nonzero(top.probabilities > BARRED, as_tuple=True)
        rows += (start + row).tolist()
        items += (top.columns[row, place] + 1).tolist()
        scores += top.probabilities[row, place].tolist()
    return rows, items, scores


def _at_temperature(model: SequenceModel, block: Sequences, probabilities: Tensor, temperature: float) -> Tensor:
    found = calibrated(model.predict_histories, block, probabilities, temperature)
    empty = torch.from_numpy(block.lengths == 0).to(found.device)[:, None]
    return torch.where(empty | (probabilities == BARRED), probabilities, found)


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
