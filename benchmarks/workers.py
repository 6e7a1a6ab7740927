"""Worker processes from the side of the benchmark that starts them; what they say is in `benchmarks.protocol`."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LAST_LINES = 15


class BenchmarkError(Exception):
    """A benchmark cannot go on; the message says why and what to do."""


class WorkerError(BenchmarkError):
    """A worker ended before its time. said: the end of what it wrote to standard error."""

    def __init__(self, message: str, said: str):
        super().__init__(f"{message}. The end of what it said:\n{said}" if said else f"{message}, and said nothing")
        self.said = said


class Worker:
    """A system in a process of its own, so that its memory and compiled kernels are those of a training of it alone.

    Calling it does one lap; `told` holds what the process said last, `facts` what it said first.

    module: what the process runs. python: whose; without it this one. steps: of a lap. threads: of torch's products.
    """

    def __init__(
        self,
        name: str,
        module: str,
        spec: dict[str, Any],
        *,
        python: Path | None = None,
        steps: int = 1,
        threads: int | None = None,
    ):
        self.name, self.steps = name, steps
        self.told: dict[str, Any] = {}
        self.folder = tempfile.TemporaryDirectory(prefix="seqdiffrec-worker-")  # libraries write into where they run
        self.said = (Path(self.folder.name) / "stderr.txt").open("w+")
        others = [] if python else [str(Path(part).resolve()) for part in search_path() if part]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *others])}
        if threads is not None:
            environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [str(python or sys.executable), "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
            env=environment,
            cwd=self.folder.name,
        )
        try:
            self.facts = self._exchange(spec, "started")
        except BaseException:
            self.end()
            raise

    def __call__(self) -> int:
        """Have the process train for a lap, and return the number of targets."""
        return self.ask("train", steps=self.steps)["targets"]

    def ask(self, order: str, **arguments: Any) -> dict[str, Any]:
        """Give an order and wait for the answer. Raises WorkerError where the process ends instead."""
        self.told = self._exchange({order: arguments}, f"told to {order}")
        return self.told

    def end(self) -> None:
        """Let the process go."""
        try:
            self.process.communicate(timeout=10)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self.process.kill()
            self.process.wait()
        self.said.close()
        self.folder.cleanup()

    def _exchange(self, message: dict[str, Any], when: str) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            print(json.dumps(message), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.said.seek(0)
        tail = "".join(self.said.readlines()[-LAST_LINES:]).rstrip()
        how = f"was killed by signal {-code}{' (out of memory?)' * (code == -9)}" if code < 0 else f"ended with {code}"
        raise WorkerError(f"the worker of {self.name} {how} when {when}", tail)


def search_path() -> list[str]:
    """Where this process was told to look for modules."""
    return os.environ.get("PYTHONPATH", "").split(os.pathsep)


@contextmanager
def kept() -> Iterator[dict[str, Worker]]:
    """A dictionary to put workers into, by name; on leaving, all in it are ended."""
    workers: dict[str, Worker] = {}
    try:
        yield workers
    finally:
        for worker in workers.values():
            worker.end()
