"""A log out of a database: the result of a query, over a DB-API connection, one of SQLAlchemy, or a URL.

Rows are fetched some at a time and put into columns at once, so that Python objects do not pile up. Polars could read
a query too, but takes a column of mixed types for one of them and empties what does not fit; here that is an error.
"""

import re
import sqlite3
import uuid
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl

from seqdiffrec.data.errors import DataError
from seqdiffrec.data.sources import RawLog, open_frame

BATCH = 50_000
DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
"""Dialects that a URL may name without a driver, and the driver that the extra `sql` has."""


def is_url(source: str) -> bool:
    """Whether a source is the URL of a database rather than a path: postgresql://..., sqlite:///..."""
    return re.match(r"[a-z][a-z0-9+]*://", source) is not None


def without_password(text: str) -> str:
    """The text with the passwords of URLs in it hidden: what is recorded or shown."""
    return re.sub(r"(\b[a-z][a-z0-9+]*://[^\s:/@]*):[^\s@]*@", r"\1:***@", text)


def database_name(connection: Any) -> str:
    """What to call a log out of a database: the database's own name, by a URL or SQLAlchemy, else "sql-query".

    `shop` of "postgresql://me@host/shop" and of "sqlite:///data/shop.db".
    """
    url = connection if isinstance(connection, str) else getattr(getattr(connection, "engine", None), "url", "")
    place = Path(urlsplit(str(url)).path)
    return (place.stem if str(url).startswith("sqlite") else place.name) or "sql-query"


def open_query(query: str, connection: Any) -> RawLog:
    """Run a query and fetch all of its rows.

    connection: a DB-API connection (sqlite3, psycopg, DuckDB, ...), an engine or a connection of SQLAlchemy, or a URL
        such as "sqlite:///shop.db" or "postgresql://user@host/shop"; those last need the extra `sql`. A connection
        that is given stays open.
    Raises DataError for a database that cannot be reached or goes away, a wrong query, one that returns no rows, and a
    column that holds values of more than one type.
    """
    if isinstance(connection, str):
        label = f"the query on {without_password(connection)}"
        with _connected(connection, label) as opened:
            return open_frame(label, _fetch(query, opened, label))
    label = "the query"
    if not any(hasattr(connection, name) for name in ("cursor", "connect", "exec_driver_sql")):
        kinds = "a DB-API connection, an engine or connection of SQLAlchemy, or a URL"
        raise DataError(f"{type(connection).__name__} is not a connection to a database; give {kinds}")
    if hasattr(connection, "connect") and hasattr(connection, "dialect"):  # an engine of SQLAlchemy
        with _failing(label, "reached"), connection.connect() as opened:
            return open_frame(label, _fetch(query, opened, label))
    return open_frame(label, _fetch(query, connection, label))


def query_columns(query: str, url: str) -> list[str]:
    """The columns of a query's result, without fetching it. Raises DataError as `open_query` does."""
    label = f"the query on {without_password(url)}"
    with _connected(url, label) as opened:
        return _execute(query, opened, label)[1]


@contextmanager
def _connected(url: str, label: str) -> Generator[Any]:
    try:
        import sqlalchemy
        from sqlalchemy.exc import ArgumentError
    except ImportError as error:
        raise DataError(f"{label} needs SQLAlchemy: pip install 'seqdiffrec[sql]', or give a connection") from error
    try:
        parsed = sqlalchemy.make_url(url)
        parsed = parsed.set(drivername=DRIVERS.get(parsed.drivername, parsed.drivername))
        engine = sqlalchemy.create_engine(parsed)
    except (ArgumentError, ValueError) as error:
        form = "write dialect://user@host/database, or sqlite:///path"
        raise DataError(f"{label}: not the URL of a database that is known here ({_said(error)}); {form}") from error
    except ImportError as error:
        raise DataError(f"{label} needs a driver ({error}); install it, for PostgreSQL with seqdiffrec[sql]") from error
    if parsed.get_backend_name() == "sqlite":
        path = parsed.database or ""
        if not Path(path).is_file():  # SQLite would make an empty database
            raise DataError(f"{label}: there is no file {path or '(none named)'}; check the path after sqlite:///")
    try:
        with _failing(label, "reached"):
            opened = engine.connect()
        try:
            yield opened.execution_options(stream_results=True)
        finally:
            opened.invalidate() if opened.invalidated else opened.close()
    finally:
        engine.dispose()


