"""A corpus on disk: what comes back, what is refused, what a full disk leaves."""

import errno
import hashlib
import json
import os
import struct
from datetime import date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings, strategies as st

from seqdiffrec.data import Corpus, DataError, Interactions, prepare, statistics
from seqdiffrec.data.storage import replace_file

ID_KINDS = {
    "int64": pl.Series([7, 3, 12]),
    "uint16": pl.Series([7, 3, 12], dtype=pl.UInt16),
    "text": pl.Series(["b", "", "ä 7"]),
    "categorical": pl.Series(["b", "a", "c"], dtype=pl.Categorical),
    "enum": pl.Series(["b", "a", "c"], dtype=pl.Enum(["c", "b", "a"])),
    "float": pl.Series([7.5, 3.0, 12.0]),
    "binary": pl.Series([b"\xff", b"a", b"b"]),
    "date": pl.Series([date(2024, 1, day) for day in (3, 1, 2)]),
    "decimal": pl.Series(["1.50", "2.00", "3.25"]).cast(pl.Decimal(10, 2)),
    "int128": pl.Series([2**70, 1, 2], dtype=pl.Int128),
}


def corpus_of(user_ids: pl.Series, item_ids: pl.Series) -> Corpus:
    """Three users with the same three items each."""
    frame = pl.DataFrame(
        {"user_id": user_ids.gather([0, 0, 0, 1, 1, 1, 2, 2, 2]), "item_id": item_ids.gather([0, 1, 2] * 3)}
    )
    return prepare(Interactions.from_frame(frame), name="tiny")


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def small(name: str = "small") -> Corpus:
    frame = pl.DataFrame(
        {"user_id": [1, 1, 1, 2, 2], "item_id": ["a", "b", "a", "c", "b"], "timestamp": [1, 2, 3, 1, 2]}
    )
    return prepare(
        Interactions.from_frame(frame), name=name, items=pl.DataFrame({"item_id": ["c", "a"], "title": ["C", "A"]})
    )


@pytest.mark.parametrize("kind", ID_KINDS)
def test_ids_of_any_type_come_back_from_disk_as_they_went_in(kind, tmp_path):
    ids = ID_KINDS[kind]
    corpus = corpus_of(ids, ids.reverse())
    corpus.save(tmp_path / "corpus")
    loaded = Corpus.load(tmp_path / "corpus")
    assert loaded.user_ids.dtype == ids.dtype
    assert loaded.user_ids.to_list() == ids.to_list()
    assert loaded.item_ids.to_list() == ids.reverse().to_list()
    assert [loaded.user_index(user) for user in ids] == [0, 1, 2]
    assert loaded.item_indices(ids.reverse()).tolist() == [1, 2, 3]
    assert loaded.content_hash == corpus.content_hash


def test_everything_comes_back(tmp_path):
    corpus = small()
    corpus.save(tmp_path / "deep" / "folder")
    loaded = Corpus.load(tmp_path / "deep" / "folder")
    assert loaded.items.tolist() == [1, 2, 1, 3, 2]
    assert loaded.items.dtype == np.int32 and loaded.offsets.dtype == np.int64
    assert loaded.offsets.tolist() == [0, 3, 5]
    assert loaded.timestamps.tolist() == [1, 2, 3, 1, 2]
    assert loaded.titles.to_list() == ["A", None, "C"]
    assert (loaded.name, loaded.provenance) == ("small", corpus.provenance)
    assert not loaded.items.flags.writeable
    assert loaded.sequences().select(np.array([1, 0]))[0].tolist() == [3, 2]
    assert names_in(tmp_path / "deep") == ["folder"]


rows = st.lists(st.tuples(st.integers(0, 4), st.sampled_from("abcde"), st.integers(0, 3)), min_size=8, max_size=40)


@settings(max_examples=30)
@given(rows)
def test_ids_and_order_survive_prepare_save_and_load(tmp_path_factory, log):
    by_user = {}
    for user, item, time in log:
        by_user.setdefault(user, []).append((time, item))
    if len(by_user) < 2 or max(map(len, by_user.values())) < 3:
        return
    frame = pl.DataFrame(log, schema=["user_id", "item_id", "timestamp"], orient="row")
    folder = tmp_path_factory.mktemp("corpora") / "one"
    prepare(Interactions.from_frame(frame), name="log").save(folder)
    corpus = Corpus.load(folder)
    sequences = corpus.sequences()
    # Python's sort is stable too, so this is the order of time, then of the log.
    expected = {user: [item for _, item in sorted(pairs, key=lambda pair: pair[0])] for user, pairs in by_user.items()}
    found = {
        user: [corpus.item_ids[int(item) - 1] for item in sequences[row]] for row, user in enumerate(corpus.user_ids)
    }
    assert found == expected
    assert list(found) == list(by_user)


def test_hash_depends_on_content_only():
    # Spelled out byte for byte, so that another machine, version or library must find the same.
    content = (
        b"seqdiffrec corpus 1\n"
        + b"items\nint32 5\n"
        + struct.pack("<5i", 1, 2, 1, 3, 2)
        + b"offsets\nint64 3\n"
        + struct.pack("<3q", 0, 3, 5)
        + b"timestamps\nint64 5\n"
        + struct.pack("<5q", 1, 2, 3, 1, 2)
        + b"user_ids\nInt64\nint64 2\n"
        + struct.pack("<2q", 1, 2)
        + b"item_ids\nString\nint64 3\n"
        + struct.pack("<3q", 1, 1, 1)
        + b"abc"
    )
    assert small().content_hash == small("another name").content_hash == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": [1, 1, 1, 2, 3]},
        {"item_id": ["a", "b", "a", "c", "a"]},
        {"item_id": ["a", "b", "a", "d", "b"]},
        {"timestamp": [1, 2, 3, 1, 9]},
        {"timestamp": [1.0, 2.0, 3.0, 1.0, 2.0]},
    ],
)
def test_hash_changes_with_any_part(change):
    base = {"user_id": [1, 1, 1, 2, 2], "item_id": ["a", "b", "a", "c", "b"], "timestamp": [1, 2, 3, 1, 2]}
    changed = prepare(Interactions.from_frame(pl.DataFrame({**base, **change})), name="small")
    assert changed.content_hash != small().content_hash


