"""A small study with made-up records, whose means and spreads are easy to work out by hand."""

import json
import math
import re
from pathlib import Path

import polars as pl
import pytest

from seqdiffrec.reports.page import build_page

STUDY = """
title = "What decides"
datasets = ["beauty", "toys"]
seeds = [0, 1, 2]
controls = ["sasrec", "deep"]
[base.model]
name = "diffrec"

[[rows]]
name = "default"
group = "The default"
title = "the default"
ranks = true

[[rows]]
name = "wide"
group = "Size"
title = "wider | d 128"
set = ["model.hidden_size=128"]
ranks = true

[[rows]]
name = "deep"
group = "Size"
title = "deeper"
set = ["model.num_layers=4"]
seeds = [0]

[[rows]]
name = "sasrec"
group = "Others"
title = "SASRec"
model = { name = "sasrec" }
datasets = ["beauty"]
ranks = true

[[inference]]
name = "draws-1"
of = "default"
title = "one noise draw"
set = ["model.num_seeds=1"]
"""

CUTOFFS = (5, 10, 20)


def figures(ndcg: float) -> dict[str, float]:
    """NDCG@10 as told, the rest in fixed proportions of it."""
    names = {
        f"{name}@{k}": times * k / 10 for name, times in (("HR", 2.0), ("NDCG", 1.0), ("MRR", 0.8)) for k in CUTOFFS
    }
    return {name: ndcg * times for name, times in names.items()}


def make_figures(ndcg: float) -> dict[str, object]:
    return {"seen_kept": figures(ndcg), "seen_removed": figures(ndcg + 0.02), "cases": 4, "num_items": 100, "ties": "x"}


def make_record(
    validation: float, test: float, *, model: str = "diffrec", corpus: str = "a" * 64, minutes: float = 2.0
) -> dict[str, object]:
    model_settings = {"max_length": 50, "hidden_size": 64, "num_layers": 2, "dropout": 0.3}
    if model == "diffrec":
        model_settings |= {"attention": "shared_history", "num_seeds": 10}
    curve = [
        {"epoch": epoch, "embedding_norm": float(epoch), "validation": {"seen_kept": figures(validation * share)}}
        for epoch, share in ((1, 0.5), (2, 1.0), (3, 0.9))
    ]
    return {
        "settings": {
            "model": model,
            "model_settings": model_settings,
            "training": {"batch_size": 256, "epochs": 40, "precision": "float32", "seed": 0},
        },
        "data": {"dataset": "beauty"},
        "corpus": {"name": "beauty", "content_hash": corpus, "users": 4, "items": 100, "actions": 1234},
        "revision": "0123456789abcdef0123456789abcdef01234567",
        "machine": {"processor": "Z80", "cores": 2, "system": "Linux"},
        "best_epoch": 2,
        "training_seconds": 60 * minutes,
        "seeds_averaged": {"curve": 1, "validation": 10, "test": 10},
        "validation": make_figures(validation),
        "test": make_figures(test),
        "curve": curve,
    }


class Project:
    """A folder with a study and the records that a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.study = folder / "studies" / "what-decides.toml"
        self.results = folder / "results"
        self.out = folder / "docs" / "study"
        self.study.parent.mkdir(parents=True)
        self.study.write_text(STUDY)

    def add(self, row: str, seed: int, record: dict[str, object], dataset: str = "beauty") -> Path:
        path = self.results / "what-decides" / dataset / f"{row}-seed{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        place = {"name": "what-decides", "row": row, "seed": seed, "dataset": dataset}
        path.write_text(json.dumps({"study": place} | record))
        return path

    def add_seeds(self, row: str, validation: list[float], test: list[float], **options: object) -> None:
        for seed, (one, other) in enumerate(zip(validation, test, strict=True)):
            self.add(row, seed, make_record(one, other, **options))

    def add_ranks(self, row: str, seed: int, ranks: list[int]) -> None:
        frame = pl.DataFrame({"user_id": range(len(ranks)), "item_id": 1, "rank_seen_kept": ranks})
        frame = frame.with_columns(rank_seen_removed=pl.col("rank_seen_kept"))
        frame.write_parquet(self.results / "what-decides" / "beauty" / f"{row}-seed{seed}-ranks.parquet")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


EMPTY = {"failed": "the loss is nan", "settings": {}}


@pytest.fixture
def full(project):
    project.add_seeds("default", [0.040, 0.041, 0.042], [0.030, 0.031, 0.032], minutes=3.0)
    project.add_seeds("wide", [0.042, 0.046], [0.0310, 0.0316])
    project.add("wide", 2, EMPTY)
    project.add_seeds("deep", [0.0438], [0.0200])
    project.add_seeds("sasrec", [0.060, 0.061, 0.062], [0.050, 0.051, 0.052], model="sasrec")
    return project


def build(project) -> str:
    build_page(project.study, project.results, project.out)
    return (project.out / "what-decides.md").read_text()


def rows_of(text: str, heading: str) -> dict[str, list[str]]:
    """The first table below a heading: the first cell of each row, and the others."""
    table = re.search(r"(^\|.*\n)+", text.partition(heading)[2], re.M)
    assert table, heading
    rows = [re.split(r"(?<!\\) ?\| ?", line)[1:-1] for line in table[0].splitlines()]
    return {cells[0]: cells[1:] for cells in rows if not cells[0].startswith("---")}


def head_of(project) -> str:
    return " ".join(build(project).partition("**Setting.**")[0].split())


@pytest.fixture
def two(project):
    """Two rows of two seeds: their logarithms leave 0.002 for neither row nor seed, so a figure is 0.001 off."""
    project.add_seeds("default", [0.040, 0.041], [0.030, 0.031])
    project.add_seeds("wide", [0.050, 0.041 * 1.25 * math.exp(0.002)], [0.033, 0.031 * 1.1 * math.exp(0.002)])
    return project


@pytest.fixture
def beside(project):
    """A study without a default: its first lines are about the paper's columns."""
    text = project.study.read_text().replace('controls = ["sasrec", "deep"]', "")
    project.study.write_text(text.replace('"default"', '"plus"'))
    # HR@5, HR@10, HR@20 are .06, .12, .24 and NDCG .03, .06, .12: HR@5 and NDCG@5 below .0629 and .0447 of the paper.
    project.add("plus", 0, make_record(0.070, 0.060))
    return project
