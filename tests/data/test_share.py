"""A part of the users: what is kept of them, by their own ids."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, strategies as st

from seqdiffrec.config import RunConfig
from seqdiffrec.data import DataError, Interactions
from seqdiffrec.data.items import describe
from seqdiffrec.data.prepare import prepare
from seqdiffrec.data.share import share_of_users
from seqdiffrec.models.settings import SettingError

rows = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 20), st.integers(0, 99)), min_size=1, max_size=60)


SOME = [(user, item, item) for user in (100, 200) for item in (1, 2, 3)]  # the least that a log may be


def corpus_of(log, items=None):
    frame = pl.DataFrame(log, schema=["user_id", "item_id", "timestamp"], orient="row")
    return prepare(Interactions.from_frame(frame), name="log", items=items)


def by_ids(corpus):
    """Each user's own id, and the ids and times of what it took."""
    sequences = corpus.sequences()
    return {
        user: (
            corpus.item_ids[sequences[row].astype(np.int64) - 1].to_list(),
            corpus.timestamps[sequences.starts[row] : sequences.ends[row]].tolist(),
        )
        for row, user in enumerate(corpus.user_ids.to_list())
    }


@given(rows, st.floats(0.01, 1))
def test_the_users_that_are_kept_keep_all_and_nothing_else_is_there(log, share):
    whole = corpus_of([*SOME, *log])
    if np.ceil(share * whole.num_users) < 2:
        with pytest.raises(DataError, match="leaves one user"):
            share_of_users(whole, share)
        return
    part = share_of_users(whole, share)
    assert part.num_users == int(np.ceil(share * whole.num_users))
    kept = by_ids(part)
    assert kept == {user: taken for user, taken in by_ids(whole).items() if user in kept}
    assert sorted({item for items, _ in kept.values() for item in items}) == sorted(part.item_ids.to_list())
    assert part.content_hash == share_of_users(whole, share).content_hash
    assert part.provenance["of_corpus"] == whole.content_hash


def test_titles_and_parts_go_along():
    of_user = [("train", 5), ("train", 7), ("train", 9), ("test", 8)]
    log = [(user, (user + item) % 12, part) for user in range(10) for part, item in of_user]
    frame = pl.DataFrame(log, schema=["user_id", "item_id", "part"], orient="row")
    items = pl.DataFrame({"item_id": list(range(12)), "title": [f"no. {item}" for item in range(12)]})
    whole = prepare(Interactions.from_frame(frame, split="part"), name="log", items=describe(items))
    part = share_of_users(whole, 0.3)
    assert part.num_users == 3 and part.parts.tolist() == [0, 0, 0, 2] * 3
    assert part.titles.to_list() == [f"no. {item}" for item in part.item_ids.to_list()]


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_a_share_out_of_range(share):
    with pytest.raises(DataError, match="above 0"):
        share_of_users(corpus_of(SOME), share)
    with pytest.raises(SettingError, match=r"data\.user_share"):
        RunConfig.of({"data": {"dataset": "beauty", "user_share": share}})


def test_a_run_of_a_share(tmp_path):
    path = tmp_path / "log.csv"
    log = [f"{user},{item},{step}" for user in range(20) for step, item in enumerate((user % 7, 5 + user % 3, 7, 8))]
    path.write_text("user_id,item_id,timestamp\n" + "\n".join(log))
    whole = RunConfig.of({"data": {"file": str(path)}}).data.load()
    part = RunConfig.of({"data": {"file": str(path), "user_share": 0.25}}).data.load()
    assert whole.corpus.num_users == 20 and part.corpus.num_users == 5
    assert len(part.split.test) == 5 and part.corpus.content_hash == share_of_users(whole.corpus, 0.25).content_hash
