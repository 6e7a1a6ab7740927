"""Windows and ragged batches against loops over the sequences."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from seqdiffrec.data.batches import (
    REMEMBERED,
    RaggedBatch,
    Windows,
    cut_windows,
    epoch_batches,
    history_batch,
    window_batch,
)
from seqdiffrec.data.corpus import Sequences

JUNK = 9_999  # stands between the sequences and must never come out


def with_lengths(lengths: list[int]) -> Sequences:
    """Sequences whose items are all different: item = its place in the flat array + 1."""
    lengths_ = np.array(lengths, dtype=np.int64)
    starts = np.cumsum(lengths_ + 1) - lengths_
    items = np.arange(1, lengths_.sum() + len(lengths) + 2, dtype=np.int32)
    items[starts - 1] = JUNK
    items[-1] = JUNK
    return Sequences(items, starts, starts + lengths_)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def examples(batch: RaggedBatch) -> list[tuple[tuple[int, ...], int]]:
    """(history, target) of each target, by a loop."""
    found = []
    for row, places, target in zip(batch.rows.tolist(), batch.places.tolist(), batch.targets.tolist(), strict=True):
        begin = int(batch.offsets[row])
        assert begin + places <= int(batch.offsets[row + 1])
        found.append((tuple(batch.tokens[begin : begin + places].tolist()), target))
    return found


def wanted_targets(sequences: Sequences, prefixes: bool) -> list[int]:
    targets = []
    for begin, end in zip(sequences.starts.tolist(), sequences.ends.tolist(), strict=True):
        if end - begin >= 2:
            targets += range(begin + 1, end) if prefixes else [end - 1]
    return targets


lengths = st.lists(st.integers(0, 14), min_size=1, max_size=8)
max_lengths = st.integers(2, 7)


@given(lengths, max_lengths, st.booleans(), st.lists(st.integers(0, 16), min_size=8, max_size=8), st.integers(0, 99))
def test_only_targets_from_a_first_one_on(lengths, max_length, shared, from_place, seed):
    """Each once; the last target of a window at full history, every target with what stands before it."""
    sequences = with_lengths(lengths)
    first = np.minimum(sequences.starts + from_place[: len(lengths)], sequences.ends)
    windows = cut_windows(sequences, max_length, shared=shared, prefixes=True, rng=generator(seed), first_targets=first)
    found = examples(window_batch(sequences, windows)) if len(windows) else []
    expected = [
        place
        for start, one, end in zip(sequences.starts.tolist(), first.tolist(), sequences.ends.tolist(), strict=True)
        for place in range(max(start + 1, one), end)
    ]
    assert sorted(target for _, target in found) == [place + 1 for place in expected]
    for history, target in found:
        assert history == tuple(range(target - len(history), target)) and 1 <= len(history) < max_length
    full = np.minimum(windows.last - windows.begin, max_length - 1)
    assert (windows.last - windows.start == full).all()


@given(lengths, max_lengths, st.booleans(), st.booleans(), st.integers(0, 99))
def test_every_target_is_cut_exactly_once_with_as_much_history_as_fits(lengths, max_length, shared, prefixes, seed):
    sequences = with_lengths(lengths)
    windows = cut_windows(sequences, max_length, shared=shared, prefixes=prefixes, rng=generator(seed))
    begin_of = {
        place: begin
        for begin, end in zip(sequences.starts.tolist(), sequences.ends.tolist(), strict=True)
        for place in range(begin, end)
    }
    targets: list[int] = []
    for start, first, last in zip(windows.start.tolist(), windows.first.tolist(), windows.last.tolist(), strict=True):
        assert begin_of[first] == begin_of[last]
        assert start == max(begin_of[last], last - (max_length - 1))
        assert start < first <= last
        assert last - first + 1 <= (max_length - 1 if shared else 1)
        targets += range(first, last + 1)
    assert sorted(targets) == sorted(wanted_targets(sequences, prefixes))
    assert windows.num_targets.sum() == len(targets)


@given(lengths, max_lengths, st.booleans(), st.integers(0, 99))
def test_a_batch_of_all_windows_against_a_loop(lengths, max_length, shared, seed):
    sequences = with_lengths(lengths)
    windows = cut_windows(sequences, max_length, shared=shared, prefixes=True, rng=generator(seed))
    batch = window_batch(sequences, windows)
    expected = [
        (tuple(sequences.items[start:target].tolist()), int(sequences.items[target]))
        for start, first, last in zip(windows.start, windows.first, windows.last, strict=True)
        for target in range(first, last + 1)
    ]
    assert examples(batch) == expected
    assert JUNK not in batch.tokens and JUNK not in batch.targets
    assert batch.lengths.tolist() == (windows.last - windows.start).tolist()
    assert batch.origins.tolist() == [
        place for first, last in zip(windows.first, windows.last, strict=True) for place in range(first, last + 1)
    ]
    assert all(length <= max_length - 1 for length in batch.lengths.tolist())
    rows, places = batch.locate_tokens()
    located = [(row, place) for row, length in enumerate(batch.lengths.tolist()) for place in range(length)]
    assert list(zip(rows.tolist(), places.tolist(), strict=True)) == located


@given(lengths, max_lengths, st.integers(0, 99))
def test_without_sharing_each_target_has_the_history_of_inference(lengths, max_length, seed):
    """The training example of a target is the question that inference would ask about it."""
    sequences = with_lengths(lengths)
    windows = cut_windows(sequences, max_length, shared=False, prefixes=True, rng=generator(seed))
    trained = examples(window_batch(sequences, windows))
    begins = np.repeat(sequences.starts, np.maximum(sequences.lengths - 1, 0))
    places = np.array(wanted_targets(sequences, prefixes=True), dtype=np.int64)
    asked = history_batch(Sequences(sequences.items, begins, places), max_length)
    assert [history for history, _ in trained] == [history for history, _ in examples(asked)]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), max_lengths, st.integers(0, 99))
def test_every_long_sequence_trains_a_target_at_full_history_each_epoch(lengths, max_length, seed):
    """As often as inference, which asks for one item at full history from each such user."""
    sequences = with_lengths(lengths)
    windows = cut_windows(sequences, max_length, shared=True, prefixes=True, rng=generator(seed))
    batch = window_batch(sequences, windows)
    full = [target for history, target in examples(batch) if len(history) == max_length - 1]
    long = [row for row in range(len(sequences)) if sequences.lengths[row] >= max_length]
    for row in long:
        assert set(full) & set(sequences[row].tolist())
    assert len(full) >= len(long)


def test_over_the_epochs_a_target_takes_every_place():
    max_length, epochs = 6, 300
    reach = max_length - 1
    sequences = with_lengths([40])
    begin, end = int(sequences.starts[0]), int(sequences.ends[0])
    taken = {target: Counter() for target in range(begin + 1, end)}
    for epoch in range(epochs):
        windows = cut_windows(sequences, max_length, shared=True, prefixes=True, rng=generator(epoch))
        for start, first, last in zip(windows.start, windows.first, windows.last, strict=True):
            for target in range(first, last + 1):
                taken[target][int(target - start)] += 1
    for target in range(begin + reach, end - reach):
        assert set(taken[target]) == set(range(1, reach + 1))
        # Each place is as likely as any other: 60 of 300 epochs, five standard deviations of 6.9 either way.
        assert all(25 <= count <= 95 for count in taken[target].values())
    assert taken[end - 1] == {reach: epochs}, "the last target is always seen with its full history"


def test_a_sequence_that_fits_is_one_window():
    sequences = with_lengths([6, 2])
    windows = cut_windows(sequences, 6, shared=True, prefixes=True, rng=generator())
    assert windows.num_targets.tolist() == [5, 1]


def test_the_cut_depends_on_the_generator_alone():
    sequences = with_lengths([30, 25, 41])
    cuts = [
        cut_windows(sequences, 6, shared=True, prefixes=True, rng=generator(seed)).last.tolist() for seed in (1, 1, 2)
    ]
    assert cuts[0] == cuts[1] != cuts[2]


@given(lengths, max_lengths, st.booleans(), st.integers(1, 9), st.integers(0, 99))
def test_an_epoch_holds_every_window_once_in_batches_of_about_the_size(lengths, max_length, shared, batch_size, seed):
    sequences = with_lengths(lengths)
    windows = cut_windows(sequences, max_length, shared=shared, prefixes=True, rng=generator(seed))
    batches = list(epoch_batches(sequences, windows, batch_size, generator(seed)))
    everything = Counter(examples(window_batch(sequences, windows)))
    assert Counter(example for batch in batches for example in examples(batch)) == everything
    sizes = [len(batch.targets) for batch in batches]
    excess = max(windows.num_targets, default=1) - 1
    assert all(size <= batch_size + excess for size in sizes)
    if not shared:
        assert all(size == batch_size for size in sizes[:-1])
        assert len(batches) == -(-windows.num_targets.sum() // batch_size)
    assert all(size > 0 for size in sizes)


@given(lengths, st.booleans(), st.integers(1, 9), st.integers(0, 9))
def test_skipping_gives_exactly_the_tail(lengths, shared, batch_size, skip):
    sequences = with_lengths(lengths)
    windows = cut_windows(sequences, 5, shared=shared, prefixes=True, rng=generator())
    batches = list(epoch_batches(sequences, windows, batch_size, generator(3)))
    tail = list(epoch_batches(sequences, windows, batch_size, generator(3), skip=skip))
    assert len(tail) == max(0, len(batches) - skip)
    for left, right in zip(batches[skip:], tail, strict=True):
        assert all(torch.equal(value, vars(right)[name]) for name, value in vars(left).items())


def test_epochs_come_in_another_order():
    sequences = with_lengths([12, 12, 12])
    windows = cut_windows(sequences, 5, shared=False, prefixes=True, rng=generator())
    orders = [
        [batch.targets.tolist() for batch in epoch_batches(sequences, windows, 4, generator(seed))]
        for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != [batch.targets.tolist() for batch in epoch_batches(sequences, windows, 4, generator(2))]


@pytest.mark.parametrize("shared", [False, True])
def test_sequences_too_short_to_train_give_no_batch(shared):
    sequences = with_lengths([1, 0, 1])
    windows = cut_windows(sequences, 5, shared=shared, prefixes=True, rng=generator())
    assert len(windows) == 0
    assert list(epoch_batches(sequences, windows, 4, generator())) == []


@given(lengths, max_lengths)
def test_history_batch_against_a_loop(lengths, max_length):
    histories = with_lengths(lengths)
    batch = history_batch(histories, max_length)
    assert examples(batch) == [
        (tuple(histories[row].tolist()[-(max_length - 1) :]), 0) for row in range(len(histories))
    ]
    assert batch.rows.tolist() == list(range(len(histories)))
    assert batch.lengths.tolist() == [min(length, max_length - 1) for length in lengths]


def test_tensors_are_int64_and_move_together():
    sequences = with_lengths([4])
    windows = Windows(*(np.array([place]) for place in (1, 1, 2, 4)))
    batch = window_batch(sequences, windows)
    assert all(value.dtype == torch.int64 for value in vars(batch).values())
    assert all(value.device.type == "meta" for value in vars(batch.to("meta")).values())


@given(lengths, max_lengths, st.booleans(), st.integers(0, 99))
def test_seen_items_by_brute_force(lengths, max_length, shared, seed):
    """All that a target's user took before it, with how far back it is, at most ``max_length - 1``."""
    sequences = with_lengths(lengths)
    windows = cut_windows(sequences, max_length, shared=shared, prefixes=True, rng=generator(seed))
    batch = window_batch(sequences, windows)
    found = sorted(zip(*(part.tolist() for part in batch.seen(max_length)), strict=True))
    expected = []
    for number, target in enumerate(batch.targets.tolist()):
        place = target - 1  # of the target in the flat array
        begin = max(start for start in sequences.starts.tolist() if start <= place)
        expected += [(number, at + 1, min(place - 1 - at, max_length - 1)) for at in range(begin, place)]
    assert found == sorted(expected)


