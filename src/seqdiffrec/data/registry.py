"""The registry of named datasets: official addresses, checksums, layouts, preparation and licences.

MovieLens archives are checked against the MD5 that GroupLens publishes beside them. The 2014 Amazon files have no
published checksum: there the prepared corpus must have exactly the users, items and actions of the paper's Table 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from seqdiffrec.data import parsers
from seqdiffrec.data.interactions import Interactions
from seqdiffrec.data.readers import SourceFile


@dataclass(frozen=True)
class Layout:
    """One form in which a dataset is handed on: its log, and the table of its items where it has one."""

    log: str
    parse_log: Callable[[SourceFile], Interactions]
    items: str | None = None
    parse_items: Callable[[SourceFile], pl.DataFrame] | None = None


@dataclass(frozen=True)
class NamedDataset:
    """A public dataset.

    url, checksum: the official file, and "md5:..." of it where one is published.
    layouts: what to look for, best first.
    min_user, min_item: the k-core of its preparation.
    expected: users, items and actions after preparation.
    licence: shown once, before the first use.
    in_recbole: whether the wheel of RecBole has it too, for machines that reach a package index only.
    """

    name: str
    url: str
    checksum: str | None
    layouts: tuple[Layout, ...]
    min_user: int
    min_item: int
    expected: tuple[int, int, int]
    licence: str
    in_recbole: bool = False


_MOVIELENS_LICENCE = """\
MovieLens data, (c) GroupLens Research, University of Minnesota: for research; no endorsement may be implied; cite
F. M. Harper and J. A. Konstan, The MovieLens Datasets: History and Context, ACM TiiS 5 (4), 2015; redistribution and
commercial use need permission of GroupLens. Full text: https://files.grouplens.org/datasets/movielens/{readme}"""
_AMAZON_LICENCE = """\
Amazon product data (2014), collected by Julian McAuley, UC San Diego: cite R. He and J. McAuley, Ups and downs, WWW
2016, and J. McAuley et al., Image-based recommendations on styles and substitutes, SIGIR 2015. No licence text comes
with the files; ask there before any use but research: https://jmcauley.ucsd.edu/data/amazon/index_2014.html"""


def _amazon(name: str, category: str, expected: tuple[int, int, int]) -> NamedDataset:
    return NamedDataset(
        name=name,
        url=f"https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/ratings_{category}.csv",
        checksum=None,
        layouts=(
            Layout(f"ratings_{category}.csv", parsers.amazon_ratings),
            Layout(f"reviews_{category}_5.json.gz", parsers.amazon_reviews),
            Layout(f"reviews_{category}.json.gz", parsers.amazon_reviews),
            Layout(f"{name}.txt", Interactions.from_sequences),
        ),
        min_user=5,
        min_item=5,
        expected=expected,
        licence=_AMAZON_LICENCE,
    )


_RECBOLE_FOLDER = "recbole/dataset_example/ml-100k"
_RECBOLE_LAYOUT = Layout(
    f"{_RECBOLE_FOLDER}/ml-100k.inter",
    parsers.recbole_log,
    f"{_RECBOLE_FOLDER}/ml-100k.item",
    parsers.recbole_items,
)

DATASETS: dict[str, NamedDataset] = {
    dataset.name: dataset
    for dataset in (
        NamedDataset(
            name="ml-100k",
            url="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
            checksum="md5:0e33842e24a9c977be4e0107933c0723",
            layouts=(
                Layout("ml-100k/u.data", parsers.movielens_tabs, "ml-100k/u.item", parsers.movielens_items_bars),
                _RECBOLE_LAYOUT,
            ),
            min_user=5,
            min_item=5,
            expected=(943, 1349, 99287),
            licence=_MOVIELENS_LICENCE.format(readme="ml-100k-README.txt"),
            in_recbole=True,
        ),
        NamedDataset(
            name="ml-1m",
            url="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
            checksum="md5:c4d9eecfca2ab87c1945afe126590906",
            layouts=(
                Layout(
                    "ml-1m/ratings.dat", parsers.movielens_colons, "ml-1m/movies.dat", parsers.movielens_items_colons
                ),
                Layout(
                    "ml-1m/sequences.txt",
                    Interactions.from_sequences,
                    "ml-1m/movies.dat",
                    parsers.movielens_items_colons,
                ),
            ),
            # The 1,000,209 actions of Table 1 are the unfiltered set, so no k-core was applied to it.
            min_user=1,
            min_item=1,
            expected=(6040, 3706, 1000209),
            licence=_MOVIELENS_LICENCE.format(readme="ml-1m-README.txt"),
        ),
        _amazon("beauty", "Beauty", (22363, 12101, 198502)),
        _amazon("toys", "Toys_and_Games", (19412, 11924, 167597)),
    )
}
