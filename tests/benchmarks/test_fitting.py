"""The benchmark of `fit`: its log, its rows, and that no row is told without a card."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import seqdiffrec as sdr
from benchmarks import fitting
from benchmarks.workers import BenchmarkError
from seqdiffrec.fitting import race


@pytest.fixture
def data() -> sdr.Dataset:
    users, places = np.divmod(np.arange(400), 10)
    log = {"user_id": users + 900, "item_id": (7 * users + places) % 23 + 50, "timestamp": places + 1}
    return sdr.Dataset.from_interactions(pl.DataFrame(log))


def test_the_plain_log_is_the_corpus(data: sdr.Dataset) -> None:
    log = fitting.plain_log(data.corpus)
    assert log["user_id"].min() == 900 and set(log["item_id"]) == set(range(50, 73))
    again = sdr.Dataset.from_interactions(log).corpus
    assert again.content_hash == data.corpus.content_hash


def test_a_row_says_what_fit_found_for_a_frame(
    data: sdr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race, "MOST_EPOCHS", 1)
    row = fitting.from_frame(fitting.plain_log(data.corpus).to_pandas(), tmp_path / "run", 0.5)
    assert row["chosen"] in {"popularity", "itemknn", "markov", "diffrec", "sasrec"}
    assert {"sasrec_test_ndcg", "diffrec_test_ndcg", "popularity_test_ndcg"} <= set(row)
    assert 0 < row["minutes"] <= 0.6


def test_no_row_without_a_card(tmp_path: Path) -> None:
    found: dict[str, Any] = {"chosen": "markov", "systems": []}
    with pytest.raises(BenchmarkError, match="no card"):
        fitting.told(found, tmp_path, 1.0)


def test_a_failed_command_is_told(data: sdr.Dataset, tmp_path: Path) -> None:
    options = argparse.Namespace(minutes=0.1)
    (tmp_path / "csv").write_text("in the way")
    with pytest.raises(BenchmarkError, match="ended with 2"):
        fitting.from_csv(fitting.plain_log(data.corpus), tmp_path, options)
