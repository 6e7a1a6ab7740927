"""evaluate, recommend, info, record and curves on finished runs."""

import json
import math
import re
from pathlib import Path

import polars as pl
import pytest

from seqdiffrec.training import RunFolder

MODELS = ["diffrec", "shared", "sasrec", "popularity"]
ITEMS = 14


def recommended(cli, *words: object) -> list[dict]:
    return cli("recommend", *words, "--json").json["recommendations"]


# evaluate


@pytest.mark.parametrize("model", MODELS)
def test_the_ranks_file_gives_the_figures_of_the_json(cli, finished, log, model):
    found = cli("evaluate", finished[model], "--json", "--ranks", "ranks.csv", "--k", "3,10").json
    ranks = pl.read_csv("ranks.csv")
    assert ranks.columns == ["user_id", "item_id", "rank_seen_kept", "rank_seen_removed"]
    assert ranks.select("user_id", "item_id").rows() == [(user, items[-1]) for user, items in log.items()]
    for protocol in ("seen_kept", "seen_removed"):
        column = ranks[f"rank_{protocol}"]
        assert column.min() >= 1 and column.max() <= ITEMS
        for k in (3, 10):
            hits = [rank for rank in column if rank <= k]
            assert found[protocol][f"HR@{k}"] == pytest.approx(len(hits) / len(log))
            dcg = sum(1 / math.log2(rank + 1) for rank in hits)
            assert found[protocol][f"NDCG@{k}"] == pytest.approx(dcg / len(log))
    assert (found["cases"], found["num_items"], found["part"]) == (30, ITEMS, "test")


def test_parquet_ranks_are_those_of_csv(cli, finished):
    run = finished["diffrec"]
    for name in ("ranks.csv", "ranks.parquet"):
        assert cli("evaluate", run, "--ranks", name).code == 0
    assert pl.read_parquet("ranks.parquet").equals(pl.read_csv("ranks.csv"))


def test_evaluate_prints_a_table_and_the_next_step_works(cli, finished, log):
    result = cli("evaluate", finished["sasrec"])
    assert "30 users, 14 items" in result.out and "HR@10" in result.out
    assert result.next_step == ["seqdiffrec", "recommend", str(finished["sasrec"]), "--user", "101"]
    assert cli(*result.next_step[1:]).code == 0


def test_validation_is_another_question(cli, finished, log):
    cli("evaluate", finished["diffrec"], "--part", "validation", "--ranks", "ranks.csv")
    assert pl.read_csv("ranks.csv")["item_id"].to_list() == [items[-2] for items in log.values()]


def test_evaluate_where_the_corpus_is_gone_takes_the_log_again(cli, finished, run, csv, refused):
    whole = cli("evaluate", run, "--json").json
    for path in (run / "corpus").iterdir():
        path.unlink()
    (run / "corpus").rmdir()
    refused(cli("evaluate", run), "no longer has its corpus", "--data")
    assert cli("evaluate", run, "--data", csv, "--json").json == whole


# recommend


@pytest.mark.parametrize("model", MODELS)
def test_the_list_of_a_history_has_the_target_at_its_rank(cli, finished, log, model):
    """Two ways to the same ranking; they agree where no two items tie, as popularity's do."""
    cli("evaluate", finished[model], "--ranks", "ranks.csv")
    for user, item, kept, _ in pl.read_csv("ranks.csv").rows()[:3]:
        words = ["--history", *log[user][:-1], "-k", ITEMS, "--keep-viewed"]
        rows = recommended(cli, finished[model], *words)
        assert [row["rank"] for row in rows] == list(range(1, ITEMS + 1))
        scores = [row["score"] for row in rows]
        assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1, abs=1e-5)
        target = next(row for row in rows if row["item_id"] == item)
        assert kept == sum(score >= target["score"] for score in scores)


