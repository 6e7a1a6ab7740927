"""One worker thread for one kind of work: it takes all that has come in meanwhile, and does it together.

A lone request is begun at once. While the worker is busy requests gather, and the next round takes them all, so that
batches grow with the load by themselves and nothing ever waits for company.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

# How much a new round weighs in the pace.
WEIGHT = 0.1
# So many may wait however slow it went lately, so that a single slow round refuses nobody.
ALWAYS = 8
FULL = "there are more requests than the service can answer in time"


class Overloaded(Exception):
    """There is more to do than can be done in time. retry_after: seconds, whole ones, until it is worth another try."""

    def __init__(self, why: str, retry_after: int = 1):
        super().__init__(why)
        self.retry_after = retry_after


class Pace:
    """How long rounds take: a time for each round, and one for each of its tasks, by the rounds lately."""

    def __init__(self) -> None:
        self._tasks = self._seconds = self._tasks_squared = self._products = 0.0  # means

    def add(self, tasks: int, seconds: float) -> None:
        """Take a round in."""
        weight = WEIGHT if self._tasks else 1.0
        self._tasks += weight * (tasks - self._tasks)
        self._seconds += weight * (seconds - self._seconds)
        self._tasks_squared += weight * (tasks**2 - self._tasks_squared)
        self._products += weight * (tasks * seconds - self._products)

    def seconds(self, tasks: int) -> float:
        """Of a round of so many tasks; 0 for none, and as long as nothing is known."""
        if not tasks or not self._tasks:
            return 0.0
        most = self._seconds / self._tasks
        variance = self._tasks_squared - self._tasks**2
        slope = (self._products - self._tasks * self._seconds) / variance if variance > 0.01 else most
        each = min(max(slope, 0.0), most)  # neither a round nor a task takes less than no time
        return self._seconds + each * (tasks - self._tasks)


@dataclass
class _Waiting(Generic[Task, Result]):
    task: Task
    answer: Future[Result]


class Worker(Generic[Task, Result]):
    """A thread that does tasks in rounds.

    work: does a round of tasks in the thread, and returns a result or an exception for each.
    most: tasks of one round.
    longest_answer: seconds that a task may be expected to take, from now to its answer; others are refused at once.
    time_limit: seconds after which the caller is told that it took too long.
    observe: told the number of tasks and the seconds of each round.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Task]], Sequence[Result | Exception]],
        *,
        most: int,
        longest_answer: float,
        time_limit: float,
        observe: Callable[[int, float], None] = lambda count, seconds: None,
    ):
        self.name, self._work, self._observe = name, work, observe
        self._most, self.longest_answer, self._time_limit = most, longest_answer, time_limit
        self._waiting: deque[_Waiting[Task, Result]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.pace = Pace()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """Tasks that have not been begun."""
        return len(self._waiting)

    def refusal(self, coming: int = 0) -> str | None:
        """Why no task is taken now, or None. How long it would take is known from how long those before took.

        coming: tasks that have been let in and are not here yet.
        """
        if self._closed:
            return "the service is shutting down"
        waiting = len(self._waiting) + coming
        # Half of the time is for the round under way, and half for its own, which later ones may join until it is full.
        if waiting >= ALWAYS and self._rounds(waiting + 1) > self.longest_answer / 2:
            return FULL
        return None

    def submit(self, task: Task) -> Future[Result]:
        """Queue a task. Raises Overloaded where it would have to wait too long."""
        with self._changed:
            why = self.refusal()
            if why is not None:
                raise Overloaded(why)
            waiting = _Waiting[Task, Result](task, Future())
            self._waiting.append(waiting)
            self._changed.notify()
            return waiting.answer

    def ask(self, task: Task) -> Awaitable[Result]:
        """Do a task, from the event loop. Raises Overloaded where it would wait, or took, too long."""
        return self._await(self.submit(task))

    async def _await(self, answer: Future[Result]) -> Result:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(answer), self._time_limit)
        except TimeoutError as error:
            raise Overloaded(f"no answer within {self._time_limit:g} seconds") from error

    def close(self) -> None:
        """Finish what is queued, then stop. Nothing new is taken from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _rounds(self, tasks: int) -> float:
        """Seconds for so many tasks, in full rounds and a last one."""
        full, rest = divmod(tasks, self._most)
        return full * self.pace.seconds(self._most) + self.pace.seconds(rest)

    def _run(self) -> None:
        while (batch := self._next_round()) is not None:
            started = time.perf_counter()
            try:
                results = self._work([waiting.task for waiting in batch])
                assert len(results) == len(batch)
            except Exception as error:  # whatever it is, each caller is told
                results = [error] * len(batch)
            seconds = time.perf_counter() - started
            for waiting, result in zip(batch, results, strict=True):
                if isinstance(result, Exception):
                    waiting.answer.set_exception(result)
                else:
                    waiting.answer.set_result(result)
            if not all(isinstance(result, Exception) for result in results):  # a failure says nothing of the pace
                self.pace.add(len(batch), seconds)
            self._observe(len(batch), seconds)

    def _next_round(self) -> list[_Waiting[Task, Result]] | None:
        """What has gathered, without those whose callers have gone; None when closed and all is done."""
        with self._changed:
            while True:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                batch: list[_Waiting[Task, Result]] = []
                while self._waiting and len(batch) < self._most:
                    waiting = self._waiting.popleft()
                    if waiting.answer.set_running_or_notify_cancel():
                        batch.append(waiting)
                if batch:
                    return batch
                if self._closed and not self._waiting:
                    return None
