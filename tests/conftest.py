"""For all tests: one torch thread, the same hypothesis examples on every run, a hook into training, a PostgreSQL."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from tests import shapes

torch.set_num_threads(1)
shapes.speed_up()

# No deadline, since the first call of a torch operation is slow; `derandomize` so that a failure comes back.
settings.register_profile("seqdiffrec", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("seqdiffrec")


# Tests of commands and of what trains whole runs: the models' own tests see the same shapes.
WITHOUT_SHAPES = {"cli", "fitting", "reports", "serving", "studies"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Around a test and its fixtures."""
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    with shapes.unchecked() if folder in WITHOUT_SHAPES else nullcontext():
        return (yield)


@pytest.fixture
def at_step(monkeypatch) -> Callable[[int, Callable[[], None]], None]:
    """at_step(3, action): the action happens after the third step of training from now on."""
    # Not above: what is imported before the tests are configured goes without jaxtyping's checks of shapes.
    from seqdiffrec.training import TerminalReporter

    def arrange(step: int, action: Callable[[], None]) -> None:
        done = 0
        real = TerminalReporter.step

        def count(self: TerminalReporter, state: Any) -> None:
            nonlocal done
            done += 1
            real(self, state)
            if done == step:
                action()

        monkeypatch.setattr(TerminalReporter, "step", count)

    return arrange


def binaries() -> Path | None:
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return places[-1] if places and (places[-1] / "initdb").exists() else None


class Server:
    """A PostgreSQL of its own, reached through a socket in its folder, so that no port is taken."""

    def __init__(self, bin: Path, folder: Path):
        self.bin, self.folder = bin, folder
        # PostgreSQL does not run as root.
        self.who = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
        if self.who:
            shutil.chown(folder, "nobody", "nogroup")
        self.run("initdb", "-D", "data", "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://tester@/postgres?host={self.folder}"

    def run(self, name: str, *words: str) -> None:
        subprocess.run(
            [str(self.bin / name), *words],
            cwd=self.folder,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60,
            **self.who,
        )

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off"
        self.run("pg_ctl", "start", "-D", "data", "-w", "-l", "log.txt", "-o", options)

    def stop(self) -> None:
        self.run("pg_ctl", "stop", "-D", "data", "-m", "immediate", "-w")


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[Server]:
    """A server for the tests of one file, which may stop and start it."""
    bin = binaries()
    if bin is None:
        needed = os.environ.get("SEQDIFFREC_TEST_POSTGRES") == "required"
        (pytest.fail if needed else pytest.skip)("PostgreSQL's initdb is not on this machine (Debian: postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # a socket's path must be short
    server = Server(bin, folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
