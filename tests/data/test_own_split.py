"""Splits of one's own: which rows become what, by a plain loop; what is refused, with the row; runs that keep it."""

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings, strategies as st

import seqdiffrec as sdr
from seqdiffrec import Dataset, cli
from seqdiffrec.data import Corpus, DataError
from seqdiffrec.training import RunError

PARTS = ("train", "validation", "test")
LOG = {
    "user_id": ["a", "b", "a", "a", "a", "b", "c", "c", "d"],
    "item_id": [1, 2, 3, 4, 5, 1, 2, 3, 1],
    "timestamp": [1, 1, 2, 3, 4, 2, 1, 2, 1],
    "fold": ["train", "train", "train", "validation", "test", "validation", "test", "test", "test"],
}


def ids(data: Dataset, indices) -> list[int]:
    return [data.corpus.item_ids[int(index) - 1] for index in indices]


def cases(data: Dataset, part: str) -> list[tuple[str, list[int], int]]:
    of = getattr(data.split, part)
    users = data.corpus.user_ids.gather(of.users).to_list()
    histories = [ids(data, history) for history in of.histories]
    return sorted(zip(users, histories, ids(data, of.targets), strict=True))


def test_by_hand():
    data = Dataset.from_interactions(pl.DataFrame(LOG), split="fold")
    # c never trains, so the first of its two test actions has no history; d has one action only.
    assert sorted(ids(data, sequence) for sequence in data.split.train) == [[1, 3], [2]]
    assert cases(data, "validation") == [("a", [1, 3], 4), ("b", [2], 1)]
    assert cases(data, "test") == [("a", [1, 3, 4], 5), ("c", [2], 3)]
    assert data.split_settings == {"split": "fold"}


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 5), st.sampled_from(PARTS)),
        min_size=1,
        max_size=30,
    )
)
def test_against_a_loop(rows):
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "fold"], orient="row")
    train, questions, out_of_order = [], {"validation": [], "test": []}, False
    for user in dict.fromkeys(row[0] for row in rows):
        own = sorted((row for row in rows if row[0] == user), key=lambda row: row[2])
        order = [PARTS.index(row[3]) for row in own]
        out_of_order |= order != sorted(order)
        first = [row[1] for row in own if row[3] == "train"]
        train += [first] if first else []
        for place, row in enumerate(own):
            if row[3] != "train" and place:
                questions[row[3]].append((user, [one[1] for one in own[:place]], row[1]))
    usable = train and all(questions.values()) and len({row[0] for row in rows}) > 1
    if out_of_order or not usable:
        with pytest.raises(DataError):
            Dataset.from_interactions(frame, split="fold")
        return
    data = Dataset.from_interactions(frame, split="fold")
    assert sorted(ids(data, sequence) for sequence in data.split.train) == sorted(train)
    for part, expected in questions.items():
        assert cases(data, part) == sorted(expected)


def changed(row: int, value: str | None) -> pl.DataFrame:
    fold = [value if place == row else part for place, part in enumerate(LOG["fold"])]
    return pl.DataFrame({**LOG, "fold": fold})


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (changed(2, "dev"), r"row 3 \(counted from 1\): column 'fold' says 'dev'; each row must say train, validation"),
        (changed(2, "Train"), r"row 3 .* says 'Train'"),
        (changed(8, None), r"row 9 \(counted from 1\): column 'fold' says nothing; each row must say train"),
        (pl.DataFrame({**LOG, "fold": list(range(9))}), r"row 1 .*column 'fold' says 0; each row must say train"),
        (
            changed(4, "train"),
            r"row 5 .*an action of user 'a' is 'train' in column 'fold', but comes after one that is 'validation' "
            r"\(the frame, row 4 .*a user's rows must be train, then validation, then test",
        ),
        (changed(3, "test").with_columns(pl.col("fold").replace("validation", "test")), "no validation cases"),
        (pl.DataFrame(LOG).with_columns(fold=pl.lit("train")), "no validation cases by its column 'fold'"),
        (pl.DataFrame(LOG).with_columns(fold=pl.lit("test")), "no training actions"),
        (pl.DataFrame(LOG).drop("fold"), "no column 'fold'"),
    ],
)
def test_what_is_refused(frame, message):
    with pytest.raises(DataError, match=message):
        Dataset.from_interactions(frame, split="fold")