def test_hash_tells_where_texts_are_cut():
    other = pl.Series(["ab", "c", "d"]), pl.Series(["a", "bc", "d"])
    assert corpus_of(other[0], other[0]).content_hash != corpus_of(other[1], other[0]).content_hash


def test_statistics_by_hand():
    # 5 actions on 2 x 3 places: 1/6 empty.
    assert statistics(small()) == {"users": 2, "items": 3, "actions": 5, "avg_length": 2.5, "sparsity": 16.67}


def test_unknown_ids():
    corpus = small()
    with pytest.raises(DataError, match=r"user 9 is not among the 2 users of 'small'.*Int64, for example 1, 2"):
        corpus.user_index(9)
    with pytest.raises(DataError, match=r"item 7 is not among"):
        corpus.item_index(7)
    assert corpus.item_indices(["b", "zz", "a"]).tolist() == [2, 0, 1]
    assert corpus.user_indices([2, 5]).tolist() == [1, -1]
    assert corpus.user_indices([]).tolist() == []


def test_texts_of_a_command_line_match_numbers_written_the_usual_way_only():
    corpus = small()
    assert corpus.user_index("2") == 1
    assert corpus.user_indices(["02", "2.0", " 2", "x", "1"]).tolist() == [-1, -1, -1, -1, 0]
    assert corpus.user_indices([1.5, 2.0]).tolist() == [-1, 1]
    with pytest.raises(DataError, match="more than one type"):
        corpus.user_indices([1, "2"])


def test_datetime_lookup_keeps_type():
    ids = pl.Series([datetime(2024, 1, 1), datetime(2024, 1, 2), datetime(2024, 1, 3)])
    assert corpus_of(ids, ids).user_index(datetime(2024, 1, 2)) == 1


@pytest.mark.parametrize(
    "file", ["items.npy", "offsets.npy", "timestamps.npy", "users.arrow", "items.arrow", "corpus.json"]
)
def test_missing_and_cut_off_files_are_refused_by_name(file, tmp_path):
    small().save(tmp_path / "corpus")
    path = tmp_path / "corpus" / file
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=file):
        Corpus.load(tmp_path / "corpus")
    path.write_bytes(b"")
    with pytest.raises(DataError, match=file):
        Corpus.load(tmp_path / "corpus")
    path.unlink()
    with pytest.raises(DataError, match=file):
        Corpus.load(tmp_path / "corpus")


def test_swapped_array_of_equal_size_is_refused(tmp_path):
    small().save(tmp_path / "corpus")
    np.save(tmp_path / "corpus" / "items.npy", np.array([2, 1, 1, 3, 2], dtype=np.int32))
    with pytest.raises(DataError, match=r"not the ones that corpus.json was written for"):
        Corpus.load(tmp_path / "corpus")


def test_array_of_another_length_is_refused_without_reading_it(tmp_path):
    small().save(tmp_path / "corpus")
    np.save(tmp_path / "corpus" / "items.npy", np.array([2, 1], dtype=np.int32))
    with pytest.raises(DataError, match="not the ones that"):
        Corpus.load(tmp_path / "corpus", verify=False)


@pytest.mark.parametrize(
    ("change", "message"), [({"format": 99}, "corpus format 99"), ({"name": None}, "'name' is missing")]
)
def test_other_version_and_missing_entry_are_refused(change, message, tmp_path):
    small().save(tmp_path / "corpus")
    path = tmp_path / "corpus" / "corpus.json"
    record = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in record.items() if value is not None}))
    with pytest.raises(DataError, match=message):
        Corpus.load(tmp_path / "corpus")


def test_an_existing_folder_is_not_overwritten(tmp_path):
    small().save(tmp_path / "corpus")
    with pytest.raises(DataError, match="is there already"):
        small("other").save(tmp_path / "corpus")
    assert Corpus.load(tmp_path / "corpus").name == "small"
    assert names_in(tmp_path) == ["corpus"]


def test_full_disk_leaves_nothing_and_says_so(tmp_path, monkeypatch):
    written = []

    def full(*args, **kwargs):
        written.append(args)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("seqdiffrec.data.storage.os.fsync", full)
    with pytest.raises(DataError, match=r"corpus could not be written: No space left on device; free some space"):
        small().save(tmp_path / "corpus")
    assert len(written) == 2  # it failed in the middle
    assert names_in(tmp_path) == []


def test_a_broken_off_save_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("seqdiffrec.data.storage.write_frame", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small().save(tmp_path / "corpus")
    assert names_in(tmp_path) == []


def test_replace_file_keeps_the_old_content_when_the_disk_is_full(tmp_path, monkeypatch):
    path = tmp_path / "note"
    replace_file(path, b"old")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("seqdiffrec.data.storage.os.fsync", full)
    with pytest.raises(DataError, match=r"note could not be written: No space left on device"):
        replace_file(path, b"newer")
    assert path.read_bytes() == b"new"
    assert names_in(tmp_path) == ["note"]


def test_json_that_is_no_object_is_refused(tmp_path):
    (tmp_path / "corpus.json").write_text("[1]")
    with pytest.raises(DataError, match=r"corpus.json holds no JSON object"):
        Corpus.load(tmp_path)
