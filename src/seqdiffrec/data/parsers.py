"""Parsers of the original files of the named datasets, and of the layouts in which others hand them on."""

import json
from typing import Any, cast

import polars as pl

from seqdiffrec.data.errors import DataError
from seqdiffrec.data.interactions import Interactions
from seqdiffrec.data.items import items_from_frame
from seqdiffrec.data.readers import SourceFile, read_table

_RATING_COLUMNS = ["user_id", "item_id", "rating", "timestamp"]


def movielens_tabs(file: SourceFile) -> Interactions:
    """`u.data` of MovieLens 100K: user, item, rating, seconds since 1970, tabs between, no header."""
    return Interactions.from_table(file, "\t", names=_RATING_COLUMNS)


def movielens_colons(file: SourceFile) -> Interactions:
    """`ratings.dat` of MovieLens 1M: the same with `::` between."""
    tabs = SourceFile(file.label, file.data.replace(b"::", b"\t"))
    return Interactions.from_table(tabs, "\t", names=_RATING_COLUMNS)


def amazon_ratings(file: SourceFile) -> Interactions:
    """`ratings_*.csv` of the 2014 Amazon data: user, item, rating, seconds since 1970, no header."""
    return Interactions.from_table(file, ",", names=_RATING_COLUMNS)


def amazon_reviews(file: SourceFile) -> Interactions:
    """`reviews_*.json` of the 2014 Amazon data: a JSON object a line (`reviewerID`, `asin`, `unixReviewTime`)."""
    rows: list[tuple[str, str, int]] = []
    for line, text in enumerate(file.data.splitlines(), start=1):
        try:
            review = cast(dict[str, Any], json.loads(text))
            rows.append((str(review["reviewerID"]), str(review["asin"]), int(review["unixReviewTime"])))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{file.label}, line {line}: not a review with reviewerID, asin and unixReviewTime ({error}); "
                "the file is cut off or another one"
            ) from error
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return Interactions(frame, file.label)


def recbole_log(file: SourceFile) -> Interactions:
    """`ml-100k.inter` as RecBole hands it on: u.data below a header whose names carry their types."""
    return Interactions.from_table(file, "\t", user="user_id:token", item="item_id:token", time="timestamp:float")


MOVIELENS_100K_GENRES = """\
unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror Musical Mystery
Romance Sci-Fi Thriller War Western"""
"""The genres of MovieLens 100K in the order in which `u.item` flags them (its file `u.genre`)."""


def movielens_items_bars(file: SourceFile) -> pl.DataFrame:
    """`u.item` of MovieLens 100K: item, title, dates, address, a 1 or 0 for each genre; bars between, Latin-1.

    Returns `item_id`, `title`, `categories`.
    """
    rows = _item_fields(file, "|")
    flagged = [zip(MOVIELENS_100K_GENRES.split(), fields[5:], strict=False) for fields in rows]
    return _items(rows, [[genre for genre, flag in flags if flag == "1"] for flags in flagged])


def movielens_items_colons(file: SourceFile) -> pl.DataFrame:
    """`movies.dat` of MovieLens 1M: item, title, genres with bars between; `::` between, Latin-1.

    Returns `item_id`, `title`, `categories`.
    """
    rows = _item_fields(file, "::")
    return _items(rows, ["".join(fields[2:3]).strip().split("|") for fields in rows])


def _item_fields(file: SourceFile, separator: str) -> list[list[str]]:
    rows: list[list[str]] = []
    for line, text in enumerate(file.data.decode("latin-1").rstrip().split("\n"), start=1):
        fields = text.rstrip("\r").split(separator)
        if len(fields) < 2 or not fields[0].isdecimal():
            raise DataError(f"{file.label}, line {line}: no item id and title with {separator!r} between")
        rows.append(fields)
    return rows


def _items(rows: list[list[str]], categories: list[list[str]]) -> pl.DataFrame:
    ids, titles = [int(fields[0]) for fields in rows], [fields[1].strip() for fields in rows]
    return items_from_frame(pl.DataFrame({"item_id": ids, "title": titles, "categories": categories}))


def recbole_items(file: SourceFile) -> pl.DataFrame:
    """`ml-100k.item` as RecBole hands it on: title and year apart, genres with spaces between.

    Returns `item_id`, `title` with the year behind, `categories`.
    """
    frame, _ = read_table(file, "\t")
    year = pl.col("release_year:token")
    dated = pl.format("{} ({})", pl.col("movie_title:token_seq"), year)
    # One film has neither title nor year; its "unkonwn" is a slip for the "unknown" of u.item.
    title = pl.when(year == "unkonwn").then(pl.lit("unknown")).otherwise(dated)
    genres = pl.col("class:token_seq").str.split(" ")
    ids = pl.col("item_id:token").cast(pl.Int64)
    return items_from_frame(frame.select(item_id=ids, title=title, categories=genres))