def _execute(query: str, connection: Any, label: str) -> tuple[Any, list[str]]:
    """What rows are fetched from, and the names of its columns."""
    with _failing(label, "run"):
        if hasattr(connection, "exec_driver_sql"):
            # Without it a % in the query would count as the place of a parameter.
            result = connection.exec_driver_sql(query, execution_options={"no_parameters": True})
            names = list(result.keys()) if result.returns_rows else []
        else:
            result = connection.cursor()
            result.execute(query)
            names = [column[0] for column in result.description or ()]
    if not names:
        raise DataError(f"{label} returns no rows at all; write one that begins with SELECT")
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise DataError(f"{label} has more than one column {twice[0]!r}; give each a name of its own with AS")
    return result, names


def _fetch(query: str, connection: Any, label: str) -> pl.DataFrame:
    result, names = _execute(query, connection, label)
    columns: list[list[pl.Series]] = [[] for _ in names]
    done = 0
    while True:
        with _failing(label, f"read on after {done:,} rows"):
            rows = result.fetchmany(BATCH)
        if not rows:
            break
        for name, column, values in zip(names, columns, zip(*rows, strict=True), strict=True):
            column.append(_as_series(name, values, label, done))
        done += len(rows)
    if done == 0:
        raise DataError(f"{label} found no rows; it must find at least one action (columns {', '.join(names)})")
    return pl.DataFrame([_joined(name, column, label) for name, column in zip(names, columns, strict=True)])


def _as_series(name: str, values: Sequence[Any], label: str, done: int) -> pl.Series:
    if any(isinstance(value, uuid.UUID) for value in values[:1]):
        values = [None if value is None else str(value) for value in values]
    try:
        return pl.Series(name, values, strict=True)
    except (TypeError, OverflowError, pl.exceptions.PolarsError) as error:
        kinds = {type(value).__name__: row for row, value in reversed(list(enumerate(values))) if value is not None}
        where = ", ".join(
            f"{kind} from row {done + row + 1:,} on" for kind, row in sorted(kinds.items(), key=lambda one: one[1])
        )
        raise _mixed(label, name, where) from error


def _joined(name: str, batches: list[pl.Series], label: str) -> pl.Series:
    kinds = {batch.dtype for batch in batches} - {pl.Null()}
    exact = all(kind.is_integer() or kind.is_decimal() for kind in kinds)  # these differ in width alone
    if len(kinds) > 1 and not exact:
        raise _mixed(label, name, ", ".join(sorted(map(str, kinds))))
    how = "vertical_relaxed" if len({batch.dtype for batch in batches}) > 1 else "vertical"
    return pl.concat([batch.to_frame() for batch in batches], how=how).to_series()


def _mixed(label: str, name: str, kinds: str) -> DataError:
    return DataError(
        f"{label}: column {name!r} holds values of more than one type ({kinds}); write CAST({name} AS ...) in the query"
    )


@contextmanager
def _failing(label: str, what: str) -> Generator[None]:
    """Each driver has errors of its own; they have `Error` of the DB-API by name, or are SQLAlchemy's."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        bases = {f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(error).__mro__}
        is_driver = isinstance(error, (sqlite3.Error, OSError)) or any(
            name.endswith(".Error") or name == "sqlalchemy.SQLAlchemyError" for name in bases
        )
        if not is_driver:
            raise
        remedy = "check the query" if what == "run" else "check that the database is there and can be reached"
        raise DataError(f"{label} could not be {what}: {_said(error)}; {remedy}") from error


def _said(error: BaseException) -> str:
    """What an error says, on one line, without the pointers to a manual that SQLAlchemy adds."""
    text = str(getattr(error, "orig", None) or error) or type(error).__name__
    return without_password(" ".join(text.split()))
