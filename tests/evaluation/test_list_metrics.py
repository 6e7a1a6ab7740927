"""Metrics of lists and frames: against the worked examples of RecTools' and RePlay's docs, pytrec-eval, brute force."""

import math
from itertools import combinations

import numpy as np
import pandas as pd
import polars as pl
import pytest
import pytrec_eval
from hypothesis import given, strategies as st

import seqdiffrec as sdr
from seqdiffrec.evaluation import background as of_background
from seqdiffrec.evaluation.background import Background, Categories
from seqdiffrec.evaluation.lists import category_divergence, diversity, gini, list_metrics, mean_of
from seqdiffrec.evaluation.metrics import accuracy, hit_rate, mrr, ndcg


def pairs(rows, *names: str) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["user_id", "item_id", *names], orient="row")


def ranked(lists: dict) -> pl.DataFrame:
    return pairs([(user, item, place) for user, items in lists.items() for place, item in enumerate(items, 1)], "rank")


def each(lists: dict) -> pl.DataFrame:
    return pairs([(user, item) for user, items in lists.items() for item in items])


# The example in the docstrings of RePlay's metrics (replay/metrics, 0.20): recommendations, groundtruth, train.
REPLAY = {1: [3, 7, 10, 11, 2], 2: [5, 8, 11, 1, 3], 3: [4, 9, 2]}
REPLAY_TRUTH = {1: [5, 6, 7, 8, 9, 10], 2: [6, 7, 4, 10, 11], 3: [1, 2, 3, 4, 5]}
REPLAY_TRAIN = {1: [5, 6, 8, 9, 2], 2: [5, 8, 11, 1, 3], 3: [4, 9, 2]}
# The example in the docstrings of RecTools' MAP and NDCG (rectools/metrics/ranking.py).
RECTOOLS = {1: [7, 8], 2: [1, 2], 3: [1, 2, 3, 4], 4: [1, 2, 3]}
RECTOOLS_TRUTH = {1: [1, 2], 2: [1], 3: [1, 3, 4], 4: [1, 2, 3]}


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("HR", 0.6666666666666666),
        ("Precision", 0.3333333333333333),
        ("Recall", 0.12222222222222223),
        ("MAP", 0.25),
        ("MRR", 0.5),
        ("NDCG", 0.3333333333333333),
        ("Coverage", 0.5555555555555556),
    ],
)
def test_the_example_of_replay(name: str, published: float) -> None:
    found = sdr.metrics(ranked(REPLAY), each(REPLAY_TRUTH), ks=[2], before=each(REPLAY_TRAIN))
    assert found[f"{name}@2"].value == pytest.approx(published, abs=1e-15)


def test_novelty_is_replays_surprisal_before_it_is_normalised() -> None:
    found = sdr.metrics(ranked(REPLAY), ks=[2], before=each(REPLAY_TRAIN))["Novelty@2"]
    assert found.value / math.log2(3) == pytest.approx(0.6845351232142715)
    # Its interval is the half width of the normal one, 0.3569755541728279 by their docs, of the deviation over n - 1.
    assert (found.high - found.value) / math.log2(3) == pytest.approx(0.3569755541728279, rel=1e-5)
    assert found.users == 3


def test_the_example_of_rectools() -> None:
    def per_user(k: int) -> dict[str, list[float]]:
        users = {
            user: sdr.metrics(ranked({user: RECTOOLS[user]}), each({user: RECTOOLS_TRUTH[user]}), ks=[k])
            for user in RECTOOLS
        }
        return {name: [users[user][f"{name}@{k}"].value for user in RECTOOLS] for name in ("MAP", "NDCG")}

    # AP@K: RecTools divides by the number of relevant items, 3 for the last two users, and we by the most hits that K
    # places have room for, so that a perfect list has 1. At K = 3 there is room for all, and the two are the same.
    assert per_user(3)["MAP"] == pytest.approx([0, 1, 0.55555556, 1])
    assert np.array(per_user(1)["MAP"]) / [1, 1, 3, 3] == pytest.approx([0, 1, 0.33333333, 0.33333333])
    # NDCG@K: RecTools takes K relevant items as the ideal, whatever the user has; we what the user has. Same where K.
    theirs = [0, 0.46927873, 0.70391809, 1]
    assert [per_user(3)["NDCG"][user] for user in (0, 2, 3)] == pytest.approx([theirs[0], theirs[2], theirs[3]])
    assert per_user(3)["NDCG"][1] == pytest.approx(1) and 1 / sum(1 / math.log2(i + 1) for i in (1, 2, 3)) == (
        pytest.approx(theirs[1])
    )


