"""HTTP as uvicorn's fast parser reads it, but for a bound on the head of a request, and problems in place of text."""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from seqdiffrec.serving.problems import problem

LARGEST_HEAD = 32 * 1024
# Open at a time, idle ones too.
MOST_CONNECTIONS = 1024


class BoundedHttp(HttpToolsProtocol):
    """A connection. What comes before a request's headers end may have `LARGEST_HEAD` bytes, and one read more."""

    def __init__(self, *of: Any, **how: Any):
        super().__init__(*of, **how)
        self._in_head, self._head = True, 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A caller has come."""
        is_full = len(self.connections) >= MOST_CONNECTIONS
        super().connection_made(transport)
        if is_full:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections are open", "retry-after: 1\r\n")

    def data_received(self, data: bytes) -> None:
        """Bytes of the caller."""
        self._head += len(data)
        super().data_received(data)
        if self._in_head and self._head > LARGEST_HEAD and not self.transport.is_closing():
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a head may have {LARGEST_HEAD:,} bytes")

    def on_headers_complete(self) -> None:
        """The body begins."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next request begins."""
        self._in_head, self._head = True, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What was sent is no HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, "this is no HTTP request")

    def _refuse(self, status: HTTPStatus, detail: str, more: str = "") -> None:
        body = bytes(problem(status, detail).body)
        head = (
            f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n{more}\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
