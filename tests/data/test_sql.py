"""Logs out of SQLite, DuckDB and a PostgreSQL server that is started for these tests; also when it goes away."""

import contextlib
import math
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import psycopg
import pytest
import sqlalchemy
from hypothesis import given, settings, strategies as st

from seqdiffrec import Dataset, cli
from seqdiffrec.data import DataError, Interactions, sql
from seqdiffrec.data.sql import database_name, is_url, open_query, query_columns, without_password

ROWS = [(user, f"i{(user * place) % 5}", 100 - place) for user in range(1, 6) for place in range(6)]
COLUMNS = {"user": "who", "item": "what", "time": "happened"}
QUERY = "SELECT who, what, happened FROM log ORDER BY happened DESC, who"


def expected() -> Dataset:
    ordered = sorted(ROWS, key=lambda row: (-row[2], row[0]))
    return Dataset.from_interactions(pl.DataFrame(ordered, schema=["who", "what", "happened"], orient="row"), **COLUMNS)


def fill(connection, mark: str) -> None:
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE log (who BIGINT, what TEXT, happened BIGINT)")
    cursor.executemany(f"INSERT INTO log VALUES ({mark}, {mark}, {mark})", ROWS)
    connection.commit()


@pytest.fixture
def sqlite(tmp_path) -> Path:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        fill(connection, "?")
    connection.close()
    return path


@pytest.fixture(scope="module")
def postgres(postgres_server):
    with psycopg.connect(postgres_server.url) as connection:
        fill(connection, "%s")
    return postgres_server


# What can be read.


@pytest.mark.parametrize("kind", ["connection", "url", "engine", "sqlalchemy"])
def test_sqlite(sqlite, kind):
    engine = sqlalchemy.create_engine(f"sqlite:///{sqlite}")
    with sqlite3.connect(sqlite) as connection, engine.connect() as opened:
        given_ = {"connection": connection, "url": f"sqlite:///{sqlite}", "engine": engine, "sqlalchemy": opened}[kind]
        data = Dataset.from_sql(QUERY, given_, **COLUMNS)
        assert data.corpus.content_hash == expected().corpus.content_hash
        assert data.corpus.provenance["query"] == QUERY
        assert data.corpus.name == ("sql-query" if kind == "connection" else "shop")
        assert Dataset.from_sql(QUERY, given_, **COLUMNS, name="orders").corpus.name == "orders"
        # A connection that was given stays open.
        assert connection.execute("SELECT count(*) FROM log").fetchone() == (30,)
    connection.close()


def test_duckdb_as_a_connection_and_as_a_relation():
    connection = duckdb.connect()
    connection.execute("CREATE TABLE log (who BIGINT, what TEXT, happened BIGINT)")
    connection.executemany("INSERT INTO log VALUES (?, ?, ?)", ROWS)
    assert Dataset.from_sql(QUERY, connection, **COLUMNS).corpus.content_hash == expected().corpus.content_hash
    relation = connection.sql(QUERY)
    assert Dataset.from_interactions(relation, **COLUMNS).corpus.content_hash == expected().corpus.content_hash


@pytest.mark.parametrize("kind", ["connection", "url", "sqlalchemy"])
def test_postgres(postgres, kind):
    engine = sqlalchemy.create_engine(postgres.url.replace("postgresql:", "postgresql+psycopg:"))
    with psycopg.connect(postgres.url) as connection, engine.connect() as opened:
        given_ = {"connection": connection, "url": postgres.url, "sqlalchemy": opened}[kind]
        query = QUERY.replace("ORDER", "WHERE what LIKE 'i%' ORDER")
        assert Dataset.from_sql(query, given_, **COLUMNS).corpus.content_hash == expected().corpus.content_hash
    engine.dispose()


def test_types_of_postgres(postgres):
    query = """SELECT gen_random_uuid() AS user_id, (n % 3)::numeric(10, 2) AS item_id,
        TIMESTAMPTZ '2024-05-31 18:30:00+02' + n * INTERVAL '1 minute' AS timestamp FROM generate_series(0, 4) n"""
    frame = Interactions.from_log(open_query(query, postgres.url)).frame
    assert frame["user_id"].dtype == pl.String and frame["user_id"].str.len_bytes().unique().to_list() == [36]
    assert [float(item) for item in frame["item_id"]] == [0, 1, 2, 0, 1]
    start = int(datetime(2024, 5, 31, 16, 30, tzinfo=UTC).timestamp()) * 1_000_000
    assert frame["timestamp"].to_list() == [start + 60_000_000 * n for n in range(5)]


