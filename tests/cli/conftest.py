"""The command line in this process, a small log, and a finished run of each model."""

import errno
import json
import random
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import typer

from seqdiffrec import cli as command_line
from seqdiffrec.data import fetch

ITEMS = 14
COLUMNS = ["--user", "who", "--item", "what", "--time", "when"]
TINY = {
    "model.hidden_size": 8,
    "model.num_layers": 1,
    "model.num_steps": 10,
    "model.num_seeds": 2,
    "model.max_length": 6,
    "model.embedding_std": 0.5,
    "model.weight_std": 0.5,
    "training.epochs": 1,
    "training.batch_size": 64,
    "training.device": "cpu",
    "training.precision": "float32",
}
MODELS = {
    "diffrec": [],
    "shared": ["--set", "model.attention=shared_history"],
    "sasrec": ["--model", "sasrec"],
    "popularity": ["--model", "popularity"],
}
NOT_OF = {"sasrec": ("model.num_s",), "popularity": ("model.num", "model.hid", "model.emb", "model.wei")}


def tiny(model: str = "diffrec", **changes: object) -> list[str]:
    """Settings of a run of a moment; tiny(epochs=3) changes training."""
    values = {**TINY, **{f"training.{name}": value for name, value in changes.items()}}
    kept = {name: value for name, value in values.items() if not name.startswith(NOT_OF.get(model, ("-",)))}
    return [*MODELS[model], *(word for name, value in kept.items() for word in ("--set", f"{name}={value}"))]


def make_log(users: int = 30, items: int = ITEMS, seed: int = 0) -> dict[int, list[int]]:
    """User id to item ids in order of time; the ids are no indices."""
    rng = random.Random(seed)
    return {101 + user: [10 * rng.randint(1, items) for _ in range(rng.randint(4, 9))] for user in range(users)}


def as_csv(log: dict[int, list[int]]) -> str:
    rows = [f"{user},{item},{1000 + place},5" for user, items in log.items() for place, item in enumerate(items)]
    return "\n".join(["who,what,when,stars", *rows]) + "\n"


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Standard output, which must be one JSON object on a line and nothing else."""
        assert self.code == 0, self.err
        assert self.out.endswith("\n") and self.out.count("\n") == 1, self.out
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    @property
    def next_step(self) -> list[str]:
        """The words of the command that standard error ends with, which must be one that parses."""
        label, _, command = self.err.splitlines()[-1].partition(": ")
        assert label in ("Next", "Go on with"), self.err
        words = shlex.split(command)
        parse(words)
        return words


def parse(words: list[str]) -> None:
    """Let the command line parse these words without doing anything."""
    assert words[0] == "seqdiffrec"
    command, rest = typer.main.get_command(command_line.app), words[1:]
    while hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context(words[1], list(rest))


def call(*words: object) -> int:
    """Run the command line in this process; returns the exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["seqdiffrec", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            command_line.main()
    return int(stopped.value.code or 0)


@pytest.fixture
def cli(capsys) -> Callable[..., Result]:
    def run(*words: object) -> Result:
        capsys.readouterr()
        code = call(*words)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def refused() -> Callable[..., None]:
    """refused(result, "what", "where", ...): exit code 2, one line on standard error that says all this."""

    def check(result: Result, *needles: str) -> None:
        assert (result.code, result.out) == (2, ""), result
        assert result.err.startswith("error: ") and result.err.count("\n") == 1, result.err
        for needle in needles:
            assert needle in result.err, (needle, result.err)

    return check


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch) -> None:
    """A folder and a cache of its own, and no way to the network."""

    def unreachable(*args: object, **kwargs: object) -> None:
        raise requests.ConnectionError("no route")

    def no_pip(*args: object) -> None:
        raise fetch.FetchError("pip could not fetch it")

    monkeypatch.setattr("requests.get", unreachable)
    monkeypatch.setattr("seqdiffrec.data.fetch._pip_download", no_pip)
    monkeypatch.setenv("SEQDIFFREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SEQDIFFREC_DATA_ROOT", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def log() -> dict[int, list[int]]:
    return make_log()


@pytest.fixture
def csv(tmp_path, log) -> Path:
    path = tmp_path / "log.csv"
    path.write_text(as_csv(log))
    return path


@pytest.fixture
def train(cli) -> Callable[..., Result]:
    """train(csv, "--json", model="sasrec", epochs=3): into the folder `run`."""

    def run(data: object, *words: object, model: str = "diffrec", out: str = "run", **changes: object) -> Result:
        columns = [] if Path(str(data)).is_dir() else COLUMNS
        return cli("train", "--data", data, *columns, "--out", out, *tiny(model, **changes), *words)

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory, log) -> dict[str, Path]:
    """A run of each model, trained once."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "log.csv").write_text(as_csv(log))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQDIFFREC_CACHE", str(folder / "cache"))
        for model in MODELS:
            out = folder / model
            assert call("train", "--data", folder / "log.csv", *COLUMNS, "--out", out, *tiny(model)) == 0
    return {model: folder / model for model in MODELS}


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of the run of DiffRec that a test may break."""
    return shutil.copytree(finished["diffrec"], tmp_path / "copy")


class Disk:
    """Turns full when told."""

    def __init__(self) -> None:
        self.full = False

    def sync(self, descriptor: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def disk(monkeypatch) -> Disk:
    """Nothing can be written any more after `disk.full = True`: the system says so when it is told to sync."""
    disk = Disk()
    monkeypatch.setattr("os.fsync", disk.sync)
    return disk
