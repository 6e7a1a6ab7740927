"""From probabilities to lists: the best k items of each history, without those that may not be recommended."""

from collections.abc import Iterator
from typing import NamedTuple, cast

import polars as pl
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from seqdiffrec.allocator import keep_freed_memory
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.evaluation.temperature import calibrated
from seqdiffrec.models import SequenceModel
from seqdiffrec.models.base import barred_items
from seqdiffrec.models.nearest import Nearest
from seqdiffrec.models.top import BARRED, Barred, Top, best

BLOCK = 256
# Probabilities of all draws, histories and items that are held at a time: 64 MiB.
AT_ONCE = 2**24


class Lists(NamedTuple):
    """Items listed for some rows: the row, item index and score of each, best first within a row."""

    rows: list[int]
    items: list[int]
    scores: list[float]

    def add(self, rows: Int64[Tensor, " n"], columns: Int64[Tensor, " n"], scores: Float32[Tensor, " n"]) -> None:
        """Put more at the end."""
        self.rows.extend(cast(list[int], rows.tolist()))
        self.items.extend(cast(list[int], (columns + 1).tolist()))
        self.scores.extend(cast(list[float], scores.tolist()))


def top_items(
    model: SequenceModel,
    histories: Sequences,
    k: int,
    allowed: Bool[Tensor, " V"],
    *,
    filter_viewed: bool,
    num_seeds: int | None = None,
    nearest: Nearest | None = None,
    temperature: float | None = None,
) -> Lists:
    """The best items of each history, whose number is the row.

    allowed: items that may be recommended at all.
    filter_viewed: leave out the items of the history, all of them.
    num_seeds: noise draws averaged; None is the model's own number.
    nearest: an index that names the items to look at, in place of all.
    temperature: of the probabilities, where they are to be calibrated; an empty history's popularity stays as it is.

    A row has fewer than k items where fewer are left. Ties go to the smaller index.
    """
    if len(histories) > BLOCK:
        keep_freed_memory()
    found = Lists([], [], [])
    for start in range(0, len(histories), BLOCK):
        block = histories.select(slice(start, start + BLOCK))
        top = model.top_of_histories(
            block, k, allowed, filter_viewed=filter_viewed, num_seeds=num_seeds, nearest=nearest
        )
        if temperature is not None:
            at_temperature = _at_temperature(model, block, num_seeds, top.probabilities, temperature)
            top = top._replace(probabilities=at_temperature)
        _put(found, top, start)
    return found


def _at_temperature(
    model: SequenceModel, block: Sequences, num_seeds: int | None, probabilities: Tensor, temperature: float
) -> Tensor:
    found = calibrated(
        lambda histories: model.predict_histories(histories, num_seeds), block, probabilities, temperature
    )
    empty = torch.from_numpy(block.lengths == 0).to(found.device)[:, None]
    return torch.where(empty | (probabilities == BARRED), probabilities, found)


def top_items_each_seed(
    model: SequenceModel,
    histories: Sequences,
    k: int,
    allowed: Bool[Tensor, " V"],
    *,
    filter_viewed: bool,
    num_seeds: int | None,
) -> Lists:
    """The same for each of S noise draws on its own: row ``S h + s`` is the list of history h by seed s."""
    found = Lists([], [], [])
    for start, each, barred in _blocks(model, histories, allowed, filter_viewed, num_seeds):
        tops = list[Top]()
        for one in each:
            barred.put_into(one)
            tops.append(best(one, k))
        by_history = (torch.stack(parts, dim=1).flatten(0, 1) for parts in zip(*tops, strict=True))
        _put(found, Top(*by_history), start * len(each))
    return found


