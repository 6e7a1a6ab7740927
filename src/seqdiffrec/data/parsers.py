"""Parsers of the original files of the named datasets, and of the layouts in which others hand them on."""

import json
from typing import Any, cast

import polars as pl

from seqdiffrec.data.errors import DataError
from seqdiffrec.data.interactions import Interactions
from seqdiffrec.data.readers import SourceFile
from seqdiffrec.data.sources import open_frame, open_table

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
    return Interactions.from_log(open_frame(file.label, frame))


def recbole_log(file: SourceFile) -> Interactions:
    """`ml-100k.inter` as RecBole hands it on: u.data below a header whose names carry their types."""
    return Interactions.from_table(file, "\t", user="user_id:token", item="item_id:token", time="timestamp:float")


def movielens_titles_bars(file: SourceFile) -> pl.DataFrame:
    """`u.item` of MovieLens 100K: item, title and more, bars between, Latin-1. Returns `item_id`, `title`."""
    return _titles(file, "|")


def movielens_titles_colons(file: SourceFile) -> pl.DataFrame:
    """`movies.dat` of MovieLens 1M: item, title, genres, `::` between, Latin-1. Returns `item_id`, `title`."""
    return _titles(file, "::")


def _titles(file: SourceFile, separator: str) -> pl.DataFrame:
    ids: list[int] = []
    titles: list[str] = []
    for line, text in enumerate(file.data.decode("latin-1").rstrip().split("\n"), start=1):
        fields = text.split(separator)
        if len(fields) < 2 or not fields[0].isdecimal():
            raise DataError(f"{file.label}, line {line}: no item id and title with {separator!r} between")
        ids.append(int(fields[0]))
        titles.append(fields[1].strip())
    return pl.DataFrame({"item_id": ids, "title": titles})


def recbole_titles(file: SourceFile) -> pl.DataFrame:
    """`ml-100k.item` as RecBole hands it on: title and year apart. Returns `item_id`, `title` with the year behind."""
    log = open_table(file, "\t")
    year = pl.col("release_year:token")
    dated = pl.format("{} ({})", pl.col("movie_title:token_seq"), year)
    # One film has neither title nor year; its "unkonwn" is a slip for the "unknown" of u.item.
    title = pl.when(year == "unkonwn").then(pl.lit("unknown")).otherwise(dated)
    ids = pl.col("item_id:token").cast(pl.Int64)
    return log.collect(log.frame.select(ids.alias("item_id"), title.alias("title")))