def test_novelty_and_popularity_of_rectools_examples() -> None:
    def per_user(lists: dict, before: dict, name: str, k: int) -> list[float]:
        return [sdr.metrics(ranked({u: lists[u]}), ks=[k], before=each(before))[f"{name}@{k}"].value for u in lists]

    # MeanInvUserFreq (rectools/metrics/novelty.py); item 3 is cold, and counts as taken by one.
    lists, before = {1: [3], 2: [2, 3], 3: [1, 2]}, {1: [1, 2], 2: [1], 3: [1]}
    assert per_user(lists, before, "Novelty", 1) == pytest.approx([1.5849625, 1.5849625, 0])
    assert per_user(lists, before, "Novelty", 3) == pytest.approx([1.5849625, 1.5849625, 0.79248125])
    # AvgRecPopularity (rectools/metrics/popularity.py).
    lists, before = {1: [1, 2], 2: [3, 1, 2], 3: [3, 2]}, {1: [1, 2], 2: [1, 3], 3: [1, 2]}
    assert per_user(lists, before, "Popularity", 1) == [3, 1, 1]
    assert per_user(lists, before, "Popularity", 3) == pytest.approx([2.5, 2, 1.5])


@st.composite
def relevance(draw: st.DrawFn) -> tuple[list[list[int]], list[set[int]]]:
    """Lists of different lengths without repeats, and what is relevant to their users."""
    users = draw(st.integers(1, 5))
    item = st.integers(1, 12)
    lists = [draw(st.lists(item, unique=True, min_size=1, max_size=8)) for _ in range(users)]
    return lists, [draw(st.sets(item, min_size=1, max_size=9)) for _ in range(users)]


@given(relevance(), st.sampled_from([1, 3, 5, 10]))
def test_equals_pytrec_eval_with_any_number_of_relevant_items(problem, k: int) -> None:
    lists, relevant = problem
    found = sdr.metrics(ranked(dict(enumerate(lists))), each(dict(enumerate(relevant))), ks=[k])
    names = {"HR": "success", "Recall": "recall", "Precision": "P", "NDCG": "ndcg_cut", "MAP": "map_cut"}
    truth = {str(user): {str(item): 1 for item in items} for user, items in enumerate(relevant)}
    runs = {str(user): {str(item): -float(at) for at, item in enumerate(items)} for user, items in enumerate(lists)}
    theirs = pytrec_eval.RelevanceEvaluator(truth, {f"{name}.{k}" for name in names.values()}).evaluate(runs)
    for name, trec in names.items():
        values = np.array([theirs[str(user)][f"{trec}_{k}"] for user in range(len(lists))])
        if name == "MAP":  # theirs is divided by all relevant items, ours by those that K places have room for
            values *= [len(items) / min(len(items), k) for items in relevant]
        assert found[f"{name}@{k}"].value == pytest.approx(values.mean(), abs=1e-6)
    first = [
        next((1 / at for at, item in enumerate(one[:k], 1) if item in truth), 0)
        for one, truth in zip(*problem, strict=True)
    ]
    assert found[f"MRR@{k}"].value == pytest.approx(np.mean(first))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 20))
def test_with_one_relevant_item_the_definitions_meet_those_by_rank(values: list[int], k: int) -> None:
    ranks = np.array(values)
    hits = ranks[:, None] == np.arange(1, k + 1)
    mean = {name: float(one.mean()) for name, one in accuracy(hits, np.ones(len(ranks), np.int64)).items()}
    assert mean["HR"] == mean["Recall"] == pytest.approx(hit_rate(ranks, k)) == pytest.approx(k * mean["Precision"])
    assert mean["MAP"] == pytest.approx(mean["MRR"]) == pytest.approx(mrr(ranks, k))
    assert mean["NDCG"] == pytest.approx(ndcg(ranks, k))


