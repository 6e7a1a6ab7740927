"""Items added to a trained model, and models that go on from their weights with what happened since."""

import numpy as np
import polars as pl
import pytest
import torch

import seqdiffrec as sdr
from seqdiffrec.data.growth import Longer
from seqdiffrec.inference.growing import beside_in_log, learned_before, to_learn
from seqdiffrec.models.mfgan import category_numbers
from seqdiffrec.training import Reporter

QUIET = {"reporter": Reporter()}
SMALL = {"hidden_size": 16, "num_layers": 1, "max_length": 16, "device": "cpu", "embedding_std": 0.3, "dropout": 0.0}


def chains(users: range, length: int, start: int = 0) -> pl.DataFrame:
    """Users who take a, b, c, d, e, f, a, ... each from another place on, at rising times."""
    rows = [(f"u{user}", "abcdef"[(user + place) % 6], start + place) for user in users for place in range(length)]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


@pytest.fixture(scope="module")
def data() -> sdr.Dataset:
    kinds = {"a": "vowel|letter", "b": "stop|letter", "c": "letter", "d": "stop|letter", "e": "vowel|letter"}
    table = pl.DataFrame({"item_id": list(kinds), "category": list(kinds.values()), "title": list("ABCDE")})
    return sdr.Dataset.from_interactions(chains(range(24), 9), items=table)


@pytest.fixture(scope="module")
def chain(data) -> sdr.Recommender:
    """A model that knows the chain."""
    return sdr.SASRec(**SMALL, epochs=6, batch_size=16, learning_rate=0.01).fit(data, **QUIET)


def scores(model: sdr.Recommender, history: list[str]) -> dict[str, float]:
    found = model.recommend_sequences([history], model.model.num_items, filter_viewed=False)
    return dict(zip(found["item_id"], found["score"], strict=True))


# add_items


@pytest.mark.parametrize("tied", [False, True])
def test_a_new_item_has_the_geometric_mean_of_its_neighbours(data, tied):
    model = sdr.SASRec(**SMALL, epochs=1, tied_output=tied).fit(data, **QUIET)
    grown = model.add_items({"new": ["b", "d"], "twin": ["e"]})
    for history in (["a", "b", "c"], ["f"]):
        before, after = scores(model, history), scores(grown, history)
        new = (before["b"] * before["d"]) ** 0.5
        total = 1 + new + before["e"]
        assert after["new"] == pytest.approx(new / total, rel=1e-4)
        assert after["twin"] == pytest.approx(before["e"] / total, rel=1e-4)
        for item in "abcdef":
            assert after[item] == pytest.approx(before[item] / total, rel=1e-4)


def test_where_a_new_item_comes_up(chain):
    """A twin of d comes after c, where d comes, far above chance; as history it leads to what follows d."""
    grown = chain.add_items({"twin": ["d"]})
    assert scores(chain, ["a", "b", "c"])["d"] > 0.5
    assert scores(grown, ["a", "b", "c"])["twin"] > 0.25
    assert scores(grown, ["e", "f", "a"])["twin"] < 0.1
    assert max(scores(grown, ["b", "c", "twin"]).items(), key=lambda one: one[1])[0] == "e"


def test_the_run_and_the_model_it_came_from(chain, tmp_path):
    chain.save(tmp_path / "run")
    before = {name: tensor.clone() for name, tensor in chain.model.state_dict().items()}
    files = {path: path.read_bytes() for path in sorted((tmp_path / "run").rglob("*")) if path.is_file()}
    grown = sdr.load(tmp_path / "run").add_items({"new": ["b", "d"]})
    grown.save(tmp_path / "grown")
    assert files == {path: path.read_bytes() for path in sorted((tmp_path / "run").rglob("*")) if path.is_file()}
    again = sdr.load(tmp_path / "grown")
    assert again.run.record["grown_from"]["run"] == "run" and again.run.record["grown_from"]["items_added"] == 1
    assert again.vocabulary["item_id"].to_list()[6:] == ["new"]
    assert again.recommend(["u1"], 7, filter_viewed=False).equals(grown.recommend(["u1"], 7, filter_viewed=False))
    assert all(torch.equal(before[name], tensor) for name, tensor in chain.model.state_dict().items())
    assert again.recommend_sequences([[]], 7)["item_id"][-1] == "new", "nobody has had it"
    assert again.evaluate(sdr.Dataset.of(again.corpus))["num_items"] == 7


