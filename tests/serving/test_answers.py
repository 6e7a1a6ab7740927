"""What the service answers, against the library asked for the same."""

import json

import pytest

import seqdiffrec as sdr
from tests.serving.conftest import ask, items_of, log, serving, take


@pytest.fixture(scope="module")
def library(trained):
    return sdr.load(trained)


def same(found, frame) -> None:
    assert [one["item_id"] for one in found] == frame["item_id"].to_list()
    assert [one["rank"] for one in found] == frame["rank"].to_list()
    assert [one["score"] for one in found] == pytest.approx(frame["score"].to_list(), rel=1e-5)


def test_a_user_of_the_log(client, library) -> None:
    answer = ask(client, user_id=103, k=5).json()
    same(answer["recommendations"], library.recommend([103], 5))
    assert answer["history_length"] == len(log().filter(user_id=103))


def test_a_history_with_all_options(client, library) -> None:
    how = {"k": 4, "filter_viewed": False, "exclude_items": [30], "items_to_recommend": [10, 20, 30, 40, 50]}
    answer = ask(client, history=[10, 20], seeds=2, **how).json()
    same(answer["recommendations"], library.recommend_sequences([[10, 20]], num_seeds=2, **how))


def test_the_list_of_each_seed(client, library) -> None:
    answer = ask(client, history=[10, 20], k=3, seeds=4, picks=True).json()
    expected = library.picks(histories=[[10, 20]], k=3, num_seeds=4)
    assert len(answer["picks"]) == 4
    for seed, found in enumerate(answer["picks"]):
        same(found, expected.filter(seed=seed))


def test_an_event_is_in_the_next_answer(client, library) -> None:
    before = log().filter(user_id=105)["item_id"].to_list()
    assert take(client, 105, 20, "a").json()["recorded"] is True
    answer = ask(client, user_id="105", k=5).json()  # a text names the same user
    same(answer["recommendations"], library.recommend_sequences([[*before, 20]], 5))
    assert answer["history_length"] == len(before) + 1


def test_a_new_user(client, library) -> None:
    popular = ask(client, user_id="new one", k=3).json()
    assert popular["history_length"] == 0
    same(popular["recommendations"], library.recommend_sequences([[]], 3))
    take(client, "new one", 40, "b")
    same(ask(client, user_id="new one", k=3).json()["recommendations"], library.recommend_sequences([[40]], 3))


def test_unknown_and_repeated_items_are_told(client, library) -> None:
    answer = ask(client, history=[10, 999, "nothing", 10], exclude_items=[888], k=3).json()
    assert answer["skipped"] == {"count": 3, "first": [999, "nothing", 888]}
    same(answer["recommendations"], library.recommend_sequences([[10, 10]], 3))


def test_more_items_than_there_are(client) -> None:
    assert len(items_of(ask(client, history=[10], k=1000))) == 13


def test_nothing_that_may_be_recommended(client) -> None:
    assert items_of(ask(client, history=[10], items_to_recommend=[])) == []


def test_similar(client, library) -> None:
    answer = client.get("/v1/items/30/similar", params={"k": 4}).json()
    same(answer["similar"], library.similar_items([30], 4))
    assert answer["item_id"] == 30
    assert client.get("/v1/items/31/similar").status_code == 404


def test_history_and_forgetting(client) -> None:
    logged = log().filter(user_id=104)["item_id"].to_list()
    take(client, 104, 140, "c")
    take(client, 104, 777, "d")
    found = client.get("/v1/users/104/history").json()
    assert [one["item_id"] for one in found["items"]] == [*logged, 140, "777"]
    assert [one["source"] for one in found["items"]][-3:] == ["log", "event", "event"]
    assert [one["known"] for one in found["items"]][-2:] == [True, False]
    newest = client.get("/v1/users/104/history", params={"limit": 3}).json()
    assert (newest["length"], newest["items"]) == (len(logged) + 2, found["items"][-3:])
    assert client.delete("/v1/users/104/history").status_code == 204
    assert client.get("/v1/users/104/history").json()["items"] == []
    assert ask(client, user_id=104).json()["history_length"] == 0
    take(client, 104, 20, "e")
    assert [one["item_id"] for one in client.get("/v1/users/104/history").json()["items"]] == [20]


def test_an_event_counts_once(client) -> None:
    first, again = take(client, 7, 20, "k"), take(client, 7, 20, "k")
    assert (first.status_code, again.status_code) == (201, 200)
    assert (first.json()["recorded"], again.json()["recorded"]) == (True, False)
    other = take(client, 7, 30, "k")
    assert other.status_code == 409 and "'k'" in other.json()["detail"]
    assert client.get("/v1/users/7/history").json()["length"] == 1


@pytest.mark.parametrize(
    "odd", ["a/b", 'it\'s "quoted"', "😀 naïve", "; DROP TABLE events; --", "100% ?#", "x" * 256, "two\nlines\n"]
)
def test_odd_ids(client, odd) -> None:
    assert take(client, odd, odd, f"key of {odd}"[:256]).status_code == 201
    found = client.get(f"/v1/users/{_quoted(odd)}/history").json()
    assert (found["user_id"], found["items"][0]["item_id"]) == (odd, odd)


def test_ids_that_are_texts(tmp_path) -> None:
    model = sdr.SASRec(epochs=1, hidden_size=8, num_layers=1, max_length=6)
    from seqdiffrec.training import Reporter

    model.fit(sdr.Dataset.from_interactions(log(texts=True)), out=tmp_path / "texts", reporter=Reporter())
    with serving(tmp_path / "texts", store=tmp_path / "events.sqlite") as one:
        assert all(isinstance(item, str) for item in items_of(ask(one, user_id=103)))
        assert ask(one, history=["10"]).json()["history_length"] == 1


def test_a_run_without_its_log(run, tmp_path) -> None:
    import shutil

    shutil.rmtree(run / "corpus")
    with serving(run, store=tmp_path / "events.sqlite") as one:
        assert ask(one, user_id=103).json()["history_length"] == 0
        take(one, 103, 20, "a")
        assert ask(one, user_id=103).json()["history_length"] == 1


def test_the_answer_names_its_model(client, trained) -> None:
    record = json.loads((trained / "run.json").read_bytes())
    model = ask(client, history=[10]).json()["model"]
    assert model == {"run": "trained", "model": "diffrec", "hash": record["files"][record["weights"]]["sha256"]}


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")
