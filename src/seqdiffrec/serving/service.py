"""The service behind the routes: the model that serves, the store, and a worker for each kind of work."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import numpy as np
from fastapi import Depends, Request

from seqdiffrec.serving.batching import Worker
from seqdiffrec.serving.history import Event, HistoryStore, Stored
from seqdiffrec.serving.schemas import MOST_ITEMS, RecommendationRequest, Skipped, text_of
from seqdiffrec.serving.served import How, Lists, Question, ServedModel, answer_all

Returned = TypeVar("Returned")


@dataclass(frozen=True)
class Limits:
    """What the service takes on.

    longest_wait: seconds that a request may have to wait before it is begun; more are refused at once (503).
    time_limit: seconds after which an answer is given up.
    most_together: requests that the model answers in one pass.
    """

    longest_wait: float = 0.1
    time_limit: float = 5.0
    most_together: int = 32


class Service:
    """All that a request needs. `close` ends it."""

    def __init__(self, run: Path, store: HistoryStore, limits: Limits = Limits()):
        self.run, self.store = run, store
        self.model = ServedModel(run)
        kept = {"longest_wait": limits.longest_wait, "time_limit": limits.time_limit}
        self._asked: Worker[Any, Any] = Worker("model", _work, most=limits.most_together, **kept)
        self._read: Worker[str, Stored] = Worker("reads", store.of_users, most=limits.most_together, **kept)
        self._write: Worker[Event, bool] = Worker("writes", store.record, most=limits.most_together, **kept)
        self._reloading = threading.Lock()

    async def compute(self, work: Callable[[], Returned]) -> Returned:
        """Let the model's worker thread do something, between two rounds. Raises Overloaded."""
        return cast(Returned, await self._asked.ask(work))

    async def stored(self, user: int | str) -> Stored:
        """What the store knows of a user."""
        return await self._read.ask(text_of(user))

    async def record(self, event: Event) -> bool:
        """Write an event; True where it is new. Raises KeyTaken."""
        return await self._write.ask(event)

    async def forget(self, user: int | str) -> None:
        """Delete what is known of a user."""
        await asyncio.to_thread(self.store.forget, text_of(user))

    async def recommend(self, asked: RecommendationRequest) -> tuple[ServedModel, int, Skipped, Lists]:
        """The model that answered, how many known items the answer rests on, what was skipped, and the lists."""
        model = self.model
        if asked.user_id is None:
            logged, taken = np.empty(0, np.int32), asked.history or []
        else:
            stored = await self.stored(asked.user_id)
            logged = model.logged("" if stored.log_forgotten else asked.user_id)
            taken = stored.items
        history, skipped = model.look_up(taken)
        history = np.concatenate([logged, history])[-MOST_ITEMS:]
        excluded, not_excluded = model.look_up(asked.exclude_items)
        only, not_only = model.look_up(asked.items_to_recommend or [])
        for more in (not_excluded, not_only):
            skipped = Skipped(count=skipped.count + more.count, first=[*skipped.first, *more.first][:10])
        how = How(
            k=asked.k,
            filter_viewed=asked.filter_viewed,
            seeds=asked.seeds,
            picks=asked.picks,
            excluded=tuple(np.unique(excluded).tolist()),
            only=None if asked.items_to_recommend is None else tuple(np.unique(only).tolist()),
        )
        lists = cast(Lists, await self._asked.ask(Question(model, history, how)))
        return model, len(history), skipped, lists

    def close(self) -> None:
        """Answer what is under way, then let go of everything."""
        for worker in (self._asked, self._read, self._write):
            worker.close()
        self.store.close()


def _work(tasks: Sequence[Any]) -> list[Any]:
    """Answer all questions together, and do what else was asked one by one."""
    questions = [task for task in tasks if isinstance(task, Question)]
    answers = iter(answer_all(questions))
    return [next(answers) if isinstance(task, Question) else _tried(task) for task in tasks]


def _tried(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:  # told to the one who asked
        return error


def _service_of(request: Request) -> Service:
    return request.app.state.service


ServiceDep = Annotated[Service, Depends(_service_of)]
"""The service, as a parameter of a route."""