def test_by_the_categories_that_are_shared(chain):
    table = pl.DataFrame(
        {"item_id": ["t", "i", "a"], "category": ["stop|letter", "vowel", "known"], "title": ["T", "I", "?"]}
    )
    found = chain.add_items({"x": ["c"]}, items=table)
    by_name = chain.add_items({"x": ["c"], "t": ["b", "d"], "i": ["a", "e"]})
    assert scores(found, ["a", "b"]) == scores(by_name, ["a", "b"])
    assert found.vocabulary.rows()[6:] == [("x", None, None), ("t", "T", ["stop", "letter"]), ("i", "I", ["vowel"])]
    assert found.recommend(["u1"], 3, categories=["vowel"], filter_viewed=False).height == 3
    with pytest.raises(sdr.SettingError, match="item 'q' shares no category with a known item"):
        chain.add_items(items=pl.DataFrame({"item_id": ["q"], "category": ["odd"]}))


def test_the_other_models_grow_too(data):
    for name in ("DiffRec", "BERT4Rec", "GRU4Rec", "CL4SRec", "DuoRec", "STOSA", "VSAN", "ACVAE", "MFGAN"):
        model = getattr(sdr, name)(hidden_size=8, epochs=1, max_length=5).fit(data, **QUIET)
        after, before = scores(model.add_items({"twin": ["b"]}), ["a", "b"]), scores(model, ["a", "b"])
        assert after["twin"] == pytest.approx(after["b"], rel=1e-4)
        assert after["b"] == pytest.approx(before["b"] / (1 + before["b"]), rel=1e-3)


GAME = {"pretraining_epochs": 0, "discriminator_pretraining_epochs": 1, "generator_epochs": 1, "num_buckets": 2}


@pytest.mark.parametrize("with_categories", [True, False])
def test_the_discriminators_grow_too(data, tmp_path, with_categories):
    """A new item is to them what its neighbours are; a category keeps its vector when others become more frequent."""
    log = data if with_categories else sdr.Dataset.from_interactions(chains(range(24), 9))
    model = sdr.MFGAN(**SMALL | GAME, epochs=2, batch_size=16).fit(log, **QUIET)
    model.save(tmp_path / "run")
    news = {"item_id": [f"new{number}" for number in range(9)], "category": ["stop|odd"] * 9}
    table = pl.DataFrame(news) if with_categories else None
    grown = sdr.load(tmp_path / "run").add_items({news["item_id"][0]: ["b", "d"], "x": ["c"]}, items=table)
    before, after = (one.model.discriminators["item"].embedding.weight for one in (model, grown))
    assert torch.equal(after[:7], before)
    assert torch.allclose(after[7], (before[2] + before[4]) / 2) and torch.equal(after[8], before[3])
    if with_categories:
        old, new = (category_numbers(one.corpus.categories.to_list(), 1000) for one in (model, grown))
        assert old["letter"] == new["stop"] == 1 and len(new) == len(old) + 1
        before, after = (one.model.discriminators["categories"].embedding.weight for one in (model, grown))
        assert all(torch.equal(after[new[name]], before[old[name]]) for name in old)
        assert len(torch.unique(after[: len(new) + 1], dim=0)) == len(new) + 1, "the new one has a vector of its own"
    grown.save(tmp_path / "grown")
    since = pl.DataFrame(
        [("u1", item, 100 + place) for place, item in enumerate(["b", "new0", "y", "c"])],
        schema=["user_id", "item_id", "timestamp"],
        orient="row",
    )
    updated = sdr.load(tmp_path / "grown").fit_partial(since, epochs=2, **QUIET)
    values = updated.model.discriminators["categories"].values
    if with_categories:
        names = {number: name for name, number in new.items()}
        known = [[names[number] for number in row if number] for row in values[1:].tolist()]
        wanted = [list(one or ()) for one in updated.corpus.categories.to_list()]
        assert known == wanted
    else:
        assert values is None
    assert updated.model.discriminators["item"].values[:, 0].tolist() == list(range(updated.corpus.num_items + 1))


def test_what_cannot_be_added(chain, data):
    with pytest.raises(sdr.SettingError, match=r"items \['q'\] are not in the catalogue of 6 items"):
        chain.add_items({"x": ["q"]})
    with pytest.raises(sdr.SettingError, match="item 'x' has no neighbours"):
        chain.add_items({"x": []})
    with pytest.raises(sdr.SettingError, match="there are no new items"):
        chain.add_items(items=pl.DataFrame({"item_id": ["a"], "category": ["letter"]}))
    with pytest.raises(sdr.DataError, match="item 'a' is in the catalogue already"):
        chain.add_items({"a": ["b"]})
    with pytest.raises(sdr.DataError, match="not of type String"):
        chain.add_items({7: ["b"]})
    with pytest.raises(sdr.SettingError, match="popularity has no item vectors"):
        sdr.Popularity().fit(data, **QUIET).add_items({"x": ["b"]})


