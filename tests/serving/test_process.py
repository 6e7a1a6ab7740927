"""`seqdiffrec serve` as a process: killed, told to stop, started wrongly."""

import json
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import httpx2 as httpx
import pytest

from seqdiffrec.serving.keys import add_key
from tests.cli.conftest import call
from tests.serving.conftest import process


@pytest.fixture(scope="module")
def killed(trained, tmp_path_factory) -> tuple[Path, list[str]]:
    """A store whose service was killed under a write load, and the events that it had acknowledged."""
    store, acknowledged = tmp_path_factory.mktemp("killed") / "events.sqlite", list[str]()
    with process(trained, store) as (service, url):

        def write(caller: int) -> None:
            with httpx.Client(base_url=url, timeout=10) as client:
                for number in range(10_000):
                    key = f"{caller}-{number}"
                    try:
                        answer = client.post("/v1/events", json={"user_id": "ann", "item_id": key, "key": key})
                    except httpx.TransportError:
                        return
                    if answer.status_code == 201:
                        acknowledged.append(key)

        with ThreadPoolExecutor(3) as callers:
            running = [callers.submit(write, caller) for caller in range(3)]
            while len(acknowledged) < 30 and not any(one.done() for one in running):
                time.sleep(0.005)
            service.send_signal(signal.SIGKILL)
            for one in running:
                one.result()
    return store, acknowledged


@pytest.fixture(scope="module")
def second(trained, killed) -> tuple[subprocess.Popen[str], str]:
    """The next service over the same store."""
    with process(trained, killed[0]) as found:
        yield found


def test_no_acknowledged_event_is_lost_by_kill(killed, second) -> None:
    found = httpx.get(f"{second[1]}/v1/users/ann/history", params={"limit": 1000}).json()["items"]
    assert len(killed[1]) >= 30
    assert set(killed[1]) <= {one["item_id"] for one in found}
    assert len(found) <= len(killed[1]) + 3  # what was under way may be there or not


def test_ids_in_an_address_are_decoded_once(second) -> None:
    odd = "50%2F a/b?#😀"
    assert httpx.post(f"{second[1]}/v1/events", json={"user_id": odd, "item_id": 1, "key": "k"}).status_code == 201
    found = httpx.get(f"{second[1]}/v1/users/{quote(odd, safe='')}/history").json()
    assert (found["user_id"], found["length"]) == (odd, 1)


NONSENSE = {b"\x16\x03\x01 nonsense\r\n\r\n": 400, b"GET / HTTP/1.1\r\nLong: " + b"x" * 40_000: 431}


@pytest.mark.parametrize("sent", NONSENSE, ids=NONSENSE.values())
def test_what_is_no_http(second, sent) -> None:
    with connected(second[1]) as connection:
        connection.sendall(sent)
        answer = connection.recv(1000)
        assert answer.startswith(b"HTTP/1.1 %d" % NONSENSE[sent]) and b"application/problem+json" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == NONSENSE[sent]
        assert connection.recv(1000) == b""  # closed


def test_a_head_without_end_ends_the_connection(second) -> None:
    with connected(second[1]) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nLong: ")
        with pytest.raises(ConnectionError):
            connection.sendall(b"x" * 100_000_000)
    assert httpx.get(f"{second[1]}/health/live").status_code == 200


def test_the_bound_on_a_head_is_not_one_on_the_body(second) -> None:
    history = [1] * 20_000  # 60 kB: too many items, but read
    with httpx.Client(base_url=second[1]) as client:
        for _ in range(2):
            assert client.post("/v1/recommendations", json={"history": history[:9000], "k": 1}).status_code == 200
            assert client.post("/v1/recommendations", json={"history": history, "k": 1}).status_code == 422


def test_a_request_under_way_is_answered_before_the_end(second) -> None:  # the last one: it ends the service
    service, url = second
    with connected(url) as connection:
        body = b'{"history": [10, 20], "k": 3}'
        head = f"POST /v1/recommendations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body[:10])
        while "requests_in_flight 2.0" not in httpx.get(f"{url}/metrics").text:  # this one, and the one that asks
            time.sleep(0.01)
        service.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        connection.sendall(body[10:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert service.wait(15) == 0


def test_starting_wrongly(trained, tmp_path, capsys, monkeypatch) -> None:
    def said(*words: object) -> str:
        assert call("serve", *words) == 2
        error = capsys.readouterr().err
        assert error.count("error:") == 1 and "Traceback" not in error
        return error

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"cannot listen at 127.0.0.1:{port}: Address already in use" in said(trained, "--port", port)
    assert "does not exist" in said(tmp_path / "nothing", "--port", 0)
    assert not (tmp_path / "nothing-events.sqlite").exists()
    assert "need a key" in said(trained, "--host", "0.0.0.0")
    add_key(tmp_path / "keys.json", "me")
    host = ["--host", "no.such.host.invalid", "--keys", tmp_path / "keys.json"]
    assert "cannot listen at no.such.host.invalid" in said(trained, *host)
    assert "cannot be opened" in said(trained, "--port", 0, "--store", tmp_path / "no" / "x.sqlite")
    monkeypatch.setitem(sys.modules, "fastapi", None)
    for name in [name for name in sys.modules if name.startswith("seqdiffrec.serving")]:
        monkeypatch.delitem(sys.modules, name)
    assert "pip install 'seqdiffrec[serve]'" in said(trained)


def connected(url: str) -> socket.socket:
    address = httpx.URL(url)
    return socket.create_connection((address.host, address.port), timeout=15)
