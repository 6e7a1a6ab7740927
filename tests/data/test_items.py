"""The table of items: titles and categories of any spelling beside the ids that the log has, through to disk."""

import gzip
import json
from dataclasses import replace

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from seqdiffrec import Dataset
from seqdiffrec.data import Corpus, DataError, parsers
from seqdiffrec.data.items import items_from_frame, read_items
from seqdiffrec.data.readers import SourceFile

LOG = pl.DataFrame({"user_id": [1, 1, 1, 2, 2, 2], "item_id": [7, 8, 9, 8, 9, 5]})  # in this order: 7, 8, 9, 5
TABLE = {"item_id": [5, 9, 11, 7], "title": ["Five", None, "Eleven", "Seven"], "category": ["b", " a | b|a|", "z", ""]}
TITLES, CATEGORIES = ["Seven", None, None, "Five"], [None, None, ["a", "b"], ["b"]]
CSV = "item_id,title,category,price\n5,Five,b,1\n9,,a | b|a|,2\n11,Eleven,z,3\n7,Seven,,4\n"


@pytest.mark.parametrize("make", [pl.DataFrame, pd.DataFrame, pa.table])
def test_a_frame_of_any_library_stands_beside_the_items(make):
    corpus = Dataset.from_interactions(LOG, items=make(TABLE)).corpus
    assert corpus.item_ids.to_list() == [7, 8, 9, 5]
    assert corpus.titles.to_list() == TITLES
    assert corpus.categories.to_list() == CATEGORIES
    assert corpus.vocabulary().columns == ["item_id", "title", "categories"]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".csv.gz", ".parquet", ".arrow"])
def test_a_file(ending, tmp_path):
    LOG.write_csv(tmp_path / "log.csv")
    path = tmp_path / f"items{ending}"
    as_lists = pl.DataFrame({**TABLE, "category": [["b"], ["a", "b", "a"], ["z"], []]}).rename(
        {"category": "categories"}
    )
    if ending == ".parquet":
        as_lists.write_parquet(path)
    elif ending == ".arrow":
        as_lists.write_ipc(path)
    else:
        text = (CSV if ending != ".tsv" else CSV.replace(",", "\t")).encode()
        path.write_bytes(gzip.compress(text) if ending == ".csv.gz" else text)
    corpus = Dataset.from_file(tmp_path / "log.csv", items=path).corpus
    assert (corpus.titles.to_list(), corpus.categories.to_list()) == (TITLES, CATEGORIES)


def test_a_changed_table_is_read_again(tmp_path):
    LOG.write_csv(tmp_path / "log.csv")
    (tmp_path / "items.csv").write_text(CSV)
    before = Dataset.from_file(tmp_path / "log.csv", items=tmp_path / "items.csv").corpus
    (tmp_path / "items.csv").write_text(CSV.replace("Seven", "Sept"))
    after = Dataset.from_file(tmp_path / "log.csv", items=tmp_path / "items.csv").corpus
    assert (before.titles[0], after.titles[0]) == ("Seven", "Sept")
    assert Dataset.from_file(tmp_path / "log.csv").corpus.categories is None


@pytest.mark.parametrize("column", ["title", "category"])
def test_one_of_the_columns_is_enough(column):
    corpus = Dataset.from_interactions(LOG, items=pl.DataFrame(TABLE).select("item_id", column)).corpus
    assert (corpus.titles is None) == (column == "category")
    assert (corpus.categories is None) == (column == "title")
    assert corpus.vocabulary().schema == {"item_id": pl.Int64, "title": pl.String, "categories": pl.List(pl.String)}


def test_categories_come_back_from_disk_and_leave_the_hash_alone(tmp_path):
    corpus = Dataset.from_interactions(LOG, items=pl.DataFrame(TABLE)).corpus
    corpus.save(tmp_path / "corpus")
    loaded = Corpus.load(tmp_path / "corpus")
    assert loaded.categories.to_list() == CATEGORIES
    assert loaded.content_hash == Dataset.from_interactions(LOG).corpus.content_hash
    replace(corpus, categories=None).save(tmp_path / "plain")
    assert Corpus.load(tmp_path / "plain").categories is None
    assert json.loads((tmp_path / "plain" / "corpus.json").read_text())["format"] == 1


def test_texts_match_ids_that_are_numbers_and_numbers_are_told_from_texts(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,category\n7,x\n007,y\n")
    corpus = Dataset.from_interactions(LOG, items=read_items(tmp_path / "items.csv")).corpus
    assert corpus.categories.to_list() == [["x"], None, None, None]
    of_texts = LOG.with_columns(pl.col("item_id").cast(pl.String))
    with pytest.raises(
        DataError, match=r"none of the log's items: its ids are 5, 9, 11 \(Int64\), those of the log '7'"
    ):
        Dataset.from_interactions(of_texts, items=pl.DataFrame(TABLE))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"id": [1], "category": ["a"]}, "has the column 'item_id', .*the columns are 'id', 'category'|'category'"),
        ({"item_id": [1]}, "and 'title' or 'category' or both; the columns are 'item_id'"),
        ({"item_id": [1, None], "category": ["a", "b"]}, r"row 2 \(counted from 1\): no id"),
        (
            {"item_id": [1, 2, 1], "category": ["a", "b", "c"]},
            r"row 3 \(counted from 1\): an item that was there .*\(1\)",
        ),
        ({"item_id": [1], "category": [3]}, "categories of type Int64 are not usable"),
        ({"item_id": [1], "category": ["a"], "categories": [["a"]]}, "both 'category' and 'categories'"),
        ({"item_id": [[1]], "category": ["a"]}, r"ids of type List\(Int64\) are not usable"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(table, message):
    with pytest.raises(DataError, match=message):
        items_from_frame(pl.DataFrame(table))


def test_what_is_wrong_with_a_file_is_said(tmp_path):
    (tmp_path / "items.csv").write_text('item_id,title\n1,"two\nlines"\n2,b\n1,c\n')
    with pytest.raises(DataError, match=r"items\.csv, line 5: an item that was there before \('1'\)"):
        read_items(tmp_path / "items.csv")
    with pytest.raises(DataError, match=r"nothing\.csv does not exist"):
        read_items(tmp_path / "nothing.csv")
    (tmp_path / "items.txt").write_text("1 2 3\n")
    with pytest.raises(DataError, match=r"items\.txt: a table of items has columns"):
        read_items(tmp_path / "items.txt")
    (tmp_path / "items.json").write_text("[]\n")
    with pytest.raises(DataError, match=r"the ending '\.json' is not known; rename the file to one of \.csv"):
        read_items(tmp_path / "items.json")
    with pytest.raises(DataError, match="is not a frame"):
        items_from_frame(7)


def test_genres_of_movielens():
    flags = "0|1|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|1"
    bars = f"1|Film (1990)|01-Jan-1990||http|{flags}\n2|Other (1991)|||\n"
    found = parsers.movielens_items_bars(SourceFile("u.item", bars.encode("latin-1")))
    assert found["categories"].to_list() == [["Action", "Comedy", "Western"], None]
    colons = "1::Film é (1990)::Children's|Sci-Fi\r\n2::Other (1991)::Drama\r\n"
    found = parsers.movielens_items_colons(SourceFile("movies.dat", colons.encode("latin-1")))
    assert found.to_dict(as_series=False) == {
        "item_id": [1, 2],
        "title": ["Film é (1990)", "Other (1991)"],
        "categories": [["Children's", "Sci-Fi"], ["Drama"]],
    }