def test_who_counts() -> None:
    # b took something and got no list: 0. c got a list and took nothing: not in the accuracy, but covers an item.
    found = sdr.metrics(
        ranked({"a": ["x"], "c": ["y"]}), each({"a": ["x", "x"], "b": ["x"]}), ks=[1], items=["x", "y", "z"]
    )
    assert (found["HR@1"].value, found["HR@1"].users) == (0.5, 2)
    assert found["Recall@1"].value == 0.5  # a's item stands twice in the truth and is one
    assert found["Coverage@1"].value == pytest.approx(2 / 3)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any))
def test_gini_is_half_the_relative_mean_difference(exposure: list[int]) -> None:
    x = np.array(exposure)
    by_hand = np.abs(x[:, None] - x[None]).mean() / (2 * x.mean())
    assert gini(x) == pytest.approx(by_hand)


def test_exposure_by_hand() -> None:
    lists = np.array([[1, 2], [1, 3], [1, 0]], np.int32)
    found = list_metrics(lists, 5)
    assert found["Coverage"].value == 3 / 5
    # Places: item 1 three, 2 and 3 one, 4 and 5 none. In rising order 0 0 1 1 3: (0 + 0 + 0 + 2 + 12) / (5 * 5).
    assert found["Gini"].value == pytest.approx(14 / 25)
    assert (found["Gini"].low, found["Gini"].users) == (None, 3)
    assert list_metrics(lists, 0) == {}  # no catalogue, no share of it


def test_popular_items_are_the_fifth_that_most_people_took() -> None:
    rows = [0, 0, 0, 1, 1, 2, 2, 2, 3]
    items = [1, 2, 2, 1, 3, 1, 3, 4, 5]
    background = Background.of(np.array(rows), np.array(items), 6)
    assert background.users.tolist() == [0, 3, 1, 2, 1, 1, 0]  # 2 was taken twice by one person
    assert np.flatnonzero(background.head).tolist() == [1, 3]  # ceil(6 / 5)
    lists = np.array([[1, 2, 3], [4, 6, 0], [0, 0, 0]], np.int32)
    found = list_metrics(lists, 6, background)
    assert found["HeadShare"].value == pytest.approx((2 / 3 + 0) / 2) and found["HeadShare"].users == 2
    assert found["Popularity"].value == pytest.approx((2 + 0.5) / 2)
    bits = [math.log2(4 / max(users, 1)) for users in background.users]
    assert found["Novelty"].value == pytest.approx(((bits[1] + bits[2] + bits[3]) / 3 + (bits[4] + bits[6]) / 2) / 2)


@st.composite
def lists_and_log(draw: st.DrawFn) -> tuple[np.ndarray, list[tuple[int, int]], list[list[str]]]:
    items = draw(st.integers(2, 8))
    item = st.integers(1, items)
    lists = np.zeros((draw(st.integers(1, 5)), 4), np.int32)
    for row in lists:
        chosen = draw(st.lists(item, unique=True, max_size=4))
        row[: len(chosen)] = chosen
    log = draw(st.lists(st.tuples(st.integers(0, 5), item), min_size=1, max_size=25))
    names = st.lists(st.sampled_from("abc"), unique=True, max_size=3)
    return lists, log, [draw(names) for _ in range(items)]


@given(lists_and_log())
def test_diversity_by_brute_force(problem) -> None:
    lists, log, categories = problem
    rows, items = (np.array(part) for part in zip(*log, strict=True))
    background = Background.of(rows, items, len(categories))

    def cosine(i: int, j: int) -> float:
        a, b = ({user for user, item in log if item == one} for one in (i, j))
        return len(a & b) / math.sqrt(len(a) * len(b)) if a and b else 0.0

    def jaccard(i: int, j: int) -> float:
        a, b = set(categories[i - 1]), set(categories[j - 1])
        return len(a & b) / len(a | b) if a | b else 0.0

    def by_hand(alike) -> list[float]:
        each = [[1 - alike(i, j) for i, j in combinations([i for i in row if i], 2)] for row in lists.tolist()]
        return [np.mean(distances) if distances else math.nan for distances in each]

    assert diversity(lists, background.similarity) == pytest.approx(by_hand(cosine), nan_ok=True, abs=1e-6)
    if any(categories):
        of_items = Categories.of(pl.Series([names or None for names in categories], dtype=pl.List(pl.String)))
        assert diversity(lists, of_items.similarity) == pytest.approx(by_hand(jaccard), nan_ok=True, abs=1e-12)


