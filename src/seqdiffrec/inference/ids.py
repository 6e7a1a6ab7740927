"""The user's own item ids, looked up in a model's vocabulary."""

import logging
from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from seqdiffrec.data.vocabulary import places_of
from seqdiffrec.models.settings import SettingError

log = logging.getLogger("seqdiffrec")


def columns_of(item_ids: Iterable[Any], vocabulary: pl.DataFrame) -> Int64[Tensor, " n"]:
    """The column of each item. Raises SettingError for an id that is not in the catalogue."""
    ids = list(item_ids)
    places = places_of(ids, vocabulary["item_id"])
    if (places < 0).any():
        unknown = [ids[place] for place in np.flatnonzero(places < 0)[:3].tolist()]
        raise SettingError(f"items {unknown} are not in the catalogue of {len(vocabulary)} items")
    return torch.tensor(places)


def known_items(history: Iterable[Any], name: str, vocabulary: pl.DataFrame) -> NDArray[np.int32]:
    """The item indices of a history; those that the vocabulary lacks are left out, with a warning that counts them.

    name: what the warning calls the history.
    """
    ids = list(history)
    places = places_of(ids, vocabulary["item_id"]) if ids else np.empty(0, np.int64)
    unknown = [ids[place] for place in np.flatnonzero(places < 0).tolist()]
    if unknown:
        named = ", ".join(repr(item) for item in unknown[:3])
        log.warning("%s: %d of %d items are unknown and skipped: %s", name, len(unknown), len(ids), named)
    return (places[places >= 0] + 1).astype(np.int32)
