"""`Dataset`: a prepared log and its split, which is what people hand to a model."""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from seqdiffrec.data.corpus import Corpus
from seqdiffrec.data.datasets import load_corpus, prepare_file
from seqdiffrec.data.errors import DataError
from seqdiffrec.data.frames import FrameKind, kind_of
from seqdiffrec.data.interactions import Interactions
from seqdiffrec.data.items import describe
from seqdiffrec.data.prepare import prepare
from seqdiffrec.data.split import Split, leave_one_out, split_at_time, split_by_parts, whole_log
from seqdiffrec.data.sql import database_name, open_query

Time = int | float | datetime
WHOLE_LOG: dict[str, str | int | float] = {"whole_log": True}
"""What runs say of their split where all was trained on."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A corpus, and which of its actions are for training, for validation and for the test.

    The split is the log's own where it has one (a column that says train, validation or test); at one point in time
    for all users where times are given; else leave-one-out: each user's last item is the test target, the one before
    it the validation target.

    output: the kind of frame that a model fitted to it answers with: that of the log, Polars where it was none.
    """

    corpus: Corpus
    split: Split
    times: tuple[Time, Time] | None = None
    is_whole: bool = False
    output: FrameKind = "polars"

    def __repr__(self) -> str:
        cases = f"cases: {len(self.split.validation):,} validation, {len(self.split.test):,} test"
        how = "leave-one-out"
        if self.is_whole:
            how, cases = "none", "all is for training"
        elif self.times is not None:
            how = f"at {self.times[0]} and {self.times[1]}"
        elif self.corpus.parts is not None:
            how = f"by the column {self.corpus.provenance['split']!r}"
        return f"Dataset({self.corpus.name!r}: {self.corpus.size}; split {how}, {cases})"

    def whole(self) -> "Dataset":
        """The same log with every action for training and none to judge by, for a model that is to be used."""
        return Dataset(self.corpus, whole_log(self.corpus), is_whole=True, output=self.output)

    @property
    def split_settings(self) -> dict[str, str | int | float] | None:
        """How it is split, as plain values under the names that recipes have for it; None for leave-one-out.

        ``split``, the column, or ``validation_time`` and ``test_time``, datetimes as ISO text.
        """
        if self.is_whole:
            return WHOLE_LOG
        if self.times is not None:
            plain = [moment.isoformat() if isinstance(moment, datetime) else moment for moment in self.times]
            return {"validation_time": plain[0], "test_time": plain[1]}
        return None if self.corpus.parts is None else {"split": self.corpus.provenance["split"]}

    @classmethod
    def of(cls, corpus: Corpus, times: tuple[Time, Time] | None = None) -> "Dataset":
        """Split a corpus: as its log says, for all users at (validation time, test time), or leave-one-out.

        Raises DataError where the split leaves no cases, or where there are times and the log has a split of its own.
        """
        if corpus.parts is None:
            return cls(corpus, leave_one_out(corpus) if times is None else split_at_time(corpus, *times), times)
        if times is not None:
            raise DataError(
                f"{corpus.name} is split by its column {corpus.provenance['split']!r}, so it cannot also be split at "
                "times; leave one of the two out"
            )
        return cls(corpus, split_by_parts(corpus))

    @classmethod
    def from_interactions(
        cls,
        log: Any,
        *,
        user: str = "user_id",
        item: str = "item_id",
        time: str | None = None,
        split: str | None = None,
        min_user: int = 1,
        min_item: int = 1,
        drop_repeats: bool = False,
        name: str = "data",
        items: Any = None,
        times: tuple[Time, Time] | None = None,
    ) -> "Dataset":
        """Prepare a log: a pandas or Polars frame (also lazy), an Arrow table, a DuckDB relation, or `Interactions`.

        user, item, time: column names; time None takes `timestamp` or `datetime` where there is one, and the order of
        the rows where not. split: a column that says train, validation or test in each row (see `split_by_parts`).
        min_user, min_item: drop users and items with fewer actions, again and again until all have enough.
        drop_repeats: keep only the first time that a user takes an item. items: a frame or a file of `item_id` and
        `title` or `category` or both (`items_from_frame`, `read_items`). times: see `of`.
        A model that is fitted to it answers with frames of the log's kind.
        Raises DataError for all that is wrong with the log.
        """
        kind = kind_of(log) or "polars"
        if not isinstance(log, Interactions):
            log = Interactions.from_frame(log, user=user, item=item, time=time, split=split)
        how: dict[str, Any] = {"min_user": min_user, "min_item": min_item, "drop_repeats": drop_repeats}
        return replace(cls.of(prepare(log, name=name, items=describe(items), **how), times), output=kind)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        user: str = "user_id",
        item: str = "item_id",
        time: str | None = None,
        split: str | None = None,
        min_user: int = 1,
        min_item: int = 1,
        drop_repeats: bool = False,
        items: str | Path | None = None,
        times: tuple[Time, Time] | None = None,
    ) -> "Dataset":
        """The same for a file or a folder of Parquet files; it is prepared once, then comes from the cache folder.

        items: a file with a table of items (`read_items`).
        """
        corpus = prepare_file(
            path,
            user=user,
            item=item,
            time=time,
            split=split,
            min_user=min_user,
            min_item=min_item,
            drop_repeats=drop_repeats,
            items=items,
        )
        return cls.of(corpus, times)

    @classmethod
    def from_sql(
        cls,
        query: str,
        connection: Any,
        *,
        user: str = "user_id",
        item: str = "item_id",
        time: str | None = None,
        split: str | None = None,
        min_user: int = 1,
        min_item: int = 1,
        drop_repeats: bool = False,
        name: str | None = None,
        items: Any = None,
        times: tuple[Time, Time] | None = None,
    ) -> "Dataset":
        """The same for the result of a query.

        connection: a DB-API connection, an engine or a connection of SQLAlchemy, or a URL (extra `sql`), such as
        "postgresql://user@host/shop" or "sqlite:///shop.db". Without a column of times the order of the rows counts,
        so the query should end with ORDER BY then. name: None takes that of the database where it is
        known (by a URL, or from SQLAlchemy), else "sql-query".
        Raises DataError also for a database that cannot be reached or goes away, and for a wrong query.
        """
        log = Interactions.from_log(open_query(query, connection), user=user, item=item, time=time, split=split)
        corpus = prepare(
            log,
            name=database_name(connection) if name is None else name,
            min_user=min_user,
            min_item=min_item,
            drop_repeats=drop_repeats,
            items=describe(items),
            provenance={"query": query},
        )
        return cls.of(corpus, times)


def load_dataset(name: str, data_root: str | Path | None = None) -> Dataset:
    """A named public dataset, such as "ml-100k", split leave-one-out.

    data_root: a folder to look in first; else the environment variable SEQDIFFREC_DATA_ROOT. What is not there is
    fetched once. Raises DataError as `load_corpus` does.
    """
    return Dataset.of(load_corpus(name, data_root))