# fit_partial


def test_what_is_new_is_learned_and_the_old_is_kept(chain):
    """Since then x comes after b, c, for old users and for new ones; what they did not touch stays."""
    since = pl.DataFrame(
        [(f"u{user}", item, 100 + place) for user in (*range(6), *range(90, 100)) for place, item in enumerate("bcxe")],
        schema=["user_id", "item_id", "timestamp"],
        orient="row",
    )
    before = {name: tensor.clone() for name, tensor in chain.model.state_dict().items()}
    grown = chain.fit_partial(since, epochs=10, learning_rate=0.005, **QUIET)
    assert scores(chain.add_items({"x": list("abcdef")}), ["b", "c"])["x"] < 0.1
    assert scores(grown, ["b", "c"])["x"] > 0.4
    assert max(scores(grown, list("abcde")).items(), key=lambda one: one[1])[0] == "f"
    assert grown.recommend(["u95"], 3).height == 3
    assert all(torch.equal(before[name], tensor) for name, tensor in chain.model.state_dict().items())
    assert grown.model.item_counts.tolist()[-1] == 16, "all actions count, not only those that were trained"
    with pytest.raises(sdr.RunError, match="trained on the whole log"):
        grown.evaluate(sdr.Dataset.of(grown.corpus))


GENERATOR = {"recommendation", "policy", "reward"}


@pytest.mark.parametrize(
    ("game", "phase"),
    [
        ({"pretraining_epochs": 3}, {"recommendation"}),
        ({"pretraining_epochs": 2}, GENERATOR),  # the discriminators' pre-training would be next
        ({"pretraining_epochs": 0, "discriminator_pretraining_epochs": 1, "generator_epochs": 1}, GENERATOR),
        ({"pretraining_epochs": 0, "discriminator_pretraining_epochs": 0, "generator_epochs": 1.5}, GENERATOR),
    ],
)
def test_an_update_of_mfgan_teaches_the_generator(data, game, phase):
    """Two epochs are done, however short those of the update are."""
    settings = SMALL | GAME | game
    model = sdr.MFGAN(**settings, epochs=2, batch_size=16).fit(data.whole(), **QUIET)
    grown = model.fit_partial(chains(range(1), 4, start=50), epochs=1, old_share=0.0, **QUIET)
    assert grown.state.history[0]["targets"] < 24 * 6
    assert set(grown.state.history[0]["train"]) == {"loss"} | phase


def test_an_update_is_a_run(chain, tmp_path):
    chain.save(tmp_path / "run")
    grown = sdr.load(tmp_path / "run").fit_partial(
        chains(range(3), 4, start=50), epochs=1, out=tmp_path / "new", **QUIET
    )
    record = sdr.load(tmp_path / "new").run.record
    assert record["grown_from"] | {"weights": None} == {
        "run": "run",
        "weights": None,
        "actions": 12,
        "users_added": 0,
        "items_added": 0,
        "epochs": 1,
        "learning_rate": pytest.approx(0.3 * 0.01),
        "old_share": 1.0,
    }
    assert (
        sdr.load(tmp_path / "new")
        .recommend(["u1"], 3, filter_viewed=False)
        .equals(grown.recommend(["u1"], 3, filter_viewed=False))
    )
    assert len(grown.state.history) == 1
    again = sdr.load(tmp_path / "new").fit_partial(chains(range(2), 4, start=70), epochs=1, **QUIET)
    assert again.corpus.num_actions == 24 * 9 + 12 + 8
    with pytest.raises(sdr.RunError, match="exists already"):
        chain.fit_partial(chains(range(3), 4, start=50), out=tmp_path / "new", **QUIET)
    with pytest.raises(sdr.DataError, match="none of its 27 actions is new"):
        chain.fit_partial(chains(range(3), 9), **QUIET)


