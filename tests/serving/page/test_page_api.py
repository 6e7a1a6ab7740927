"""What the page asks the service for, without a browser."""

import json

import pytest
from fastapi.testclient import TestClient

import seqdiffrec as sdr
from seqdiffrec.serving import create_app
from tests.serving.page.conftest import LONG, MARKUP, fit, make_data


@pytest.fixture(scope="module")
def client(app):
    return TestClient(app, base_url="http://127.0.0.1")


def client_of(run, folder) -> TestClient:
    return TestClient(create_app(run, store=folder / "events.sqlite"), base_url="http://127.0.0.1")


def found(client: TestClient, query: str, limit: int = 50) -> list:
    answer = client.get("/v1/page/items", params={"q": query, "limit": limit})
    assert answer.status_code == 200, answer.text
    return [(item["item_id"], item["title"]) for item in answer.json()["items"]]


def test_items_by_title_and_by_id(client) -> None:
    assert found(client, "amelie") == [(10, "Amélie")]
    assert found(client, "the matrix") == [(11, "Matrix, The (1999)")]
    assert (15, None) in found(client, "15")  # an item without a title goes by its id
    assert found(client, "onerror") == [(13, MARKUP)]
    assert found(client, "no such title") == []


def test_nothing_looked_for_gives_the_most_popular(client, run) -> None:
    corpus = sdr.load(run).corpus
    counts = make_data().split.train.flat()[1]
    popular = max(range(1, corpus.num_items + 1), key=lambda item: ((counts == item).sum(), -item))
    assert found(client, "", 1) == [(int(corpus.item_ids[popular - 1]), corpus.titles[popular - 1])]


def test_users(client) -> None:
    answer = client.get("/v1/page/users", params={"q": "20"}).json()
    assert answer["users"][0] == {"user_id": 200, "length": 40}
    assert answer["in_log"] == 31


def test_titles_of_ids(client) -> None:
    items = client.post("/v1/page/items", json={"items": [14, "12", "nobody"]}).json()["items"]
    assert items == [
        {"item_id": 14, "title": LONG, "known": True},
        {"item_id": 12, "title": "The Thing", "known": True},
        {"item_id": "nobody", "title": None, "known": False},
    ]


def test_the_run(client, run) -> None:
    facts = client.get("/v1/page/run").json()
    record = json.loads((run / "run.json").read_bytes())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert (facts["model"], facts["num_items"], facts["num_steps"], facts["default_seeds"]) == ("DiffRec", 40, 40, 3)
    assert [row["train"] for row in facts["curves"]] == [line["train"] for line in lines]
    shown = {(one["protocol"], one["metric"]): one["value"] for one in facts["figures"]}
    best = record["best"]["validation"]
    assert shown == {(part, name): value for part, values in best.items() for name, value in values.items()}
    assert facts["draws_noise"] and facts["has_titles"] and facts["compared"] == []


def test_what_fit_compared_is_told_with_intervals(run, tmp_path) -> None:
    system = {
        "model": "sasrec", "told": "d 64", "validation": 0.2, "epoch": 3, "seconds": 1.0, "settings": {},
        "hit_rate": {"value": 0.3, "low": 0.25, "high": 0.35}, "ndcg": {"value": 0.1, "low": 0.05, "high": 0.15},
    }  # fmt: skip
    copy = tmp_path / "fitted"
    sdr.load(run).save(copy)
    fitted = {"k": 10, "protocol": "seen_kept", "systems": [system, system | {"model": "popularity", "told": ""}]}
    figures = {"HR@10": {"value": 0.5, "low": 0.4, "high": 0.6}}
    part = {"segment": "rare", "told": "rare items", "users": 9, "seen_kept": figures, "seen_removed": figures}
    fitted["quality"] = {"segments": [part]}
    (copy / "fit.json").write_text(json.dumps(fitted))
    facts = client_of(copy, tmp_path).get("/v1/page/run").json()
    (part,), (first, second) = facts["segments"], facts["compared"]
    assert (part["name"], part["told"], part["cases"]) == ("rare", "rare items", 9)
    assert [(one["protocol"], one["low"]) for one in part["figures"]] == [("seen_kept", 0.4), ("seen_removed", 0.4)]
    assert (first["model"], first["chosen"], first["settings"]) == ("sasrec", True, "d 64")
    assert first["figures"][1] == {
        "metric": "NDCG@10", "part": "test", "protocol": "seen_kept", "value": 0.1, "low": 0.05, "high": 0.15,
    }  # fmt: skip
    assert (second["model"], second["chosen"]) == ("popularity", False)

    (copy / "fit.json").write_text("{")
    answer = client_of(copy, tmp_path).get("/v1/page/run")
    assert answer.status_code == 422 and "fit.json cannot be read" in answer.json()["detail"]


def test_the_map_and_the_way_on_it(client) -> None:
    shown = client.get("/v1/page/map").json()
    assert len(shown["points"]) == 40 and shown["note"] is None and len(shown["shares"]) == 2
    way = client.post("/v1/page/denoising", json={"history": [10, "11", "unknown"], "steps": 4, "seed": 2}).json()
    assert way["kind"] == "diffusion"
    assert [stage["step"] for stage in way["stages"]] == [40, 30, 20, 10, 0]
    places = {point["item_id"]: (point["x"], point["y"]) for point in shown["points"]}
    for stage in way["stages"]:
        assert all(places[item["item_id"]] == pytest.approx((item["x"], item["y"])) for item in stage["nearest"])
        assert not {10, 11} & {item["item_id"] for item in stage["said"]}


def test_an_empty_history_has_no_way(client) -> None:
    way = client.post("/v1/page/denoising", json={"history": []}).json()
    assert way["kind"] == "none" and way["stages"] == [] and "most popular" in way["note"]


@pytest.mark.parametrize(("name", "kind", "points"), [("SASRec", "state", 40), ("Popularity", "none", 0)])
def test_models_without_a_diffusion(name, kind, points, tmp_path) -> None:
    settings = {} if name == "Popularity" else {"epochs": 1, "hidden_size": 8, "max_length": 6}
    client = client_of(fit(tmp_path / "run", name, **settings), tmp_path)
    assert len(client.get("/v1/page/map").json()["points"]) == points
    way = client.post("/v1/page/denoising", json={"history": [10, 11]}).json()
    assert way["kind"] == kind and len(way["stages"]) == (kind == "state") and way["note"]
    facts = client.get("/v1/page/run").json()
    assert (facts["draws_noise"], facts["num_steps"]) == (False, None)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "items?limit=0", None),
        ("GET", "items?limit=51", None),
        ("GET", f"items?q={'x' * 201}", None),
        ("POST", "items", {"items": [1.5]}),
        ("POST", "denoising", {"history": [10], "steps": 51}),
        ("POST", "denoising", {"history": [10], "seed": -1}),
        ("POST", "denoising", {"history": [10], "sead": 1}),
    ],
)
def test_what_is_out_of_bounds_is_refused(client, method, path, body) -> None:
    answer = client.request(method, f"/v1/page/{path}", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_page_is_served_with_a_strict_policy(client) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert "<script>" not in answer.text and "style=" not in answer.text
    assert client.get("/js/app.js").status_code == 200
