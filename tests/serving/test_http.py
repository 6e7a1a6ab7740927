"""What a connection answers by itself."""

import json
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from seqdiffrec.serving.http import LARGEST_HEAD, MOST_CONNECTIONS, BoundedHttp


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.sent, self.closed = b"", False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def connected(state: ServerState, event_loop: Any) -> tuple[BoundedHttp, Transport]:
    async def nobody(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("nothing is to reach the application")

    transport = Transport()
    connection = BoundedHttp(uvicorn.Config(nobody), state, {}, _loop=event_loop)
    connection.connection_made(transport)  # pyright: ignore[reportArgumentType]
    return connection, transport


def refused(transport: Transport) -> dict[str, Any]:
    head, _, body = transport.sent.partition(b"\r\n\r\n")
    assert transport.closed and b"content-type: application/problem+json" in head and b"connection: close" in head
    assert head.startswith(b"HTTP/1.1 %d " % json.loads(body)["status"])
    return json.loads(body)


def test_a_head_in_many_reads_is_bounded() -> None:
    connection, transport = connected(ServerState(), object())
    connection.data_received(b"GET / HTTP/1.1\r\n")
    while not transport.closed:
        assert len(transport.sent) == 0
        connection.data_received(b"X: %s\r\n" % (b"x" * 1000))
    assert refused(transport)["status"] == 431
    assert f"{LARGEST_HEAD:,}" in refused(transport)["detail"]


def test_one_connection_too_many() -> None:
    state = ServerState()
    state.connections.update(object() for _ in range(MOST_CONNECTIONS))  # pyright: ignore[reportArgumentType]
    _, transport = connected(state, object())
    assert refused(transport)["status"] == 503 and b"retry-after: 1" in transport.sent


def test_what_is_no_http() -> None:
    connection, transport = connected(ServerState(), object())
    connection.data_received(b"\x16\x03\x01 nonsense\r\n\r\n")
    assert refused(transport)["status"] == 400
