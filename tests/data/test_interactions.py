"""Every way into `Interactions`, and every way to be refused: the place stands in the message."""

import gzip
from datetime import UTC, date, datetime

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from seqdiffrec.data import DataError, Interactions

ROWS = {"user_id": [7, 7, 3], "item_id": ["a", "b", "a"], "timestamp": [30, 10, 20]}
FRAME = pl.DataFrame(ROWS)


def write(folder, text: str | bytes, name: str = "log.csv"):
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# What is accepted.


@pytest.mark.parametrize("make", [pl.DataFrame, lambda rows: pl.LazyFrame(rows), pd.DataFrame, pa.table])
def test_frames_of_all_kinds(make):
    assert Interactions.from_frame(make(ROWS)).frame.equals(FRAME)


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "parquet", "arrow", "feather", "arrows.ipc"])
def test_files_of_all_kinds(ending, tmp_path):
    path = tmp_path / f"log.{ending}"
    if ending == "parquet":
        FRAME.write_parquet(path)
    elif ending == "arrows.ipc":
        FRAME.write_ipc_stream(path)
    elif ending in ("arrow", "feather"):
        FRAME.write_ipc(path)
    else:
        text = FRAME.write_csv(separator="\t" if ending == "tsv" else ",").encode()
        path.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    assert Interactions.read(path).frame.equals(FRAME)


def test_columns_of_other_names_and_further_columns(tmp_path):
    path = write(tmp_path, "rating,when,who,what\n5,2,u,i\n4,1,u,j\n")
    frame = Interactions.read(path, user="who", item="what", time="when").frame
    assert frame.to_dict(as_series=False) == {"user_id": ["u", "u"], "item_id": ["i", "j"], "timestamp": [2, 1]}


def test_a_column_named_datetime_is_understood(tmp_path):
    path = write(tmp_path, "user_id,item_id,datetime\n1,2,1970-01-01T00:00:01\n")
    assert Interactions.read(path).frame["timestamp"].to_list() == [1_000_000]


def test_whole_numbers_of_a_text_become_numbers_only_where_nothing_is_lost(tmp_path):
    path = write(tmp_path, "user_id,item_id\n7,007\n-3,12\n")
    frame = Interactions.read(path).frame
    assert frame["user_id"].to_list() == [7, -3]
    assert frame["item_id"].to_list() == ["007", "12"]


def test_quoted_fields_byte_order_mark_and_windows_lines(tmp_path):
    path = write(tmp_path, '\ufeffuser_id,item_id\r\n"a,1","x\ny"\r\nb,"say ""hi"""\r\n\r\n')
    assert Interactions.read(path).frame.rows() == [("a,1", "x\ny"), ("b", 'say "hi"')]


def test_sequences_file(tmp_path):
    path = write(tmp_path, "u1 5 3 5\nu2\t9  4\n\n", "log.txt")
    assert Interactions.read(path).frame.rows() == [("u1", 5), ("u1", 3), ("u1", 5), ("u2", 9), ("u2", 4)]


def test_categorical_ids_of_pandas_stay_categorical():
    frame = pd.DataFrame({"user_id": pd.Categorical(["x", "y"]), "item_id": [1, 2]})
    assert Interactions.from_frame(frame).frame["user_id"].dtype == pl.Categorical


HOUR = 3_600_000_000


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([3, -1], [3, -1]),
        ([1.5, 2.0], [1.5, 2.0]),
        (["12", "5"], [12, 5]),
        (["1.5", "2"], [1.5, 2.0]),
        (["1970-01-01T01:00:00", "1970-01-01 02:00"], [HOUR, 2 * HOUR]),
        (["1970-01-01T01:00:00+01:00", "1970-01-01T01:00:00Z"], [0, HOUR]),
        (["1970-01-02", "1969-12-31"], [24 * HOUR, -24 * HOUR]),
        ([datetime(1970, 1, 1, 1), datetime(1970, 1, 1)], [HOUR, 0]),
        ([datetime(1970, 1, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)], [HOUR, 0]),
        ([date(1970, 1, 2), date(1970, 1, 1)], [24 * HOUR, 0]),
    ],
)
def test_times_of_all_kinds(times, expected):
    frame = pl.DataFrame({"user_id": [1, 2], "item_id": [1, 2], "timestamp": times})
    assert Interactions.from_frame(frame).frame["timestamp"].to_list() == expected


