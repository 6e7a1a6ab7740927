"""Both kinds of index against brute force, and what a saved one must hold."""

import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import seqdiffrec as sdr
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.inference.index import KINDS, base, best_columns, build_index, overlap, saved_index
from seqdiffrec.inference.index.lists import ListIndex
from seqdiffrec.models import Popularity, SASRec, SASRecConfig, nearest
from seqdiffrec.models.catalogue import Catalogue
from seqdiffrec.models.settings import SettingError
from seqdiffrec.models.top import BARRED
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


each_kind = pytest.mark.parametrize("kind", list(KINDS))


@each_kind
@pytest.mark.parametrize("settings", [{}, {"tied_output": False}, {"cosine_output": True}], ids=str)
def test_it_finds_what_scores_highest(settings, kind):
    of = model(**settings)
    index = build_index(of, kind)
    index.breadth = {"graph": 256, "lists": 100}[kind]
    draws = torch.randn(2, 10, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        weight, bias = of.table.embedding.weight[1:], 0
        if of.table.output is not None:
            weight, bias = of.table.output.weight[1:], of.table.output.bias[1:]
        scores = draws @ (F.normalize(weight, dim=1) if settings.get("cosine_output") else weight).T + bias
    wanted = scores.topk(10).indices + 1
    assert overlap(wanted[0], index(draws[:1], 20)) > 0.95
    found = index(draws, 20)
    assert found.shape == (10, 40)
    assert overlap(torch.cat([*wanted], dim=1), found) > 0.95


def test_overlap_by_hand():
    assert overlap(torch.tensor([[1, 2], [3, 4]]), torch.tensor([[2, 9], [4, 3]])) == 0.75


@each_kind
def test_the_breadth_is_as_small_as_the_wanted_overlap_allows(histories, kind):
    of = model()
    index = build_index(of, kind)
    told: list[tuple[int, int]] = []
    reached = index.set_breadth(of, histories, 0.99, lambda done, total: told.append((done, total)))
    assert told[-1] == (40, 40) and index.histories == 40
    exact = best_columns(of, histories, None)
    assert reached == index.overlap == overlap(exact, best_columns(of, histories, index)) >= 0.99
    if index.breadth > index.least_breadth:
        index.breadth //= 2
        assert overlap(exact, best_columns(of, histories, index)) < 0.99


@each_kind
def test_an_overlap_out_of_reach_is_told(histories, kind):
    of = model()
    index = build_index(of, kind)
    assert index.set_breadth(of, histories, 1.1) == index.overlap <= 1
    assert index.most_breadth <= index.breadth < 2 * index.most_breadth


@each_kind
def test_a_saved_index_finds_the_same(histories, kind):
    of = model(tied_output=False)
    index = build_index(of, kind)
    index.set_breadth(of, histories, 0.9)
    again = saved_index(of, index.tensors(), index.facts())
    assert again.facts() == index.facts() and again.facts()["kind"] == kind
    assert torch.equal(best_columns(of, histories, again), best_columns(of, histories, index))


def test_requests_are_timed_with_and_without_it(histories, monkeypatch):
    """By a clock that moves on when a list is asked for: 4 ms exact, 1 ms by the index."""
    of, now = model(), [0.0]
    index = build_index(of, "lists")

    def asked(model, histories, nearest):
        assert len(histories) == 1
        now[0] += 0.004 if nearest is None else 0.001

    monkeypatch.setattr(base, "best_columns", asked)
    monkeypatch.setattr(base.time, "perf_counter", lambda: now[0])
    index.time_requests(of, histories)
    assert (index.facts()["exact_ms"], index.facts()["approximate_ms"]) == (4, 1)


def test_an_index_saved_before_there_were_kinds_is_a_graph(histories):
    of = model()
    index = build_index(of, "graph")
    index.set_breadth(of, histories, 0.9)
    facts = {name: index.facts()[name] for name in ("breadth", "overlap@10", "histories")}
    assert saved_index(of, index.tensors(), facts).facts() == index.facts()


@each_kind
def test_batch_mates_change_no_candidates(kind):
    """Else the overlap measured on many users at once would not be that of single requests."""
    index = build_index(model(), kind)
    draws = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(2))
    together = index(draws, 15)
    for row in range(7):
        alone = index(draws[:, row : row + 1], 15)
        assert torch.equal(alone[0].sort().values, together[row].sort().values)


