"""The graph of items against brute force, and what a saved one must hold."""

import sys

import numpy as np
import pytest
import torch

import seqdiffrec as sdr
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.inference.index import ItemIndex, best_columns, overlap
from seqdiffrec.models import Popularity, SASRec, SASRecConfig
from seqdiffrec.models.settings import SettingError
from seqdiffrec.training import RunError

ITEMS = 3000


def model(**settings: object) -> SASRec:
    torch.manual_seed(0)
    given = {"max_length": 8, "hidden_size": 16, "num_layers": 1, "embedding_std": 0.5}
    made = SASRec(SASRecConfig(**{**given, **settings}), ITEMS).eval()
    if made.table.output is not None:
        torch.nn.init.normal_(made.table.output.bias)
    return made


@pytest.fixture(scope="module")
def histories() -> Sequences:
    items = np.random.default_rng(0).integers(1, ITEMS + 1, 40 * 5).astype(np.int32)
    starts = np.arange(0, 200, 5)
    return Sequences(items, starts, starts + 5)


@pytest.mark.parametrize("settings", [{}, {"tied_output": False}, {"cosine_output": True}], ids=str)
def test_it_finds_what_scores_highest(settings):
    of = model(**settings)
    index = ItemIndex.build(of)
    index.breadth = 256
    h = torch.randn(20, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        catalogue = of.table.catalogue()
        scores = h @ catalogue.weight[1:].T + (0 if catalogue.bias is None else catalogue.bias[1:])
    wanted = scores.topk(10).indices + 1
    assert overlap(wanted, index(h, 20)) > 0.95


def test_overlap_by_hand():
    assert overlap(torch.tensor([[1, 2], [3, 4]]), torch.tensor([[2, 9], [4, 3]])) == 0.75


def test_the_breadth_is_as_small_as_the_wanted_overlap_allows(histories):
    of = model()
    index = ItemIndex.build(of)
    told: list[tuple[int, int]] = []
    reached = index.set_breadth(of, histories, 0.99, lambda done, total: told.append((done, total)))
    assert told[-1] == (40, 40) and index.histories == 40
    exact = best_columns(of, histories, None)
    assert reached == index.overlap == overlap(exact, best_columns(of, histories, index)) >= 0.99
    if index.breadth > 64:
        index.breadth //= 2
        assert overlap(exact, best_columns(of, histories, index)) < 0.99


def test_an_overlap_out_of_reach_is_told(histories, monkeypatch):
    monkeypatch.setattr("seqdiffrec.inference.index.MOST_BREADTH", 64)
    of = model()
    index = ItemIndex.build(of)
    assert index.set_breadth(of, histories, 1.1) == index.overlap <= 1


def test_a_saved_graph_finds_the_same(histories):
    of = model(tied_output=False)
    index = ItemIndex.build(of)
    index.set_breadth(of, histories, 0.9)
    again = ItemIndex.of(of, index.tensors(), index.facts())
    assert again.facts() == index.facts()
    assert torch.equal(best_columns(of, histories, again), best_columns(of, histories, index))


@pytest.mark.parametrize(
    "broken",
    [
        lambda t: t["neighbors"].__setitem__(3, ITEMS),
        lambda t: t["neighbors"].__setitem__(3, -2),
        lambda t: t["levels"].__setitem__(3, 0),
        lambda t: t["levels"].__setitem__(3, 100),
        lambda t: t.__setitem__("levels", t["levels"][:-1]),
        lambda t: t.__setitem__("neighbors", t["neighbors"].long()),
        lambda t: t["entry_point"].fill_(ITEMS),
        lambda t: t["entry_point"].fill_(int(t["levels"].argmin())),
    ],
    ids=["beyond", "below", "no-level", "too-high", "short", "wide", "entry", "entry-too-low"],
)
def test_a_graph_that_a_walk_could_leave_is_refused(broken):
    of = model()
    tensors = ItemIndex.build(of).tensors()
    broken(tensors)
    facts = {"breadth": 64, "overlap@10": 1.0, "histories": 1}
    with pytest.raises(RunError, match="not one of its items"):
        ItemIndex.of(of, tensors, facts)


def test_neighbours_on_an_upper_floor_are_on_that_floor():
    of = model()
    tensors = ItemIndex.build(of).tensors()
    levels = tensors["levels"]
    high, low = int((levels > 1).nonzero()[0]), int((levels == 1).nonzero()[0])
    begin = 32 * high + 16 * int((levels[:high] - 1).sum())
    tensors["neighbors"][begin + 32] = low
    with pytest.raises(RunError, match="not one of its items"):
        ItemIndex.of(of, tensors, {"breadth": 64, "overlap@10": 1.0, "histories": 1})


def test_models_without_item_vectors_are_refused():
    popularity = Popularity(Popularity.config_class(), ITEMS)
    with pytest.raises(SettingError, match="popularity has no item vectors"):
        ItemIndex.build(popularity)


def test_without_faiss_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(SettingError, match=r"seqdiffrec\[ann\]"):
        ItemIndex.build(model())


class TestRecommender:
    """`build_index` and `approximate` at the front door."""

    @pytest.fixture
    def fitted(self, tmp_path, data) -> sdr.SASRec:
        return sdr.SASRec(hidden_size=8, num_layers=1, max_length=6, epochs=1).fit(data, out=tmp_path / "run")

    def test_lists_say_that_they_are_approximate(self, fitted, tmp_path):
        users = fitted.corpus.user_ids.to_list()
        with pytest.raises(SettingError, match=f"seqdiffrec index {tmp_path / 'run'}"):
            fitted.recommend(users, 3, approximate=True)
        index = fitted.build_index(histories=4)
        assert index.facts()["overlap@10"] == 1
        exact, found = fitted.recommend(users, 3), fitted.recommend(users, 3, approximate=True)
        assert found["approximate"].all() and "approximate" not in exact.columns
        assert found.drop("approximate", "score").equals(exact.drop("score"))
        np.testing.assert_allclose(found["score"], exact["score"], rtol=1e-4)
        again = sdr.load(tmp_path / "run").recommend(users, 3, approximate=True)
        assert again.drop("score").equals(found.drop("score"))
        more = fitted.recommend_sequences([[fitted.vocabulary["item_id"][0]]], 2, approximate=True)
        assert more["approximate"].all()

    def test_an_index_of_other_weights_is_not_used(self, fitted, tmp_path):
        fitted.build_index(histories=4)
        again = sdr.load(tmp_path / "run")
        assert again.run is not None
        again.run.record["files"][again.run.record["weights"]] = {"sha256": "0", "bytes": 0}
        with pytest.raises(SettingError, match="no index yet"):
            _ = again.index

    def test_settings_out_of_range(self, fitted):
        for settings in ({"overlap": 0.0}, {"overlap": 1.5}, {"histories": 0}):
            with pytest.raises(SettingError, match="overlap"):
                fitted.build_index(**settings)
