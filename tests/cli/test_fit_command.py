"""seqdiffrec fit: a log in, a run that serves out."""

import json
from pathlib import Path

import pytest

from seqdiffrec.fitting import race


@pytest.fixture
def clicks(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log as people have it, and trials of a moment."""
    monkeypatch.setattr(race, "MOST_EPOCHS", 1)
    monkeypatch.setattr(race, "FEWEST_EPOCHS", 10_000)
    rows = [f"u{user},{10 * ((user * 5 + step) % 12)},{step},3" for user in range(30) for step in range(7)]
    path = Path("clicks.csv")
    path.write_text("\n".join(["userId,SKU,eventTime,stars", *rows]) + "\n")
    return path


def test_from_a_log_to_a_run_that_serves(cli, clicks):
    result = cli("fit", clicks, "--out", "runs/clicks")
    assert result.code == 0, result.err
    assert "by their names: user is 'userId', item is 'SKU', time is 'eventTime'" in result.err
    assert result.err.count("at most 1 epoch;") == 2
    table, _, last = result.out.rstrip("\n").rpartition("\n")
    for name in ("DiffRec", "SASRec", "ItemKNN", "Markov", "Popularity"):
        assert name in table
    assert table.count("chosen") == 1
    assert last.startswith("runs/clicks: ") and last.endswith("runs/clicks/card.html")
    assert result.next_step == ["seqdiffrec", "recommend", "runs/clicks", "--user", "u0"]
    rows = cli(*result.next_step[1:], "-k", 3, "--json").json["recommendations"]
    assert len(rows) == 3 and all(row["item_id"] % 10 == 0 for row in rows)
    evaluated = cli("evaluate", "runs/clicks", "--json").json
    told = json.loads(Path("runs/clicks/fit.json").read_text())
    assert evaluated[told["protocol"]]["NDCG@10"] == pytest.approx(told["systems"][0]["ndcg"]["value"])
    assert told["command"] == "seqdiffrec fit clicks.csv --out runs/clicks"
    assert cli("info", "runs/clicks", "--json").json["data"]["user"] == "userId"


def test_as_json_into_an_empty_folder(cli, clicks):
    Path("run").mkdir()
    found = cli("fit", clicks, "--out", "run", "--json").json
    assert found["run"] == "run" and len(found["systems"]) == 5 and found["cases"] == {"validation": 30, "test": 30}


def test_columns_that_are_named_are_taken(cli, clicks, refused):
    clicks.write_text(clicks.read_text().replace("userId", "a").replace("SKU", "b"))
    refused(
        cli("fit", clicks, "--out", "run"),
        "none of the columns 'a', 'b', 'eventTime', 'stars'",
        "a user or an item",
        "--user COL --item COL\n",
    )
    named = ["--user", "a", "--item", "b"]
    refused(cli("fit", clicks, "--out", "run", *named, "--time", "c"), "no column 'c'")
    result = cli("fit", clicks, "--out", "run", *named, "--json")
    assert result.json["data"]["times"] == [0, 6] and "by their names: time is 'eventTime'\n" in result.err


def test_the_folder_that_one_stands_in_is_no_place(cli, clicks, refused, monkeypatch):
    Path("empty").mkdir()
    monkeypatch.chdir("empty")
    refused(cli("fit", f"../{clicks}", "--out", "."), ". exists already")


@pytest.mark.parametrize(
    ("words", "needles"),
    [
        (["gone.csv", "--out", "run"], ["gone.csv"]),
        (["beautty", "--out", "run"], ["beautty", "did you mean"]),
        (["clicks.csv", "--out", "."], [". exists already"]),
    ],
)
def test_what_cannot_be(cli, clicks, refused, words, needles):
    refused(cli("fit", *words), *needles)
    assert not Path("run").exists()