@pytest.mark.parametrize("how", ["whole", "loaded", "updated", "pretrained", "with a new item"])
def test_a_model_of_the_whole_log_is_judged_in_no_way(data, tmp_path, how):
    """The same from Python as from the command line: the figures would be those of what it has learned."""
    model = sdr.Popularity().fit(data.whole(), **QUIET)
    if how == "updated":
        model = sdr.Popularity().fit(data, **QUIET).fit_partial(chains(range(3), 4, start=50), **QUIET)
    elif how == "with a new item":
        fitted = sdr.SASRec(hidden_size=8, num_layers=1, epochs=1).fit(data.whole(), **QUIET)
        model = fitted.add_items({"x": ["a"]})
    elif how != "whole":
        (model.save if how == "loaded" else model.save_pretrained)(tmp_path / "run")
        model = sdr.load(tmp_path / "run") if how == "loaded" else sdr.Recommender.from_pretrained(tmp_path / "run")
    given = data if how == "pretrained" else sdr.Dataset.of(model.corpus)
    for judge in (
        model.evaluate,
        lambda data: model.evaluate(data, part="validation"),
        model.rank,
        lambda data: sdr.evaluate_lists(model, data, k=3),
        lambda data: sdr.evaluate_segments(model, data, k=3),
        lambda data: sdr.evaluate_calibration(model, data, k=3),
        lambda data: sdr.fit_temperature(model, data),
    ):
        for asked in (given, given.whole()):
            with pytest.raises(sdr.RunError, match=r"whole log, so nothing is left to judge it by; its figures are"):
                judge(asked)


@pytest.mark.parametrize("name", ["Popularity", "ItemKNN", "Markov"])
def test_a_model_that_counts_counts_the_whole_log(data, name):
    since = chains(range(20, 30), 4, start=50)
    grown = getattr(sdr, name)().fit(data, **QUIET).fit_partial(since, **QUIET)
    whole = sdr.Dataset.from_interactions(pl.concat([chains(range(24), 9), since])).whole()
    anew = getattr(sdr, name)().fit(whole, **QUIET)
    for history in (["a", "b"], ["f"], []):
        assert scores(grown, history) == pytest.approx(scores(anew, history), rel=1e-5)


@pytest.mark.parametrize("old_share", [0.0, 0.5, 10.0])
def test_what_an_update_trains(data, old_share):
    """From the first action that is not learned on; the last T - 1 targets of some others, as many as is said."""
    corpus, rng = data.corpus, np.random.default_rng(1)
    is_new = np.zeros(corpus.num_actions, dtype=bool)
    is_new[[7, 8, 35, 9]] = True
    learned = rng.random((~is_new).sum()) > 0.02
    split = to_learn(Longer(corpus, is_new), learned, 5, old_share, seed=0)
    todo = is_new.copy()
    todo[~is_new] = ~learned
    new, old = 0, 0
    for row, (start, end) in enumerate(zip(corpus.offsets[:-1], corpus.offsets[1:], strict=True)):
        places = np.flatnonzero(todo[start:end])
        if len(places):
            assert split.first_targets[row] == start + places[0]
            new += end - max(start + places[0], start + 1)
        elif split.first_targets[row] < end:
            assert split.first_targets[row] == end - 4
            old += 4
    assert min(old_share * new, 24 * 4) - 4 * (new > 0) - 60 * (old_share > 1) < old <= old_share * new
    assert len(split.validation) == len(split.test) == 0


def test_what_was_held_back_is_new_to_the_model(data):
    corpus = data.corpus
    whole, users = learned_before(corpus, {"whole_log": True}), corpus.offsets
    assert whole.all()
    left_out = np.flatnonzero(~learned_before(corpus, None)).tolist()
    assert left_out == sorted([*(users[1:] - 2).tolist(), *(users[1:] - 1).tolist()])
    timed = learned_before(corpus, {"validation_time": 6, "test_time": 8})
    assert timed.tolist() == (corpus.timestamps < 6).tolist()


def test_a_new_item_starts_from_what_stands_near_it():
    rows = [("u", item) for item in "abcxdefx"] + [("v", item) for item in "xya"]
    corpus = sdr.Dataset.from_interactions(pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")).corpus
    order = ["a", "b", "c", "d", "e", "f", "x", "y"]
    places = np.array([order.index(item) + 1 for item in corpus.item_ids])
    moved = type(corpus)(
        places[corpus.items - 1].astype(np.int32), corpus.offsets, corpus.user_ids, pl.Series(order), None, None, "m"
    )
    found = beside_in_log(moved, known=6)
    names = [sorted(order[item - 1] for item in found[row]) for row in range(2)]
    assert names == [sorted(["a", "b", "c", "d", "e", "f", "d", "e", "f", "a"]), ["a"]]
