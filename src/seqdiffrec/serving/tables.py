"""The tables of the store: what users took since the log, and whom to forget. `migrations` makes and changes them."""

from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, MetaData, String, Table

metadata = MetaData()

# SQLite counts by itself only in a column of the type INTEGER.
_NUMBER = BigInteger().with_variant(Integer, "sqlite")

events = Table(
    "events",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),  # in the order of arrival
    Column("key", String(256), nullable=False, unique=True),
    Column("user_id", String(256), nullable=False),
    Column("item_id", String(256), nullable=False),
    Column("received", DateTime(timezone=True), nullable=False),
    Index("events_of_user", "user_id", "number"),
)

# Users whose history was deleted: what the log of training has of them no longer counts.
forgotten = Table(
    "forgotten",
    metadata,
    Column("user_id", String(256), primary_key=True),
    Column("since", DateTime(timezone=True), nullable=False),
)
