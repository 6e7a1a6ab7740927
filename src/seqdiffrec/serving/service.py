"""The service behind the routes: the model that serves, the store, and a worker for each kind of work."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import numpy as np
from fastapi import Depends, Request
from numpy.typing import NDArray

from seqdiffrec.data.errors import DataError
from seqdiffrec.models.settings import SettingError
from seqdiffrec.serving.answering import NO_ITEMS, How
from seqdiffrec.serving.batching import FULL, Worker
from seqdiffrec.serving.history import Event, Forget, HistoryStore, Stored
from seqdiffrec.serving.lateness import Lateness
from seqdiffrec.serving.metrics import Metrics
from seqdiffrec.serving.model_process import ModelProcess
from seqdiffrec.serving.problems import ProblemError
from seqdiffrec.serving.schemas import MOST_ITEMS, MOST_PICKS, Model, RecommendationRequest, Skipped, text_of
from seqdiffrec.serving.served import Lists, Question, ServedModel, answer_all
from seqdiffrec.training import RunError

log = logging.getLogger("seqdiffrec.serving")

Returned = TypeVar("Returned")

# How many times as long a request may take while a model is loaded beside, and for how many seconds after that: nobody
# should be refused because of it.
SLOWER, SETTLED = 4, 1.0


@dataclass(frozen=True)
class Limits:
    """What the service takes on.

    longest_answer: seconds that the work of a request may be expected to take, its wait included; others are refused
        at once (503).
    longest_lateness: seconds that the event loop may be behind; as long as it is further, requests are refused.
    time_limit: seconds after which an answer is given up.
    most_together: requests that the model answers in one pass, and events that are written in one transaction.
    """

    longest_answer: float = 0.12
    longest_lateness: float = 0.01
    time_limit: float = 5.0
    most_together: int = 32


class Service:
    """All that a request needs. `close` ends it.

    threads: of a process of its own for the model; None lets it answer in this one.
    approximate: look only at the items that the run's index names.
    Raises RunError where the run is broken or has no index, DataError where the store cannot be opened.
    """

    def __init__(
        self,
        run: Path,
        store: str | Path,
        limits: Limits,
        threads: int | None = None,
        *,
        approximate: bool = False,
    ):
        self.metrics, self.closing, self._run, self._limits = Metrics(), False, run, limits
        self.lateness, self._coming = Lateness(), 0  # _coming: let in, and not yet in the model's queue
        self._process = None if threads is None else ModelProcess(threads)
        self._approximate = approximate
        self.model = self._load()
        self._store = HistoryStore(store, MOST_ITEMS)
        self.store_shown = self._store.database.shown
        self._reloading = asyncio.Lock()
        self._asked: Worker[Question | Callable[[], Any], Any] = self._worker("model", _work, limits)
        self._read: Worker[str, Stored] = self._worker("reads", self._store.of_users, limits)
        self._write: Worker[Event | Forget, bool] = self._worker("writes", self._store.write, limits)

    async def recommend(self, asked: RecommendationRequest) -> tuple[ServedModel, int, Skipped, Lists]:
        """The model that answered, how many known items the answer rests on, what was skipped, and the lists."""
        model = self.model  # from here to the answer the same one, whatever is loaded meanwhile
        if asked.user_id is None:
            history, skipped = model.look_up(asked.history or [])
        else:
            self._coming += 1
            try:
                stored = await self.stored(asked.user_id)
            finally:
                self._coming -= 1
            history, skipped = self._history(model, asked.user_id, stored)
        excluded, not_excluded = model.look_up(asked.exclude_items)
        only, not_only = model.look_up(asked.items_to_recommend or [])
        how = How(
            k=asked.k,
            filter_viewed=asked.filter_viewed,
            seeds=asked.seeds,
            picks=asked.picks,
            excluded=tuple(np.unique(excluded).tolist()),
            only=None if asked.items_to_recommend is None else tuple(np.unique(only).tolist()),
        )
        if asked.picks and model.recommender.model.num_draws(asked.seeds) * asked.k > MOST_PICKS:
            raise ProblemError(422, f"the lists of all draws may have {MOST_PICKS:,} places together: lower seeds or k")
        lists = cast(Lists, await self._asked.ask(Question(model, history, how)))
        unknown = [skipped, not_excluded, not_only]
        first = [item for one in unknown for item in one.first][:10]
        return model, len(history), Skipped(count=sum(one.count for one in unknown), first=first), lists

    async def compute(self, work: Callable[[], Returned]) -> Returned:
        """Let the model's worker do something between two rounds; what it raises is raised. Raises Overloaded."""
        return cast(Returned, await self._asked.ask(work))

    async def stored(self, user: int | str) -> Stored:
        """What the store knows of a user. Raises StoreUnavailable, Overloaded."""
        return await self._read.ask(text_of(user))

    async def change(self, change: Event | Forget) -> bool:
        """Write an event, or forget a user; True where that was new. Raises KeyTaken, StoreUnavailable, Overloaded."""
        new = await self._write.ask(change)
        if new and isinstance(change, Event):
            self.metrics.events.inc()
        return new

    async def ping(self) -> None:
        """Raise StoreUnavailable where the store cannot be read, Overloaded where that takes too long."""
        await self.stored("")

    async def reload(self) -> tuple[Model, Model]:
        """Load what lies in the run's folder now, check it, and let it serve; the model before, and the new one.

        The old one serves meanwhile, and stays where the new one is refused (ProblemError).
        """
        if self._reloading.locked():
            raise ProblemError(409, "a model is being loaded already")
        async with self._reloading:
            before = self.model.identity
            self._asked.longest_answer = SLOWER * self._limits.longest_answer
            try:
                self.model = await asyncio.to_thread(self._load)
            except (RunError, DataError, SettingError, OSError) as error:
                self.metrics.reloads.labels("refused").inc()
                log.warning("a new model was refused: %s", error)
                raise ProblemError(409, f"the new model is refused, the old one stays: {error}") from error
            finally:
                asyncio.get_running_loop().call_later(SETTLED, self._as_before)
            self.metrics.reloads.labels("loaded").inc()
            return before, self.model.identity

    def _as_before(self) -> None:
        if not self._reloading.locked():
            self._asked.longest_answer = self._limits.longest_answer

    def full(self, path: str) -> str | None:
        """Why requests to a path would be refused now, before they are read; None where they are let in."""
        if path not in ("/v1/recommendations", "/v1/events"):
            return None
        if self.lateness.seconds > self._limits.longest_lateness:
            return FULL
        return self._write.refusal() if path == "/v1/events" else self._asked.refusal(self._coming)

    def figures(self) -> tuple[bytes, str]:
        """The metrics as text, and its media type."""
        for worker in (self._asked, self._read, self._write):
            self.metrics.queued.labels(worker.name).set(worker.queued)
        return self.metrics.shown()

    def close(self) -> None:
        """Answer what is under way, then let go of everything."""
        self.closing = True
        for worker in (self._asked, self._read, self._write):
            worker.close()
        if self._process is not None:
            self._process.close()
        self._store.close()

    def _load(self) -> ServedModel:
        loaded = ServedModel(self._run, self._process, with_index=self._approximate)
        loaded.check()
        self.metrics.model.clear()
        self.metrics.model.labels(**loaded.identity.model_dump()).set(1)
        return loaded

    def _history(self, model: ServedModel, user: int | str, stored: Stored) -> tuple[NDArray[np.int32], Skipped]:
        """The newest items of a user, in the log and then by events."""
        logged = NO_ITEMS if stored.log_forgotten else model.logged(user)
        taken, skipped = model.look_up(stored.items)
        return np.concatenate([logged, taken])[-MOST_ITEMS:], skipped

    def _worker(self, name: str, work: Callable[[Sequence[Any]], Sequence[Any]], limits: Limits) -> Worker[Any, Any]:
        def observe(count: int, seconds: float) -> None:
            self.metrics.together.labels(name).observe(count)
            self.metrics.work.labels(name).inc(seconds)

        return Worker(
            name,
            work,
            most=limits.most_together,
            longest_answer=limits.longest_answer,
            time_limit=limits.time_limit,
            observe=observe,
        )


def _work(tasks: Sequence[Question | Callable[[], Any]]) -> list[Any]:
    """Answer all questions together, and do what else was asked one by one."""
    answers = iter(answer_all([task for task in tasks if isinstance(task, Question)]))
    return [next(answers) if isinstance(task, Question) else _tried(task) for task in tasks]


def _tried(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:  # raised where it is awaited
        return error


async def _service_of(request: Request) -> Service:  # a plain function would be sent to a pool of threads
    return request.app.state.service


ServiceDep = Annotated[Service, Depends(_service_of)]
"""The service, as a parameter of a route."""
