"""`seqdiffrec serve` in a process of its own, from the side of the benchmark that starts and kills it."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.workers import LAST_LINES, BenchmarkError, search_path

START_SECONDS = 300


class Served:
    """A service over a run and a store, at a free port of 127.0.0.1; ended with the block."""

    def __init__(self, run: Path, store: Path, *words: str):
        command = [sys.executable, "-m", "seqdiffrec", "serve", str(run), "--port", "0", "--store", str(store), *words]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(str(Path(part).resolve()) for part in search_path())}
        self._said = (store.parent / "service.txt").open("w+")
        self._log = (store.parent / "service.jsonl").open("w")
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._said, env=environment)
        self.port = self._wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """As `kill -9`."""
        self.process.kill()
        self.process.wait()

    def call(self, method: str, path: str) -> Any:
        """An answer as JSON."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def memory(self) -> int:
        """Bytes that the service and the model's process hold."""
        return sum(_status_kib(pid, "VmRSS") for pid in self._processes()) * 1024

    def cpu_seconds(self) -> float:
        """Processor time that both have taken."""
        ticks = 0
        for pid in self._processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def _processes(self) -> list[int]:
        pid = self.process.pid
        of_threads = (path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children"))
        return [pid, *(int(one) for children in of_threads for one in children)]

    def _wait(self) -> int:
        """The port, once the service answers there."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            said = self._told()
            if " at http://" in said:
                self.port = int(said.split(" at http://")[1].split()[0].rpartition(":")[2])
                try:
                    self.call("GET", "/health/ready")
                    return self.port
                except (urllib.error.URLError, OSError):
                    pass
            time.sleep(0.02)
        self.kill()
        raise BenchmarkError(
            "the service did not start. It said:\n" + "\n".join(self._told().splitlines()[-LAST_LINES:])
        )

    def _told(self) -> str:
        self._said.flush()
        return Path(self._said.name).read_text()


def _status_kib(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])
