"""The file of ranks: its columns, the user's own ids, and that it is written whole or not at all."""

import errno
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from seqdiffrec.data.errors import DataError
from seqdiffrec.evaluation.ranking import Ranks, check_ranks_path, write_ranks

RANKS = Ranks(
    users=np.array([2, 0], np.int64),
    targets=np.array([1, 3], np.int32),
    seen_kept=np.array([5, 2], np.int64),
    seen_removed=np.array([4, 1], np.int64),
)
USERS = pl.Series(["ann", 'b "the" b', "cy, jr"])
ITEMS = pl.Series([500, 10, 77])
EXPECTED = {"user_id": ["cy, jr", "ann"], "item_id": [500, 77], "rank_seen_kept": [5, 2], "rank_seen_removed": [4, 1]}


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize(
    ("name", "read"), [("r.csv", pl.read_csv), ("r.CSV", pl.read_csv), ("r.parquet", pl.read_parquet)]
)
def test_ids_come_back_as_they_went_in(tmp_path: Path, name: str, read) -> None:
    write_ranks(RANKS, USERS, ITEMS, tmp_path / name)
    frame = read(tmp_path / name)
    assert frame.to_dict(as_series=False) == EXPECTED
    assert frame.columns == list(EXPECTED)
    assert names_in(tmp_path) == [name]


def test_an_earlier_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "ranks.csv"
    path.write_text("old\n" * 1000)
    write_ranks(RANKS, USERS, ITEMS, str(path))
    assert path.read_text().splitlines()[0] == "user_id,item_id,rank_seen_kept,rank_seen_removed"
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(("owner", "step"), [(os, "fsync"), (Path, "replace")])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch, suffix: str, owner: object, step: str) -> None:
    path = tmp_path / f"ranks{suffix}"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(owner, step, full)
    with pytest.raises(DataError, match="No space left on device; free some space"):
        write_ranks(RANKS, USERS, ITEMS, path)
    assert names_in(tmp_path) == [path.name]
    assert path.read_text() == "old"


def test_ids_that_the_format_cannot_hold_leave_no_file(tmp_path: Path) -> None:
    nested = pl.Series([[1], [2], [3]])
    with pytest.raises(pl.exceptions.PolarsError):
        write_ranks(RANKS, nested, ITEMS, tmp_path / "ranks.csv")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("name", ["ranks.json", "ranks", "ranks.csv.gz"])
def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"\.csv or \.parquet"):
        write_ranks(RANKS, USERS, ITEMS, tmp_path / name)
    assert names_in(tmp_path) == []


def test_a_path_that_cannot_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="missing does not exist"):
        check_ranks_path(tmp_path / "missing" / "ranks.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        check_ranks_path(tmp_path / "folder.csv")
    check_ranks_path(tmp_path / "ranks.parquet")
