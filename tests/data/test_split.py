"""Both splits against a loop over users."""

from datetime import datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings, strategies as st

from seqdiffrec.data import Cases, Corpus, DataError, Interactions, leave_one_out, prepare, split_at_time


def corpus_from(lists: list[list[tuple[int, int]]], dtype: pl.DataType | type[pl.DataType] = pl.Int64) -> Corpus:
    """One user a list, of (time, item) in order."""
    times = np.array([time for one in lists for time, _ in one], dtype=np.int64)
    items = np.array([item for one in lists for _, item in one], dtype=np.int32)
    offsets = np.cumsum([0] + [len(one) for one in lists])
    users, catalogue = pl.Series(range(len(lists))), pl.Series(range(10))
    numbers = times if dtype == pl.Int64 else times.astype(np.float64)
    return Corpus(items, offsets, users, catalogue, numbers, None, "lists")


def as_dict(cases: Cases) -> dict[int, tuple[list[int], int]]:
    return {int(user): (cases.histories[row].tolist(), int(cases.targets[row])) for row, user in enumerate(cases.users)}


users = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 10)), min_size=1, max_size=7).map(
        lambda pairs: sorted(pairs, key=lambda pair: pair[0])
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60)
@given(users)
def test_leave_one_out_against_a_loop(lists):
    corpus = corpus_from(lists)
    train, validation, test = [], {}, {}
    for user, one in enumerate(lists):
        items = [item for _, item in one]
        train.append(items[:-2] if len(items) >= 3 else items)
        if len(items) >= 3:
            validation[user] = (items[:-2], items[-2])
            test[user] = (items[:-1], items[-1])
    if not test:
        with pytest.raises(DataError, match="no user has three actions"):
            leave_one_out(corpus)
        return
    split = leave_one_out(corpus)
    assert [split.train[row].tolist() for row in range(len(split.train))] == train
    assert as_dict(split.validation) == validation
    assert as_dict(split.test) == test
    assert len(split.test) == len(test)
    assert split.test.histories.lengths.tolist() == [len(history) for history, _ in test.values()]


@settings(max_examples=60)
@given(users, st.integers(0, 10), st.integers(1, 5), st.sampled_from([pl.Int64, pl.Float64]))
def test_split_at_time_against_a_loop(lists, first, gap, dtype):
    second = first + gap
    train, validation, test = [], {}, {}
    for user, one in enumerate(lists):
        before = [item for time, item in one if time < first]
        if before:
            train.append(before)
        later = [place for place, (time, _) in enumerate(one) if first <= time < second]
        if later and later[0] > 0:
            validation[user] = ([item for _, item in one[: later[0]]], one[later[0]][1])
        last = [place for place, (time, _) in enumerate(one) if time >= second]
        if last and last[0] > 0:
            test[user] = ([item for _, item in one[: last[0]]], one[last[0]][1])
    corpus = corpus_from(lists, dtype)
    if not (train and validation and test):
        with pytest.raises(DataError, match=r"no (training actions|validation cases|test cases).*run from"):
            split_at_time(corpus, first, second)
        return
    split = split_at_time(corpus, first, second)
    assert [split.train[row].tolist() for row in range(len(split.train))] == train
    assert as_dict(split.validation) == validation
    assert as_dict(split.test) == test


def test_split_at_a_datetime():
    start = datetime(2024, 1, 1)
    frame = pl.DataFrame(
        {
            "user_id": [1] * 4 + [2],
            "item_id": [10, 20, 30, 40, 10],
            "timestamp": [start + timedelta(days=day) for day in (0, 1, 2, 3, 0)],
        }
    )
    corpus = prepare(Interactions.from_frame(frame), name="dated")
    naive = split_at_time(corpus, start + timedelta(days=2), start + timedelta(days=3))
    assert as_dict(naive.validation) == {0: ([1, 2], 3)}
    assert as_dict(naive.test) == {0: ([1, 2, 3], 4)}
    # The same point in time, said in another zone.
    zone = timezone(timedelta(hours=5))
    zoned = split_at_time(corpus, datetime(2024, 1, 3, 5, tzinfo=zone), datetime(2024, 1, 4, 5, tzinfo=zone))
    assert as_dict(zoned.test) == as_dict(naive.test)


def test_split_at_time_refuses_times_in_the_wrong_order_and_logs_without_times():
    corpus = corpus_from([[(1, 1), (2, 2), (3, 3)]])
    with pytest.raises(DataError, match=r"validation_time \(3\) must lie before test_time \(2\)"):
        split_at_time(corpus, 3, 2)
    without = Corpus(corpus.items, corpus.offsets, corpus.user_ids, corpus.item_ids, None, None, "plain")
    with pytest.raises(DataError, match="plain has no timestamps"):
        split_at_time(without, 1, 2)
