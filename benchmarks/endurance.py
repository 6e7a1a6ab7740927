"""The service over a long time: what it holds after many requests, and events after `kill -9` under a write load.

As `serving`; nothing here is a timing, so that other work on the machine does no harm.
"""

import argparse
import asyncio
import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load import client, one_after_the_other, post
from benchmarks.service import Served
from benchmarks.serving import PLUS, count_failed, run_parts, service, some_requests

PARTS = ("memory", "kill")
# Acknowledged in a round before it ends.
LEAST_EVENTS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="which runs")
    parser.add_argument("--requests", type=int, default=200_000, help="over which memory is looked at")
    parser.add_argument("--kills", type=int, default=100, help="rounds of kill -9 under a write load")
    parser.add_argument("--threads", type=int, default=1, help="of the service's products")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All runs that were asked for, one after the other."""
    source, rows = run_parts(options, _RUNS)
    return {"data": source, "settings": {**options.size, **PLUS, "threads": options.threads}, "rows": rows}


async def _memory(options: argparse.Namespace, folder: Path, users: list[int]) -> dict[str, dict[str, Any]]:
    """What the process holds after a tenth of the requests, and after all."""
    held: list[int] = []
    statuses = Counter[int]()
    with service(options, folder) as served:
        async with client("127.0.0.1", served.port) as one:
            for _ in range(10):
                requests = list(some_requests(users, options.requests // 10, 1))
                answers = await one_after_the_other(one, requests, 8)
                statuses.update(answers.statuses)
                held.append(served.memory())
    mib = [round(each / 2**20, 1) for each in held]
    row = {
        "requests": options.requests,
        "failed": count_failed(statuses),
        "mib_after_a_tenth": mib[0],
        "mib_after_all": mib[-1],
    }
    return {"memory": row | {"growth_mib": round(mib[-1] - mib[0], 1)}}


async def _kill(options: argparse.Namespace, folder: Path, users: list[int]) -> dict[str, dict[str, Any]]:
    """Events are written by eight callers until the service is killed; the next one is asked what it has of them."""
    store, acknowledged, sent = folder / "killed.sqlite", set[str](), 0
    rng = np.random.default_rng(0)
    for number in range(options.kills):
        with Served(folder / "run", store, "--threads", str(options.threads)) as served:
            async with client("127.0.0.1", served.port) as one:
                keys = [f"{number}-{place}" for place in range(20_000)]
                queue, over = iter(keys), asyncio.Event()

                async def write(queue: Iterator[str] = queue, one: Any = one, over: asyncio.Event = over) -> None:
                    nonlocal sent
                    for key in queue:
                        event = {"user_id": f"user {key.partition('-')[0]}", "item_id": key, "key": key}
                        sent += 1
                        status, _ = await one.send(post("/v1/events", json.dumps(event).encode()))
                        if status == 201:
                            acknowledged.add(key)
                        if over.is_set():
                            return

                writers = [asyncio.create_task(write()) for _ in range(8)]
                before = len(acknowledged)
                await asyncio.sleep(float(rng.uniform(0.05, 0.5)))
                while len(acknowledged) < before + LEAST_EVENTS and served.process.poll() is None:
                    await asyncio.sleep(0.01)
                served.process.send_signal(signal.SIGKILL)
                over.set()
                await asyncio.gather(*writers)
    found = _kept(folder / "run", store)
    row = {
        "rounds": options.kills,
        "events_sent": sent,
        "acknowledged": len(acknowledged),
        "lost": len(acknowledged - found),
    }
    return {"kill -9": row}


_RUNS = {"memory": _memory, "kill": _kill}


def _kept(run: Path, store: Path) -> set[str]:
    """All events of a store, as a new service sees them after it has recovered."""
    from sqlalchemy import select

    from seqdiffrec.serving.database import Database
    from seqdiffrec.serving.tables import events

    database = Database(store)
    with database.begin() as connection:
        return set(connection.scalars(select(events.c.key)))
