"""Similar items, against cosines worked in numpy."""

import numpy as np
import polars as pl
import pytest

import seqdiffrec as sdr
from seqdiffrec import SettingError
from seqdiffrec.inference import similar
from seqdiffrec.training import Reporter


@pytest.fixture(scope="module")
def data() -> sdr.Dataset:
    rng = np.random.default_rng(0)
    rows = [(user, f"i{item}") for user in range(30) for item in rng.permutation(12)[:6].tolist()]
    return sdr.Dataset.from_interactions(pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row"))


@pytest.fixture(scope="module")
def model(data: sdr.Dataset) -> sdr.Recommender:
    return sdr.SASRec(hidden_size=8, num_layers=1, epochs=1, embedding_std=0.5, device="cpu").fit(
        data, reporter=Reporter()
    )


@pytest.mark.parametrize("block", [1, 64])
def test_by_the_cosine_of_embeddings(model, monkeypatch, block):
    monkeypatch.setattr(similar, "BLOCK", block)
    found = model.similar_items(["i3", "i0"], k=4)
    table = model.model.table.embedding.weight.detach().numpy()[1:]
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    ids = model.vocabulary["item_id"].to_list()
    for asked in ("i3", "i0"):
        cosine = unit @ unit[ids.index(asked)]
        expected = [place for place in np.argsort(-cosine) if ids[place] != asked][:4]
        rows = found.filter(pl.col("similar_to") == asked)
        assert rows["item_id"].to_list() == [ids[place] for place in expected]
        assert rows["score"].to_numpy() == pytest.approx(cosine[expected], abs=1e-6)
        assert rows["rank"].to_list() == [1, 2, 3, 4]


def test_only_what_is_wanted_and_never_the_item_itself(model):
    found = model.similar_items(["i3"], k=12, exclude_items=["i1"], items_to_recommend=["i1", "i2", "i3", "i4"])
    assert sorted(found["item_id"]) == ["i2", "i4"]
    assert len(model.similar_items([f"i{place}" for place in range(12)], k=12)) == 12 * 11


def test_neighbours_of_a_model_that_counts(data):
    knn = sdr.ItemKNN().fit(data, reporter=Reporter())
    found = knn.similar_items(["i3"], k=12)
    taken = {user: set(rows) for user, rows in _histories(data).items()}
    for item, score in found.select("item_id", "score").iter_rows():
        both = sum("i3" in items and item in items for items in taken.values())
        each = [sum(one in items for items in taken.values()) for one in ("i3", item)]
        assert score == pytest.approx(both / (each[0] * each[1]) ** 0.5, abs=1e-6) and both > 0
    never = {f"i{place}" for place in range(12)} - {"i3"} - set(found["item_id"])
    assert all("i3" not in items or not items & never for items in taken.values())


def test_what_cannot_be_answered(model, data):
    with pytest.raises(SettingError, match=r"items \['i99'\] are not in the catalogue"):
        model.similar_items(["i99"])
    with pytest.raises(SettingError, match="at least 1"):
        model.similar_items(["i3"], k=0)
    with pytest.raises(SettingError, match="popularity learns nothing about single items"):
        sdr.Popularity().fit(data, reporter=Reporter()).similar_items(["i3"])


def _histories(data: sdr.Dataset) -> dict[int, list[str]]:
    ids = data.corpus.item_ids.to_list()
    rows = range(len(data.split.train))
    return {row: [ids[item - 1] for item in data.split.train[row]] for row in rows}
