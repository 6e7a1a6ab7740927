"""data check: one screen for people, all of it for programs, and a next step that works as it stands."""

import gzip
import sqlite3
from pathlib import Path

import polars as pl
import pytest
from backports import zstd

ODD = "visitor,sku,when\n" + "".join(f"{user},{item},{1_600_000_000 + item}\n" for user in "abc" for item in range(5))


@pytest.fixture
def log() -> str:
    Path("clicks.csv").write_text(ODD + "a,,1600000099\nB ,1,1600000100\nb,1,1600000004000\n")
    return "clicks.csv"


def test_one_screen_for_people(cli, log):
    shown = cli("data", "check", log, "--time", "when")
    lines = shown.out.splitlines()
    assert shown.code == 0 and len(lines) < 24 and all(len(line) <= 80 for line in lines[:11])
    assert "3 users" not in shown.out and "4 users, 5 items, 17 actions of 18 rows" in shown.out
    assert "users by actions" in shown.out and "█" in shown.out
    assert "refused: clicks.csv, line 17: no id in column 'sku'. Fill it in or drop the row." in shown.out
    assert "'b' and 'B '" in shown.out and "16 in seconds, 1 in milliseconds" in shown.out
    assert "by their names: user is 'visitor', item is 'sku'" in shown.err
    assert shown.next_step == ["seqdiffrec", "fit", log, "--time", "when", "--out", "runs/clicks"]
    assert "train --data clicks.csv --user visitor --item sku --time when --out runs/clicks" in shown.err


def test_all_of_it_for_programs(cli, log):
    found = cli("data", "check", log, "--time", "when", "--json").json
    assert found["columns"] == {"user": "visitor", "item": "sku", "time": "when"}
    assert {name: found[name] for name in ("rows", "users", "items", "actions")} == {
        "rows": 18,
        "users": 4,
        "items": 5,
        "actions": 17,
    }
    names = {one["name"]: one["count"] for one in found["oddities"]}
    assert names == {"no_item": 1, "alike_users": 1, "short_users": 1, "mixed_units": 1, "out_of_order": 2}
    assert sum(one["count"] for one in found["lengths"]["bins"]) == 4
    assert [command.split()[1] for command in found["next"]] == ["fit", "train"]


def test_every_kind_of_log(cli):
    frame = pl.read_csv(ODD.encode())
    Path("parts").mkdir()
    frame[:7].write_parquet("parts/1.parquet")
    frame[7:].write_parquet("parts/2.parquet")
    frame.write_ipc("log.arrow")
    Path("log.csv.gz").write_bytes(gzip.compress(ODD.encode()))
    Path("log.tsv.zst").write_bytes(zstd.compress(ODD.replace(",", "\t").encode()))
    with sqlite3.connect("log.db") as connection:
        connection.execute("CREATE TABLE log (visitor, sku, stamp)")
        connection.executemany("INSERT INTO log VALUES (?, ?, ?)", frame.rows())
    connection.close()
    query = ["--query", "SELECT visitor, sku, stamp AS when_ FROM log"]
    for source, *more in (
        ["parts", "--time", "when"],
        ["log.arrow", "--time", "when"],
        ["log.csv.gz", "--time", "when"],
        ["log.tsv.zst", "--time", "when"],
        ["sqlite:///log.db", *query, "--time", "when_"],
    ):
        found = cli("data", "check", source, *more, "--json").json
        assert (found["users"], found["items"], found["rows"]) == (3, 5, 15)
        assert {one["name"] for one in found["oddities"]} == {"out_of_order"}
    Path("log.txt").write_text("a 1 2 3\nb 1 2 3\n")
    found = cli("data", "check", "log.txt", "--json").json
    assert found["times"] is None and found["actions"] == 6


@pytest.mark.parametrize(
    ("source", "content", "needles"),
    [
        ("nowhere.csv", None, ["nowhere.csv does not exist"]),
        ("log.csv", "", ["log.csv is empty"]),
        ("log.csv", "visitor,sku\n", ["log.csv has columns but no rows"]),
        ("log.csv", "visitor,sku\n1,2\n1,2,3\n", ["log.csv, line 3", "not 2 fields"]),
        ("log.csv", "visitor,sku\n1,\n,2\n", ["log.csv: no row has user (column 'visitor') and item (column 'sku')"]),
        ("log.csv", "a,b\n1,2\n", ["log.csv: none of the columns 'a', 'b'", "--user COL --item COL --time COL"]),
        ("log.parquet", "PAR1", ["log.parquet is not a whole Parquet file"]),
        ("log.xlsx", "x", ["the ending '.xlsx' is not known"]),
        ("ml-100k", None, ["ml-100k is prepared already", "seqdiffrec data stats ml-100k"]),
    ],
)
def test_what_cannot_be_read(cli, refused, source, content, needles):
    if content is not None:
        Path(source).write_text(content)
    result = cli("data", "check", source)
    result.err = result.err.removeprefix("by their names: user is 'visitor', item is 'sku'\n")
    refused(result, *needles)
    before = {path.name for path in Path().iterdir()}
    assert before <= {source}


def test_a_column_that_is_not_there(cli, log, refused):
    result = cli("data", "check", log, "--user", "who", "--item", "sku")
    refused(result, "clicks.csv: no column 'who' (wanted as the user); the columns are 'visitor', 'sku', 'when'")
    both = cli("data", "check", log, "--user", "who", "--item", "sku", "--time", "date")
    refused(both, "no column 'who' (wanted as the user) and no column 'date' (wanted as the time); the columns are")


def test_what_is_refused_is_to_be_mended_first(cli, log):
    Path("dates.csv").write_text("user_id,item_id,timestamp\n1,2,20/09/1997\n1,3,21/09/1997\n2,2,20/09/1997\n")
    shown = cli("data", "check", "dates.csv")
    assert "rename the column" in " ".join(shown.out.split()) and "mended first" in shown.err
    Path("fine.csv").write_text(ODD)
    assert "mended first" not in cli("data", "check", "fine.csv", "--time", "when").err