def test_a_user_is_their_history(cli, finished, log):
    for user, history in list(log.items())[:3]:
        by_user = recommended(cli, finished["diffrec"], "--user", user, "-k", 4)
        by_history = recommended(cli, finished["diffrec"], "--history", *history, "-k", 4)
        assert {row.pop("user_id") for row in by_user} == {user}
        assert {row.pop("history") for row in by_history} == {0}
        assert [row["item_id"] for row in by_user] == [row["item_id"] for row in by_history]
        assert [row["score"] for row in by_user] == pytest.approx([row["score"] for row in by_history], rel=1e-5)
        assert not {row["item_id"] for row in by_user} & set(history)


def test_users_may_be_several(cli, finished):
    rows = recommended(cli, finished["sasrec"], "--user", 105, "--user", 101, "-k", 2)
    assert [(row["user_id"], row["rank"]) for row in rows] == [(105, 1), (105, 2), (101, 1), (101, 2)]


def test_forms_of_a_history(cli, finished):
    run = finished["diffrec"]
    expected = recommended(cli, run, "--history", 30, 10, 20)
    assert expected != recommended(cli, run, "--history", 20, 10, 30), "the order matters"
    for words in (
        [run, "--history", 30, "--history", 10, "--history", 20],
        [run, "-k", 10, "--history", 30, 10, 20],
        ["--history", 30, "-k", 10, run, 10, 20],
        [run, "--history=30", 10, 20, "-k10"],
    ):
        assert recommended(cli, *words) == expected


def test_a_history_in_no_clear_order_is_refused(cli, finished, refused):
    refused(cli("recommend", finished["diffrec"], "--history", 30, 10, "--history", 20), "write --history once")


def test_keep_viewed(cli, finished, log):
    user, history = next(iter(log.items()))
    without = recommended(cli, finished["diffrec"], "--user", user, "-k", ITEMS)
    assert len(without) == ITEMS - len(set(history)), "fewer rows than asked for, none of them viewed"
    kept = recommended(cli, finished["diffrec"], "--user", user, "-k", ITEMS, "--keep-viewed")
    assert len(kept) == ITEMS
    assert [row["item_id"] for row in kept if row["item_id"] not in history] == [row["item_id"] for row in without]


def test_unknown_items_are_skipped_with_a_count(cli, finished, caplog):
    run = finished["diffrec"]
    expected = recommended(cli, run, "--history", 10, 20)
    caplog.clear()
    assert recommended(cli, run, "--history", 10, 999, "soap", 20) == expected
    assert "2 of 4 items are unknown and skipped: '999', 'soap'" in caplog.text


def test_a_history_of_unknown_items_gets_popularity_with_a_notice(cli, finished, caplog):
    rows = recommended(cli, finished["diffrec"], "--history", 999, "-k", 5)
    assert "history 0 has no known item: it gets the most popular items" in caplog.text
    popular = recommended(cli, finished["popularity"], "--history", 999, "-k", 5)
    assert rows == popular


def test_the_table_for_people(cli, finished):
    result = cli("recommend", finished["diffrec"], "--user", 101, "-k", 3)
    assert "probability" in result.out and result.out.count("%") == 3
    assert result.next_step == ["seqdiffrec", "info", str(finished["diffrec"])]


# info


@pytest.mark.parametrize("model", MODELS)
def test_info(cli, finished, model):
    run = finished[model]
    record = RunFolder.open(run).record
    result = cli("info", run)
    for part in ("finished", "log: 30 users, 14 items", record["corpus"]["content_hash"], "max_length = ", "torch 2"):
        assert part in result.out
    assert "epoch   1" in result.out and result.out.rstrip().endswith("*")
    assert result.next_step == ["seqdiffrec", "evaluate", str(run)]
    found = cli("info", run, "--json").json
    epochs = found.pop("epochs")
    assert found == record
    assert [row["epoch"] for row in epochs] == [1]


# record and curves


