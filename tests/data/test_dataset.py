"""`Dataset`: a log of any kind to a corpus with its split."""

from datetime import datetime

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from seqdiffrec import Dataset, load_dataset
from seqdiffrec.data import DataError, Interactions

LOG = {
    "user_id": ["b", "b", "b", "b", "a", "a", "a", "c"],
    "item_id": [7, 8, 9, 7, 8, 7, 9, 9],
    "timestamp": [4, 1, 2, 3, 10, 30, 20, 5],
}
ORDERED = {"b": [8, 9, 7, 7], "a": [8, 9, 7], "c": [9]}


def histories(data: Dataset) -> dict[object, list[object]]:
    sequences = data.corpus.sequences()
    return {
        user: [data.corpus.item_ids[int(i) - 1] for i in sequences[row]]
        for row, user in enumerate(data.corpus.user_ids)
    }


def ids(data: Dataset, indices: np.ndarray) -> list[object]:
    return [data.corpus.item_ids[int(index) - 1] for index in indices]


@pytest.mark.parametrize(
    "make", [pl.DataFrame, pd.DataFrame, pa.table, lambda log: Interactions.from_frame(pl.DataFrame(log))]
)
def test_a_frame_of_any_library(make):
    data = Dataset.from_interactions(make(LOG), name="mine")
    assert histories(data) == ORDERED
    assert data.corpus.name == "mine"
    # Leave-one-out by hand: the last is the test, the one before it validation; c only trains.
    assert ids(data, data.split.test.targets) == [7, 7]
    assert ids(data, data.split.validation.targets) == [7, 9]
    assert [ids(data, history) for history in data.split.test.histories] == [[8, 9, 7], [8, 9]]
    assert [ids(data, history) for history in data.split.train] == [[8, 9], [8], [9]]


def test_columns_and_preparation():
    frame = pl.DataFrame(LOG).rename({"user_id": "who", "item_id": "what", "timestamp": "when"})
    columns = {"user": "who", "item": "what"}
    in_order_of_rows = Dataset.from_interactions(frame, **columns)
    assert histories(in_order_of_rows)["b"] == [7, 8, 9, 7]
    data = Dataset.from_interactions(frame, **columns, time="when", drop_repeats=True, min_user=2)
    assert histories(data) == {"b": [8, 9, 7], "a": [8, 9, 7]}
    with pytest.raises(DataError, match="nothing is left"):
        Dataset.from_interactions(frame, **columns, min_item=9)


def test_a_split_in_time_with_datetimes():
    times = pl.Series([datetime(2024, 1, day) for day in LOG["timestamp"]])
    frame = pl.DataFrame(LOG).with_columns(times.alias("timestamp"))
    data = Dataset.from_interactions(frame, times=(datetime(2024, 1, 3), datetime(2024, 1, 20)))
    assert [ids(data, history) for history in data.split.train] == [[8, 9]]
    assert ids(data, data.split.validation.targets) == [7]
    assert ids(data, data.split.test.targets) == [9]
    with pytest.raises(DataError, match="has no timestamps"):
        Dataset.of(Dataset.from_interactions(pl.DataFrame(LOG).drop("timestamp")).corpus, (1, 2))


def test_a_file_is_the_same_as_its_frame(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQDIFFREC_CACHE", str(tmp_path / "cache"))
    pl.DataFrame(LOG).write_csv(tmp_path / "log.csv")
    from_file = Dataset.from_file(tmp_path / "log.csv", min_user=2)
    from_frame = Dataset.from_interactions(pl.DataFrame(LOG), min_user=2)
    assert from_file.corpus.content_hash == from_frame.corpus.content_hash
    assert (from_file.corpus.name, len(list((tmp_path / "cache" / "corpora").iterdir()))) == ("log", 1)
    Dataset.from_file(tmp_path / "log.csv", times=(3, 4))
    assert len(list((tmp_path / "cache" / "corpora").iterdir())) == 2, "another preparation, another corpus"


def test_it_shows_itself_on_one_line():
    data = Dataset.from_interactions(pl.DataFrame(LOG), name="shop")
    size = "'shop': 3 users, 3 items, 8 actions"
    assert repr(data.corpus) == f"Corpus({size})"
    assert repr(data) == f"Dataset({size}; split leave-one-out, cases: 2 validation, 2 test)"
    assert repr(data.whole()) == f"Dataset({size}; split none, all is for training)"
    timed = Dataset.of(data.corpus, (3, 20))
    assert repr(timed) == f"Dataset({size}; split at 3 and 20, cases: 1 validation, 1 test)"
    parts = pl.Series("part", ["test", "train", "validation", "validation", "train", "test", "validation", "train"])
    own = Dataset.from_interactions(pl.DataFrame(LOG).with_columns(parts), split="part", name="shop")
    assert repr(own) == f"Dataset({size}; split by the column 'part', cases: 3 validation, 2 test)"


def test_a_named_dataset(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQDIFFREC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "beauty.txt").write_text("".join(f"{user} 1 2 3 4 5\n" for user in range(5)))
    data = load_dataset("beauty", tmp_path)
    assert set(ids(data, data.split.test.targets)) == {5}
    with pytest.raises(DataError, match=r"did you mean 'beauty'\?"):
        load_dataset("beuaty", tmp_path)
