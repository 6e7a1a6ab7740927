"""`Dataset`: a prepared log and its split, which is what people hand to a model."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from seqdiffrec.data.corpus import Corpus
from seqdiffrec.data.datasets import load_corpus, prepare_file
from seqdiffrec.data.interactions import Interactions
from seqdiffrec.data.items import items_from_frame
from seqdiffrec.data.prepare import prepare
from seqdiffrec.data.split import Split, leave_one_out, split_at_time

Time = int | float | datetime


@dataclass(frozen=True, eq=False)
class Dataset:
    """A corpus, and which of its actions are for training, for validation and for the test.

    Where no times are given the split is leave-one-out: each user's last item is the test target, the one before it the
    validation target.
    """

    corpus: Corpus
    split: Split
    times: tuple[Time, Time] | None = None

    @property
    def split_times(self) -> dict[str, str | int | float] | None:
        """Validation and test time as plain values, datetimes as ISO text; None for leave-one-out."""
        if self.times is None:
            return None
        plain = [moment.isoformat() if isinstance(moment, datetime) else moment for moment in self.times]
        return {"validation_time": plain[0], "test_time": plain[1]}

    @classmethod
    def of(cls, corpus: Corpus, times: tuple[Time, Time] | None = None) -> "Dataset":
        """Split a corpus: leave-one-out, or for all users at (validation time, test time).

        Raises DataError where the split leaves no cases.
        """
        return cls(corpus, leave_one_out(corpus) if times is None else split_at_time(corpus, *times), times)

    @classmethod
    def from_interactions(
        cls,
        log: Any,
        *,
        user: str = "user_id",
        item: str = "item_id",
        time: str | None = None,
        min_user: int = 1,
        min_item: int = 1,
        drop_repeats: bool = False,
        name: str = "data",
        items: Any = None,
        times: tuple[Time, Time] | None = None,
    ) -> "Dataset":
        """Prepare a log: a pandas or Polars frame, an Arrow table, or an `Interactions`.

        user, item, time: column names; time None takes `timestamp` or `datetime` where there is one, and the order of
        the rows where not. min_user, min_item: drop users and items with fewer actions, again and again until all
        have enough. drop_repeats: keep only the first time that a user takes an item. items: a frame of `item_id` and
        `title` or `category` or both (`items_from_frame`). times: see `of`.
        Raises DataError for all that is wrong with the log.
        """
        checked = (
            log if isinstance(log, Interactions) else Interactions.from_frame(log, user=user, item=item, time=time)
        )
        described = None if items is None else items_from_frame(items)
        how: dict[str, Any] = {"min_user": min_user, "min_item": min_item, "drop_repeats": drop_repeats}
        corpus = prepare(checked, name=name, items=described, **how)
        return cls.of(corpus, times)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        user: str = "user_id",
        item: str = "item_id",
        time: str | None = None,
        min_user: int = 1,
        min_item: int = 1,
        drop_repeats: bool = False,
        items: str | Path | None = None,
        times: tuple[Time, Time] | None = None,
    ) -> "Dataset":
        """The same for a file; it is prepared once and then comes from the cache folder.

        items: a file with a table of items (`read_items`).
        """
        how: dict[str, Any] = {"min_user": min_user, "min_item": min_item, "drop_repeats": drop_repeats}
        corpus = prepare_file(path, user=user, item=item, time=time, items=items, **how)
        return cls.of(corpus, times)


def load_dataset(name: str, data_root: str | Path | None = None) -> Dataset:
    """A named public dataset, such as "ml-100k", split leave-one-out.

    data_root: a folder to look in first; else the environment variable SEQDIFFREC_DATA_ROOT. What is not there is
    fetched once. Raises DataError as `load_corpus` does.
    """
    return Dataset.of(load_corpus(name, data_root))
