"""What users took since the log was made: events, each with a key of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import Connection, Select, String, bindparam, delete, func, literal, null, select
from sqlalchemy.dialects import postgresql, sqlite

from seqdiffrec.serving.database import Database
from seqdiffrec.serving.tables import events, forgotten


@dataclass(frozen=True)
class Event:
    """A user took an item; ids as texts. The key tells it from all others."""

    user_id: str
    item_id: str
    key: str


@dataclass(frozen=True)
class Forget:
    """A user is to be forgotten."""

    user_id: str


@dataclass(frozen=True)
class Stored:
    """What the store knows of a user: items taken, oldest first, and whether the log no longer counts."""

    items: tuple[str, ...]
    log_forgotten: bool


class KeyTaken(Exception):
    """An event's key belongs to another event."""


class HistoryStore:
    """Events by user. All calls block, and are made from worker threads.

    place: a path, for SQLite, or a URL of PostgreSQL.
    looks_back: the newest so many events of a user are returned.
    Raises DataError where it cannot be opened; all calls raise StoreUnavailable where it cannot be used.
    """

    def __init__(self, place: str | Path, looks_back: int):
        self._looks_back = looks_back
        self.database = Database(place)

    def write(self, changes: Sequence[Event | Forget]) -> list[bool | Exception]:
        """Make changes in their order, in one transaction; they are on the disk when this returns.

        For each whether it was new, or KeyTaken. The same event with the same key is written once.
        """
        with self.database.begin(write=True) as connection:
            return [
                _forget(connection, one.user_id) if isinstance(one, Forget) else _record(connection, one)
                for one in changes
            ]

    def of_users(self, users: Sequence[str]) -> list[Stored]:
        """What is known of each user."""
        items: dict[str, list[str]] = {user: [] for user in users}
        gone: set[str] = set()
        with self.database.begin() as connection:
            for user, item in connection.execute(KNOWN, {"users": list(items), "count": self._looks_back}):
                if item is None:
                    gone.add(user)
                else:
                    items[user].append(item)
        return [Stored(tuple(items[user]), user in gone) for user in users]

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()


def _known() -> Select[Any, Any]:
    """Of each of ``users`` the newest ``count`` events, in their order; those forgotten also once without an item."""
    wanted = bindparam("users", type_=String(), expanding=True)
    place = func.row_number().over(partition_by=events.c.user_id, order_by=events.c.number.desc())
    columns = events.c.user_id, events.c.item_id, events.c.number, place.label("place")
    found = select(*columns).where(events.c.user_id.in_(wanted)).subquery()
    newest = select(found.c.user_id, found.c.item_id, found.c.number).where(found.c.place <= bindparam("count"))
    gone = select(forgotten.c.user_id, null(), literal(0)).where(forgotten.c.user_id.in_(wanted))
    rows = newest.union_all(gone).subquery()
    return select(rows.c.user_id, rows.c.item_id).order_by(rows.c.number)


# Made once: to put the statement together takes longer than to carry it out.
KNOWN = _known()


def _record(connection: Connection, one: Event) -> bool | Exception:
    row = {"key": one.key, "user_id": one.user_id, "item_id": one.item_id, "received": datetime.now(UTC)}
    insert = _dialect(connection).insert(events).values(row)
    made = insert.on_conflict_do_nothing(index_elements=["key"]).returning(events.c.number)
    if connection.execute(made).first() is not None:
        return True
    there = connection.execute(select(events.c.user_id, events.c.item_id).where(events.c.key == one.key)).one_or_none()
    if there is None:  # it was deleted in between
        return _record(connection, one)
    if tuple(there) == (one.user_id, one.item_id):
        return False
    return KeyTaken(f"the key {one.key!r} belongs to another event; give each event a key of its own")


def _forget(connection: Connection, user: str) -> bool:
    deleted = connection.execute(delete(events).where(events.c.user_id == user)).rowcount
    insert = _dialect(connection).insert(forgotten).values(user_id=user, since=datetime.now(UTC))
    made = insert.on_conflict_do_nothing(index_elements=["user_id"]).returning(forgotten.c.user_id)
    added = connection.execute(made).first() is not None
    return bool(deleted) or added


def _dialect(connection: Connection) -> ModuleType:
    """The dialect whose INSERT knows what to do about a key that is there."""
    return postgresql if connection.dialect.name == "postgresql" else sqlite
