"""Seeds, spread, what users took since, scores of given items and rollouts, each against something worked apart."""

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

import seqdiffrec as sdr
from seqdiffrec.data import Sequences
from seqdiffrec.data.batches import history_batch
from seqdiffrec.inference import ranking
from seqdiffrec.training import Reporter

HISTORIES = [[10, 20, 30], [140], [50, 60, 70, 80]]


def each_seed(model: sdr.Recommender, history: list[int], num_seeds: int) -> np.ndarray:
    """(S, V) by the torch module alone: the representation of each draw, its softmax in numpy."""
    ids = model.vocabulary["item_id"].to_list()
    items = np.array([ids.index(item) + 1 for item in history], dtype=np.int32)
    one = Sequences(items, np.array([0]), np.array([len(items)]))
    net = model.model.eval()
    with torch.no_grad():
        drawn = net.represent(history_batch(one, net.max_length), num_seeds)[:, 0].double().numpy()
    output = net.table.output
    scores = drawn @ output.weight.detach().double().numpy()[1:].T + output.bias.detach().double().numpy()[1:]
    exp = np.exp(scores - scores.max(1, keepdims=True))
    return exp / exp.sum(1, keepdims=True)


def ids_of(model: sdr.Recommender) -> list[int]:
    return model.vocabulary["item_id"].to_list()


@pytest.mark.parametrize("at_once", [1, 2**24])
def test_the_list_of_each_seed(models, monkeypatch, at_once):
    monkeypatch.setattr(ranking, "AT_ONCE", at_once)
    model = models["diffrec"]
    found = model.picks(histories=HISTORIES, k=3, num_seeds=4)
    assert found.columns == ["history", "seed", "item_id", "score", "rank"]
    assert found["seed"].to_list() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + found["seed"].to_list()[12:]
    for number, history in enumerate(HISTORIES):
        each = each_seed(model, history, 4)
        for seed in range(4):
            order = [place for place in np.argsort(-each[seed]) if ids_of(model)[place] not in history][:3]
            rows = found.filter(history=number, seed=seed)
            assert rows["item_id"].to_list() == [ids_of(model)[place] for place in order]
            assert rows["score"].to_numpy() == pytest.approx(each[seed][order], rel=1e-4)
            assert rows["rank"].to_list() == [1, 2, 3]


@pytest.mark.parametrize("name", ["diffrec", "shared"])
def test_num_seeds_says_how_many_are_averaged(models, name):
    model = models[name]
    for num_seeds in (0, 1, 5):
        found = model.recommend_sequences(HISTORIES, 14, num_seeds=num_seeds, filter_viewed=False)
        for number, history in enumerate(HISTORIES):
            mean = each_seed(model, history, num_seeds).mean(0)
            rows = found.filter(history=number)
            expected = [mean[ids_of(model).index(item)] for item in rows["item_id"]]
            assert rows["score"].to_numpy() == pytest.approx(expected, rel=1e-4)
    asked = model.recommend_sequences(HISTORIES, 5)
    assert asked.equals(model.recommend_sequences(HISTORIES, 5, num_seeds=2)), "2 is the model's own number"
    assert not asked.equals(model.recommend_sequences(HISTORIES, 5, num_seeds=3))
    assert model.recommend([101], 5, num_seeds=2).equals(model.recommend([101], 5))


@pytest.mark.parametrize("at_once", [1, 2**24])
def test_the_spread_is_the_deviation_over_seeds(models, monkeypatch, at_once):
    monkeypatch.setattr(ranking, "AT_ONCE", at_once)
    model = models["shared"]
    found = model.recommend_sequences([*HISTORIES, []], 5, num_seeds=6, spread=True)
    assert found.columns == ["history", "item_id", "score", "score_std", "rank"]
    plain = model.recommend_sequences([*HISTORIES, []], 5, num_seeds=6)
    assert found["item_id"].to_list() == plain["item_id"].to_list()
    assert found["score"].to_numpy() == pytest.approx(plain["score"].to_numpy(), rel=1e-5)
    for number, history in enumerate(HISTORIES):
        rows = found.filter(history=number)
        places = [ids_of(model).index(item) for item in rows["item_id"]]
        expected = each_seed(model, history, 6)[:, places].std(0, ddof=1)
        assert rows["score_std"].to_numpy() == pytest.approx(expected, rel=1e-3)
    assert found.filter(history=3)["score_std"].to_list() == [0.0] * 5


