"""What a model says to the questions of callers, in numbers: item indices and probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from seqdiffrec.data import Sequences
from seqdiffrec.inference import Recommender
from seqdiffrec.inference.index import ItemIndex
from seqdiffrec.inference.ranking import Lists, top_items, top_items_each_seed
from seqdiffrec.models import SequenceModel
from seqdiffrec.models.settings import SettingError
from seqdiffrec.training import RunError

NO_ITEMS = np.empty(0, np.int32)

Row = list[tuple[int, float]]
"""A list, best first: item index, from 1, and probability."""


@dataclass(frozen=True)
class How:
    """What kind of list is wanted. Questions with the same are answered together.

    excluded, only: item indices in rising order; ``only`` None allows all.
    """

    k: int
    filter_viewed: bool = True
    seeds: int | None = None
    picks: bool = False
    excluded: tuple[int, ...] = ()
    only: tuple[int, ...] | None = None


class Found(NamedTuple):
    """The list after a history, and those of each noise draw where they were asked for."""

    best: Row
    picks: list[Row] | None


def index_of(recommender: Recommender) -> ItemIndex:
    """The index that was built for a run. Raises RunError where there is none, or it cannot be read."""
    try:
        return recommender.index
    except SettingError as error:
        raise RunError(str(error)) from error


def find(
    model: SequenceModel, histories: Sequence[NDArray[np.int32]], how: How, index: ItemIndex | None = None
) -> list[Found]:
    """The lists after some histories, int32 (n,) each, in one pass of the model (in another one for the picks).

    index: names the items to look at, in place of all; not for the picks.
    """
    lengths = np.array([len(history) for history in histories], dtype=np.int64)
    ends = np.cumsum(lengths)
    asked = Sequences(np.concatenate([NO_ITEMS, *histories]), ends - lengths, ends)
    of = model, asked, min(how.k, model.num_items), _allowed(how, model.num_items)
    top = top_items(*of, filter_viewed=how.filter_viewed, num_seeds=how.seeds, nearest=index)
    best = _by_row(top, len(histories))
    if not how.picks:
        return [Found(one, None) for one in best]
    draws = model.num_draws(how.seeds)
    each = top_items_each_seed(*of, filter_viewed=how.filter_viewed, num_seeds=how.seeds)
    picks = _by_row(each, draws * len(histories))
    return [Found(one, picks[draws * place : draws * (place + 1)]) for place, one in enumerate(best)]


def _by_row(found: Lists, count: int) -> list[Row]:
    rows: list[Row] = [[] for _ in range(count)]
    for row, item, score in zip(*found, strict=True):
        rows[row].append((item, score))
    return rows


def _allowed(how: How, num_items: int) -> torch.Tensor:
    allowed = torch.ones(num_items, dtype=torch.bool)
    if how.only is not None:
        allowed[:] = False
        allowed[torch.tensor(how.only, dtype=torch.int64) - 1] = True
    if how.excluded:
        allowed[torch.tensor(how.excluded, dtype=torch.int64) - 1] = False
    return allowed
