"""Order, repeats, k-core and vocabularies, each against a plain loop."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings, strategies as st

from seqdiffrec.data import DataError, Interactions, prepare
from seqdiffrec.data.prepare import k_core

pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=60)


def log_of(rows: list[tuple[object, ...]]) -> Interactions:
    columns = ["user_id", "item_id", "timestamp"][: len(rows[0])]
    return Interactions.from_frame(pl.DataFrame(rows, schema=columns, orient="row"))


def sequences_of(corpus) -> dict[object, list[object]]:
    sequences = corpus.sequences()
    return {
        user: [corpus.item_ids[int(item) - 1] for item in sequences[row]] for row, user in enumerate(corpus.user_ids)
    }


@settings(max_examples=150)
@given(pairs, st.integers(1, 5), st.integers(1, 5))
def test_k_core_against_a_loop_that_drops_one_at_a_time(log, min_user, min_item):
    kept = list(enumerate(log))
    while True:
        user_counts = Counter(user for _, (user, _) in kept)
        item_counts = Counter(item for _, (_, item) in kept)
        light = [entry for entry in kept if user_counts[entry[1][0]] < min_user or item_counts[entry[1][1]] < min_item]
        if not light:
            break
        kept.remove(light[0])
    table = np.array(log, dtype=np.int64).reshape(-1, 2)
    assert k_core(table[:, 0], table[:, 1], min_user, min_item).tolist() == [place for place, _ in kept]


def test_k_core_has_to_look_again():
    # Dropping user 3 takes an action from item 2, which takes one from user 2, and so on: nothing is left of them.
    rows = [(1, 1), (1, 4), (4, 1), (4, 4), (1, 5), (4, 5), (2, 2), (2, 3), (3, 2), (5, 3)]
    corpus = prepare(log_of(rows), name="chain", min_user=2, min_item=2)
    assert sequences_of(corpus) == {1: [1, 4, 5], 4: [1, 4, 5]}


def test_equal_times_keep_the_order_of_the_log():
    rows = [("u", item, 5) for item in (9, 2, 7, 1, 8)] + [("u", 3, 4), ("v", 9, 1), ("v", 1, 1), ("v", 2, 0)]
    assert sequences_of(prepare(log_of(rows), name="ties")) == {"u": [3, 9, 2, 7, 1, 8], "v": [2, 9, 1]}


def test_a_log_without_times_keeps_its_order():
    rows = [("v", 3), ("u", 9), ("v", 1), ("u", 2), ("v", 3)]
    assert sequences_of(prepare(log_of(rows), name="plain")) == {"v": [3, 1, 3], "u": [9, 2]}


def test_ids_are_numbered_in_order_of_first_appearance():
    rows = [("v", 30, 9), ("u", 10, 1), ("v", 20, 2), ("v", 10, 3), ("u", 30, 4)]
    corpus = prepare(log_of(rows), name="first")
    assert corpus.user_ids.to_list() == ["v", "u"]
    assert corpus.item_ids.to_list() == [30, 10, 20]
    assert corpus.items.tolist() == [3, 2, 1, 2, 1]


def test_repeats_are_kept_or_the_first_one_is():
    rows = [("u", 1, 3), ("u", 2, 2), ("u", 1, 1), ("u", 3, 4), ("u", 2, 5), ("v", 1, 0), ("v", 1, 1)]
    assert sequences_of(prepare(log_of(rows), name="all")) == {"u": [1, 2, 1, 3, 2], "v": [1, 1]}
    dropped = prepare(log_of(rows), name="once", drop_repeats=True)
    assert sequences_of(dropped) == {"u": [1, 2, 3], "v": [1]}
    assert dropped.timestamps.tolist() == [1, 2, 4, 0]


def test_settings_are_recorded_and_checked():
    rows = [(user, item) for user in (1, 2) for item in (1, 2, 3)]
    assert prepare(log_of(rows), name="x", min_user=3, provenance={"source": "rows"}).provenance == {
        "source": "rows",
        "min_user": 3,
        "min_item": 1,
        "drop_repeats": False,
    }
    with pytest.raises(DataError, match=r"min_user \(0\) and min_item \(1\) must be at least 1"):
        prepare(log_of(rows), name="x", min_user=0)


def test_one_user_is_refused():
    with pytest.raises(DataError, match="the frame: one user only; a recommender needs at least two"):
        prepare(log_of([(1, 1), (1, 2), (1, 3), (1, 4)]), name="x")


def test_one_user_left_by_the_k_core_is_refused():
    with pytest.raises(DataError, match=r"one user only.*lower min_user"):
        prepare(log_of([(1, 1), (1, 2), (1, 3), (2, 1)]), name="x", min_user=2)


def test_every_user_shorter_than_three_is_refused():
    with pytest.raises(DataError, match=r"every user has fewer than 3 actions \(the longest has 2\)"):
        prepare(log_of([(1, 1), (1, 2), (2, 1), (3, 2)]), name="x")


def test_a_k_core_that_leaves_nothing_is_refused_with_the_figures():
    message = (
        r"nothing is left when every user needs 5 actions and every item 4 \(the log has 6 actions of 2 users on 3"
    )
    with pytest.raises(DataError, match=message):
        prepare(log_of([(user, item) for user in (1, 2) for item in (1, 2, 3)]), name="x", min_user=5, min_item=4)
