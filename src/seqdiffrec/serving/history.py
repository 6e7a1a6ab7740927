"""What users took since the log was made: a store of events, in SQLite or PostgreSQL."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, create_engine, delete, event as on, func, select
from sqlalchemy.dialects import postgresql, sqlite

from seqdiffrec.serving.tables import events, forgotten, metadata


@dataclass(frozen=True)
class Event:
    """A user took an item; ids as texts. The key tells it from all others."""

    user_id: str
    item_id: str
    key: str


@dataclass(frozen=True)
class Stored:
    """What the store knows of a user: items taken, oldest first, and whether the log no longer counts."""

    items: tuple[str, ...]
    log_forgotten: bool


class KeyTaken(Exception):
    """An event's key belongs to another event."""


class HistoryStore:
    """Events by user. All calls block, and are made from a worker thread.

    url: an SQLAlchemy URL, ``sqlite:///path`` or ``postgresql+psycopg://...``.
    looks_back: the newest so many events of a user are returned.
    """

    def __init__(self, url: str, looks_back: int):
        self._looks_back = looks_back
        self._engine = create_engine(url)
        if self._engine.dialect.name == "sqlite":
            _prepare_sqlite(self._engine)
        metadata.create_all(self._engine)

    def record(self, new: Sequence[Event]) -> list[bool | Exception]:
        """Write events in one transaction; on the disk when this returns.

        For each whether it is new, or KeyTaken. The same event with the same key is written once.
        """
        with self._engine.begin() as connection:
            return [_record(connection, one) for one in new]

    def of_users(self, users: Sequence[str]) -> list[Stored]:
        """What is known of each user."""
        with self._engine.connect() as connection:
            gone = set(connection.scalars(select(forgotten.c.user_id).where(forgotten.c.user_id.in_(users))))
            place = func.row_number().over(partition_by=events.c.user_id, order_by=events.c.number.desc())
            numbered = select(events.c.user_id, events.c.item_id, events.c.number, place.label("place"))
            newest = numbered.where(events.c.user_id.in_(users)).subquery()
            rows = select(newest.c.user_id, newest.c.item_id).where(newest.c.place <= self._looks_back)
            items: dict[str, list[str]] = {user: [] for user in users}
            for user, item in connection.execute(rows.order_by(newest.c.number)):
                items[user].append(item)
        return [Stored(tuple(items[user]), user in gone) for user in users]

    def forget(self, user: str) -> None:
        """Delete a user's events, and no longer count what the log has of them."""
        with self._engine.begin() as connection:
            connection.execute(delete(events).where(events.c.user_id == user))
            since = datetime.now(UTC)
            row = _insert(connection)(forgotten).values(user_id=user, since=since).on_conflict_do_nothing()
            connection.execute(row)

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()


def _record(connection: Connection, one: Event) -> bool | Exception:
    row = {"key": one.key, "user_id": one.user_id, "item_id": one.item_id, "received": datetime.now(UTC)}
    statement = _insert(connection)(events).values(row).on_conflict_do_nothing(index_elements=["key"])
    if connection.execute(statement).rowcount:
        return True
    there = connection.execute(select(events.c.user_id, events.c.item_id).where(events.c.key == one.key)).one()
    if tuple(there) == (one.user_id, one.item_id):
        return False
    return KeyTaken(f"the key {one.key!r} belongs to another event; give each event a key of its own")


def _insert(connection: Connection):
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert


def _prepare_sqlite(engine: Engine) -> None:
    @on.listens_for(engine, "connect")
    def _connected(connection, record) -> None:  # type: ignore[no-untyped-def]
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
