"""Files and folders as logs: packed texts, Parquet parts, and whatever is broken, by hand and under hypothesis."""

import gzip
import os
import random
import shutil
from datetime import datetime
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from backports import zstd
from hypothesis import HealthCheck, example, given, settings, strategies as st

from seqdiffrec.data import DataError, Dataset, Interactions, prepare_file
from seqdiffrec.data.sources import fingerprint, open_path
from seqdiffrec.data.timestamps import as_numbers
from seqdiffrec.data.vocabulary import number_ids

FRAME = pl.DataFrame({"user_id": [7, 7, 3] * 4, "item_id": ["a", "b", "a", "c"] * 3, "timestamp": list(range(12))})
A_MIB = "x" * 2**20


def parts(folder: Path, *frames: pl.DataFrame) -> Path:
    folder.mkdir(exist_ok=True)
    for number, frame in enumerate(frames):
        frame.write_parquet(folder / f"part-{number}.parquet")
    return folder


def cut(path: Path, share: float = 0.6) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


# What can be read.


@pytest.mark.parametrize("ending", ["csv.zst", "tsv.zst", "csv.gz", "tsv.gz", "txt.zst", "txt.gz"])
def test_packed_texts(ending, tmp_path):
    text = FRAME.write_csv(separator="\t" if ending.startswith("tsv") else ",")
    if ending.startswith("txt"):
        text = "7 a b a\n3 c a\n"
    path = tmp_path / f"log.{ending}"
    path.write_bytes((gzip.compress if ending.endswith("gz") else zstd.compress)(text.encode()))
    expected = (
        FRAME if not ending.startswith("txt") else pl.DataFrame({"user_id": [7, 7, 7, 3, 3], "item_id": list("abaca")})
    )
    assert Interactions.read(path).frame.equals(expected)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(
        DataError, match=f"log.{ending} is a broken or cut-off {'gzip' if ending.endswith('gz') else 'zstd'} file"
    ):
        Interactions.read(path)


def test_a_folder_of_parts(tmp_path):
    folder = parts(tmp_path / "log", FRAME[:5], FRAME[5:6], FRAME[6:])
    (folder / "_SUCCESS").touch()
    (folder / ".hidden.parquet").write_bytes(b"half written")
    (folder / "_temporary").mkdir()
    (folder / "_temporary" / "part-0.parquet").write_bytes(b"half written")
    assert Interactions.read(folder).frame.equals(FRAME)
    one = Dataset.from_interactions(FRAME)
    corpus = prepare_file(folder, cache=tmp_path / "cache")
    assert corpus.content_hash == one.corpus.content_hash and corpus.name == "log"


def test_folders_called_name_equals_value_hold_a_column(tmp_path):
    for day in (1, 2):
        (tmp_path / "log" / f"day={day}").mkdir(parents=True)
        part = pl.DataFrame({"user_id": [day, day], "item_id": ["a", "b"]})
        part.write_parquet(tmp_path / "log" / f"day={day}" / "part.parquet")
    frame = Interactions.read(tmp_path / "log", time="day").frame
    assert frame.rows() == [(1, "a", 1), (1, "b", 1), (2, "a", 2), (2, "b", 2)]


def test_columns_that_not_all_parts_have_are_left_alone(tmp_path):
    folder = parts(
        tmp_path / "log", FRAME[:5].with_columns(a=1), FRAME[5:].with_columns(b=1).select("b", *reversed(FRAME.columns))
    )
    assert Interactions.read(folder).frame.equals(FRAME)


def test_a_changed_part_is_prepared_again(tmp_path):
    folder = parts(tmp_path / "log", FRAME[:6], FRAME[6:])
    before = fingerprint(folder)
    assert before == fingerprint(folder)
    (folder / "part-1.parquet").rename(folder / "part-2.parquet")
    renamed = fingerprint(folder)
    FRAME[5:].write_parquet(folder / "part-2.parquet")
    assert len({before, renamed, fingerprint(folder)}) == 3


@pytest.mark.parametrize("make", [pl.DataFrame, pl.LazyFrame, pd.DataFrame, pa.table])
def test_frames_with_a_column_of_texts_for_numbers_stay_texts(make):
    rows = {"user_id": ["1", "2"], "item_id": [1, 2]}
    assert Interactions.from_frame(make(rows)).frame["user_id"].to_list() == ["1", "2"]


def test_a_lazy_frame_that_fails_is_refused():
    lazy = pl.LazyFrame({"user_id": ["x", "y"], "item_id": [1, 2]}).with_columns(pl.col("user_id").cast(pl.Int64))
    with pytest.raises(DataError, match="the frame could not be computed: InvalidOperationError"):
        Interactions.from_frame(lazy)


