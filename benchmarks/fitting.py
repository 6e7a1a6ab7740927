"""`fit` on MovieLens-100K as a plain log, as a user would run it, beside a SASRec that is tuned for as long.

The log is a CSV of user_id, item_id and timestamp, with all options left alone; the same as a pandas and as a Polars
frame, through `fit_log`. "SASRec alone" is what `seqdiffrec tune` finds in the same minutes: cross-entropy, with what
`fit` gives its own SASRec to begin with; the best by validation is trained once more, in time of its own, and tested.
Minutes are those of the clock, so nothing else should run.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

import seqdiffrec as sdr
from benchmarks.workers import BenchmarkError
from seqdiffrec.config import RunConfig, read_recipe
from seqdiffrec.data import Corpus
from seqdiffrec.evaluation.significance import mean_interval
from seqdiffrec.fitting import fit_log
from seqdiffrec.fitting.plan import trials
from seqdiffrec.show import toml
from seqdiffrec.studies.search import Range, Search
from seqdiffrec.studies.tune import run_search
from seqdiffrec.training.settings import TrainingConfig

DATASET = "ml-100k"
PARTS = ("csv", "pandas", "polars", "alone")
RANGES = (
    Range("model.dropout", low=0.1, high=0.5),
    Range("training.learning_rate", low=0.0005, high=0.004, log=True),
    Range("model.max_length", choices=(50, 100, 200)),
    Range("model.label_smoothing", choices=(0.0, 0.1)),
    Range("model.filter_share", choices=(0.0, 0.5)),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="which runs; default all")
    parser.add_argument("--minutes", type=float, default=10, help="of each; default %(default)s")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """One row for each run: what was chosen, how good it is, how long it took."""
    data = sdr.load_dataset(DATASET, options.data_root)
    log = plain_log(data.corpus)
    rows: dict[str, dict[str, Any]] = {}
    with TemporaryDirectory(prefix="seqdiffrec-fit-") as name:
        folder = Path(name)
        for part in options.parts:
            label, measure = RUNS[part]
            rows[label] = row = measure(log, folder, options)
            print(f"{label}: {row}", flush=True)
    return {"data": DATASET, "settings": {"minutes": options.minutes}, "rows": rows}


def plain_log(corpus: Corpus) -> pl.DataFrame:
    """A corpus as a log of three columns, with the ids of its source. Raises BenchmarkError where it has no times."""
    if corpus.timestamps is None:
        raise BenchmarkError(f"{corpus.name} has no times")
    users = np.repeat(np.asarray(corpus.user_ids), np.diff(corpus.offsets))
    items = np.asarray(corpus.item_ids)[corpus.items - 1]
    return pl.DataFrame({"user_id": users, "item_id": items, "timestamp": corpus.timestamps})


def from_csv(log: pl.DataFrame, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The command, in a process of its own."""
    log.write_csv(folder / "clicks.csv")
    words = ["fit", "clicks.csv", "--out", "csv", "--json"]
    if options.minutes != 10:
        words += ["--minutes", str(options.minutes)]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "seqdiffrec", *words], cwd=folder, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise BenchmarkError(f"seqdiffrec {' '.join(words)} ended with {done.returncode}")
    return told(json.loads(done.stdout), folder / "csv", time.monotonic() - began)


def from_frame(log: Any, out: Path, minutes: float) -> dict[str, Any]:
    """From Python, from the frame to the card."""
    began = time.monotonic()
    found = fit_log(sdr.Dataset.from_interactions(log), out, minutes, say=print)
    return told(found, out, time.monotonic() - began)


def told(found: dict[str, Any], run: Path, seconds: float) -> dict[str, Any]:
    """A row, from what `fit` says; the minutes are those that the caller waited."""
    if not (run / "card.html").is_file() or not (run / "card.md").is_file():
        raise BenchmarkError(f"{run.name} has no card")
    row: dict[str, Any] = {"minutes": round(seconds / 60, 2), "chosen": found["chosen"]}
    for one in found["systems"]:
        row[f"{one['model']}_test_ndcg"] = interval(one["ndcg"])
    return row


def alone(log: pl.DataFrame, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """SASRec with all the time for itself, and then trained once more to be tested."""
    data = sdr.Dataset.from_interactions(log)
    given = trials("sasrec", data)[0].settings | {"epochs": 25, "patience": 4}
    base = {
        "model": {"name": "sasrec"}
        | {name: value for name, value in given.items() if name not in TrainingConfig.model_fields},
        "training": {name: value for name, value in given.items() if name in TrainingConfig.model_fields},
    }
    began = time.monotonic()
    search = Search(DATASET, base, RANGES)
    found = run_search(
        search, folder / "search", 1000, as_toml=toml, minutes=options.minutes, data_root=options.data_root
    )
    minutes = round((time.monotonic() - began) / 60, 2)
    best = RunConfig.of(read_recipe(found.recipe)).recommender().fit(data)
    value = asdict(mean_interval(best.rank(data).seen_removed, "NDCG", 10))
    return {
        "minutes": minutes,
        "chosen": f"trial {found.best['trial']} of {len(found.trials)}",
        "sasrec_test_ndcg": interval(value),
    }


def interval(of: dict[str, float]) -> dict[str, float]:
    """A mean with its 95 % interval."""
    return {"mean": round(of["value"], 4), "low": round(of["low"], 4), "high": round(of["high"], 4)}


RUNS: dict[str, tuple[str, Callable[[pl.DataFrame, Path, argparse.Namespace], dict[str, Any]]]] = {
    "csv": ("seqdiffrec fit clicks.csv", from_csv),
    "pandas": (
        "fit_log, pandas frame",
        lambda log, folder, options: from_frame(log.to_pandas(), folder / "pandas", options.minutes),
    ),
    "polars": (
        "fit_log, Polars frame",
        lambda log, folder, options: from_frame(log, folder / "polars", options.minutes),
    ),
    "alone": ("SASRec alone, tuned", alone),
}