@given(lists_and_log(), st.lists(st.lists(st.integers(1, 2), max_size=4), min_size=5, max_size=5))
def test_category_divergence_by_brute_force(problem, histories) -> None:
    lists, _, categories = problem
    if not any(categories):
        return
    of_items = Categories.of(pl.Series([names or None for names in categories], dtype=pl.List(pl.String)))

    def distribution(items: list[int]) -> dict[str, float] | None:
        known = [categories[item - 1] for item in items if categories[item - 1]]
        return {g: sum((g in one) / len(one) for one in known) / len(known) for g in "abc"} if known else None

    expected = []
    for row, history in zip(lists.tolist(), histories, strict=False):
        p, q = distribution(history), distribution([item for item in row if item])
        expected.append(
            math.nan
            if p is None or q is None
            else sum(p[g] * math.log(p[g] / (0.99 * q[g] + 0.01 * p[g])) for g in "abc" if p[g] > 0)
        )
    rows = np.repeat(np.arange(len(lists)), [len(history) for history in histories[: len(lists)]])
    items = np.array([item for history in histories[: len(lists)] for item in history], np.int32)
    shuffled = np.random.default_rng(0).permutation(len(rows))
    found = category_divergence(lists, (rows[shuffled], items[shuffled]), of_items)
    assert found == pytest.approx(expected, nan_ok=True, abs=1e-12)


def test_steck_by_hand() -> None:
    """70 % a, 30 % b in the history (the shares of Steck's introduction), and a list of a alone."""
    of_items = Categories.of(pl.Series([["a"], ["b"]]))
    history = (np.zeros(10, np.int64), np.array([1] * 7 + [2] * 3, np.int32))
    (found,) = category_divergence(np.array([[1]], np.int32), history, of_items)
    assert found == pytest.approx(0.7 * math.log(0.7 / 0.997) + 0.3 * math.log(0.3 / 0.003))
    even = category_divergence(np.array([[1] * 7 + [2] * 3], np.int32), history, of_items)
    assert even == pytest.approx([0.0], abs=1e-15)


def test_blocks_change_nothing(monkeypatch) -> None:
    rng = np.random.default_rng(5)
    lists = np.array([rng.permutation(30)[:6] for _ in range(40)], np.int32)
    background = Background.of(rng.integers(0, 20, 300), rng.integers(1, 30, 300), 30)
    of_items = Categories.of(pl.Series([rng.choice(list("abcdef"), 2, replace=False).tolist() for _ in range(30)]))
    history = (rng.integers(0, 40, 200), rng.integers(1, 30, 200).astype(np.int32))
    whole = list_metrics(lists, 30, background, of_items, history), diversity(lists, background.similarity)
    for name in ("lists.AT_ONCE", "background.PAIRS_AT_ONCE"):
        monkeypatch.setattr(f"seqdiffrec.evaluation.{name}", 20)
    parts = list_metrics(lists, 30, background, of_items, history), diversity(lists, background.similarity)
    assert parts[0] == whole[0] and parts[1] == pytest.approx(whole[1], nan_ok=True)


def test_with_too_many_pairs_people_are_drawn(monkeypatch) -> None:
    rows, items = np.repeat(np.arange(400), 10), np.random.default_rng(0).integers(1, 6, 4000)
    background = Background.of(rows, items, 5)
    first, second = np.array([1, 1, 2]), np.array([2, 5, 3])
    whole = background.similarity(first, second)
    monkeypatch.setattr(of_background, "PAIRS_AT_MOST", 400 * 8)  # of about 400 * 25
    drawn = background.similarity(first, second)
    assert drawn.tolist() != whole.tolist() and drawn == pytest.approx(whole, abs=0.1)