def test_zoned_times_of_pandas_are_points_in_time():
    times = pd.to_datetime(["1970-01-01 01:00", "1970-07-01 02:00"]).tz_localize("Europe/Athens")
    frame = pd.DataFrame({"user_id": [1, 2], "item_id": [1, 2], "timestamp": times})
    expected = [round(time.timestamp() * 1e6) for time in times]
    assert Interactions.from_frame(frame).frame["timestamp"].to_list() == expected


# What is refused.


def test_missing_column_names_the_ones_there(tmp_path):
    path = write(tmp_path, "who,item_id,when\n1,2,3\n")
    with pytest.raises(DataError, match=r"log.csv: no column 'user_id' .*columns are 'who', 'item_id', 'when'"):
        Interactions.read(path)
    with pytest.raises(DataError, match=r"the frame: no column 'time'.*columns are 'user_id', 'item_id', 'timestamp'"):
        Interactions.from_frame(FRAME, time="time")


def test_all_missing_columns_are_named_at_once_with_the_options_that_mend_it(tmp_path):
    path = write(tmp_path, "who,sku,when\n1,2,3\n")
    with pytest.raises(DataError) as raised:
        Interactions.read(path)
    assert str(raised.value) == (
        f"{path}: no column 'user_id' (wanted as the user) and no column 'item_id' (wanted as the item); the columns "
        "are 'who', 'sku', 'when'. Say which holds what: --user COL --item COL --time COL (in Python user=, item=, "
        "time=)"
    )
    with pytest.raises(DataError, match=r"no column 'x' \(wanted as the split\); .*--split COL \(in Python split=\)"):
        Interactions.from_frame(FRAME, split="x")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.csv", "", "log.csv is empty"),
        ("log.txt", " \n", "log.txt is empty"),
        ("log.parquet", "", "log.parquet is empty"),
        ("log.csv", "user_id,item_id\n", "log.csv has columns but no rows"),
        ("log.csv", b"user_id,item_id\n1,2\n3,\x00\n", "log.csv, line 3: a zero byte, so this is a binary file"),
        ("log.csv", b"user_id,item_id\n\xe9,2\n", "log.csv, line 2: byte 0xe9 is not UTF-8"),
        ("log.txt", b"\x89PNG\x00\x01", "log.txt, line 1: a zero byte"),
        ("log.parquet", b"PAR1 and no more", "log.parquet is not a whole Parquet file"),
        ("log.arrow", b"ARROW1 and no more", "log.arrow is not a whole Arrow file"),
        ("log.arrow", b"something else", "log.arrow is not a whole Arrow file"),
        ("log.csv", "user_id,item_id,timestamp\n1,2,3\n1,2", "line 3: the last line has 2 of 3 fields.*cut off"),
        ("log.csv", "user_id,item_id\n1,2\n1,2,3\n1,2\n", "log.csv, line 3: not 2 fields"),
        ("log.csv", 'user_id,item_id\n1,2\n1,"2\n1,2\n', "log.csv, line 3: .*quote that is never closed"),
        ("log.csv", "user_id,item_id\n1,2\n,2\n", "log.csv, line 3: no id in column 'user_id'"),
        ("log.csv", "user_id,item_id\n1,2\n\n1,2\n", "log.csv, line 3: no id in column 'user_id'"),
        ("log.csv", 'user_id,item_id\n"a\nb",2\n1,\n', "log.csv, line 4: no id in column 'item_id'"),
        ("log.csv", "user_id,item_id,timestamp\n1,2,3\n1,2,\n", "log.csv, line 3: no timestamp"),
        ("log.csv", "user_id,item_id,timestamp\n1,2,3\n1,2,4\n1,2,soon\n", "line 4: timestamp 'soon' is not a number"),
        ("log.csv", "user_id,item_id,timestamp\n1,2,2024-01-01\n1,2,soon\n", "line 3: timestamp 'soon' does not parse"),
        ("log.csv", "user_id,item_id,timestamp\n1,2,2024-01-01\n1,2,2024-02-30\n", "line 3: timestamp '2024-02-30'"),
        (
            "log.csv",
            "user_id,item_id,timestamp\n1,2,2024-01-01T00:00Z\n1,2,2024-01-01T00:00\n",
            "line 3: .* has no time zone, unlike the ones before it",
        ),
        ("log.csv", "user_id,item_id,timestamp\n1,2,1.5\n1,2,nan\n", "line 3: timestamp nan is not a finite number"),
        ("log.csv", "user_id,item_id,timestamp\n1,2,1e999\n1,2,2\n", "line 2: timestamp inf is not a finite number"),
        ("log.csv", "user;item\n1;2\n", "header is one column, 'user;item': .* by ';', .* with ',' .*separator=';'"),
        ("log.csv", "user;item\n1;2,5\n", "header is one column, 'user;item': it looks separated by ';'"),
        ("log.csv", "user|item\n1|2\n", r"it looks separated by '\|', .*separator='\|'.*write_csv"),
        ("log.csv", "user\titem\n1\t2\n", "looks separated by a tab, .* with ',' between; rename it to end in .tsv"),
        ("log.tsv", "user,item\n1,2\n", "looks separated by ',', .* with a tab between; rename it to end in .csv"),
        ("log.csv", "user\n1\n2\n", "log.csv: no column 'user_id'"),
        ("log.txt", "1 2 3\n2\n", "log.txt, line 2: user 2 has no items"),
        ("log.txt", "1 2 3\n\n2 3\n", "log.txt, line 2: an empty line"),
        ("log.txt", "1 2\n2 3\n1 4\n", "log.txt, line 3: user 1 was already on line 1"),
        ("log.xlsx", "x", "log.xlsx: the ending '.xlsx' is not known; .*csv"),
    ],
)
def test_bad_files_are_refused_with_the_place(name, content, message, tmp_path):
    with pytest.raises(DataError, match=message):
        Interactions.read(write(tmp_path, content, name))


