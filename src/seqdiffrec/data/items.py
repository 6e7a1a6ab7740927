"""What is known of items besides the log: a table of `item_id`, and `title` or `category` or both.

A category is a text; an item may have several, as a list of texts or as one text with `|` between, as MovieLens has its
genres. The table may hold more items than the log, or fewer.
"""

from pathlib import Path
from typing import Any

import narwhals as nw
import polars as pl

from seqdiffrec.data.errors import DataError
from seqdiffrec.data.interactions import ARROW, PARQUET, SEPARATORS
from seqdiffrec.data.readers import Where, read_arrow, read_parquet, read_source, read_table
from seqdiffrec.data.vocabulary import places_of

BETWEEN = "|"
CATEGORY_NAMES = ("category", "categories")


def read_items(path: str | Path) -> pl.DataFrame:
    """Read a file by its ending, as `Interactions.read` does; .txt is none of them.

    Returns `item_id` (texts where the file is text: they match ids that are numbers too), and `title` and `categories`
    where they are there, as `items_from_frame`.
    Raises DataError for an unknown ending, a broken file and what `items_from_frame` refuses, with the line or row.
    """
    path = Path(path)
    suffix = (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
    if suffix in SEPARATORS:
        frame, where = read_table(read_source(path), SEPARATORS[suffix])
        return _checked(frame, str(path), where)
    if suffix in PARQUET or suffix in ARROW:
        frame = read_parquet(path) if suffix in PARQUET else read_arrow(path)
        return _checked(frame, str(path), lambda row: f"{path}, row {row + 1} (counted from 1)")
    known = ", ".join((*SEPARATORS, *PARQUET, *ARROW))
    raise DataError(f"{path}: a table of items cannot end in {suffix!r}; rename the file to one of {known}")


def items_from_frame(frame: Any) -> pl.DataFrame:
    """Check a pandas or Polars frame or an Arrow table of items.

    Returns `item_id`, `title` (text, null where unknown) and `categories` (list of texts without repeats, null where
    there is none); a column that was not given is not there.
    Raises DataError for a missing column, an item without id or twice, or categories that are no texts.
    """
    source = "the frame of items"
    try:
        narwhal = nw.from_native(frame)
    except TypeError as error:
        raise DataError(f"{type(frame).__name__} is not a frame; give pandas, Polars or an Arrow table") from error
    if isinstance(narwhal, nw.LazyFrame):
        narwhal = narwhal.collect()
    wanted = [name for name in ("item_id", "title", *CATEGORY_NAMES) if name in narwhal.columns]
    try:
        polars = narwhal.select(wanted or narwhal.columns).to_polars()
    except (TypeError, ValueError) as error:
        raise DataError(f"{source}: a column holds values of more than one type ({error})") from error
    return _checked(polars, source, lambda row: f"{source}, row {row + 1} (counted from 1)")


def beside(item_ids: pl.Series, items: pl.DataFrame) -> tuple[pl.Series | None, pl.Series | None]:
    """Titles and categories in the order of a vocabulary, (V,), null where unknown; None for what the table lacks.

    Raises DataError where the table knows none of the items: most likely it is of other ids.
    """
    places = places_of(items["item_id"], item_ids)
    if (places < 0).all():
        ours, theirs = (", ".join(map(repr, ids.head(3))) for ids in (item_ids, items["item_id"]))
        raise DataError(
            f"the table of items has none of the log's items: its ids are {theirs} ({items['item_id'].dtype}), "
            f"those of the log {ours} ({item_ids.dtype}); give it the same ids, in the same type"
        )
    known = items.with_columns(pl.Series("place", places)).filter(pl.col("place") >= 0)
    if known["place"].is_duplicated().any():  # "7" and "7.0", where the log's ids are decimals
        twice = item_ids[int(known["place"].filter(known["place"].is_duplicated())[0])]
        raise DataError(f"the table of items has item {twice!r} twice; leave one of the rows out")
    ordered = pl.DataFrame({"place": range(len(item_ids))}).join(known, on="place", how="left", maintain_order="left")
    columns = [ordered[name] if name in ordered.columns else None for name in ("title", "categories")]
    return columns[0], columns[1]


def _checked(frame: pl.DataFrame, source: str, where: Where) -> pl.DataFrame:
    columns = [name for name in ("item_id", "title", *CATEGORY_NAMES) if name in frame.columns]
    if "item_id" not in columns or len(columns) == 1:
        raise DataError(
            f"{source}: a table of items has the column 'item_id', and 'title' or 'category' or both; "
            f"the columns are {', '.join(map(repr, frame.columns))}"
        )
    if all(name in columns for name in CATEGORY_NAMES):
        raise DataError(f"{source}: both 'category' and 'categories' are there; leave one of them out")
    ids = frame["item_id"]
    if ids.dtype.is_nested() or ids.dtype == pl.Object:
        raise DataError(f"{where(0)}: ids of type {ids.dtype} are not usable; make them texts")
    for wrong, what in ((ids.is_null(), "no id"), (~ids.is_first_distinct(), "an item that was there before")):
        row = wrong.arg_max()
        if row is not None and wrong[row]:
            raise DataError(f"{where(row)}: {what} ({ids[row]!r}); a table of items has a row an item")
    found = [ids]
    if "title" in columns:
        found.append(frame["title"].cast(pl.String))
    if columns[-1] in CATEGORY_NAMES:
        found.append(_as_lists(frame[columns[-1]], where))
    return pl.DataFrame(found)


def _as_lists(categories: pl.Series, where: Where) -> pl.Series:
    kind = categories.dtype
    inner = kind.inner if isinstance(kind, pl.List) else kind
    if not isinstance(inner, (pl.String, pl.Null, pl.Categorical, pl.Enum)):
        raise DataError(f"{where(0)}: categories of type {kind} are not usable; make them texts, or lists of texts")
    column = pl.col("categories")
    lists = column if isinstance(kind, pl.List) else column.cast(pl.String).str.split(BETWEEN)
    texts = lists.cast(pl.List(pl.String)).list.eval(pl.element().str.strip_chars())
    kept = texts.list.eval(pl.element().filter(pl.element() != "")).list.unique(maintain_order=True)
    frame = categories.alias("categories").to_frame().select(kept)
    return frame.select(pl.when(column.list.len() > 0).then(column))["categories"]
