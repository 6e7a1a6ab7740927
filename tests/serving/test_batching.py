"""The worker: at once when alone, together when not, a bounded wait, and nobody forgotten."""

import asyncio
import threading
import time

import pytest
from hypothesis import given, strategies as st

from seqdiffrec.serving.batching import ALWAYS, Overloaded, Pace, Worker


class Bench:
    """Doubles numbers, and holds a round up until it is let go."""

    def __init__(self, **how: float) -> None:
        self.rounds: list[list[int]] = []
        self.go, self.begun = threading.Event(), threading.Semaphore(0)
        self.go.set()
        self.worker = Worker("bench", self._work, **{"most": 4, "longest_answer": 0.1, "time_limit": 5.0, **how})

    def _work(self, numbers):
        self.begun.release()
        self.go.wait(5)
        self.rounds.append(list(numbers))
        return [ValueError("odd") if number % 2 else 2 * number for number in numbers]


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.go.set()
    made.worker.close()


def test_alone_at_once_and_together_when_busy(bench) -> None:
    bench.go.clear()
    answers = [bench.worker.submit(0)]
    bench.begun.acquire()  # the first is under way by itself
    answers += [bench.worker.submit(number) for number in (2, 4, 6, 8, 10, 12)]
    assert bench.worker.queued == 6
    bench.go.set()
    assert [answer.result(5) for answer in answers] == [0, 4, 8, 12, 16, 20, 24]
    assert bench.rounds == [[0], [2, 4, 6, 8], [10, 12]]


def test_one_failure_is_that_of_one(bench) -> None:
    bench.go.clear()
    answers = [bench.worker.submit(number) for number in (2, 3, 4)]
    bench.go.set()
    assert (answers[0].result(5), answers[2].result(5)) == (4, 8)
    with pytest.raises(ValueError, match="odd"):
        answers[1].result(5)


def test_a_round_that_fails_is_told_to_all_and_the_worker_goes_on() -> None:
    def work(tasks):
        if "bad" in tasks:
            raise RuntimeError("broken")
        return tasks

    worker = Worker("bench", work, most=4, longest_answer=0.1, time_limit=5)
    with pytest.raises(RuntimeError, match="broken"):
        worker.submit("bad").result(5)
    assert worker.submit("good").result(5) == "good"
    worker.close()


def test_more_than_can_be_done_in_time_is_refused(bench) -> None:
    bench.worker.pace.add(1, 0.04)  # of 0.1: one may be in a round, but for the few that always may
    bench.go.clear()
    bench.worker.submit(0)
    bench.begun.acquire()
    for number in range(0, 2 * ALWAYS, 2):
        bench.worker.submit(number)
    with pytest.raises(Overloaded, match="more requests"):
        bench.worker.submit(6)
    assert bench.worker.refusal()


@given(st.floats(0.0001, 0.2), st.integers(1, 40), st.integers(0, 40))
def test_what_is_let_in_is_answered_in_time(each, waiting, coming) -> None:
    """Whenever it comes: the round under way was let in by the same rule, and then its own is the next."""
    bench = Bench(most=100)
    bench.worker.pace.add(1, each)
    bench.go.clear()
    bench.worker.submit(0)
    bench.begun.acquire()
    let_in = 0
    while let_in < waiting and bench.worker.refusal(coming) is None:
        bench.worker.submit(2)
        let_in += 1
    assert let_in == 0 or let_in + coming <= ALWAYS or 2 * each * (let_in + coming) <= 0.1 + 1e-9
    if let_in < waiting:
        assert 2 * each * (let_in + coming + 1) > 0.1 - 1e-9  # and no fewer than could be
    bench.go.set()
    bench.worker.close()


def test_the_pace_is_measured_without_failures(bench) -> None:
    bench.worker.submit(2).result(5)
    before = bench.worker.pace.seconds(1)
    assert before > 0
    bench.go.clear()
    failing = bench.worker.submit(3)
    time.sleep(0.2)
    bench.go.set()
    with pytest.raises(ValueError, match="odd"):
        failing.result(5)
    assert bench.worker.pace.seconds(1) == before


def test_the_pace_tells_a_round_from_its_tasks() -> None:
    pace = Pace()
    assert pace.seconds(3) == 0
    pace.add(2, 0.02)
    assert pace.seconds(4) == pytest.approx(0.04)  # rounds of one size do not tell the two apart
    for _ in range(40):
        for tasks in (1, 4, 9):
            pace.add(tasks, 0.010 + 0.003 * tasks)
    assert [pace.seconds(tasks) for tasks in (0, 1, 20)] == pytest.approx([0, 0.013, 0.070], rel=1e-3)


@given(st.lists(st.tuples(st.integers(1, 32), st.floats(0, 10)), min_size=1), st.integers(1, 64))
def test_more_tasks_never_take_less_time(rounds, tasks) -> None:
    pace = Pace()
    for one in rounds:
        pace.add(*one)
    assert pace.seconds(tasks) + 1e-9 >= 0 and pace.seconds(tasks) <= pace.seconds(tasks + 1) + 1e-9


def test_a_caller_who_has_gone_costs_nothing() -> None:
    bench = Bench(time_limit=0.05)

    async def ask_two():
        first = asyncio.ensure_future(bench.worker.ask(0))
        await asyncio.to_thread(bench.begun.acquire)
        second = asyncio.ensure_future(bench.worker.ask(2))
        return await asyncio.gather(first, second, return_exceptions=True)

    bench.go.clear()
    found = asyncio.run(ask_two())
    assert [type(one) for one in found] == [Overloaded, Overloaded]
    bench.go.set()
    bench.worker.close()
    assert bench.rounds == [[0]]  # the one that waited was not begun


def test_closing_finishes_what_waits(bench) -> None:
    bench.go.clear()
    answers = [bench.worker.submit(number) for number in (0, 2, 4)]
    closing = threading.Thread(target=bench.worker.close)
    closing.start()
    while bench.worker.refusal() is None:
        time.sleep(0.001)
    with pytest.raises(Overloaded, match="shutting down"):
        bench.worker.submit(6)
    bench.go.set()
    closing.join(5)
    assert [answer.result(0) for answer in answers] == [0, 4, 8]