def test_batches_of_nulls_and_of_wider_numbers(monkeypatch):
    monkeypatch.setattr(sql, "BATCH", 2)
    connection = duckdb.connect()
    values = "(NULL), (NULL), (1), (2), (170141183460469231731687303715884105727), (NULL)"
    log = open_query(f"SELECT CAST(a AS HUGEINT) AS a FROM (VALUES {values}) t(a)", connection)
    assert log.collect(log.frame)["a"].to_list() == [None, None, 1, 2, 2**127 - 1, None]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://me:pa.ss@host:5432/shop.v2?sslmode=require", "shop.v2"),
        ("sqlite:///data/shop.v2.db", "shop.v2"),
        ("sqlite:////data/shop", "shop"),
        ("postgresql://host", "sql-query"),
    ],
)
def test_a_log_is_called_as_its_database(url, name):
    assert database_name(url) == name


def test_the_columns_without_the_rows(sqlite):
    assert query_columns(QUERY, f"sqlite:///{sqlite}") == ["who", "what", "happened"]


# What is refused.

BAD = {
    "wrong": ("SELECT * FRO log", 'could not be run: near "fro": syntax error; check the query'),
    "no table": ("SELECT * FROM nowhere", "no such table: nowhere; check the query"),
    "no rows": ("SELECT * FROM log WHERE 0", r"found no rows; .*\(columns who, what, happened\)"),
    "no query": ("INSERT INTO log VALUES (1, 2, 3)", "returns no rows at all; write one that begins with SELECT"),
    "twice": ("SELECT who, who FROM log", "more than one column 'who'; give each a name of its own with AS"),
    "two at once": ("SELECT 1; SELECT 2", "could not be run: You can only execute one statement at a time"),
    "mixed": (
        "SELECT 1 AS who, 2 AS what UNION ALL SELECT 'a', 3",
        r"'who' holds values of more than one type \(int from row 1 on, str from row 2 on\); write CAST\(who",
    ),
    "null": ("SELECT NULL AS who, 1 AS what", r"row 1 \(counted from 1\): no id in column 'who'"),
    "column": ("SELECT who AS a, what FROM log", "no column 'who' .*the columns are 'a', 'what'"),
    "blob": ("SELECT who, what, x'00' AS happened FROM log", "timestamps of type Binary are not understood"),
}


@pytest.mark.parametrize(("query", "message"), BAD.values(), ids=BAD.keys())
def test_queries_that_cannot_be_used(sqlite, query, message):
    time = "happened" if "AS happened" in query else None
    with sqlite3.connect(sqlite) as connection, pytest.raises(DataError, match=f"(?i){message}"):
        Dataset.from_sql(query, connection, user="who", item="what", time=time)
    connection.close()


def test_values_of_more_than_one_type_in_different_batches(sqlite, monkeypatch):
    monkeypatch.setattr(sql, "BATCH", 1)
    with sqlite3.connect(sqlite) as connection, pytest.raises(DataError, match=r"'a' .*\(Int64, String\)"):
        open_query("SELECT 1 AS a UNION ALL SELECT 'x'", connection)
    connection.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///nowhere.db", "there is no file nowhere.db; check the path"),
        ("sqlite://", "there is no file"),
        ("nosql://x/y", "not the URL of a database that is known here"),
        ("mysql://me@host/shop", "needs a driver"),
        ("postgresql://me:secret@127.0.0.1:1/shop", "could not be reached: .*check that the database is there"),
        ("postgresql://me:secret@host:port/shop", "not the URL of a database"),
    ],
)
def test_databases_that_are_not_there(url, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message) as raised:
        Dataset.from_sql("SELECT 1", url)
    assert "secret" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "log.csv").write_text("who,what\n1,2\n" * 100)
    with pytest.raises(DataError, match="file is not a database"):
        Dataset.from_sql("SELECT * FROM log", f"sqlite:///{tmp_path / 'log.csv'}")


def test_a_locked_database(sqlite):
    with sqlite3.connect(sqlite) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with sqlite3.connect(sqlite, timeout=0) as connection, pytest.raises(DataError, match="database is locked"):
            Dataset.from_sql(QUERY, connection, **COLUMNS)
        connection.close()
        writer.rollback()
    writer.close()


def test_a_closed_connection_and_what_is_none(sqlite):
    connection = sqlite3.connect(sqlite)
    connection.close()
    with pytest.raises(DataError, match="Cannot operate on a closed database"):
        Dataset.from_sql(QUERY, connection)
    with pytest.raises(DataError, match="list is not a connection to a database"):
        Dataset.from_sql(QUERY, [])


