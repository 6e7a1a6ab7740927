"""How far the event loop is behind: the one thing that a queue in front of it cannot show."""

import asyncio
from collections import deque

# Seconds between two looks, and how many must have found the loop late: one alone may be a hiccup of the machine.
TICK, LOOKS = 0.02, 5


class Lateness:
    """By how much the event loop comes too late to what is due, looked at every `TICK` seconds from `start` on."""

    def __init__(self) -> None:
        self._late = deque([0.0] * LOOKS, LOOKS)
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look from now on, in the running loop."""
        loop = asyncio.get_running_loop()
        self._look(loop, loop.time())

    def stop(self) -> None:
        """Look no more."""
        if self._next is not None:
            self._next.cancel()

    @property
    def seconds(self) -> float:
        """The least of the last looks."""
        return min(self._late)

    def _look(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = loop.time()
        self._late.append(now - due)
        self._next = loop.call_at(now + TICK, self._look, loop, now + TICK)
