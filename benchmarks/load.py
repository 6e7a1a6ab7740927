"""Requests to a service on this machine at a set rate, and how long each took.

Requests are sent at times drawn beforehand (a Poisson process), whether the ones before are answered or not, and the
time counts from then: a service that stalls does not get fewer requests for it. The client is as lean as it can be,
since it takes its share of the same cores.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

# Connections that are open at a time.
MOST_CONNECTIONS = 400
TIMEOUT = 30.0


@dataclass
class Answers:
    """What came back: status and seconds of each request; status 0 where the connection failed."""

    seconds: float = 0.0
    statuses: list[int] = field(default_factory=list[int])
    times: list[float] = field(default_factory=list[float])
    bodies: list[bytes] = field(default_factory=list[bytes])

    def of(self, status: int) -> np.ndarray:
        """Seconds of the requests that were answered with a status."""
        return np.array([took for got, took in zip(self.statuses, self.times, strict=True) if got == status])

    def milliseconds(self, status: int, percentile: float) -> float | None:
        """A percentile of them, in milliseconds; None without any."""
        found = self.of(status)
        return round(1e3 * float(np.percentile(found, percentile)), 2) if len(found) else None


class Client:
    """Keeps connections open and uses a free one for each request."""

    def __init__(self, host: str, port: int):
        self._host, self._port = host, port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._places = asyncio.Semaphore(MOST_CONNECTIONS)

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """Status and body; 0 where the connection broke."""
        async with self._places:
            try:
                async with asyncio.timeout(TIMEOUT):
                    while self._free and self._free[-1][0].at_eof():  # closed by the service, as idle for too long
                        self._free.pop()[1].close()
                    if not self._free:
                        self._free.append(await asyncio.open_connection(self._host, self._port))
                    reader, writer = self._free.pop()
                    writer.write(request)
                    head = await reader.readuntil(b"\r\n\r\n")
                    body = await reader.readexactly(_length(head))
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                return 0, b""
            if b"connection: close" in head.lower():
                writer.close()
            else:
                self._free.append((reader, writer))
            return int(head[9:12]), body

    def close(self) -> None:
        """Close all connections."""
        for _, writer in self._free:
            writer.close()


@asynccontextmanager
async def client(host: str, port: int) -> AsyncIterator[Client]:
    """A client that is closed at the end."""
    one = Client(host, port)
    try:
        yield one
    finally:
        one.close()


def post(path: str, body: bytes, host: str = "127.0.0.1") -> bytes:
    """The bytes of a request with a JSON body."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def at_rate(
    one: Client, requests: Sequence[bytes], rate: float, keep: Callable[[int, bytes], None] = lambda status, body: None
) -> Answers:
    """Send requests, so many a second on average; each one's time counts from when it was due."""
    gaps = np.random.default_rng(0).exponential(1 / rate, len(requests))
    answers, tasks = Answers(), list[asyncio.Task[None]]()
    started = time.perf_counter()

    async def ask(request: bytes, due: float) -> None:
        status, body = await one.send(request)
        answers.statuses.append(status)
        answers.times.append(time.perf_counter() - due)
        keep(status, body)

    for request, due in zip(requests, started + np.cumsum(gaps), strict=True):
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(ask(request, float(due))))
    await asyncio.gather(*tasks)
    answers.seconds = time.perf_counter() - started
    return answers


async def one_after_the_other(one: Client, requests: Sequence[bytes], callers: int) -> Answers:
    """So many callers who each send the next request when they have their answer: how much the service can do."""
    answers, queue = Answers(), iter(requests)
    started = time.perf_counter()

    async def call() -> None:
        for request in queue:
            begun = time.perf_counter()
            status, _ = await one.send(request)
            answers.statuses.append(status)
            answers.times.append(time.perf_counter() - begun)

    await asyncio.gather(*(call() for _ in range(callers)))
    answers.seconds = time.perf_counter() - started
    return answers


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0