def test_numbers_that_turn_into_texts_after_the_first_thousand_rows(tmp_path):
    path = tmp_path / "log.csv"
    rows = [(row, f"i{row}") for row in range(1500)]
    path.write_text(
        "user_id,item_id\n" + "".join(f"{user},{item}\n" for user, item in [*rows, ("007", "8"), ("", "9")][:-1])
    )
    frame = Interactions.read(path).frame
    assert frame["user_id"].to_list() == [*(str(user) for user, _ in rows), "007"]
    path.write_text(path.read_text() + ",9\n")
    with pytest.raises(DataError, match=r"log.csv, line 1503: no id in column 'user_id'"):
        Interactions.read(path)


def test_ids_of_a_mebibyte_come_back(tmp_path):
    frame = pl.DataFrame({"user_id": [A_MIB, A_MIB + "y", "z"], "item_id": ["1", A_MIB, "3"]})
    for path in (tmp_path / "log.csv", tmp_path / "log.parquet"):
        frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
        assert Interactions.read(path).frame.equals(frame)
    (tmp_path / "log.csv").write_text(frame.write_csv() + "1,2,3\n")
    with pytest.raises(DataError, match=r"log.csv, line 5: not 2 fields"):
        Interactions.read(tmp_path / "log.csv")


# What is refused.


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: cut(folder / "part-1.parquet"), "part-1.parquet is not a whole Parquet file"),
        (lambda folder: (folder / "part-2.parquet").write_bytes(b""), "part-2.parquet is empty"),
        (
            lambda folder: FRAME.drop("item_id").write_parquet(folder / "part-1.parquet"),
            r"'item_id' differs .*part-0.parquet has it as String and .*part-1.parquet has no such column",
        ),
        (
            lambda folder: FRAME.cast({"user_id": pl.Float64}).write_parquet(folder / "part-2.parquet"),
            r"'user_id' differs .*part-0.parquet has it as Int64 and .*part-2.parquet has it as Float64; write all",
        ),
        (
            lambda folder: FRAME.with_columns(item_id=pl.lit(None, pl.String)).write_parquet(folder / "part-1.parquet"),
            r"part-1.parquet, row 1 \(counted from 1\): no id in column 'item_id'",
        ),
        (
            lambda folder: [path.unlink() for path in folder.iterdir()],
            "log holds no files; name a folder of Parquet files",
        ),
        (
            lambda folder: [path.rename(path.with_suffix(".csv")) for path in folder.iterdir()],
            "log holds files ending in .csv, and no .parquet",
        ),
        (shutil.rmtree, "log does not exist; check the path"),
    ],
)
def test_broken_folders_name_the_part_and_leave_no_corpus(damage, message, tmp_path):
    folder = parts(tmp_path / "log", FRAME, FRAME, FRAME)
    damage(folder)
    for read in (lambda: Interactions.read(folder), lambda: prepare_file(folder, cache=tmp_path / "cache")):
        with pytest.raises(DataError, match=message):
            read()
    assert not (tmp_path / "cache").exists()


def test_a_part_whose_pages_are_broken_is_named(tmp_path):
    folder = parts(tmp_path / "log", FRAME, FRAME, FRAME)
    data = bytearray((folder / "part-1.parquet").read_bytes())
    data[4:60] = b"\xff" * 56
    (folder / "part-1.parquet").write_bytes(data)
    with pytest.raises(DataError, match=r"part-1.parquet is not a whole Parquet file"):
        Interactions.read(folder)


values = st.one_of(
    st.none(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5), st.binary(max_size=5), st.booleans(),
    st.datetimes(datetime(1, 1, 1)), st.lists(st.integers(0, 3), max_size=2),
)  # fmt: skip
columns = st.one_of(
    st.lists(values, min_size=3, max_size=3),
    *(st.lists(kind, min_size=3, max_size=3) for kind in (st.integers(0, 9), st.floats(), st.text(), st.datetimes())),
)


