"""Metrics of recommendations that stand in frames, from any system: what was recommended against what was taken."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import narwhals as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

from seqdiffrec.data import DataError
from seqdiffrec.data.items import items_from_frame
from seqdiffrec.evaluation.background import Background, Categories
from seqdiffrec.evaluation.lists import Lists, list_metrics
from seqdiffrec.evaluation.metrics import accuracy, check_cutoff
from seqdiffrec.evaluation.significance import Figure, mean_figure


def metrics(
    recommended: Any,
    taken: Any | None = None,
    *,
    ks: Sequence[int] = (10,),
    before: Any | None = None,
    items: Iterable[Any] | None = None,
    categories: Any | None = None,
) -> dict[str, Figure]:
    """All metrics that can be had of these frames (pandas, Polars, Arrow), at each cutoff; see docs/evaluation.md.

    Args:
        recommended: user_id, item_id and rank (from 1), as `Recommender.recommend` gives them.
        taken: user_id and item_id, what these users took afterwards, any number of items each: for HR, Recall,
            Precision, MAP, MRR and NDCG. A user without recommendations counts as 0; one who took nothing is left out.
        ks: the cutoffs.
        before: user_id and item_id, what anybody had taken before: for Novelty, Popularity, HeadShare, Diversity
            (by users in common), and with categories for CategoryKL.
        items: ids of the catalogue, for Coverage and Gini; without it the items of `before`. What is recommended from
            outside of it covers nothing.
        categories: of items, each a text or a list of texts, as a mapping from item_id or as a frame with the columns
            item_id and category or categories (`items_from_frame`): for Diversity (by categories, then) and CategoryKL.

    Returns:
        Names such as "NDCG@10" with their figures. All but Coverage and Gini are means over users with an interval.

    Raises:
        DataError: a frame lacks a column or has empty cells, ids are of different types, a user has an item or a rank
            twice, or nobody who took something is there.
        ValueError: a cutoff is not an integer of at least 1.
    """
    for k in ks:
        check_cutoff(k)
    wanted = _frame(recommended, "recommended", ("user_id", "item_id", "rank"))
    _check_ranks(wanted)
    truth = None if taken is None else _frame(taken, "taken", ("user_id", "item_id"))
    log = None if before is None else _frame(before, "before", ("user_id", "item_id"))
    catalogue = None if log is None else log["item_id"]
    if items is not None:
        catalogue = _ids(pl.Series("item_id", list(items)), "items", "item_id")
    _check_types([frame["user_id"] for frame in (wanted, truth, log) if frame is not None], "user_id")
    ids = [catalogue, *(frame["item_id"] for frame in (wanted, log, truth) if frame is not None)]
    vocabulary = _vocabulary([part for part in ids if part is not None])
    found: dict[str, Figure | None] = {}
    if truth is not None:
        found |= _accuracy(wanted, truth, ks)
    of_items = None if categories is None else _categories(categories, vocabulary)
    wanted = wanted.join(vocabulary, on="item_id", how="left")
    owners = wanted["user_id"].unique(maintain_order=True)
    lists = _lists(wanted, owners, max(ks))
    background, histories = None, None
    if log is not None:
        log = log.join(vocabulary, on="item_id", how="left")
        people = log["user_id"].rank("dense").to_numpy().astype(np.int64)
        background = Background.of(people, log["item"].to_numpy(), len(vocabulary))
        histories = _histories(log, owners)
    num_items = 0 if catalogue is None else catalogue.n_unique()
    for k in ks:
        figures = list_metrics(lists[:, :k], num_items, background, of_items, histories)
        found |= {f"{name}@{k}": figure for name, figure in figures.items()}
    return {name: figure for name, figure in found.items() if figure is not None}


def _accuracy(wanted: pl.DataFrame, truth: pl.DataFrame, ks: Sequence[int]) -> dict[str, Figure | None]:
    truth = truth.unique(maintain_order=True)
    users = truth.group_by("user_id", maintain_order=True).len()
    if users.is_empty():
        raise DataError("taken has no rows, so there is nothing to hold the recommendations against")
    found = wanted.join(truth, on=("user_id", "item_id"), how="semi").filter(pl.col("rank") <= max(ks))
    found = found.join(users.with_row_index("row"), on="user_id", how="left")
    hits = np.zeros((len(users), max(ks)), np.bool_)
    hits[found["row"].to_numpy(), found["rank"].to_numpy() - 1] = True
    relevant = users["len"].to_numpy().astype(np.int64)
    return {f"{name}@{k}": mean_figure(values) for k in ks for name, values in accuracy(hits[:, :k], relevant).items()}


def _lists(wanted: pl.DataFrame, owners: pl.Series, k: int) -> Lists:
    rows = pl.DataFrame({"user_id": owners}).with_row_index("row")
    placed = wanted.filter(pl.col("rank") <= k).join(rows, on="user_id", how="left")
    lists = np.zeros((len(owners), k), np.int32)
    lists[placed["row"].to_numpy(), placed["rank"].to_numpy() - 1] = placed["item"].to_numpy()
    return lists


def _histories(log: pl.DataFrame, owners: pl.Series) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The row of the list and the item of each action of the users who have lists."""
    rows = pl.DataFrame({"user_id": owners}).with_row_index("row")
    theirs = log.join(rows, on="user_id", how="inner")
    return theirs["row"].to_numpy().astype(np.int64), theirs["item"].to_numpy().astype(np.int32)


