"""The demo on a small stand-in for ML-100K, with models of a moment."""

import random
from pathlib import Path

import polars as pl
import pytest

from seqdiffrec import Dataset, demo
from seqdiffrec.data import Interactions, prepare
from seqdiffrec.training import RunFolder


@pytest.fixture
def films(monkeypatch) -> Dataset:
    rng = random.Random(0)
    rows = [(user, rng.randint(1, 30)) for user in range(193, 200) for _ in range(12)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    titles = pl.DataFrame({"item_id": range(1, 31), "title": [f"Film [{film}]" for film in range(1, 31)]})
    data = Dataset.of(prepare(Interactions.from_frame(log), name="ml-100k", items=titles))
    monkeypatch.setattr(demo, "load_dataset", lambda name: data)
    monkeypatch.setattr(
        demo, "SETTINGS", {"hidden_size": 8, "num_layers": 1, "epochs": 1, "max_length": 5, "device": "cpu"}
    )
    return data


def test_what_the_demo_shows_and_leaves(cli, films, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    result = cli("demo", "--out", "runs/demo")
    assert result.code == 0
    taken = [films.corpus.titles[int(i) - 1] for i in films.corpus.sequences()[films.corpus.user_index(196)]]
    table, figures = result.out.split("ML-100K, test")
    shown = [line.split("│")[1:3] for line in table.splitlines() if line.count("Film") == 2]
    assert [left.strip() for left, _ in shown] == taken[::-1][:10]
    assert not {right.strip() for _, right in shown} & set(taken)
    for name in ("popularity", "SASRec", "DiffRec, shared history"):
        assert sum(line.startswith(f"│ {name} ") for line in figures.splitlines()) == 1
    assert {RunFolder.open(path).record["settings"]["model"] for path in Path("runs/demo").iterdir()} == {
        *("popularity", "sasrec", "diffrec")
    }
    assert result.next_step[:4] == ["seqdiffrec", "recommend", "runs/demo/diffrec", "--history"]


def test_an_earlier_demo_stays_as_it_is(films):
    Path("runs/demo").mkdir(parents=True)
    assert demo._free(Path("runs/demo")) == Path("runs/demo-2")
    Path("runs/demo-2").mkdir()
    assert demo._free(Path("runs/demo")) == Path("runs/demo-3")
    assert demo._free(Path("runs/other")) == Path("runs/other")
