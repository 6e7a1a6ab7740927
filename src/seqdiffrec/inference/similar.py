"""Items that are alike, as a model sees them."""

from collections.abc import Iterable
from typing import Any

import polars as pl
import torch
from jaxtyping import Bool
from torch import Tensor

from seqdiffrec.inference.ids import columns_of
from seqdiffrec.inference.ranking import Lists, as_frame
from seqdiffrec.models import SequenceModel
from seqdiffrec.models.top import best

BLOCK = 64


def similar_items(
    model: SequenceModel, items: Iterable[Any], k: int, allowed: Bool[Tensor, " V"], vocabulary: pl.DataFrame
) -> pl.DataFrame:
    """The k items that are most alike to each of `items`, itself left out; of those that are allowed.

    Returns a frame similar_to, item_id, score (the model's similarity), rank (from 1), and title where titles are
    known. Raises SettingError for an unknown item, or a model that does not know which items are alike.
    """
    columns = columns_of(items, vocabulary).to(model.item_counts.device)
    rows: list[int] = []
    alike: list[int] = []
    scores: list[float] = []
    for start in range(0, len(columns), BLOCK):
        asked = columns[start : start + BLOCK]
        similarity = model.similarity(asked + 1).masked_fill(~allowed.to(columns.device), -torch.inf)
        similarity[torch.arange(len(asked)), asked] = -torch.inf
        top = best(similarity, k)
        row, place = torch.nonzero(top.probabilities > -torch.inf, as_tuple=True)
        rows += (start + row).tolist()
        alike += (top.columns[row, place] + 1).tolist()
        scores += top.probabilities[row, place].tolist()
    keys = vocabulary.select(pl.col("item_id").gather(columns.cpu().numpy()).alias("similar_to"))
    return as_frame(keys, Lists(rows, alike, scores), vocabulary)
