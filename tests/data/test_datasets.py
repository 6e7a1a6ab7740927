"""Named datasets: parsers of the original files, where they are looked for, the cache. No test needs the network."""

import gzip
import hashlib
import io
import json
import os
import shutil
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from seqdiffrec.data import DATASETS, Corpus, DataError, fetch, load_corpus, parsers, prepare_file, statistics
from seqdiffrec.data.readers import SourceFile

# Five users who all took the same five items, so that the 5-core keeps everything; and one who falls out.
RATINGS = [(user, item, 5, 1000 + item) for user in range(1, 6) for item in (12, 10, 14, 11, 13)] + [(9, 12, 1, 7)]
EXPECTED_ITEMS = [10, 11, 12, 13, 14]  # of every user, by time

U_DATA = "".join(f"{user}\t{item}\t{rating}\t{time}\n" for user, item, rating, time in RATINGS)
U_ITEM = "".join(f"{item}|Film {item} é (1990)|01-Jan-1990||http://x|0|1\n" for item in range(9, 15))
AMAZON = "".join(f"A{user},B{item},{rating}.0,{time}\n" for user, item, rating, time in RATINGS)
REVIEWS = "".join(
    json.dumps({"reviewerID": f"A{user}", "asin": f"B{item}", "overall": 5.0, "unixReviewTime": time}) + "\n"
    for user, item, _, time in RATINGS
)