def top_items_with_spread(
    model: SequenceModel,
    histories: Sequences,
    k: int,
    allowed: Bool[Tensor, " V"],
    *,
    filter_viewed: bool,
    num_seeds: int | None,
) -> tuple[Lists, list[float]]:
    """As `top_items`, and the standard deviation of each listed item's probability over the noise draws (`spread`)."""
    found, deviations = Lists([], [], []), list[float]()
    for start, each, barred in _blocks(model, histories, allowed, filter_viewed, num_seeds):
        mean = each.mean(0)
        barred.put_into(mean)
        row, column = _put(found, best(mean, k), start)
        deviations += spread(each[:, row, column]).tolist()
    return found, deviations


class Scores(NamedTuple):
    """Of c items after each of B histories: probability, its standard deviation over draws, rank among all items."""

    probabilities: Float32[Tensor, "B c"]
    deviations: Float32[Tensor, "B c"]
    ranks: Int64[Tensor, "B c"]


def score_items(
    model: SequenceModel, histories: Sequences, columns: Int64[Tensor, " c"], num_seeds: int | None
) -> Scores:
    """What the model thinks of these items; rank 1 is its first of all, and ties go to the smaller index."""
    none, everything = torch.empty(0, len(columns)), torch.ones(model.num_items, dtype=torch.bool)
    found = [Scores(none, none, none.long())]
    for _, each, _ in _blocks(model, histories, everything, False, num_seeds):
        mean = each.mean(0)
        places = torch.arange(1, 1 + model.num_items, device=each.device)
        order = mean.argsort(dim=1, descending=True, stable=True)
        rank = torch.empty_like(order).scatter_(1, order, places.expand_as(order))
        asked = columns.to(each.device)
        found.append(Scores(*(part.cpu() for part in (mean[:, asked], spread(each[..., asked]), rank[:, asked]))))
    return Scores(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def spread(each: Float32[Tensor, "S *n"]) -> Float32[Tensor, "*n"]:
    """The standard deviation over S draws, with S - 1 below the sum; 0 for the one draw of a model without noise."""
    return each.std(0) if len(each) > 1 else torch.zeros_like(each[0])


def as_frame(keys: pl.DataFrame, lists: Lists, vocabulary: pl.DataFrame) -> pl.DataFrame:
    """The columns of ``keys``, which has a line a row; item_id, score, rank (from 1); title where titles are known."""
    row = pl.Series(lists.rows, dtype=pl.Int64)
    column = pl.Series(lists.items, dtype=pl.Int64) - 1
    frame = keys[row].with_columns(
        vocabulary["item_id"].gather(column).alias("item_id"),
        pl.Series("score", lists.scores, dtype=pl.Float64),
        (pl.int_range(1, len(row) + 1, eager=True) - row.search_sorted(row, side="left")).alias("rank"),
    )
    return with_titles(frame, column, vocabulary)


def with_titles(frame: pl.DataFrame, columns: pl.Series, vocabulary: pl.DataFrame) -> pl.DataFrame:
    """A column title, of the item in each line, if any item has one."""
    if vocabulary["title"].null_count() == len(vocabulary):
        return frame
    return frame.with_columns(vocabulary["title"].gather(columns).alias("title"))


def _blocks(
    model: SequenceModel,
    histories: Sequences,
    allowed: Bool[Tensor, " V"],
    filter_viewed: bool,
    num_seeds: int | None,
) -> Iterator[tuple[int, Float32[Tensor, "S b V"], Barred]]:
    """Some histories at a time: where they start, their probabilities by each draw, and what may not be recommended."""
    size = max(1, min(BLOCK, AT_ONCE // (model.num_draws(num_seeds) * model.num_items)))
    for start in range(0, len(histories), size):
        block = histories.select(slice(start, start + size))
        each = model.predict_histories_each_seed(block, num_seeds).clone()
        yield start, each, barred_items(block, allowed, filter_viewed=filter_viewed, device=each.device)


def _put(found: Lists, top: Top, first: int) -> tuple[Tensor, Tensor]:
    """Add a block's lists, whose first row is `first`; returns row in the block and column of each listed item."""
    row, place = torch.nonzero(top.probabilities > BARRED, as_tuple=True)
    column = top.columns[row, place]
    found.add(first + row, column, top.probabilities[row, place])
    return row, column
