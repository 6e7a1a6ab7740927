"""The example of docs/extending.md, taken from the page: as file and line in a copy of the package, and by itself."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

import seqdiffrec as sdr
from seqdiffrec.models import MODELS
from seqdiffrec.training import Reporter
from tests.contracts import test_models as contracts

ROOT = Path(__file__).parents[2]
FILE, LINE = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/extending.md").read_text(), re.MULTILINE | re.DOTALL)
CONTRACTS = [
    check
    for name, check in vars(contracts).items()
    if name.startswith("test_") and "name" in inspect.signature(check).parameters
]


@pytest.fixture(scope="module")
def example() -> Iterator[str]:
    """The example's name, with the example in the table of models for as long as the tests of this file run."""
    before = dict(MODELS)
    exec(compile(FILE, "docs/extending.md", "exec"), vars(ModuleType("example")))
    (name,) = MODELS.keys() - before.keys()
    yield name
    MODELS.clear()
    MODELS.update(before)


@pytest.fixture(scope="module")
def log() -> pl.DataFrame:
    """Everybody walks a circle of nine items, from another start."""
    rows = [(user, 10 * ((user + place) % 9)) for user in range(40) for place in range(3 + user % 5)]
    return pl.DataFrame(rows, ["user_id", "item_id"], orient="row")


@pytest.mark.parametrize("check", CONTRACTS, ids=lambda check: check.__name__)
def test_the_example_holds_what_every_model_must(check: Callable[..., None], example: str):
    others = inspect.signature(check).parameters.keys() - {"name", "settings"}
    assert others <= {"filter_viewed"}
    given = {"settings": {}} if "settings" in inspect.signature(check).parameters else {}
    check(example, **given, **dict.fromkeys(others, True))


def test_the_example_learns_and_recommends(example: str, log: pl.DataFrame, tmp_path: Path):
    kind = sdr.FadingBag
    assert kind.model_name == example and kind.__name__ == "FadingBag" and "FadingBag" in dir(sdr)
    settings = {"hidden_size": 16, "dropout": 0.0, "max_length": 5, "learning_rate": 0.05, "epochs": 15}
    model = kind(**settings, device="cpu").fit(sdr.Dataset.from_interactions(log), reporter=Reporter())
    assert model.recommend_sequences([[10, 20, 30], [70, 80]], k=1)["item_id"].to_list() == [40, 0]
    model.save(tmp_path / "run")
    loaded = sdr.load(tmp_path / "run")
    assert type(loaded) is kind
    assert loaded.recommend_sequences([[10, 20, 30]], k=3).equals(model.recommend_sequences([[10, 20, 30]], k=3))


def test_one_file_and_one_line_are_enough_for_the_command_line(log: pl.DataFrame, tmp_path: Path):
    package = shutil.copytree(ROOT / "src/seqdiffrec", tmp_path / "src/seqdiffrec")
    (path,) = re.findall(r"`src/(seqdiffrec/models/\w+\.py)`:", (ROOT / "docs/extending.md").read_text())
    (tmp_path / "src" / path).write_text(FILE)
    with (package / "models/__init__.py").open("a") as models:
        models.write(LINE)
    log.write_csv(tmp_path / "log.csv")
    # A copy of the package that a test's coverage counted would count as code that no test runs.
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    small = ["--set", "model.hidden_size=8", "--set", "training.epochs=1", "--set", "training.device=cpu"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "seqdiffrec",
            "train",
            "--model",
            "fadingbag",
            *small,
            "--data",
            "log.csv",
            "--out",
            "run",
            "--json",
        ],
        cwd=tmp_path,
        env={**unmeasured, "PYTHONPATH": str(tmp_path / "src"), "SEQDIFFREC_CACHE": "cache", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["best"]["epoch"] == 1
    assert json.loads((tmp_path / "run/run.json").read_text())["settings"]["model"] == "fadingbag"