def test_a_mean_skips_what_is_not_there() -> None:
    values = np.array([0.0, 2.0, 4.0])
    assert mean_of(values, np.array([[1, 2], [2, 0], [0, 0]], np.int32)) == pytest.approx([3, 4, math.nan], nan_ok=True)


def test_frames_of_any_kind_and_ids_of_any_type_give_the_same() -> None:
    polars = sdr.metrics(ranked(REPLAY), each(REPLAY_TRUTH), ks=[2, 3], before=each(REPLAY_TRAIN))
    small = {"user_id": pl.Int8, "item_id": pl.Int16}
    frames = [ranked(REPLAY).cast(small).to_pandas(), each(REPLAY_TRUTH).to_arrow()]
    assert sdr.metrics(*frames, ks=[2, 3], before=each(REPLAY_TRAIN).to_pandas()) == polars
    texts = pl.col("user_id", "item_id").cast(pl.String)
    named = [frame.with_columns(texts) for frame in (ranked(REPLAY), each(REPLAY_TRUTH), each(REPLAY_TRAIN))]
    assert (
        sdr.metrics(*named[:2], ks=[2, 3], before=named[2].with_columns(pl.col("item_id").cast(pl.Categorical)))
        == polars
    )


def test_categories_as_a_mapping_and_as_a_frame() -> None:
    genres = {3: ["a"], 7: ["b"], 10: "a", 11: ["a", "b"], 5: "b"}
    frame = pl.DataFrame({"item_id": list(genres), "category": ["a", "b", "a", "a|b", "b"]})
    found = sdr.metrics(ranked(REPLAY), before=each(REPLAY_TRAIN), categories=genres, ks=[3])
    assert found == sdr.metrics(ranked(REPLAY), before=each(REPLAY_TRAIN), categories=frame.to_pandas(), ks=[3])
    assert found["CategoryKL@3"].users == 1 + 1  # the third user has no item with a category
    without = sdr.metrics(ranked(REPLAY), before=each(REPLAY_TRAIN), ks=[3])
    assert found["Diversity@3"] != without["Diversity@3"] and "CategoryKL@3" not in without


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recommended": pairs([(1, 2)])}, "recommended has no column 'rank'"),
        ({"recommended": pairs([(1, 2, 0)], "rank")}, "rank has to be a whole number from 1"),
        ({"recommended": pairs([(1, 2, 1.5)], "rank")}, "rank has to be a whole number from 1"),
        ({"recommended": pairs([(1, 2, 1), (1, 2, 2)], "rank")}, "user 1 has item_id 2 more than once"),
        ({"recommended": pairs([(1, 2, 1), (1, 3, 1)], "rank")}, "user 1 has rank 1 more than once"),
        ({"recommended": pairs([(1, None, 1)], "rank")}, "item_id is (empty in row 0|of type)"),
        ({"recommended": pairs([(1.5, 2, 1)], "rank")}, "user_id is of type Float64"),
        ({"recommended": [1, 2]}, "recommended is a list; give a frame"),
        ({"taken": pairs([("1", 2)])}, "user_id is of different types, Int64 and String"),
        ({"taken": pairs([(1, "2")])}, "item_id is of different types, Int64 and String"),
        ({"taken": pairs([]).cast(pl.Int64)}, "taken has no rows"),
        ({"categories": {99: "a"}}, "none of the items has a category"),
        ({"categories": {"2": "a"}}, "item_id is of different types"),
        ({"categories": pd.DataFrame({"item_id": [1], "title": ["a"]})}, "need a column category or categories"),
    ],
)
def test_frames_that_cannot_be_used_are_refused(changes: dict, message: str) -> None:
    given = {"recommended": pairs([(1, 2, 1)], "rank"), "taken": pairs([(1, 2)]), **changes}
    with pytest.raises(sdr.DataError, match=message):
        sdr.metrics(**given)


def test_a_cutoff_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="integer of at least 1, not 0"):
        sdr.metrics(ranked(REPLAY), ks=[0])
    with pytest.raises(ValueError, match="at least one relevant"):
        accuracy(np.ones((1, 1), np.bool_), np.array([0]))