REAL_PIP_DOWNLOAD = fetch._pip_download


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder, and no way to the network or to pip."""

    def unreachable(*args, **kwargs):
        raise requests.ConnectionError("no route")

    def no_pip(*args):
        raise fetch.FetchError("pip could not fetch recbole (no route)")

    monkeypatch.setattr("requests.get", unreachable)
    monkeypatch.setattr("seqdiffrec.data.fetch._pip_download", no_pip)
    monkeypatch.setenv("SEQDIFFREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SEQDIFFREC_DATA_ROOT", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "root"


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def put(root: Path, name: str, content: str | bytes) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def items_by_user(corpus: Corpus) -> dict[object, list[object]]:
    sequences = corpus.sequences()
    return {
        user: [corpus.item_ids[int(item) - 1] for item in sequences[row]] for row, user in enumerate(corpus.user_ids)
    }


def ml_100k_zip() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("ml-100k/u.data", U_DATA)
        opened.writestr("ml-100k/u.item", U_ITEM.encode("latin-1"))
    return archive.getvalue()


def recbole_zip() -> bytes:
    folder = "recbole/dataset_example/ml-100k"
    titles = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    titles += (
        "".join(f"{item}\tFilm {item} é\t1990\tDrama Film-Noir\n" for item in range(9, 14))
        + "14\tunkonwn\tunkonwn\tunknown\n"
    )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        opened.writestr(f"{folder}/ml-100k.inter", header + U_DATA)
        opened.writestr(f"{folder}/ml-100k.item", titles)
    return archive.getvalue()


def serve(monkeypatch, content: bytes) -> list[str]:
    """Let every address answer with these bytes; returns the list of addresses that were asked."""
    asked: list[str] = []

    class Response(io.BytesIO):
        headers = {"content-length": str(len(content))}  # noqa: RUF012

        def raise_for_status(self):
            pass

        def iter_content(self, chunk_size):
            yield content

    def get(url, **kwargs):
        assert kwargs["timeout"][0] <= 5
        asked.append(url)
        return Response()

    monkeypatch.setattr("requests.get", get)
    return asked


# Parsers and layouts.


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("ml-100k", {"ml-100k/u.data": U_DATA, "ml-100k/u.item": U_ITEM.encode("latin-1")}),
        (
            "ml-1m",
            {
                "ml-1m/ratings.dat": U_DATA.replace("\t", "::"),
                "ml-1m/movies.dat": U_ITEM.replace("|", "::").encode("latin-1"),
            },
        ),
        ("beauty", {"ratings_Beauty.csv": AMAZON}),
        ("beauty", {"reviews_Beauty_5.json.gz": gzip.compress(REVIEWS.encode())}),
        ("beauty", {"reviews_Beauty.json": REVIEWS}),
        ("toys", {"ratings_Toys_and_Games.csv.gz": gzip.compress(AMAZON.encode())}),
        ("toys", {"reviews_Toys_and_Games_5.json.gz": gzip.compress(REVIEWS.encode())}),
        ("beauty", {"beauty.txt": "".join(f"{user} 10 11 12 13 14\n" for user in range(1, 6)) + "9 12\n"}),
        ("ml-1m", {"ml-1m/sequences.txt": "".join(f"{user} 10 11 12 13 14\n" for user in range(1, 6)) + "9 12\n"}),
    ],
)
def test_every_layout_of_the_data_root(name, files, root):
    for file, content in files.items():
        put(root, file, content)
    notices: list[str] = []
    corpus = load_corpus(name, root, notify=notices.append)
    is_amazon = next(iter(files)).startswith(("r", "R"))
    expected = {
        (f"A{user}" if is_amazon else user): [f"B{i}" if is_amazon else i for i in EXPECTED_ITEMS]
        for user in range(1, 6)
    }
    if name == "ml-1m":  # no k-core there
        expected[9] = [12]
    assert items_by_user(corpus) == expected
    assert corpus.name == name
    if "ml-100k/u.item" in files or "ml-1m/movies.dat" in files:
        titles = dict(zip(corpus.item_ids, corpus.titles, strict=True))
        assert titles == {item: f"Film {item} é (1990)" for item in EXPECTED_ITEMS}
    # Tiny files are not the known dataset, and that is said.
    assert any("cannot be held against published ones" in notice for notice in notices)


def test_the_data_root_may_come_from_the_environment(root, monkeypatch):
    put(root, "beauty.txt", "".join(f"{user} 1 2 3 4 5\n" for user in range(5)))
    monkeypatch.setenv("SEQDIFFREC_DATA_ROOT", str(root))
    assert load_corpus("beauty", notify=lambda line: None).num_users == 5
    monkeypatch.setenv("SEQDIFFREC_DATA_ROOT", str(root / "nowhere"))
    with pytest.raises(DataError, match=r"the data root .*nowhere is not a folder"):
        load_corpus("beauty")


@pytest.mark.parametrize(
    ("parse", "content", "message"),
    [
        (
            parsers.amazon_reviews,
            '{"reviewerID": "A", "asin": "B", "unixReviewTime": 1}\n{"revi',
            "file, line 2: not a review",
        ),
        (parsers.amazon_reviews, '{"reviewerID": "A", "asin": "B"}\n', "file, line 1: not a review .*unixReviewTime"),
        (parsers.movielens_tabs, "1\t2\t3\t4\n1\t2\t3\n", "file, line 2: the last line has 3 of 4 fields"),
        (parsers.movielens_colons, "1::2::3::4\n1::2::3::x\n1::2::3::5\n", "file, line 2: timestamp 'x'"),
        (parsers.amazon_ratings, "A,B,5.0,1\n,B,5.0,1\n", "file, line 2: no id in column 'user_id'"),
        (parsers.movielens_items_bars, "1|Film\nTwo|Film\n", "file, line 2: no item id and title"),
    ],
)
def test_broken_original_files_are_refused_with_the_line(parse, content, message):
    with pytest.raises(DataError, match=message):
        parse(SourceFile("file", content.encode()))


# Names, licence, cache.


@pytest.mark.parametrize(("name", "near"), [("ml100k", "ml-100k"), ("Beauty", "beauty"), ("toy", "toys")])
def test_an_unknown_name_gets_the_nearest_one(name, near):
    with pytest.raises(DataError, match=rf"unknown dataset '{name}'; did you mean '{near}'\?.*ml-1m, beauty, toys"):
        load_corpus(name)


def test_the_licence_is_shown_once(root):
    put(root, "beauty.txt", "".join(f"{user} 1 2 3 4 5\n" for user in range(5)))
    notices: list[str] = []
    for _ in range(2):
        load_corpus("beauty", root, notify=notices.append)
    assert notices.count(DATASETS["beauty"].licence) == 1


def test_the_corpus_is_made_once_and_again_when_the_file_changes(root, cache, monkeypatch):
    put(root, "beauty.txt", "".join(f"{user} 1 2 3 4 5\n" for user in range(5)))
    first = load_corpus("beauty", root, notify=lambda line: None)
    put(root, "beauty.txt", "".join(f"{user} 1 2 3 4 6\n" for user in range(5)))
    second = load_corpus("beauty", root, notify=lambda line: None)
    assert len(names_in(cache / "corpora")) == 2
    assert (first.item_ids[4], second.item_ids[4]) == (5, 6)
    monkeypatch.setattr("seqdiffrec.data.datasets.prepare", None)
    assert load_corpus("beauty", root, notify=lambda line: None).content_hash == second.content_hash


def test_two_at_once_make_one_whole_corpus(root, cache, monkeypatch):
    put(root, "beauty.txt", "".join(f"{user} 1 2 3 4 5\n" for user in range(5)))
    both_missed = threading.Barrier(2, timeout=20)
    save = Corpus.save

    def save_together(corpus, folder):
        both_missed.wait()
        save(corpus, folder)

    monkeypatch.setattr(Corpus, "save", save_together)
    hashes: list[str] = []

    def load():
        hashes.append(load_corpus("beauty", root, notify=lambda line: None).content_hash)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hashes) == 2 and len(set(hashes)) == 1
    assert len(names_in(cache / "corpora")) == 1


def test_a_full_disk_is_reported_by_the_cache(root, monkeypatch):
    put(root, "beauty.txt", "".join(f"{user} 1 2 3 4 5\n" for user in range(5)))

    def full(*args):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("seqdiffrec.data.storage.os.fsync", full)
    with pytest.raises(DataError, match=r"No space left on device; free some space"):
        load_corpus("beauty", root, notify=lambda line: None)


# Fetching.


def test_an_archive_is_fetched_once_and_checked(cache, monkeypatch):
    content = ml_100k_zip()
    asked = serve(monkeypatch, content)
    known = replace(DATASETS["ml-100k"], checksum="md5:" + hashlib.md5(content).hexdigest())
    monkeypatch.setitem(DATASETS, "ml-100k", known)
    notices: list[str] = []
    corpus = load_corpus("ml-100k", notify=notices.append)
    assert corpus.num_users == 5
    assert corpus.titles[0] == "Film 12 é (1990)"
    assert notices[0] == f"ml-100k: from {known.url}"
    assert load_corpus("ml-100k", notify=notices.append).content_hash == corpus.content_hash
    assert asked == [known.url]


def test_a_file_that_is_not_the_known_one_is_refused_and_not_kept(cache, monkeypatch):
    serve(monkeypatch, b"<html>please log in</html>")
    with pytest.raises(DataError, match=r"ml-1m could not be fetched: .*gave another file than the known one"):
        load_corpus("ml-1m")
    assert names_in(cache / "downloads") == []


def test_amazon_files_must_give_the_counts_of_table_1(monkeypatch):
    asked = serve(monkeypatch, AMAZON.encode())
    with pytest.raises(
        DataError, match=r"5 users, 5 items and 25 actions after preparation, but beauty has 22363, 12101"
    ):
        load_corpus("beauty", notify=lambda line: None)
    assert asked == ["https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/ratings_Beauty.csv"]
    monkeypatch.setitem(DATASETS, "beauty", replace(DATASETS["beauty"], expected=(5, 5, 25)))
    assert load_corpus("beauty", notify=lambda line: None).num_actions == 25


def test_without_network_the_error_says_what_to_do():
    with pytest.raises(
        DataError, match=r"toys could not be fetched: .*cannot be reached.*--data-root or SEQDIFFREC_DATA"
    ):
        load_corpus("toys")
    with pytest.raises(DataError, match=r"ml-100k could not be fetched: .*cannot be reached.*; pip could not fetch"):
        load_corpus("ml-100k")


def fake_pip(monkeypatch, wheel: bytes, known: bool = True) -> list[str]:
    asked: list[str] = []

    def pip(requirement, folder):
        asked.append(requirement)
        (Path(folder) / fetch.RECBOLE_WHEEL).write_bytes(wheel)

    monkeypatch.setattr("seqdiffrec.data.fetch._pip_download", pip)
    if known:
        monkeypatch.setattr("seqdiffrec.data.fetch.RECBOLE_SHA256", hashlib.sha256(wheel).hexdigest())
    return asked


def test_ml_100k_comes_out_of_the_wheel_when_its_site_cannot_be_reached(root, monkeypatch):
    asked = fake_pip(monkeypatch, recbole_zip())
    notices: list[str] = []
    corpus = load_corpus("ml-100k", notify=notices.append)
    assert notices[0].startswith(
        "ml-100k: from the wheel of recbole==1.2.1, from the package index, because https://files"
    )
    titles = dict(zip(corpus.item_ids, corpus.titles, strict=True))
    assert titles == {item: f"Film {item} é (1990)" for item in EXPECTED_ITEMS[:4]} | {14: "unknown"}
    genres = dict(zip(corpus.item_ids, corpus.categories, strict=True))
    assert [list(genres[item]) for item in (10, 14)] == [["Drama", "Film-Noir"], ["unknown"]]
    # The second time neither the site nor pip is asked, and nothing is said.
    load_corpus("ml-100k", notify=notices.append)
    assert asked == ["recbole==1.2.1"]
    assert sum("from the wheel" in notice for notice in notices) == 1
    # Both sources hold the same log.
    put(root, "ml-100k/u.data", U_DATA)
    assert load_corpus("ml-100k", root, notify=notices.append).content_hash == corpus.content_hash


def test_another_wheel_than_the_known_one_is_refused(cache, monkeypatch):
    fake_pip(monkeypatch, recbole_zip(), known=False)
    with pytest.raises(DataError, match=r"pip gave another file than the known recbole-1.2.1"):
        load_corpus("ml-100k", notify=lambda line: None)
    assert names_in(cache / "downloads") == []


def test_a_broken_archive_in_the_cache_is_named(cache, monkeypatch):
    content = recbole_zip()
    put(cache / "downloads", fetch.RECBOLE_WHEEL, content[:-5])
    with pytest.raises(DataError, match=r"downloads/recbole-1.2.1.* delete it and try again"):
        load_corpus("ml-100k", notify=lambda line: None)


def test_a_damaged_archive_in_the_cache_is_named(cache):
    content = bytearray(recbole_zip())
    content[100:140] = bytes(40)  # inside the first member; the directory at the end is whole
    put(cache / "downloads", fetch.RECBOLE_WHEEL, bytes(content))
    with pytest.raises(DataError, match=r"recbole-1.2.1.* is a broken or cut-off zip archive"):
        load_corpus("ml-100k", notify=lambda line: None)


def test_another_archive_in_the_cache_is_named(cache):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("readme", "nothing")
    put(cache / "downloads", "ml-1m.zip", archive.getvalue())
    with pytest.raises(DataError, match=r"ml-1m.zip holds none of the files of ml-1m; delete it"):
        load_corpus("ml-1m", notify=lambda line: None)


def test_pip_that_finds_nothing_is_reported_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(fetch.FetchError, match=r"pip could not fetch recbole==1.2.1 \(ERROR: .*\)$"):
        REAL_PIP_DOWNLOAD("recbole==1.2.1", str(tmp_path))


def test_a_full_disk_while_fetching(cache, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("pooch.retrieve", full)
    with pytest.raises(DataError, match=r"ml-1m.zip could not be written: No space left on device; free some space"):
        load_corpus("ml-1m")
    monkeypatch.setattr("pooch.retrieve", lambda *args, **kwargs: fetch.requests.get(""))
    monkeypatch.setattr("seqdiffrec.data.fetch._pip_download", full)
    with pytest.raises(DataError, match=r"recbole-1.2.1.*whl could not be written: No space left"):
        load_corpus("ml-100k")
    assert names_in(cache / "downloads") == []


def test_what_the_data_root_lacks_is_looked_for_elsewhere_and_that_is_said(root, capsys):
    root.mkdir()
    with pytest.raises(DataError, match="could not be fetched"):
        load_corpus("toys", root)
    said = capsys.readouterr().err
    assert said.startswith("toys: none of ratings_Toys_and_Games.csv, reviews_Toys_and_Games_5.json.gz")
    assert "looking in the cache and at https://snap.stanford.edu" in said


# A user's own file.


def test_prepare_file_reuses_what_it_made(tmp_path, cache, monkeypatch):
    path = tmp_path / "shop.log.csv"
    path.write_text("who,what\n" + "".join(f"{user},{item}\n" for user in "abc" for item in "xyzw"))
    corpus = prepare_file(path, user="who", item="what")
    assert (corpus.name, corpus.num_users, corpus.num_items) == ("shop", 3, 4)
    assert corpus.provenance["source"] == "shop.log.csv"
    other = prepare_file(path, user="who", item="what", name="mine", cache=tmp_path / "elsewhere")
    assert other.name == "mine" and other.content_hash == corpus.content_hash
    swapped = prepare_file(path, user="what", item="who")
    assert swapped.num_users == 4
    moved = tmp_path / "moved" / path.name
    moved.parent.mkdir()
    shutil.move(path, moved)
    monkeypatch.setattr("seqdiffrec.data.datasets.prepare", None)
    assert prepare_file(moved, user="who", item="what").content_hash == corpus.content_hash
    assert len(names_in(cache / "corpora")) == 2


def test_prepare_file_refuses_as_the_readers_do_and_leaves_nothing(tmp_path, cache):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\n1,2\n1,\n")
    with pytest.raises(DataError, match=r"log.csv, line 3: no id in column 'item_id'"):
        prepare_file(path)
    with pytest.raises(DataError, match="does not exist"):
        prepare_file(tmp_path / "missing.csv")
    assert not (cache / "corpora").exists()


# The real data, where they are.

TABLE_1 = {
    "beauty": {"users": 22363, "items": 12101, "actions": 198502, "avg_length": 8.9, "sparsity": 99.93},
    "toys": {"users": 19412, "items": 11924, "actions": 167597, "avg_length": 8.6, "sparsity": 99.93},
    # Table 1 prints 3,953 items and 163.5; 3,706 are rated, and 1,000,209 / 6,040 is 165.6.
    "ml-1m": {"users": 6040, "items": 3706, "actions": 1000209, "avg_length": 165.6, "sparsity": 95.53},
}
REAL_ROOT = os.environ.get("SEQDIFFREC_DATA_ROOT")


@pytest.mark.skipif(not REAL_ROOT, reason="SEQDIFFREC_DATA_ROOT names no folder with the real data")
@pytest.mark.parametrize("name", TABLE_1)
def test_table_1_of_the_paper(name):
    notices: list[str] = []
    assert statistics(load_corpus(name, REAL_ROOT, notify=notices.append)) == TABLE_1[name]
    assert notices == [DATASETS[name].licence]
