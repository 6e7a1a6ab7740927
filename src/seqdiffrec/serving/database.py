"""The database behind the store: SQLite in a file or PostgreSQL, opened so that a commit is on the disk."""

import logging
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError, TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from seqdiffrec.data.errors import DataError

log = logging.getLogger("seqdiffrec.serving")

# Seconds to wait for another's lock, for a connection, and for an answer of the server.
LOCK_WAIT, CONNECT_WAIT, STATEMENT_LIMIT = 1.0, 3, 3
# A number that only migrations of this project lock in PostgreSQL, so that two services that start together take turns.
MIGRATING = 0x5EAD1FF


class StoreUnavailable(Exception):
    """The store cannot be read or written now. The text says why, and holds no part of a statement."""


class Database:
    """Transactions on one database, whose tables are up to date.

    place: a path, or a URL ``postgresql://user:password@host/name``.
    Raises DataError where it cannot be opened.
    """

    def __init__(self, place: str | Path):
        path = None if "://" in str(place) else Path(place)
        self.shown = str(place) if path is not None else _shown(str(place))
        self._path, self._file = path, None
        try:
            if path is None:
                self._engine = _postgres(str(place))
            else:
                sqlite3.connect(path).close()  # makes the file; later it is only opened, so that a lost one is noticed
                self._engine = _sqlite(path)
            self._migrate()
        except (SQLAlchemyError, sqlite3.Error, OSError, CommandError) as error:
            why = f"{_reason(error)}; name another with --store"
            raise DataError(f"the store {self.shown} cannot be opened: {why}") from error
        if path is not None:
            self._file = _identity(path)

    @contextmanager
    def begin(self, *, write: bool = False) -> Generator[Connection]:
        """A transaction. When it ends without an exception, what was written is on the disk.

        Raises StoreUnavailable where the database does not answer, is locked, gone, full or read-only.
        """
        try:
            self._check_file()
            with self._engine.connect().execution_options(writes=write) as connection, connection.begin():
                yield connection
            self._check_file()
        except (DBAPIError, PoolTimeout) as error:
            reason = _reason(error)
            log.error("the store %s cannot be used: %s", self.shown, reason)
            # What a server says may name it; callers need not know it.
            raise StoreUnavailable(reason if self._path is not None else "its database does not answer") from error

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()

    def _check_file(self) -> None:
        """See that the file is still the one that is open: one that was deleted takes writes, and loses them."""
        if self._path is not None and self._file is not None and _identity(self._path) != self._file:
            self._engine.dispose()
            raise StoreUnavailable("its file is gone or was replaced; restore it and start the service again")

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        with self._engine.connect().execution_options(writes=True) as connection, connection.begin():
            if self._path is None:
                connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATING})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _sqlite(path: Path) -> Engine:
    place = f"file:{quote(str(path.absolute()))}?mode=rw"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(place, uri=True, timeout=LOCK_WAIT, check_same_thread=False, isolation_level=None)
        # A commit waits until the disk has it, so that neither a kill nor a power cut loses what was acknowledged;
        # with a write-ahead log readers and the writer do not wait for each other.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    engine = create_engine("sqlite://", creator=connect, pool_size=5, max_overflow=5, poolclass=QueuePool)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer takes its lock at once: one that first reads could not be made to wait for another.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgres(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise DataError("the store is neither a path nor a URL such as postgresql://user:password@host/name") from error
    if parsed.get_backend_name() != "postgresql":
        raise DataError(f"the store may be a path (SQLite) or PostgreSQL, not {parsed.get_backend_name()}")
    options: dict[str, Any] = {
        "connect_timeout": CONNECT_WAIT,
        "options": f"-c statement_timeout={STATEMENT_LIMIT}s -c timezone=UTC",
    }
    try:
        return create_engine(parsed.set(drivername="postgresql+psycopg"), connect_args=options, pool_pre_ping=True)
    except ImportError as error:
        raise DataError("PostgreSQL needs psycopg: pip install 'seqdiffrec[postgres]'") from error


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _shown(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "given by --store"


def _reason(error: BaseException) -> str:
    """The first line of what the database said, without the statement."""
    said = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    if isinstance(said, CommandError) and "locate revision" in str(said):
        return "a newer version of seqdiffrec wrote it"
    return (str(said).strip().splitlines() or [type(said).__name__])[0]