def test_unknown_items_are_not_seen():
    histories = Sequences(np.array([0, 3, 4, 0, 5]), np.array([0, 4]), np.array([4, 5]))
    found = sorted(zip(*(part.tolist() for part in history_batch(histories, 4).seen(4)), strict=True))
    assert found == [(0, 3, 2), (0, 4, 1), (1, 5, 0)]


@given(lengths, max_lengths, st.integers(0, 99))
def test_extend_by_a_loop(lengths, max_length, seed):
    sequences = with_lengths(lengths)
    windows = cut_windows(sequences, max_length, shared=True, prefixes=True, rng=generator(seed))
    batch = window_batch(sequences, windows)
    extended = batch.extend(torch.arange(1000, 1000 + len(windows)))
    pieces = zip(batch.offsets.tolist(), batch.offsets.tolist()[1:], strict=False)
    expected = [[*batch.tokens[begin:end].tolist(), 1000 + row] for row, (begin, end) in enumerate(pieces)]
    assert extended.tokens.tolist() == [item for one in expected for item in one]
    assert extended.lengths.tolist() == [len(one) for one in expected]
    assert examples(extended) == examples(batch)


def test_an_older_item_counts_once_where_it_stands_last():
    histories = Sequences(np.array([7, 8, 7, 9, 8, 5]), np.array([0, 5]), np.array([5, 6]))
    batch = history_batch(histories, 3)
    assert batch.tokens.tolist() == [9, 8, 5]
    assert (batch.older.tolist(), batch.older_back.tolist(), batch.older_offsets.tolist()) == (
        [8, 7],
        [2, 1],
        [0, 2, 2],
    )
    found = sorted(zip(*(part.tolist() for part in batch.seen(3)), strict=True))
    assert found == [(0, 7, 2), (0, 8, 0), (0, 8, 2), (0, 9, 1), (1, 5, 0)]