@pytest.mark.parametrize("name", ["log.csv", "log.txt", "log.parquet", "log.arrow"])
def test_missing_files_and_folders(name, tmp_path):
    with pytest.raises(DataError, match=f"{name} does not exist"):
        Interactions.read(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=name):
        Interactions.read(tmp_path / name)


def test_cut_off_gzip_and_parquet(tmp_path):
    whole = gzip.compress(FRAME.write_csv().encode())
    with pytest.raises(DataError, match=r"log.csv.gz is a broken or cut-off gzip file"):
        Interactions.read(write(tmp_path, whole[:-9], "log.csv.gz"))
    FRAME.write_parquet(tmp_path / "log.parquet")
    cut = (tmp_path / "log.parquet").read_bytes()[:-20]
    with pytest.raises(DataError, match=r"log.parquet is not a whole Parquet file: it is cut off"):
        Interactions.read(write(tmp_path, cut, "log.parquet"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user_id": [1, None, 3]}, r"row 2 \(counted from 1\): no id in column 'user_id'"),
        ({"item_id": ["a", "b", None]}, r"row 3 \(counted from 1\): no id in column 'item_id'"),
        ({"user_id": [1.0, float("nan"), 3.0]}, r"row 2 \(counted from 1\): no id in column 'user_id'"),
        ({"timestamp": [1, 2, None]}, r"row 3 \(counted from 1\): no timestamp"),
        ({"timestamp": [1.0, float("inf"), 2.0]}, r"row 2 \(counted from 1\): timestamp inf is not a finite"),
        ({"timestamp": [True, False, True]}, "timestamps of type Boolean are not understood"),
        ({"user_id": [[1], [2], [3]]}, r"ids of type List\(Int64\) in column 'user_id' are not usable"),
    ],
)
def test_bad_frames_are_refused_with_the_row(columns, message):
    with pytest.raises(DataError, match=message):
        Interactions.from_frame(pl.DataFrame({**ROWS, **columns}))


def test_a_time_too_large_for_64_bits():
    with pytest.raises(DataError, match=r"row 1 .* does not fit into 64 bits"):
        Interactions.from_frame(FRAME.with_columns(timestamp=pl.lit(2**63, dtype=pl.UInt64)))


def test_nulls_of_pandas_and_mixed_ids():
    with pytest.raises(DataError, match=r"row 2 \(counted from 1\): no id in column 'user_id'"):
        Interactions.from_frame(pd.DataFrame({"user_id": [1, None], "item_id": [1, 2]}))
    with pytest.raises(DataError, match="values of more than one type"):
        Interactions.from_frame(pd.DataFrame({"user_id": [1, "a"], "item_id": [1, 2]}))


def test_what_is_no_frame():
    with pytest.raises(DataError, match="list is not a frame"):
        Interactions.from_frame([1, 2, 3])
