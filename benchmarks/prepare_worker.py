"""Prepares and checks logs in a process of its own (`benchmarks.protocol`)."""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.protocol import Channel, Pace
from seqdiffrec.data import prepare_file
from seqdiffrec.data.sources import open_path
from seqdiffrec.data.survey import survey

COLUMNS = {"user": "user_id", "item": "item_id", "time": "timestamp"}


def timed(task: Callable[[], object]) -> dict[str, Any]:
    """Seconds on the clock, and those of all processors."""
    started, used = time.perf_counter(), time.process_time()
    task()
    return {"seconds": time.perf_counter() - started, "processor_seconds": time.process_time() - used}


def prepare(path: str) -> dict[str, Any]:
    """Into an empty cache."""
    with TemporaryDirectory() as cache:
        return timed(lambda: prepare_file(path, cache=cache, **COLUMNS))


def check(path: str) -> dict[str, Any]:
    """What `data check` does before it prints."""
    return timed(lambda: survey(open_path(Path(path)), COLUMNS))


def main() -> None:
    """Answer until the benchmark has had enough."""
    channel = Channel.open()
    Pace(channel, {}, {"prepare": prepare, "check": check}).begin()


if __name__ == "__main__":
    main()