def test_no_more_than_so_many_older_items_are_remembered():
    length = REMEMBERED + 10
    items = np.arange(1, length + 1)
    batch = history_batch(Sequences(items, np.array([0]), np.array([length])), 4)
    assert batch.tokens.tolist() == [length - 2, length - 1, length]
    assert batch.older.tolist() == list(range(8, length - 2))


@given(lengths, max_lengths, st.booleans())
def test_histories_appended_are_a_batch_with_them(lengths, max_length, shared):
    sequences, more = with_lengths([*lengths, 3]), [[8, 9], [7]]
    windows = cut_windows(sequences, max_length, shared=shared, prefixes=True, rng=generator())
    batch = window_batch(sequences, windows)
    joined = batch.append(torch.tensor([8, 9, 7]), torch.tensor([2, 1]))
    assert examples(joined) == [*examples(batch), *((tuple(one), 0) for one in more)]
    assert joined.lengths.tolist() == [*batch.lengths.tolist(), 2, 1]
    assert joined.origins.tolist() == [*batch.origins.tolist(), -1, -1]
    # What was seen: as before, and of what was appended its own items.
    count = len(batch.targets)
    seen = [
        *zip(*(part.tolist() for part in batch.seen(5)), strict=True),
        (count, 8, 1),
        (count, 9, 0),
        (count + 1, 7, 0),
    ]
    assert sorted(zip(*(part.tolist() for part in joined.seen(5)), strict=True)) == sorted(seen)