def test_not_both_a_column_and_times():
    with pytest.raises(DataError, match="split by its column 'fold', so it cannot also be split at times"):
        Dataset.from_interactions(pl.DataFrame(LOG), split="fold", times=(2, 3))


def test_parts_are_of_the_content_and_come_back_from_disk(tmp_path):
    one = Dataset.from_interactions(pl.DataFrame(LOG), split="fold").corpus
    none = Dataset.from_interactions(pl.DataFrame(LOG)).corpus
    other = Dataset.from_interactions(changed(6, "validation"), split="fold").corpus
    assert len({one.content_hash, none.content_hash, other.content_hash}) == 3
    one.save(tmp_path / "corpus")
    loaded = Corpus.load(tmp_path / "corpus")
    assert np.array_equal(loaded.parts, one.parts) and Dataset.of(loaded).split_settings == {"split": "fold"}
    (tmp_path / "corpus" / "parts.npy").unlink()
    with pytest.raises(DataError, match=r"parts.npy could not be read"):
        Corpus.load(tmp_path / "corpus")


def test_a_k_core_keeps_each_action_with_its_part():
    log = pl.concat([pl.DataFrame(LOG), pl.DataFrame({**LOG, "user_id": [f"{user}2" for user in LOG["user_id"]]})])
    data = Dataset.from_interactions(log, split="fold", min_user=3)
    assert sorted(set(data.corpus.user_ids)) == ["a", "a2"]
    assert cases(data, "test") == [("a", [1, 3, 4], 5), ("a2", [1, 3, 4], 5)]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """run("train", ...): exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEQDIFFREC_CACHE", str(tmp_path / "cache"))
    pl.DataFrame(LOG).write_csv("log.csv")

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["seqdiffrec", *words])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0), *capsys.readouterr()

    return call


def test_a_run_keeps_its_split(run):
    words = ["train", "--data", "log.csv", "--model", "popularity"]
    assert run(*words, "--split", "fold", "--out", "run")[0] == 0
    record = json.loads(Path("run/run.json").read_text())
    assert record["split"] == {"split": "fold"} and record["data"]["split"] == "fold"
    for more in ([], ["--data", "log.csv"]):
        code, out, _ = run("evaluate", "run", "--json", *more, "--k", "1")
        assert code == 0 and json.loads(out)["cases"] == 2
    model = sdr.load("run")
    own = Dataset.from_file("log.csv", split="fold")
    assert model.rank(own).users.tolist() == own.split.test.users.tolist()
    with pytest.raises(RunError):
        model.rank(Dataset.from_file("log.csv"))
    model.fit(own).save("again")
    assert json.loads(Path("again/run.json").read_text())["split"] == {"split": "fold"}


def test_recipes_and_prepared_corpora(run):
    Path("own.toml").write_text('[data]\nfile = "log.csv"\nsplit = "fold"\n[model]\nname = "popularity"\n')
    assert run("train", "--recipe", "own.toml", "--out", "from-recipe")[0] == 0
    assert run("data", "prepare", "log.csv", "--split", "fold", "--out", "corpus")[0] == 0
    assert run("train", "--data", "corpus", "--model", "popularity", "--out", "from-corpus")[0] == 0
    records = [json.loads(Path(name, "run.json").read_text()) for name in ("from-recipe", "from-corpus")]
    assert records[0]["split"] == records[1]["split"] == {"split": "fold"}
    assert records[0]["corpus"]["content_hash"] == records[1]["corpus"]["content_hash"]


def test_mistakes_at_the_command_line(run):
    words = ["train", "--data", "log.csv", "--split", "fold", "--out", "run"]
    times = ["--set", "data.validation_time=1", "--set", "data.test_time=2"]
    code, _, said = run(*words, *times)
    assert code == 2 and "data.split and a split in time exclude each other" in said
    changed(2, "dev").write_csv("bad.csv")
    code, _, said = run("train", "--data", "bad.csv", "--split", "fold", "--out", "run")
    assert code == 2 and "error: bad.csv, line 4: column 'fold' says 'dev'" in said
    assert not Path("run").exists()
