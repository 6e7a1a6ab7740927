"""The store of events, in SQLite and in PostgreSQL, and what happens when it cannot be used."""

import sqlite3
import uuid

import pytest
from sqlalchemy import create_engine, inspect, make_url, text

from seqdiffrec.data import DataError
from seqdiffrec.serving.database import Database, StoreUnavailable
from seqdiffrec.serving.history import Event, Forget, HistoryStore, KeyTaken, Stored
from seqdiffrec.serving.tables import metadata
from tests.serving.conftest import ask, serving, take


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    """An empty store."""
    if request.param == "sqlite":
        return tmp_path / "odd name?#%20.sqlite"
    url = make_url(request.getfixturevalue("postgres")).set(drivername="postgresql+psycopg")
    name = f"test_{uuid.uuid4().hex}"
    with create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    return url.set(database=name, drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture
def store(place):
    opened = HistoryStore(place, looks_back=5)
    yield opened
    opened.close()


def test_events_in_their_order(store) -> None:
    assert store.write([Event("ann", "b", "1"), Event("ann", "a", "2"), Event("bob", "c", "3")]) == [True] * 3
    assert store.write([Event("ann", "b", "4")]) == [True]
    found = store.of_users(["bob", "nobody", "ann", "ann"])
    assert found == [Stored(("c",), False), Stored((), False), *[Stored(("b", "a", "b"), False)] * 2]


def test_it_looks_back_so_far(store) -> None:
    store.write([Event("ann", str(number), str(number)) for number in range(8)])
    assert store.of_users(["ann"])[0].items == ("3", "4", "5", "6", "7")


def test_a_key_counts_once_in_a_round_and_later(store) -> None:
    event = Event("ann", "a", "1")
    assert store.write([event, event]) == [True, False]
    new, taken = store.write([Event("ann", "b", "2"), Event("bob", "a", "1")])
    assert new is True and isinstance(taken, KeyTaken)
    assert store.of_users(["ann", "bob"]) == [Stored(("a", "b"), False), Stored((), False)]


def test_forgetting(store) -> None:
    store.write([Event("ann", "a", "1"), Event("bob", "b", "2")])
    assert store.write([Forget("ann"), Event("ann", "c", "1"), Forget("nobody")]) == [True, True, True]
    assert store.of_users(["ann", "bob"]) == [Stored(("c",), True), Stored(("b",), False)]


def test_it_opens_again_with_what_was_there(store, place) -> None:
    store.write([Event("ann", "a 😀 ' \"", "1")])
    again = HistoryStore(place, looks_back=5)
    assert again.of_users(["ann"])[0].items == ("a 😀 ' \"",)
    again.close()


def test_migrations_make_the_tables_that_the_code_knows(store) -> None:
    engine = store.database._engine
    seen = inspect(engine)
    for table in metadata.tables.values():
        columns = {column["name"]: column["nullable"] for column in seen.get_columns(table.name)}
        assert columns == {column.name: bool(column.nullable) for column in table.columns}
    assert [index["name"] for index in seen.get_indexes("events") if not index["unique"]] == ["events_of_user"]


def test_a_newer_store_is_refused(store, place) -> None:
    with store.database.begin(write=True) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DataError, match="newer version"):
        Database(place)


def test_a_commit_waits_for_the_disk(tmp_path) -> None:
    store = HistoryStore(tmp_path / "events.sqlite", looks_back=5)
    with store.database.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    store.close()


# -- what goes wrong ------------------------------------------------------------------------------------------------


def refused(answer, *said: str) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json" and int(answer.headers["retry-after"]) >= 1
    for word in said:
        assert word in answer.json()["detail"]
    assert "INSERT" not in answer.text and "Traceback" not in answer.text


@pytest.fixture
def kept(run, tmp_path):
    """A service with one event, and its store's file."""
    path = tmp_path / "events.sqlite"
    with serving(run, store=path) as client:
        take(client, "ann", 10, "first")
        yield client, path