def _vocabulary(parts: Sequence[pl.Series]) -> pl.DataFrame:
    """Columns item_id and item, numbers from 1: those of the first part, the catalogue, come first."""
    _check_types(parts, "item_id")
    ids = pl.concat(list(parts)).unique(maintain_order=True)
    return pl.DataFrame({"item_id": ids, "item": np.arange(1, len(ids) + 1)})


def _categories(given: Any, vocabulary: pl.DataFrame) -> Categories:
    if isinstance(given, Mapping):
        of = cast(Mapping[Any, str | Iterable[str]], given)
        each = [[value] if isinstance(value, str) else list(value) for value in of.values()]
        given = pl.DataFrame({"item_id": list(of), "categories": pl.Series(each, dtype=pl.List(pl.String))})
    table = items_from_frame(given)
    if "categories" not in table.columns:
        raise DataError(f"categories need a column category or categories, beside {', '.join(table.columns)}")
    table = table.with_columns(_ids(table["item_id"], "categories", "item_id"))
    _check_types([vocabulary["item_id"], table["item_id"]], "item_id")
    try:
        return Categories.of(vocabulary.join(table, on="item_id", how="left", maintain_order="left")["categories"])
    except ValueError as error:
        raise DataError(f"{error} in categories; are its ids those of the recommendations?") from error


def _frame(given: Any, what: str, columns: Sequence[str]) -> pl.DataFrame:
    frame = _polars(given, what)
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise DataError(f"{what} has no column {missing[0]!r}; its columns are {', '.join(map(repr, frame.columns))}")
    kept = [_ids(frame[name], what, name) if name != "rank" else frame[name] for name in columns]
    return pl.DataFrame(kept)


def _polars(given: Any, what: str) -> pl.DataFrame:
    try:
        frame = nw.from_native(given)
    except TypeError as error:
        raise DataError(f"{what} is a {type(given).__name__}; give a frame: pandas, Polars or Arrow") from error
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    return frame.to_polars()


def _ids(ids: pl.Series, what: str, name: str) -> pl.Series:
    """Whole numbers as int64, all texts as one type, so that the same id is the same in all frames."""
    if ids.null_count():
        raise DataError(f"{what}: {name} is empty in row {ids.is_null().arg_max()} (counted from 0)")
    if ids.dtype.is_integer():
        return ids.cast(pl.Int64).alias(name)
    if isinstance(ids.dtype, pl.String | pl.Categorical | pl.Enum):
        return ids.cast(pl.String).alias(name)
    raise DataError(f"{what}: {name} is of type {ids.dtype}; make it texts or whole numbers")


def _check_types(parts: Sequence[pl.Series], name: str) -> None:
    types = {part.dtype for part in parts if len(part)}
    if len(types) > 1:
        raise DataError(
            f"{name} is of different types, {' and '.join(sorted(map(str, types)))}, so no two are the same"
        )


def _check_ranks(wanted: pl.DataFrame) -> None:
    rank = wanted["rank"]
    if not rank.dtype.is_integer() or rank.null_count() or (rank < 1).any():
        raise DataError("recommended: rank has to be a whole number from 1 on in every row")
    for name in ("item_id", "rank"):
        twice = wanted.select("user_id", name).is_duplicated()
        if twice.any():
            row = wanted.row(int(twice.arg_max() or 0), named=True)
            raise DataError(f"recommended: user {row['user_id']!r} has {name} {row[name]!r} more than once")
