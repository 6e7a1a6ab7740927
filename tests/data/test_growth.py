"""A corpus and what happened since, against the corpus of the whole log."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings, strategies as st

from seqdiffrec.data import Corpus, DataError, Interactions
from seqdiffrec.data.growth import longer, with_items, with_more
from seqdiffrec.data.prepare import prepare

actions = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8), st.integers(0, 30)), min_size=1, max_size=40)


def checked(frame: pl.DataFrame, name: str) -> Interactions:
    return Interactions(frame, name, lambda row: f"{name}, row {row}")


def log(rows: list[tuple], *, timed: bool = True, name: str = "log") -> Interactions:
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return checked(frame if timed else frame.drop("timestamp"), name)


def base(rows: list[tuple], **how: object) -> Corpus:
    timed = how.pop("timed", True)
    return prepare(
        log([*rows, *((user, 1, -5 + place) for user in (0, 1) for place in range(3))], timed=timed), name="old", **how
    )


def histories(corpus: Corpus) -> dict[object, list[tuple]]:
    times = corpus.timestamps if corpus.timestamps is not None else np.zeros(corpus.num_actions)
    ids, found = corpus.item_ids.to_list(), {}
    for user, start, end in zip(corpus.user_ids, corpus.offsets[:-1], corpus.offsets[1:], strict=True):
        found[user] = [
            (ids[item - 1], time) for item, time in zip(corpus.items[start:end], times[start:end], strict=True)
        ]
    return found


@settings(max_examples=60, deadline=None)
@given(actions, actions)
def test_it_is_the_corpus_of_both_logs(old, new):
    """Each user's actions in order of time; of those at one time, and of users, the old come first."""
    corpus = base(old)
    known = {user: set(rows) for user, rows in histories(corpus).items()}
    fresh = [row for row in new if (row[1], row[2]) not in known.get(row[0], ())]
    if not fresh:
        with pytest.raises(DataError, match="none of its"):
            longer(corpus, log(new))
        return
    found = longer(corpus, log(new))
    expected = {user: list(rows) for user, rows in histories(corpus).items()}
    for user, item, time in fresh:
        expected.setdefault(user, []).append((item, time))
    expected = {user: sorted(rows, key=lambda row: row[1]) for user, rows in expected.items()}
    assert histories(found.corpus) == expected
    assert found.corpus.user_ids.head(corpus.num_users).equals(corpus.user_ids)
    assert found.corpus.item_ids.head(corpus.num_items).equals(corpus.item_ids)
    assert found.is_new.sum() == len(fresh)
    assert found.corpus.items[~found.is_new].tolist() == corpus.items.tolist()


def test_without_times_the_new_come_last_and_none_is_a_repeat():
    corpus = base([(0, 2, 9)], timed=False)
    found = longer(corpus, log([(0, 2, 9), (7, 3, 5), (0, 4, 1)]))
    assert [item for item, _ in histories(found.corpus)[0]] == [2, 1, 1, 1, 4, 2], "new ones by their own times"
    assert found.corpus.timestamps is None and found.is_new.sum() == 3


def test_a_log_without_repeats_stays_so(caplog):
    corpus = base([(0, 2, 9), (0, 3, 10)], drop_repeats=True)
    found = longer(corpus, log([(0, 2, 1), (0, 5, 20), (0, 5, 12), (1, 5, 3)]))
    assert histories(found.corpus)[0] == [(1, -5), (2, 9), (3, 10), (5, 12)]
    assert found.corpus.items[~found.is_new].tolist() == corpus.items.tolist()
    assert "2 of 4 new actions repeat what the user had and are skipped" in caplog.text


def test_actions_that_are_there_already_are_counted(caplog):
    found = longer(base([(0, 2, 9)]), log([(0, 2, 9), (0, 2, 10)]))
    assert found.is_new.sum() == 1
    assert "1 of 2 new actions are in the log already and are skipped" in caplog.text


def test_ids_of_other_types():
    texts = prepare(
        checked(pl.DataFrame({"user_id": ["a", "a", "a", "b"], "item_id": ["1", "x", "1", "x"]}), "t"), name="t"
    )
    found = longer(texts, checked(pl.DataFrame({"user_id": ["a", "c"], "item_id": [1, 2]}), "new"))
    assert found.corpus.item_ids.to_list() == ["1", "x", "2"] and histories(found.corpus)["a"][-1][0] == "1"
    numbers = base([(0, 2, 9)], timed=False)
    with pytest.raises(DataError, match=r"new items \['x'\] are not of type Int64"):
        longer(numbers, checked(pl.DataFrame({"user_id": [0], "item_id": ["x"]}), "new"))


def test_times_that_cannot_be_of_the_log():
    corpus = base([(0, 2, 9)])
    with pytest.raises(DataError, match="new has no times, 'old' has"):
        longer(corpus, log([(0, 3, 0)], timed=False, name="new"))
    with pytest.raises(DataError, match=r"its times run from -90 to -90.*in another unit"):
        longer(corpus, log([(0, 3, -90)]))


def test_titles_and_categories_of_the_new():
    items = pl.DataFrame({"item_id": [1, 2], "title": ["One", "Two"]})
    corpus = base([(0, 2, 9)], items=items)
    table = pl.DataFrame({"item_id": [4, 3], "title": ["Four", None], "categories": [["a"], None]})
    found = longer(corpus, log([(0, 3, 10), (0, 4, 11), (0, 5, 12)]), table)
    assert found.corpus.vocabulary().rows() == [
        (2, "Two", None),
        (1, "One", None),
        (3, None, None),
        (4, "Four", ["a"]),
        (5, None, None),
    ]
    for untold in (None, items):  # a table of items that were known
        found = longer(corpus, log([(0, 3, 10)]), untold)
        assert found.corpus.titles.to_list() == ["Two", "One", None]


def test_items_that_nobody_has_had():
    corpus = base([(0, 2, 9)])
    grown = with_items(corpus, ["8"])
    assert grown.item_ids.to_list() == [2, 1, 8] and grown.items is corpus.items
    with pytest.raises(DataError, match="item 2 is in the catalogue already"):
        with_items(corpus, [9, 2])
    with pytest.raises(DataError, match="item 9 is there twice"):
        with_items(corpus, [9, 9])


def test_a_vocabulary_keeps_its_type():
    assert with_more(pl.Series([1, 2], dtype=pl.Int32), ["7"], "items").to_list() == [1, 2, 7]
    assert with_more(pl.Series(["a"], dtype=pl.Categorical), ["b"], "items").to_list() == ["a", "b"]
    assert with_more(pl.Series([1]), [], "items").to_list() == [1]
    with pytest.raises(DataError, match="not of type String"):
        with_more(pl.Series(["a"]), [7], "items")