def test_a_locked_database(kept) -> None:
    client, path = kept
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refused(take(client, "ann", 20, "second"), "locked")
    assert ask(client, user_id="ann").json()["history_length"] == 1  # readers need not wait
    other.execute("ROLLBACK")
    other.close()
    assert take(client, "ann", 20, "second").status_code == 201
    assert ask(client, user_id="ann").json()["history_length"] == 2


def test_a_database_that_is_gone_and_comes_back(kept) -> None:
    client, path = kept
    aside = path.with_name("aside")
    path.rename(aside)
    refused(take(client, "ann", 20, "second"), "gone")
    refused(ask(client, user_id="ann"), "gone")
    refused(client.get("/health/ready"), "gone")
    assert client.get("/health/live").status_code == 200
    assert ask(client, history=[10]).status_code == 200  # needs no store
    assert not path.exists()  # no empty one is made in its place
    aside.rename(path)
    assert take(client, "ann", 20, "second").status_code == 201
    assert client.get("/v1/users/ann/history").json()["length"] == 2


def test_another_file_in_its_place(kept) -> None:
    client, path = kept
    path.rename(path.with_name("aside"))
    sqlite3.connect(path).close()
    refused(take(client, "ann", 20, "second"), "replaced")


def test_a_full_database(kept) -> None:
    client, _ = kept
    store = client.app.state.service._store
    with store.database.begin() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    store.database.close()
    # Every connection from now on may have no more pages than there are: what SQLite says of a full disk.
    from sqlalchemy import event

    event.listen(
        store.database._engine, "connect", lambda made, record: made.execute(f"PRAGMA max_page_count = {pages}")
    )
    answers = [take(client, "ann" * 80, 20, f"{number}" * 200) for number in range(9)]
    refused(answers[-1], "full")
    accepted = sum(answer.status_code == 201 for answer in answers)
    assert client.get(f"/v1/users/{'ann' * 80}/history").json()["length"] == accepted


def test_a_read_only_database(kept) -> None:
    client, _ = kept
    from sqlalchemy import event

    store = client.app.state.service._store
    store.database.close()
    event.listen(store.database._engine, "connect", lambda made, record: made.execute("PRAGMA query_only = 1"))
    refused(take(client, "ann", 20, "second"), "readonly")
    assert client.get("/v1/users/ann/history").json()["length"] == 1


def test_what_is_no_database(run, tmp_path) -> None:
    (tmp_path / "notes").write_text("not a database " * 100)
    with pytest.raises(DataError, match="notes cannot be opened: file is not a database"):
        HistoryStore(tmp_path / "notes", looks_back=5)
    with pytest.raises(DataError, match=r"nowhere.* cannot be opened"):
        HistoryStore(tmp_path / "nowhere" / "x", looks_back=5)
    with pytest.raises(DataError, match="not mysql"):
        HistoryStore("mysql://localhost/x", looks_back=5)
    with pytest.raises(DataError) as found:
        HistoryStore("postgresql://me:secret@127.0.0.1:1/x", looks_back=5)
    assert "secret" not in str(found.value) and "cannot be opened" in str(found.value)


def test_postgresql_goes_away_and_comes_back(run, postgres) -> None:
    with serving(run, store=postgres) as client:
        user, key = f"ann {uuid.uuid4()}", f"{uuid.uuid4()}"
        assert take(client, user, 10, key).status_code == 201
        engine = client.app.state.service._store.database._engine
        with create_engine(engine.url, isolation_level="AUTOCOMMIT").connect() as other:
            other.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"))
        assert take(client, user, 20, key + "2").status_code == 201  # a lost connection is replaced
        assert ask(client, user_id=user).json()["history_length"] == 2


def test_a_failure_of_the_store_leaves_no_trace_in_the_answer(kept, monkeypatch) -> None:
    client, _ = kept

    def fail(changes):
        raise StoreUnavailable("it does not answer")

    monkeypatch.setattr(client.app.state.service._write, "_work", fail)
    refused(take(client, "ann", 20, "second"), "it does not answer")