@each_kind
def test_a_list_does_not_depend_on_its_batch_mates(monkeypatch, kind):
    """However many items they have seen, and also beside one that is left fewer items than wanted (the last)."""
    monkeypatch.setattr(nearest, "CANDIDATES_MORE", 0)
    rng, of = np.random.default_rng(3), model()
    allowed = torch.from_numpy(rng.permutation(ITEMS) < ITEMS // 2)
    seen = [rng.permutation(ITEMS)[:count] + 1 for count in (1, 40, 3, 0, 900, 7, 2, 200)]
    seen += [torch.nonzero(allowed)[left:, 0].numpy() + 1 for left in (20, 6)]
    ends = np.cumsum([len(one) for one in seen])
    histories = Sequences(np.concatenate(seen).astype(np.int32), np.r_[0, ends[:-1]], ends)
    index = build_index(of, kind)
    index.breadth = {"graph": 1, "lists": 4}[kind]  # so little that who asks for more candidates gets a better list

    def asked(rows: slice) -> list[list[tuple[int, float]]]:
        top = of.top_of_histories(histories.select(rows), 10, allowed, filter_viewed=True, nearest=index)
        pairs = zip(top.columns.tolist(), top.probabilities.tolist(), strict=True)
        return [
            [(column, pytest.approx(p, rel=1e-3)) for column, p in zip(*row, strict=True) if p > BARRED]
            for row in pairs
        ]

    together = asked(slice(None))
    assert together == [one for row in range(len(seen)) for one in asked(slice(row, row + 1))]
    assert [len(one) for one in together] == [10] * (len(seen) - 1) + [6]


def test_lists_are_told_apart_by_their_cells():
    """Items in groups of like direction: each cell holds items of one group alone, and all of its neighbours."""
    groups = torch.nn.functional.normalize(torch.randn(8, 16, generator=torch.Generator().manual_seed(3)), dim=1)
    weight = torch.cat([torch.zeros(1, 16), groups.repeat_interleave(50, 0)])
    weight[1:] += 0.01 * torch.randn(400, 16, generator=torch.Generator().manual_seed(4))
    index = ListIndex.build(Catalogue(weight, None, rough=False))
    assert sorted(index.order.tolist()) == list(range(400))
    for begin, end in zip(index.offsets[:-1].tolist(), index.offsets[1:].tolist(), strict=True):
        assert len((index.order[begin:end] // 50).unique()) <= 1
    index.breadth = len(index.offsets) - 1
    query = groups[5][None, None]
    assert set((index(query, 50)[0] - 1).tolist()) == set(range(250, 300))


def test_items_that_are_all_alike_leave_no_empty_cells():
    """A cell without items would have a mean of zeros, and win where all scores are negative."""
    of = model(tied_output=False)
    with torch.no_grad():
        of.table.output.weight[500:] = of.table.output.weight[500]
        of.table.output.bias.fill_(-9)
    index = build_index(of, "lists")
    assert int(index.offsets.diff().min()) > 0
    h = torch.zeros(1, 1, 16)
    assert bool((index(h, 10) > 0).all())
    same = saved_index(of, {**index.tensors(), "offsets": index.offsets.repeat_interleave(2)}, index.facts())
    assert torch.equal(same.offsets, index.offsets)


@each_kind
def test_long_lists_and_long_histories_are_found_as_well(kind):
    """The breadth is found for lists of ten after short histories; more candidates take more of it."""
    generator = torch.Generator().manual_seed(6)
    groups = torch.randn(200, 16, generator=generator).repeat_interleave(20, 0)
    weight = torch.cat([torch.zeros(1, 16), groups + 0.5 * torch.randn(4000, 16, generator=generator)])
    catalogue = Catalogue(weight, None, rough=False)
    index = KINDS[kind].build(catalogue)
    draws = torch.randn(1, 30, 16, generator=generator)
    scores = draws[0] @ weight[1:].T
    shares = {}
    for count in (104, 800):
        wanted = scores.topk(count // 4).indices + 1
        shares[count] = overlap(wanted, index(draws, count))
    assert shares[104] > 0.8 and shares[800] > shares[104] - 0.05


def test_fewer_items_in_the_cells_than_wanted_are_filled_up_with_zeros():
    index = build_index(model(), "lists")
    index.breadth = 1
    found = index(torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(5)), 1000)
    assert found.shape == (3, 2000)
    assert bool((found == 0).any()) and bool((found[:, 0] > 0).all())


@pytest.mark.parametrize(
    "broken",
    [
        lambda t: t["order"].__setitem__(3, ITEMS),
        lambda t: t["order"].__setitem__(3, int(t["order"][4])),
        lambda t: t.__setitem__("order", t["order"][:-1]),
        lambda t: t["offsets"].__setitem__(0, 1),
        lambda t: t["offsets"].__setitem__(-1, ITEMS + 1),
        lambda t: t["offsets"].__setitem__(1, ITEMS),
        lambda t: t.__setitem__("offsets", t["offsets"][:1]),
        lambda t: t.__setitem__("offsets", t["offsets"].float()),
        lambda t: t.pop("offsets"),
    ],
    ids=["beyond", "twice", "short", "late", "too-long", "backwards", "none", "no-numbers", "missing"],
)
def test_lists_that_do_not_hold_all_items_are_refused(broken):
    of = model()
    tensors = build_index(of, "lists").tensors()
    broken(tensors)
    with pytest.raises(RunError, match="not one of its items"):
        saved_index(of, tensors, {"kind": "lists", "breadth": 8, "overlap@10": 1.0, "histories": 1})


@each_kind
def test_what_is_of_another_kind_is_refused(kind):
    of = model()
    tensors = build_index(of, "lists" if kind == "graph" else "graph").tensors()
    with pytest.raises(RunError, match="not one of its items"):
        saved_index(of, tensors, {"kind": kind, "breadth": 64, "overlap@10": 1.0, "histories": 1})


def test_an_unknown_kind_is_refused():
    with pytest.raises(SettingError, match="lists"):
        build_index(model(), "list")
    with pytest.raises(RunError, match="not one of its items"):
        saved_index(model(), {}, {"kind": "tree", "breadth": 8, "overlap@10": 1.0, "histories": 1})


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
    tensors = build_index(of, "graph").tensors()
    broken(tensors)
    facts = {"breadth": 64, "overlap@10": 1.0, "histories": 1}
    with pytest.raises(RunError, match="not one of its items"):
        saved_index(of, tensors, facts)


def test_neighbours_on_an_upper_floor_are_on_that_floor():
    of = model()
    tensors = build_index(of, "graph").tensors()
    levels = tensors["levels"]
    high, low = int((levels > 1).nonzero()[0]), int((levels == 1).nonzero()[0])
    begin = 32 * high + 16 * int((levels[:high] - 1).sum())
    tensors["neighbors"][begin + 32] = low
    with pytest.raises(RunError, match="not one of its items"):
        saved_index(of, tensors, {"breadth": 64, "overlap@10": 1.0, "histories": 1})


def test_models_without_item_vectors_are_refused():
    popularity = Popularity(Popularity.config_class(), ITEMS)
    with pytest.raises(SettingError, match="popularity has no item vectors"):
        build_index(popularity, "lists")


def test_without_faiss_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(SettingError, match=r"seqdiffrec\[ann\]', or take --kind lists"):
        build_index(model(), "graph")


class TestRecommender:
    """`build_index` and `approximate` at the front door."""

    @pytest.fixture
    def fitted(self, tmp_path, data) -> sdr.SASRec:
        return sdr.SASRec(hidden_size=8, num_layers=1, max_length=6, epochs=1).fit(data, out=tmp_path / "run")

    @each_kind
    def test_lists_say_that_they_are_approximate(self, fitted, tmp_path, kind):
        users = fitted.corpus.user_ids.to_list()
        with pytest.raises(SettingError, match=f"seqdiffrec index {tmp_path / 'run'}"):
            fitted.recommend(users, 3, approximate=True)
        index = fitted.build_index(kind=kind, histories=4)
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
