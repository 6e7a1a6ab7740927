"""A study of two rows and two seeds on a log of thirty users, worked through once, and copies of it to break."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqdiffrec.reports.study import Study, read_study
from seqdiffrec.studies import run_sweep

STUDY = """
title = "A tiny study"
datasets = ["log"]
seeds = [0, 1]

[base.data]
file = "{dataset}.csv"
user = "who"
item = "what"

[base.model]
name = "diffrec"
hidden_size = 8
num_layers = 1
num_steps = 10
num_seeds = 3
max_length = 6

[base.training]
epochs = 2
batch_size = 32
device = "cpu"
precision = "float32"

[[rows]]
name = "default"
group = "The default"
title = "the default"

[[rows]]
name = "sasrec"
group = "Others"
title = "SASRec"
model = { name = "sasrec", hidden_size = 8, num_layers = 1, max_length = 6 }
set = ["training.learning_rate=0.01"]
ranks = true

[[inference]]
name = "draws-1"
of = "default"
title = "one noise draw"
set = ["model.num_seeds=1"]
"""


def write_log(path: Path, seed: int = 0) -> None:
    rng = random.Random(seed)
    rows = [(100 + user, 10 * rng.randint(1, 14)) for user in range(30) for _ in range(rng.randint(5, 9))]
    path.write_text("who,what\n" + "".join(f"{user},{item}\n" for user, item in rows))


def write_study(path: Path, text: str = STUDY) -> Study:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return read_study(path)


@pytest.fixture(scope="session", name="write_log")
def _write_log() -> Callable[[Path], None]:
    """write_log(path): the log of thirty users."""
    return write_log


@pytest.fixture(scope="session")
def text() -> str:
    """The study's file."""
    return STUDY


@pytest.fixture(scope="session")
def swept(tmp_path_factory) -> Path:
    """A folder with log.csv, tiny.toml, runs/ and results/ after one whole sweep."""
    folder = tmp_path_factory.mktemp("swept")
    write_log(folder / "log.csv")
    study = write_study(folder / "tiny.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SEQDIFFREC_CACHE", str(folder / "cache"))
        run_sweep(study, Path("runs"), Path("results"), command="seqdiffrec sweep tiny.toml")
    return folder


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch) -> None:
    """A folder and a cache of its own, with the log in it."""
    monkeypatch.setenv("SEQDIFFREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SEQDIFFREC_DATA_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path / "log.csv")


@pytest.fixture
def again(swept, tmp_path) -> Study:
    """The swept study, its runs and results copied here."""
    for name in ("runs", "results"):
        shutil.copytree(swept / name, tmp_path / name)
    return write_study(tmp_path / "tiny.toml")


@pytest.fixture
def sweep() -> Callable[..., list[str]]:
    """sweep(study, only=[...]): in this folder; returns the lines that it told."""

    def run(study: Study, **options: Any) -> list[str]:
        lines: list[str] = []
        run_sweep(study, Path("runs"), Path("results"), notify=lines.append, **options)
        return lines

    return run


@pytest.fixture
def untrainable(monkeypatch) -> None:
    """From now on nothing can be trained."""

    def fit(*args: object, **kwargs: object) -> None:
        raise AssertionError("a run was trained")

    monkeypatch.setattr("seqdiffrec.inference.Recommender.fit", fit)
