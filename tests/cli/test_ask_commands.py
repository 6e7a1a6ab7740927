"""What `recommend` and `score` can be asked beyond a list: seeds, spread, recent items, categories, steps, scores."""

import polars as pl
import pytest


def recommended(cli, *words: object) -> list[dict]:
    return cli("recommend", *words, "--json").json["recommendations"]


def test_seeds_and_their_spread(cli, finished):
    run = finished["diffrec"]
    rows = recommended(cli, run, "--user", 101, "-k", 3, "--seeds", 4, "--spread")
    each = recommended(cli, run, "--user", 101, "-k", 14, "--seeds", 4, "--each-seed")
    assert {row["seed"] for row in each} == {0, 1, 2, 3}
    for row in rows:
        scores = pl.Series([one["score"] for one in each if one["item_id"] == row["item_id"]])
        assert row["score"] == pytest.approx(scores.mean(), rel=1e-4)
        assert row["score_std"] == pytest.approx(scores.std(), rel=1e-3)
    table = cli("recommend", run, "--user", 101, "-k", 3, "--spread")
    assert "score_std" in table.out and table.out.count("%") == 6


@pytest.mark.parametrize("model", ["sasrec", "popularity", "diffrec"])
def test_a_model_without_noise_says_that_there_is_nothing_to_show(cli, finished, model):
    run, whom = finished[model], ["--user", 101]
    for words in (
        ["recommend", run, *whom, "--spread"],
        ["recommend", run, *whom, "--each-seed"],
        ["score", run, *whom, "--item", 10, "--spread", "--json"],
        ["recommend", run, *whom],
    ):
        result = cli(*words)
        told = [line for line in result.err.splitlines() if "draws no noise" in line]
        wanted = model != "diffrec" and ("--spread" in words or "--each-seed" in words)
        assert result.code == 0 and len(told) == wanted
        if wanted:
            name = "SASRec" if model == "sasrec" else "Popularity"
            assert told[0].startswith(f"{name} draws no noise here: the spread is 0")


def test_a_history_that_goes_on(cli, finished, log):
    run = finished["diffrec"]
    known = recommended(cli, run, "--user", 101, "--recent", 10, 20, "-k", 3)
    whole = recommended(cli, run, "--history", *log[101], 10, 20, "-k", 3)
    assert [row["item_id"] for row in known] == [row["item_id"] for row in whole]
    new = recommended(cli, run, "--user", 7, "--recent", 10, "-k", 2)
    assert [row["user_id"] for row in new] == [7, 7]


def test_one_after_another(cli, finished):
    run = finished["diffrec"]
    rows = recommended(cli, run, "--history", 10, 20, "--steps", 3)
    assert [row["step"] for row in rows] == [1, 2, 3]
    first = recommended(cli, run, "--history", 10, 20, rows[0]["item_id"], "-k", 1)
    assert rows[1]["item_id"] == first[0]["item_id"]
    drawn = [recommended(cli, run, "--history", 10, "--steps", 6, "--sample", seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_by_category_and_without_an_item(cli, csv, train, refused):
    genres = "item_id,category\n" + "\n".join(
        f"{item},{'even' if item % 20 == 0 else 'odd'}" for item in range(10, 150, 10)
    )
    (csv.parent / "items.csv").write_text(genres + "\n")
    assert train(csv, "--items", "items.csv", model="popularity").code == 0
    rows = recommended(cli, "run", "--history", 999, "-k", 14, "--category", "even", "--exclude", 40)
    assert {row["item_id"] for row in rows} == {20, 60, 80, 100, 120, 140}
    refused(cli("recommend", "run", "--history", 10, "--category", "evne"), "did you mean even?")


def test_scores_of_given_items(cli, finished, refused):
    run = finished["diffrec"]
    rows = cli("score", run, "--item", 30, "--item", 10, "--history", 20, 40, "--json").json["scores"]
    everything = recommended(cli, run, "--history", 20, 40, "-k", 14, "--keep-viewed")
    for row, item in zip(rows, (30, 10), strict=True):
        same = next(one for one in everything if one["item_id"] == item)
        assert (row["item_id"], row["rank"], row["score"]) == (
            item,
            same["rank"],
            pytest.approx(same["score"], rel=1e-4),
        )
    table = cli("score", run, "--item", 30, "--user", 101, "--spread")
    assert "probability" in table.out and table.next_step[1] == "similar"
    refused(cli("score", run, "--user", 101), "say which items to score", "--item ID")
    refused(cli("score", run, "--item", 7, "--user", 101), "items ['7'] are not in the catalogue")


@pytest.mark.parametrize(
    ("words", "needles"),
    [
        (["--history", 10, "--recent", 20], ["--recent goes with --user"]),
        (["--user", 101, "--user", 102, "--recent", 20], ["give --user once"]),
        (["--user", 101, "--recent", 20, 10, "--recent", 30], ["write --recent once"]),
        (["--user", 101, 10], ["say for whom"]),
        (["--user", 101, "--steps", 2, "--each-seed"], ["--each-seed and --steps"]),
        (["--user", 101, "--steps", 2, "--spread"], ["--each-seed and --steps"]),
        (["--user", 101, "--steps", 0], ["steps is 0"]),
        (["--user", 101, "--sample", 1], ["--sample", "--steps"]),
        (["--user", 101, "--seeds", -1], ["num_seeds is -1"]),
        (["--user", 101, "--seeds", 1, "--spread"], ["num_seeds of 2 or more"]),
        (["--user", "anna", "--recent", 10], ["not of type Int64"]),
    ],
)
def test_what_cannot_be_asked(cli, finished, refused, words, needles):
    refused(cli("recommend", finished["diffrec"], *words), *needles)
