"""The event loop's lateness, and what it does to requests."""

import asyncio
import time

from seqdiffrec.serving.lateness import LOOKS, TICK, Lateness
from seqdiffrec.serving.service import Limits
from tests.serving.conftest import ask, serving


def test_how_late_the_loop_is() -> None:
    async def look() -> list[float]:
        lateness = Lateness()
        found = [lateness.seconds]
        lateness.start()
        for _ in range(LOOKS):
            time.sleep(TICK + 0.1)
            found.append(lateness.seconds)
            await asyncio.sleep(0.001)  # now it looks
        found.append(lateness.seconds)
        lateness.stop()
        await asyncio.sleep(2 * LOOKS * TICK)
        return [*found, lateness.seconds]

    *before, behind, stopped = asyncio.run(look())
    assert max(before) < 0.1 <= behind == stopped


def test_requests_are_refused_while_the_loop_is_behind(trained, tmp_path) -> None:
    with serving(trained, store=tmp_path / "events.sqlite", limits=Limits(longest_lateness=-1.0)) as client:
        answer = ask(client, history=[10], k=1)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert client.post("/v1/events", json={"user_id": 1, "item_id": 10, "key": "a"}).status_code == 503
        assert client.get("/v1/items/10/similar").status_code == 200  # what is not under load is answered