@settings(max_examples=60, deadline=None)
@given(columns, columns, columns)
@example([1, 2, 3], [1, 2, 3], [1.0, float("inf"), 2.0])
@example([1, 2, 3], [A_MIB, "b", "c"], ["2024-05-31", "noon", ""])
def test_any_columns_of_pandas_and_polars_come_back_or_are_refused(user, item, time):
    for make in (pd.DataFrame, lambda rows: pl.DataFrame(rows, strict=False)):
        try:
            frame = make({"user_id": user, "item_id": item, "timestamp": time})
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
            continue  # no frame to begin with
        try:
            read = Interactions.from_frame(frame)
        except DataError as error:
            assert "\n" not in str(error)[:200] and str(error)  # noqa: PT017
            continue
        assert read.frame["user_id"].null_count() == read.frame["item_id"].null_count() == 0
        assert len(read.frame) == 3 and read.frame["timestamp"].dtype in (pl.Int64, pl.Float64)
        assert read.frame["timestamp"].is_finite().all()


fields = st.one_of(
    st.integers(-5, 5).map(str), st.sampled_from(["", "007", "a", '"', '"b\n"', "é", "1.5", "inf", "\0", "2024-05-31"])
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(fields, min_size=1, max_size=4), max_size=6), st.sampled_from(["", "\n", "\r\n", "\n\n"]))
def test_any_text_is_read_whole_or_refused_with_its_line(tmp_path, rows, end):
    path = tmp_path / "log.csv"
    text = "user_id,item_id,timestamp\n" + "\n".join(",".join(row) for row in rows) + end
    path.write_text(text, newline="")
    try:
        frame = Interactions.read(path).frame
    except DataError as error:
        assert str(error).startswith(str(path))  # noqa: PT017
        assert "line " in str(error) or "no rows" in str(error)  # noqa: PT017
        return
    if '"' not in text:
        assert [(str(user), str(item)) for user, item, _ in frame.iter_rows()] == [tuple(row[:2]) for row in rows]
        assert all(len(row) == 3 for row in rows)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["parquet", "arrow", "csv.gz", "csv.zst"]), st.integers(0, 2**32), st.integers(0, 3), st.booleans()
)
def test_broken_files_are_refused_or_read_and_nothing_else(tmp_path, ending, seed, changes, cut_off):
    rng = random.Random(seed)
    path = tmp_path / f"log.{ending}"
    writers = {"parquet": FRAME.write_parquet, "arrow": FRAME.write_ipc}
    if ending in writers:
        writers[ending](path)
    else:
        path.write_bytes((gzip.compress if ending.endswith("gz") else zstd.compress)(FRAME.write_csv().encode()))
    data = bytearray(path.read_bytes())
    for _ in range(changes):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path.write_bytes(data[: rng.randrange(len(data))] if cut_off else data)
    try:
        read = Interactions.read(path)
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert not cut_off and read.frame.columns == ["user_id", "item_id", "timestamp"]


# What it is built on.


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)), min_size=1, max_size=5),
    st.sampled_from(["T", " "]),
    st.sampled_from(["", "Z", "+01:30", "-0500"]),
)
def test_texts_of_times_as_python_reads_them(times, gap, zone):
    texts = [time.isoformat(gap) + zone for time in times]
    expected = [datetime.fromisoformat(text) for text in texts]
    epoch = datetime.fromisoformat(f"1970-01-01T00:00:00{'+00:00' if zone else ''}")
    microseconds = [(time - epoch) // (datetime.resolution) for time in expected]
    assert as_numbers(pl.Series(texts), str).to_list() == microseconds


kinds = st.sampled_from([pl.Int8, pl.UInt64, pl.Int64, pl.String, pl.Float64, pl.Categorical, pl.Binary, pl.Date])


@settings(deadline=None)
@given(st.lists(st.integers(0, 120), min_size=1, max_size=40), kinds, st.integers(0, 2**62))
def test_ids_are_numbered_as_they_first_appear(numbers, kind, far):
    wide = [number * far + 5 if kind in (pl.Int64, pl.UInt64) and number < 3 else number for number in numbers]
    wide = [min(number, 2**63 - 1) for number in wide]
    ids = (
        pl.Series(wide).cast(pl.String).cast(kind)
        if kind in (pl.Categorical, pl.String, pl.Binary)
        else pl.Series(wide, dtype=pl.Int64 if kind == pl.Date else None)
        .cast(pl.Int32 if kind == pl.Date else kind)
        .cast(kind)
    )
    vocabulary, places = number_ids(ids)
    assert vocabulary.dtype == ids.dtype and vocabulary.to_list() == list(dict.fromkeys(ids.to_list()))
    assert vocabulary.gather(places).to_list() == ids.to_list()


def test_a_file_that_may_not_be_read(tmp_path):
    if os.getuid() == 0:
        pytest.skip("root may read everything")
    path = tmp_path / "log.csv"
    FRAME.write_csv(path)
    path.chmod(0)
    with pytest.raises(DataError, match="Permission denied"):
        open_path(path)