def test_record_and_curves(cli, finished, refused):
    run = finished["diffrec"]
    first = cli("record", run, "--out", "one.json", "--note", "by hand")
    assert first.code == 0 and "NDCG@10" in first.out
    record = json.loads(Path("one.json").read_text())
    evaluated = cli("evaluate", run, "--json").json
    assert cli("record", run, "--out", "two.json", "--json").json == {"record": "two.json", "test": record["test"]}
    assert record["test"]["seen_kept"] == evaluated["seen_kept"]
    assert record["note"] == "by hand" and record["settings"]["model"] == "diffrec"
    drawn = cli(*first.next_step[1:])
    assert (drawn.code, drawn.out) == (0, "curves.svg\n")
    assert "<svg" in Path("curves.svg").read_text()
    assert "<!-- one -->" in Path("curves.svg").read_text(), "a line is called by its file"
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Path(folder, "one.json").write_bytes(Path("one.json").read_bytes())
    assert cli("curves", "a/one.json", "b/one.json", "--out", "both.svg").code == 0
    assert all(f"<!-- {folder}/one.json -->" in Path("both.svg").read_text() for folder in ("a", "b"))
    refused(cli("record", run, "--out", "one.json"), "one.json exists already")
    refused(cli("record", run, "--out", "nowhere/one.json"), "the folder nowhere does not exist")


# index


def test_an_indexed_run_answers_approximately_and_says_so(cli, finished, run, refused, log):
    refused(cli("recommend", run, "--user", 101, "--approximate"), "no index yet", f"seqdiffrec index {run}")
    result = cli("index", run)
    assert "14 items indexed; 100.0% of the exact first ten are found, by 30 histories" in result.out
    assert re.search(r"Ten items for one user take [\d.]+ ms, [\d.]+ by the pass over all", result.out)
    assert result.next_step == ["seqdiffrec", "recommend", str(run), "--user", "101", "--approximate"]
    shown = cli(*result.next_step[1:])
    assert "approximate: 100.0% of the exact first ten" in shown.err and "approximate" not in shown.out
    found = cli("recommend", run, "--user", 101, "--approximate", "--json").json
    assert found["approximate"] is True and found["overlap@10"] == 1
    exact = cli("recommend", run, "--user", 101, "--json").json
    assert exact["approximate"] is False and "overlap@10" not in exact
    items = [[row["item_id"] for row in answer["recommendations"]] for answer in (found, exact)]
    assert items[0] == items[1]


def test_indexing_again_takes_the_place_of_the_old_index(cli, run):
    for histories in (3, 5):
        assert cli("index", run, "--histories", histories, "--json").json["histories"] == histories
    assert len(list(run.glob("index-*.safetensors"))) == 1


def test_what_the_index_takes_is_told(cli, run):
    told = cli("index", run, "--json").json
    assert told["exact_ms"] > 0 and told["approximate_ms"] > 0 and 1 <= told["breadth"] <= 2 * told["cells"]


def test_what_has_no_item_vectors_is_not_indexed(cli, finished, refused):
    refused(cli("index", finished["popularity"]), "popularity has no item vectors")


def test_a_changed_index_is_refused(cli, run, refused):
    cli("index", run)
    path = next(run.glob("index-*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    refused(cli("recommend", run, "--user", 101, "--approximate"), path.name, "changed or swapped")


# similar


def test_similar_items(cli, finished, refused):
    rows = cli("similar", finished["sasrec"], 10, 30, "-k", 3, "--json").json["similar"]
    assert [(row["similar_to"], row["rank"]) for row in rows] == [(10, 1), (10, 2), (10, 3), (30, 1), (30, 2), (30, 3)]
    assert all(-1 <= row["score"] <= 1 and row["item_id"] != row["similar_to"] for row in rows)
    result = cli("similar", finished["sasrec"], 10, 30, "-k", 3)
    assert "similarity" in result.out and f"{rows[0]['score']:.4f}" in result.out
    assert result.next_step[-3:] == ["--history", "10", "30"]
    refused(cli("similar", finished["sasrec"], 7), "7", "not in the catalogue")
    refused(cli("similar", finished["popularity"], 10), "popularity learns nothing about single items")
