"""The load generator counts what came back, and times from when a request was due."""

import asyncio

import pytest

from benchmarks.load import Answers, at_rate, client, one_after_the_other, post


def against(handle, run) -> Answers:
    """Run requests against a server of this process."""

    async def both() -> Answers:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with server, client("127.0.0.1", server.sockets[0].getsockname()[1]) as one:
            return await run(one)

    return asyncio.run(both())


async def one_request(reader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return await reader.readexactly(int(length.split(b":")[1]))


def test_statuses_and_percentiles() -> None:
    async def handle(reader, writer) -> None:
        try:
            while True:
                status = await one_request(reader)
                writer.write(b"HTTP/1.1 " + status + b" Said\r\nContent-Length: 2\r\n\r\n{}")
        except asyncio.IncompleteReadError:
            writer.close()

    requests = [post("/", b"200")] * 6 + [post("/", b"503")] * 2
    found = against(handle, lambda one: one_after_the_other(one, requests, 3))
    assert sorted(found.statuses) == [200] * 6 + [503] * 2
    assert len(found.of(503)) == 2 and found.milliseconds(404, 50) is None
    assert 0 <= found.milliseconds(200, 50) <= found.milliseconds(200, 100) <= 1e3 * found.seconds


def test_a_connection_that_breaks_is_a_failure() -> None:
    async def handle(reader, writer) -> None:
        await one_request(reader)
        writer.close()

    found = against(handle, lambda one: one_after_the_other(one, [post("/", b"200")] * 3, 1))
    assert found.statuses == [0, 0, 0]


def test_a_stall_counts_for_all_that_were_due_meanwhile() -> None:
    lock, stalled = asyncio.Lock(), False

    async def handle(reader, writer) -> None:
        nonlocal stalled
        try:
            while True:
                await one_request(reader)
                async with lock:  # one at a time, and the first takes long
                    if not stalled:
                        stalled = True
                        await asyncio.sleep(0.3)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except asyncio.IncompleteReadError:
            writer.close()

    found = against(handle, lambda one: at_rate(one, [post("/", b"")] * 20, 200))
    assert found.statuses == [200] * 20
    # All were due within some 0.1 s, so that all waited for the rest of the stall.
    assert found.milliseconds(200, 0) > 50
    assert found.milliseconds(200, 100) == pytest.approx(300, abs=250)
