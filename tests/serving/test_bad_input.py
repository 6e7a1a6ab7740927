"""What a client may send by mistake or on purpose: a clear answer each, and the service goes on."""

import json

import pytest

from seqdiffrec.serving import gate
from tests.serving.conftest import ask, serving, take

JSON = {"content-type": "application/json"}


def problem(answer, status: int, said: str = "") -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == status and found["title"] and said in found["detail"], found
    assert "Traceback" not in answer.text and "site-packages" not in answer.text
    return found


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "either user_id or history"),
        ({"user_id": 1, "history": [1]}, "either user_id or history"),
        ({"history": list(range(100_000))}, "10000"),
        ({"history": [1], "k": 0}, "greater than or equal to 1"),
        ({"history": [1], "k": -1}, "greater than or equal to 1"),
        ({"history": [1], "k": 10**9}, "less than or equal to 1000"),
        ({"history": [1], "k": 10**400}, "k"),
        ({"history": [1], "k": "5"}, "k"),
        ({"history": [1], "k": 2.5}, "k"),
        ({"history": [1], "seeds": 101}, "seeds"),
        ({"history": [1], "seeds": -1}, "seeds"),
        ({"history": ["nul \0 in it"]}, "NUL"),
        ({"history": ["x" * 2**19]}, "524,288 characters"),
        ({"history": ["\ud800"]}, "half of a character"),
        ({"history": [""]}, "0 characters"),
        ({"history": [True]}, "whole number of 64 bits, or a text"),
        ({"history": [1.5]}, "whole number of 64 bits, or a text"),
        ({"history": [None]}, "whole number"),
        ({"history": [[1]]}, "whole number"),
        ({"history": [2**63]}, "64 bits"),
        ({"history": "50"}, "list"),
        ({"history": [1], "filter_seen": True}, "filter_seen"),
        ([], "body"),
        (None, "body"),
        ("text", "body"),
    ],
)
def test_a_wrong_request(client, body, said) -> None:
    found = problem(client.post("/v1/recommendations", content=json.dumps(body), headers=JSON), 422, said)
    assert found["errors"]


def test_more_lists_than_anyone_reads(client) -> None:
    problem(ask(client, history=[10], k=1000, seeds=100, picks=True), 422, "lower seeds or k")


@pytest.mark.parametrize("content", ["{", "", '{"history": [1', "\xff\xfe", "nul\0", "NaN]", '{"history": NaN}'])
def test_what_is_no_json(client, content) -> None:
    answer = client.post("/v1/recommendations", content=content.encode("latin-1"), headers=JSON)
    assert answer.status_code in (400, 422)
    problem(answer, answer.status_code)


def test_deep_json(client) -> None:
    content = '{"history": ' + "[" * 100_000 + "]" * 100_000 + "}"
    answer = client.post("/v1/recommendations", content=content, headers=JSON)
    problem(answer, 400, "pars")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x", ""])
def test_another_content_type(client, kind) -> None:
    problem(client.post("/v1/events", content=b'{"a": 1}', headers={"content-type": kind}), 415, "application/json")


def test_a_body_that_is_too_large(client) -> None:
    problem(client.post("/v1/events", content=b" " * (2**20 + 1), headers=JSON), 413, "1,048,576 bytes")

    def pieces():
        for _ in range(2**11):
            yield b" " * 2**10

    problem(client.post("/v1/events", content=pieces(), headers=JSON), 413)


@pytest.mark.parametrize(
    "event",
    [
        {"user_id": "nul\0", "item_id": 1, "key": "k"},
        {"user_id": 1, "item_id": "\0", "key": "k"},
        {"user_id": 1, "item_id": 1, "key": "\0"},
        {"user_id": 1, "item_id": 1, "key": ""},
        {"user_id": 1, "item_id": 1, "key": "k" * 257},
        {"user_id": 1, "item_id": 1, "key": 5},
        {"user_id": 1, "item_id": 1},
        {"user_id": 1, "item_id": 1, "key": "\udfff"},
    ],
)
def test_a_wrong_event(client, event) -> None:
    problem(client.post("/v1/events", content=json.dumps(event), headers=JSON), 422)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/%2e%2e/service.py", 404),
        ("GET", "/v1/events", 405),
        ("PUT", "/v1/recommendations", 405),
        ("DELETE", "/", 405),
        ("GET", "/v1/items/%00/similar", 422),
        ("GET", "/v1/items//similar", 422),
        ("GET", f"/v1/items/{'x' * 300}/similar", 422),
        ("GET", "/v1/items/10/similar?k=0", 422),
        ("GET", "/v1/items/10/similar?k=many", 422),
        ("GET", "/v1/users/%00/history", 422),
        ("DELETE", "/v1/users/%00/history", 422),
        ("GET", "/v1/users/1/history?limit=1001", 422),
    ],
)
def test_a_wrong_address(client, method, path, status) -> None:
    answer = client.request(method, path)
    problem(answer, status)
    assert status != 405 or answer.headers["allow"]


def test_a_failure_of_ours_says_nothing_of_the_code(client, monkeypatch, caplog) -> None:
    def fail(*_):
        raise RuntimeError("a secret of the code")

    monkeypatch.setattr(type(client.app.state.service), "recommend", fail)
    answer = ask(client, history=[10])
    problem(answer, 500)
    assert "secret" not in answer.text
    assert "a secret of the code" in caplog.text  # the log has it


def test_other_sites_are_kept_out(client) -> None:
    problem(client.get("/v1/users/1/history", headers={"host": "rebound.example"}), 421, "Host")
    body = {"user_id": 1, "item_id": 10, "key": "of this site"}
    problem(client.post("/v1/events", json=body, headers={"origin": "https://rebound.example"}), 403, "other sites")
    problem(client.post("/v1/models/reload", headers={"origin": "null"}), 403)
    assert client.post("/v1/events", json=body, headers={"origin": "http://127.0.0.1"}).status_code == 201
    preflight = {"origin": "https://rebound.example", "access-control-request-method": "DELETE"}
    answer = client.options("/v1/users/1/history", headers=preflight)
    assert not any(name.startswith("access-control-") for name in answer.headers)


def test_every_answer_has_the_headers(client) -> None:
    for answer in (client.get("/"), client.get("/nothing"), ask(client, history=[10]), client.get("/docs")):
        assert "default-src 'none'; script-src 'self';" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-request-id"]


def test_a_slow_body_is_given_up(run, tmp_path, monkeypatch) -> None:
    import time

    monkeypatch.setattr(gate, "BODY_SECONDS", 0.05)
    with serving(run, store=tmp_path / "events.sqlite") as client:
        # The test client hands the pieces over when it is asked for them; the second never comes.
        import asyncio

        async def receive():
            await asyncio.sleep(5)

        sent = []

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/events", "raw_path": b"/v1/events", "query_string": b""}
        scope |= {"headers": [(b"host", b"127.0.0.1")], "scheme": "http", "server": ("127.0.0.1", 80)}
        started = time.monotonic()
        asyncio.run(client.app(scope, receive, send))
        assert sent[0]["status"] == 408 and time.monotonic() - started < 2


def test_logs_name_no_one_and_hold_no_body(client, caplog) -> None:
    caplog.set_level("INFO", "seqdiffrec.serving")
    take(client, "a secret person", "a secret item", "a secret key")
    client.get("/v1/users/a secret person/history")
    lines = [json.loads(gate.JsonLines().format(record)) for record in caplog.records]
    assert [line["route"] for line in lines if line["message"] == "answered"] == [
        "/v1/events",
        "/v1/users/{user_id}/history",
    ]
    assert "secret" not in json.dumps(lines)
