"""Who may ask: keys, their file, and what needs none."""

import json

import pytest

from seqdiffrec.data import DataError
from seqdiffrec.serving.keys import Keys, add_key
from tests.serving.conftest import serving


def test_a_file_holds_hashes_alone(tmp_path) -> None:
    path = tmp_path / "keys.json"
    first, second = add_key(path, "shop"), add_key(path, "app")
    keys = Keys(path)
    assert (keys.name_of(first), keys.name_of(second)) == ("shop", "app")
    assert keys.name_of("") is keys.name_of(first[:-1]) is keys.name_of(first + "x") is keys.name_of("\udfff") is None
    assert first not in path.read_text() and path.stat().st_mode & 0o077 == 0
    assert len(first) > 40 and first != second
    with pytest.raises(DataError, match="already"):
        add_key(path, "shop")


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"format": 1, "keys": []}', '{"format": 1, "keys": [{"name": "a", "sha256": "00"}]}']
)
def test_a_broken_file(tmp_path, content) -> None:
    (tmp_path / "keys.json").write_text(content)
    with pytest.raises(DataError, match=r"keys\.json"):
        Keys(tmp_path / "keys.json")


def test_a_service_with_keys(trained, tmp_path) -> None:
    key = add_key(tmp_path / "keys.json", "shop")
    with serving(trained, store=tmp_path / "events.sqlite", keys=Keys(tmp_path / "keys.json")) as client:
        with_key = {"authorization": f"Bearer {key}"}
        for wrong in ({}, {"authorization": key}, {"authorization": f"Basic {key}"}, {"authorization": "Bearer sdr_x"}):
            answer = client.post("/v1/recommendations", json={"history": [10]}, headers=wrong)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert answer.headers["content-type"] == "application/problem+json"
        assert client.post("/v1/recommendations", json={"history": [10]}, headers=with_key).status_code == 200
        for path in ("/v1/users/1/history", "/metrics", "/v1/nothing", "/page/anything", "/health"):
            assert client.get(path).status_code == 401, path
        for path in ("/", "/index.html", "/docs", "/openapi.json", "/health/live", "/health/ready"):
            assert client.get(path).status_code == 200, path
        # By any name: who has a key is no page of another site that was led here.
        assert client.get("/v1/users/1/history", headers={**with_key, "host": "shop.example"}).status_code == 200
        described = client.get("/openapi.json").json()
        assert described["security"] == [{"key": []}]


def test_the_command(tmp_path, capsys, monkeypatch) -> None:
    from tests.cli.conftest import call

    assert call("key", tmp_path / "keys.json", "--name", "shop", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert Keys(tmp_path / "keys.json").name_of(told["key"]) == "shop"
    assert call("key", tmp_path / "keys.json", "--name", "shop") == 2
    assert "already" in capsys.readouterr().err
