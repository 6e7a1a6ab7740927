"""A loaded run as the service asks it: ids looked up in constant time, many questions answered in one pass."""

import logging
import weakref
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from seqdiffrec.inference import Recommender, load
from seqdiffrec.serving.answering import NO_ITEMS, How, Row, find, index_of
from seqdiffrec.serving.model_process import ModelProcess, weights_hash
from seqdiffrec.serving.schemas import Listed, Model, Skipped, text_of
from seqdiffrec.training import RunError

log = logging.getLogger("seqdiffrec.serving")


@dataclass(frozen=True, eq=False)
class Question:
    """A history of known items, int32 (n,), oldest first, and what is wanted."""

    model: "ServedModel"
    history: NDArray[np.int32]
    how: How


@dataclass(frozen=True, eq=False)
class Lists:
    """The list of a question, and those of each noise draw where they were asked for."""

    best: list[Listed]
    picks: list[list[Listed]] | None


class ServedModel:
    """A run that has been loaded.

    process: the one that answers; None answers in this one.
    with_index: load the run's index, too, for questions that are ``approximate``.
    Raises RunError where the run is broken, or has no index.

    Attributes:
        index: what the index is and finds, measured; None without one.
    """

    def __init__(self, run: Path, process: ModelProcess | None = None, *, with_index: bool = False):
        self.recommender: Recommender = load(run)
        digest = weights_hash(self.recommender)
        self._process, self._number = process, 0
        self.index: dict[str, Any] | None = None
        if process is None:
            self._index = index_of(self.recommender) if with_index else None
            self.index = None if self._index is None else self._index.facts()
        else:
            self._number, self.index = process.load(run.resolve(), digest, with_index=with_index)
            weakref.finalize(self, process.forget, self._number)
        self.identity = Model(run=run.resolve().name, model=self.recommender.model_name, hash=digest)
        vocabulary = self.recommender.vocabulary
        self.ids: list[Any] = plain(vocabulary["item_id"])
        self.titles: list[str | None] = vocabulary["title"].to_list()
        self._columns = places(self.ids)
        self._users = places(self.user_ids)

    @cached_property
    def user_ids(self) -> list[Any]:
        """The users of the log, in the corpus's order; none where the run no longer has its corpus."""
        try:
            return plain(self.recommender.corpus.user_ids)
        except RunError as error:
            log.warning("%s", error)
            return []

    @property
    def num_items(self) -> int:
        """Size of the catalogue."""
        return len(self.ids)

    def item_index(self, item: int | str) -> int | None:
        """The index of an item, from 1; None where the model does not know it."""
        column = self._columns.get(text_of(item))
        return None if column is None else column + 1

    def look_up(self, items: Iterable[int | str]) -> tuple[NDArray[np.int32], Skipped]:
        """The indices of items, in their order, and those that the model does not know."""
        found, unknown = list[int](), list[int | str]()
        for item in items:
            column = self._columns.get(text_of(item))
            if column is None:
                unknown.append(item)
            else:
                found.append(column + 1)
        return np.array(found, dtype=np.int32), Skipped(count=len(unknown), first=unknown[:10])

    def logged(self, user: int | str) -> NDArray[np.int32]:
        """The item indices that the log has of a user, oldest first; none for a user whom it has not."""
        row = self._users.get(text_of(user))
        return NO_ITEMS if row is None else self.recommender.corpus.sequences()[row]

    def answer(self, histories: Sequence[NDArray[np.int32]], how: How) -> list[Lists]:
        """The lists after some histories, all of one kind."""
        if self._process is None:
            found = find(self.recommender.model, histories, how, self._index)
        else:
            found = self._process.find(self._number, histories, how)
        return [
            Lists(self._listed(best), None if picks is None else [self._listed(pick) for pick in picks])
            for best, picks in found
        ]

    def _listed(self, row: Row) -> list[Listed]:
        return [self.listed(item, score, rank) for rank, (item, score) in enumerate(row, start=1)]

    def listed(self, item: int, score: float, rank: int) -> Listed:
        """A place of a list; item is the index, from 1."""
        return {"item_id": self.ids[item - 1], "title": self.titles[item - 1], "score": score, "rank": rank}

    def similar(self, item: int, k: int) -> list[Listed]:
        """The k items that are most like one, by its index."""
        frame = self.recommender.similar_items([self.ids[item - 1]], min(k, self.num_items))
        titles = frame["title"] if "title" in frame.columns else [None] * len(frame)
        rows = zip(plain(frame["item_id"]), titles, frame["score"], frame["rank"], strict=True)
        return [Listed(item_id=one, title=title, score=score, rank=rank) for one, title, score, rank in rows]

    def check(self) -> None:
        """Ask for three lists, of which none may hold anything but items once and probabilities.

        Raises RunError. Hashes, shapes and finite weights have been checked when the run was loaded.
        """
        size = min(10, self.num_items)
        histories = [NO_ITEMS, np.ones(1, np.int32), np.arange(1, min(100, self.num_items) + 1, dtype=np.int32)]
        how = How(k=size, filter_viewed=False, picks=self.index is None)  # picks look at all items, which takes long
        for history in histories:  # one by one: requests to the model that serves get their turn in between
            lists = self.answer([history], how)[0]
            for one in [lists.best, *(lists.picks or [])]:
                items, scores = [place["item_id"] for place in one], [place["score"] for place in one]
                if len(set(items)) != size or not all(0 <= score <= 1 + 1e-3 for score in scores):
                    raise RunError(f"{self.identity.run}: a test request got {scores[:3]} ... for probabilities")


def answer_all(questions: Sequence[Question]) -> list[Lists | Exception]:
    """Answer questions, those of one kind to one model together."""
    answers: list[Lists | Exception] = [RuntimeError("not answered")] * len(questions)
    kinds: dict[Hashable, list[int]] = {}
    for place, question in enumerate(questions):
        kinds.setdefault((id(question.model), question.how), []).append(place)
    for members in kinds.values():
        first = questions[members[0]]
        try:
            found: list[Lists] | list[Exception] = first.model.answer(
                [questions[place].history for place in members], first.how
            )
        except Exception as error:  # of this kind; the others are answered
            found = [error] * len(members)
        for place, one in zip(members, found, strict=True):
            answers[place] = one
    return answers


def plain(ids: pl.Series) -> list[Any]:
    """Ids as JSON can hold them: numbers and texts as they are, whole floats as whole numbers, the rest as texts."""
    if ids.dtype.is_float() and bool((ids == ids.round()).all()):
        return [int(one) for one in ids.to_list()]
    if ids.dtype.is_numeric():
        return ids.to_list()
    return ids.cast(pl.String).to_list()


def places(ids: list[Any]) -> dict[str, int]:
    """Where each id stands, by its text."""
    return {str(one): place for place, one in enumerate(ids)}