def test_a_server_that_goes_away_in_the_middle(postgres, monkeypatch):
    monkeypatch.setattr(sql, "BATCH", 10)
    rows, as_series = [], sql._as_series

    def stop_after_some(name, values, label, done):
        if done == 50 and name == "a":
            rows.append(len(values))
            postgres.stop()
        return as_series(name, values, label, done)

    monkeypatch.setattr(sql, "_as_series", stop_after_some)
    many = "SELECT n AS a, repeat('x', 10000) AS b FROM generate_series(1, 100000) n"
    try:
        with pytest.raises(DataError, match=r"could not be read on after \d+ rows: .*; check that the database"):
            open_query(many, postgres.url)
        assert rows == [10]
    finally:
        postgres.start()


# From the command line.


def run(monkeypatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["seqdiffrec", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


WORDS = ["--query", QUERY, "--user", "who", "--item", "what", "--time", "happened"]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_train_and_evaluate_from_a_database(kind, request, tmp_path, monkeypatch, capsys):
    here = request.getfixturevalue(kind)
    url = f"sqlite:///{here}" if kind == "sqlite" else here.url.replace("tester@", "tester:secret@")
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "train", "--data", url, *WORDS, "--model", "popularity", "--out", "run") == 0
    assert run(monkeypatch, "evaluate", "run", "--json") == 0
    assert run(monkeypatch, "evaluate", "run", "--data", url) == 0
    assert "secret" not in capsys.readouterr().err
    assert "secret" not in (tmp_path / "run" / "run.json").read_text()


def test_a_database_in_a_recipe(sqlite, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = [f'file = "sqlite:///{sqlite}"', f'query = "{QUERY}"', *(f'{k} = "{v}"' for k, v in COLUMNS.items())]
    Path("shop.toml").write_text("\n".join(["[data]", *lines, "[model]", 'name = "popularity"', ""]))
    assert run(monkeypatch, "train", "--recipe", "shop.toml", "--out", "run") == 0
    assert (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--data", "sqlite:///shop.db", "--out", "run"], "a database needs a query"),
        (["fit", "sqlite:///shop.db", "--out", "run"], "a database needs a query"),
        (["data", "check", "sqlite:///shop.db"], "a database needs a query"),
        (["train", "--data", "log.csv", "--query", "SELECT 1", "--out", "run"], "data.query has no effect on log.csv"),
        (["train", "--data", "sqlite:///no.db", *WORDS, "--out", "run"], "there is no file no.db"),
        (["data", "prepare", "sqlite:///shop.db", "--query", "SELECT", "--out", "run"], "check the query"),
        (
            ["fit", "sqlite:///shop.db", "--query", "SELECT 1 AS a", "--out", "run"],
            "called as a user or an item usually is",
        ),
    ],
)
def test_a_mistake_with_a_database_is_one_message(words, message, sqlite, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *words) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and said.err.count("\n") == 1
    assert message in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["shop.db"]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.text(max_size=5), st.binary(max_size=3)),
            st.one_of(st.integers(0, 3), st.floats()),
            st.one_of(st.none(), st.integers(0, 9), st.floats(), st.text(max_size=3)),
        ),
        max_size=8,
    )
)
def test_any_rows_come_back_as_they_are_or_are_refused(rows):
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE log (user_id, item_id, timestamp)")
    connection.executemany("INSERT INTO log VALUES (?, ?, ?)", rows)
    stored = connection.execute("SELECT * FROM log").fetchall()
    kinds = [{type(row[place]) for row in stored} for place in range(3)]
    fine = stored and all(len(kind) == 1 for kind in kinds) and not any(None in row for row in stored)
    log = None
    with contextlib.suppress(DataError):
        log = Interactions.from_log(open_query("SELECT * FROM log", connection))
    connection.close()
    if log is None:
        texts_of_times = kinds[2:] in ([{str}], [{bytes}])
        infinite = any(row[2] in (math.inf, -math.inf) for row in stored)
        assert not fine or texts_of_times or infinite
    else:
        ids = list(zip(log.frame["user_id"], log.frame["item_id"], strict=True))
        assert ids == [row[:2] for row in stored]


def test_passwords_are_hidden():
    assert is_url("postgresql+psycopg://a@b/c") and not is_url("C:/logs/clicks.csv") and not is_url("clicks.csv")
    text = "train --data 'postgresql://me:s3:cr@t@host/shop' --out x"
    assert (
        without_password("train --data postgresql://me:s3cret@host/shop")
        == "train --data postgresql://me:***@host/shop"
    )
    assert "s3" not in without_password(text)