def test_a_model_without_noise_has_one_draw_and_no_spread(models):
    for name in ("sasrec", "popularity"):
        model = models[name]
        found = model.recommend([101, 102], 4, spread=True, num_seeds=7)
        assert found.drop("score_std").equals(model.recommend([101, 102], 4))
        assert set(found["score_std"]) == {0.0}
        picks = model.picks([101, 102], 4, num_seeds=7)
        assert picks["seed"].to_list() == [0] * 8
        assert picks["item_id"].to_list() == found["item_id"].to_list()


def test_what_seeds_cannot_be(models):
    model = models["diffrec"]
    for wrong in (-1, 1001, 2.5, True, "3"):
        for ask in (model.recommend, model.picks):
            with pytest.raises(sdr.SettingError, match=r"num_seeds is .*; give a whole number from 0 to 1000"):
                ask([101], num_seeds=wrong)
    with pytest.raises(sdr.SettingError, match="num_seeds of 2 or more"):
        model.recommend([101], num_seeds=1, spread=True)
    with pytest.raises(sdr.SettingError, match="leave approximate out"):
        model.recommend([101], spread=True, approximate=True)
    for wrong in ({}, {"users": [101], "histories": [[10]]}):
        with pytest.raises(sdr.SettingError, match="say for whom"):
            model.picks(**wrong)
    with pytest.raises(TypeError, match="filter_seen"):
        model.recommend([101], filter_seen=True)


def test_a_users_history_goes_on_with_what_is_recent(models, frame, caplog):
    model = models["diffrec"]
    of_log = frame.filter(user_id=101)["item_id"].to_list()
    found = model.recommend([101, 7, 102], 4, recent={7: [30, 99, 20], 101: [140, 10]})
    expected = model.recommend_sequences([[*of_log, 140, 10], [30, 20]], 4)
    assert found["user_id"].to_list() == [101] * 4 + [7] * 4 + [102] * 4
    same = {"check_exact": False, "rel_tol": 1e-5}
    assert_frame_equal(found[:8].drop("user_id"), expected.drop("history"), **same)
    assert_frame_equal(found[8:], model.recommend([102], 4), **same)
    assert "user 7: 1 of 3 items are unknown and skipped: 99" in caplog.text
    assert model.picks([101], 3, recent={101: [10]}).height == 6


def test_a_new_user_with_nothing_gets_the_most_popular_items(models, caplog):
    model = models["diffrec"]
    found = model.recommend([7], 3, recent={7: []})
    assert found.drop("user_id").equals(model.recommend_sequences([[]], 3).drop("history"))
    assert "user 7 has no known item: it gets the most popular items" in caplog.text


def test_recent_items_of_nobody(models):
    model = models["diffrec"]
    with pytest.raises(sdr.SettingError, match=r"recent has items of \[8\], who are not among the users asked for"):
        model.recommend([101], recent={8: [10]})
    with pytest.raises(sdr.DataError, match="user 7 is not among the 16 users"):
        model.recommend([7, 101], recent={101: [10]})
    with pytest.raises(sdr.DataError, match=r"new users \['anna'\] are not of type Int64"):
        model.recommend(["anna"], recent={"anna": [10]})
    with pytest.raises(sdr.SettingError, match="recent is for users"):
        model.picks(histories=[[10]], recent={101: [10]})


def test_new_users_of_a_log_with_texts(frame):
    texts = frame.with_columns(pl.col("user_id").cast(pl.String).cast(pl.Categorical))
    data = sdr.Dataset.from_interactions(texts)
    model = sdr.Popularity().fit(data, reporter=Reporter())
    assert model.recommend(["101", "anna"], 2, recent={"anna": [10]})["user_id"].to_list() == ["101"] * 2 + ["anna"] * 2
    with pytest.raises(sdr.DataError, match="not of type String"):
        model.recommend([7], recent={7: [10]})
