"""add-items and update: a new run of an old one."""

import sqlite3

import pytest

from seqdiffrec.data import Corpus
from seqdiffrec.training import RunFolder


def test_a_new_item_like_known_ones(cli, finished):
    run = finished["sasrec"]
    told = cli("add-items", run, "--new", 7000, "--like", 10, "--like", 30, "--out", "more", "--json").json
    assert told == {"run": "more", "added": [7000], "items": 15}
    rows = cli("score", "more", "--item", 10, "--item", 30, "--item", 7000, "--history", 20, "--json").json["scores"]
    assert rows[2]["score"] == pytest.approx((rows[0]["score"] * rows[1]["score"]) ** 0.5, rel=1e-4)
    text = cli("add-items", run, "--new", 7001, "--like", 10, "--out", "again")
    assert "1 new item (7001), 15 in all" in text.out and text.next_step == ["seqdiffrec", "similar", "again", "7001"]


def test_new_items_by_category(cli, csv, train):
    lines = [f"{item},{'odd' if item % 20 else 'even'}" for item in range(10, 150, 10)]
    (csv.parent / "items.csv").write_text("\n".join(["item_id,category", *lines, ""]))
    assert train(csv, "--items", "items.csv", model="sasrec").code == 0
    (csv.parent / "new.csv").write_text("item_id,category,title\n7000,even,Seven\n10,odd,Ten\n")
    assert cli("add-items", "run", "--items", "new.csv", "--out", "more", "--json").json["added"] == [7000]
    words = ["recommend", "more", "--history", 20, "-k", 15, "--category", "even", "--json"]
    rows = cli(*words).json["recommendations"]
    assert "Seven" in [row["title"] for row in rows] and len(rows) == 7


def test_an_update(cli, finished, csv, refused):
    run = finished["sasrec"]
    since = ["who,what,when,stars", *(f"{user},{item},{5000 + item},1" for user in (101, 900) for item in (30, 777))]
    (csv.parent / "today.csv").write_text("\n".join([*since, ""]))
    told = cli("update", run, "--data", "today.csv", "--out", "today", "--epochs", 1, "--json").json
    facts = told["grown_from"]
    assert (told["run"], facts["run"]) == ("today", "sasrec")
    assert (facts["actions"], facts["users_added"], facts["items_added"]) == (4, 1, 1)
    record = RunFolder.open(csv.parent / "today").record
    assert record["command"].startswith("seqdiffrec update") and record["split"] == {"whole_log": True}
    assert len(cli("recommend", "today", "--user", 900, "--json").json["recommendations"]) == 10
    again = cli("update", "today", "--data", "today.csv", "--out", "more")
    refused(again, "none of its 4 actions is new")
    exists = cli("update", run, "--data", "today.csv", "--out", "today")
    refused(exists, "today exists already; choose another --out")
    assert "--resume" not in exists.err
    for judge in (["evaluate", "today"], ["evaluate", "today", "--segments"], ["calibrate", "today", "--fit"]):
        refused(cli(*judge), "trained on the whole log", "in the run that was updated")
    assert cli("info", "today").next_step == ["seqdiffrec", "serve", "today"]
    refused(cli("recommend", "today", "--user", 900, "--calibrated"), "nothing is left to fit one on")
    refused(
        cli("update", run, "--data", "today.csv", "--user", "person", "--item", "thing", "--out", "x"),
        "no column 'person' (wanted as the user) and no column 'thing' (wanted as the item); the columns are 'who',",
        "--user COL --item COL",
    )


def test_an_update_out_of_a_database(cli, finished, refused):
    run, url = finished["sasrec"], "sqlite:///shop.db"
    rows = [(user, item, 5000 + item) for user in (101, 900) for item in (30, 777)]
    with sqlite3.connect("shop.db") as connection:
        connection.execute("CREATE TABLE orders (who, what, bought)")
        connection.executemany("INSERT INTO orders VALUES (?, ?, ?)", [(101, 10, 0), *rows])
    connection.close()
    query = ["--query", "SELECT who, what, bought AS at FROM orders WHERE bought > 5000 ORDER BY at", "--time", "at"]
    told = cli("update", run, "--data", url, *query, "--out", "today", "--epochs", 1, "--json").json
    facts = told["grown_from"]
    assert (facts["actions"], facts["users_added"], facts["items_added"]) == (4, 1, 1)
    new = Corpus.load("today/corpus")
    row = new.user_index(900)
    assert [new.item_ids[int(item) - 1] for item in new.sequences()[row]] == [30, 777]
    refused(cli("update", run, "--data", url, "--out", "x"), "a database needs a query", "--query 'SELECT ...'")
    refused(
        cli("update", run, "--data", "a.csv", "--query", "SELECT 1", "--out", "x"), "--query has no effect on a.csv"
    )
    refused(cli("update", run, "--data", url, *query[:2], "--out", "x"), "no column 'when'", "'at'", "--time COL")
    refused(cli("update", run, "--data", url, "--query", "SELECT", "--out", "x"), "check the query")
    refused(cli("data", "check", "a.csv", "--query", "SELECT 1"), "--query has no effect on a.csv")


@pytest.mark.parametrize(
    ("words", "needles"),
    [
        (["--new", 7000], ["--new ID and --like ID go together"]),
        ([], ["say what is new"]),
        (["--new", 10, "--like", 20], ["item '10' is in the catalogue already"]),
        (["--new", "soap", "--like", 20], ["not of type Int64"]),
        (["--new", 7000, "--like", 7], ["items ['7'] are not in the catalogue"]),
    ],
)
def test_what_cannot_be_added(cli, finished, refused, words, needles, tmp_path):
    refused(cli("add-items", finished["diffrec"], "--out", "more", *words), *needles)
    assert not (tmp_path / "more").exists()
