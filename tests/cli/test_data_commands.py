"""data fetch, stats and prepare: what they say, and that the next step they print works as it stands."""

import pytest

from seqdiffrec.data import Corpus

COLUMNS = ["--user", "who", "--item", "what", "--time", "when"]


@pytest.fixture
def root(tmp_path):
    """A folder with MovieLens 100K in the original layout: eight users who took the same twelve films."""
    folder = tmp_path / "root" / "ml-100k"
    folder.mkdir(parents=True)
    rows = [(user, film, 5, 1000 + film) for user in range(1, 9) for film in range(1, 13)]
    (folder / "u.data").write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    (folder / "u.item").write_text("".join(f"{film}|Film {film} (1990)|||\n" for film in range(1, 13)))
    return folder.parent


def test_stats_of_a_file(cli, csv, log):
    found = cli("data", "stats", csv, *COLUMNS, "--json").json
    items = {item for history in log.values() for item in history}
    actions = sum(map(len, log.values()))
    assert (found["name"], found["users"], found["items"], found["actions"]) == ("log", 30, len(items), actions)
    assert found["avg_length"] == round(actions / 30, 1)
    assert found["sparsity"] == pytest.approx(100 * (1 - actions / 30 / len(items)), abs=0.006)
    table = cli("data", "stats", csv, *COLUMNS)
    assert table.code == 0 and found["content_hash"] in table.out
    # The columns are needed again.
    assert table.next_step == ["seqdiffrec", "train", "--data", str(csv), *COLUMNS, "--out", "runs/log"]


def test_stats_and_fetch_of_a_named_dataset(cli, root):
    found = cli("data", "stats", "ml-100k", "--data-root", root, "--json")
    assert {name: found.json[name] for name in ("users", "items", "actions", "sparsity")} == {
        "users": 8,
        "items": 12,
        "actions": 96,
        "sparsity": 0.0,
    }
    assert "GroupLens" in found.err, "the licence is shown, on standard error"
    fetched = cli("data", "fetch", "ml-100k", "--data-root", root)
    assert fetched.out == "ml-100k: 8 users, 12 items, 96 actions\n"
    fetched_json = cli("data", "fetch", "ml-100k", "--data-root", root, "--json").json
    assert fetched_json == {name: found.json[name] for name in ("name", "users", "items", "actions", "content_hash")}
    assert fetched.next_step == [
        *("seqdiffrec", "train", "--dataset", "ml-100k", "--data-root", str(root), "--out", "runs/ml-100k")
    ]


def test_prepare_writes_a_corpus_that_the_next_step_trains_on(cli, csv, train, tmp_path):
    prepared = cli("data", "prepare", csv, *COLUMNS, "--out", "corpus", "--set", "data.drop_repeats=true")
    assert prepared.code == 0
    corpus = Corpus.load("corpus")
    assert all(len(set(items)) == len(items) for items in map(list, corpus.sequences())), "repeats are dropped"
    assert prepared.out == f"corpus: 30 users, {corpus.num_items} items, {corpus.num_actions} actions\n"
    assert prepared.next_step == ["seqdiffrec", "train", "--data", "corpus", "--out", "runs/log"]
    assert train("corpus").code == 0
    # The name alone is enough where the folder is there.
    assert cli("data", "stats", "corpus", "--json").json["content_hash"] == corpus.content_hash


def test_prepare_leaves_an_existing_folder_alone(cli, csv, refused, tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "mine.txt").write_text("mine")
    refused(cli("data", "prepare", csv, *COLUMNS, "--out", "corpus"), "corpus is there already", "name another")
    assert [path.name for path in (tmp_path / "corpus").iterdir()] == ["mine.txt"]


def test_train_on_a_named_dataset_recommends_titles(cli, root, tmp_path):
    words = ["train", "--dataset", "ml-100k", "--data-root", root, "--out", "run", "--model", "popularity"]
    assert cli(*words).code == 0
    asked = cli("recommend", "run", "--history", 3, 4, "-k", 2, "--json").json["recommendations"]
    assert [row["title"] for row in asked] == [f"Film {row['item_id']} (1990)" for row in asked]
    assert "Film" in cli("recommend", "run", "--user", 1, "--keep-viewed").out


def test_a_table_of_items_goes_with_a_log_and_with_a_named_dataset(cli, csv, root, refused, train, tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title,category\n10,Ten,a|b\n20,Twenty,\n")
    assert cli("data", "prepare", csv, *COLUMNS, "--items", "items.csv", "--out", "corpus").code == 0
    corpus = Corpus.load("corpus")
    known = dict(zip(corpus.item_ids, corpus.vocabulary().drop("item_id").rows(), strict=True))
    assert (known[10], known[20], known[30]) == (("Ten", ["a", "b"]), ("Twenty", None), (None, None))
    words = ["train", "--data", csv, *COLUMNS, "--items", "items.csv", "--model", "popularity", "--out", "run"]
    assert cli(*words).code == 0
    assert "Ten" in cli("recommend", "run", "--history", 30, "-k", 14).out
    refused(cli("train", "--data", "corpus", "--items", "items.csv", "--out", "other"), "data.items has no effect")
    (tmp_path / "films.csv").write_text("item_id,title\n3,Third\n")
    words = ["data", "prepare", "ml-100k", "--data-root", root, "--items", "films.csv", "--out", "films"]
    assert cli(*words).code == 0
    films = Corpus.load("films")
    assert films.titles.to_list() == [None, None, "Third", *[None] * 9]
    refused(cli(*words[:-1], "more", "--items", "nowhere.csv"), "nowhere.csv does not exist")
