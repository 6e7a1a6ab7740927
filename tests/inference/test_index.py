"""The index against brute force and against faiss on its own, and what a saved one must hold."""

import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import seqdiffrec as sdr
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.inference.index import (
    ItemIndex,
    best_columns,
    catalogue_of,
    measures,
    overlap,
    set_breadth,
    time_requests,
)
from seqdiffrec.inference.index.cells import in_cells
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


@pytest.mark.parametrize("settings", [{}, {"tied_output": False}, {"cosine_output": True}], ids=str)
def test_it_finds_what_scores_highest(settings):
    of = model(**settings)
    index = ItemIndex.build(of)
    index.breadth = index.num_cells
    draws = torch.randn(2, 10, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        weight, bias = of.table.embedding.weight[1:], 0
        if of.table.output is not None:
            weight, bias = of.table.output.weight[1:], of.table.output.bias[1:]
        scores = draws @ (F.normalize(weight, dim=1) if settings.get("cosine_output") else weight).T + bias
    wanted = scores.topk(10).indices + 1
    assert overlap(wanted[0], index(draws[:1], 100)) > 0.95
    found = index(draws, 100)
    assert found.shape == (10, 400)  # of each draw two for each that is wanted
    assert overlap(torch.cat([*wanted], dim=1), found) > 0.95


def test_overlap_by_hand():
    assert overlap(torch.tensor([[1, 2], [3, 4]]), torch.tensor([[2, 9], [4, 3]])) == 0.75


def test_the_breadth_is_as_small_as_the_wanted_overlap_allows(histories):
    of = model()
    index = ItemIndex.build(of)
    told: list[tuple[int, int]] = []
    reached = set_breadth(index, of, histories, 0.99, lambda done, total: told.append((done, total)))
    assert told[-1] == (40, 40) and index.histories == 40
    exact = best_columns(of, histories, None)
    assert reached == index.overlap == overlap(exact, best_columns(of, histories, index)) >= 0.99
    if index.breadth > 1:
        index.breadth //= 2
        assert overlap(exact, best_columns(of, histories, index)) < 0.99


def test_an_overlap_out_of_reach_is_told(histories):
    of = model()
    index = ItemIndex.build(of)
    assert set_breadth(index, of, histories, 1.1) == index.overlap <= 1
    assert index.num_cells <= index.breadth < 2 * index.num_cells


def test_a_saved_index_finds_the_same(histories):
    of = model(tied_output=False)
    index = ItemIndex.build(of)
    set_breadth(index, of, histories, 0.9)
    again = ItemIndex.restore(of, index.tensors(), index.facts())
    assert again.facts() == index.facts()
    assert torch.equal(best_columns(of, histories, again), best_columns(of, histories, index))


def test_requests_are_timed_with_and_without_it(histories, monkeypatch):
    """By a clock that moves on when a list is asked for: 4 ms exact, 1 ms by the index."""
    of, now = model(), [0.0]
    index = ItemIndex.build(of)

    def asked(model, histories, nearest):
        assert len(histories) == 1
        now[0] += 0.004 if nearest is None else 0.001

    monkeypatch.setattr(measures, "best_columns", asked)
    monkeypatch.setattr(measures.time, "perf_counter", lambda: now[0])
    time_requests(index, of, histories)
    assert (index.facts()["exact_ms"], index.facts()["approximate_ms"]) == (4, 1)


def test_batch_mates_change_no_candidates():
    """Else the overlap measured on many users at once would not be that of single requests."""
    index = ItemIndex.build(model())
    draws = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(2))
    together = index(draws, 15)
    for row in range(7):
        alone = index(draws[:, row : row + 1], 15)
        assert torch.equal(alone[0].sort().values, together[row].sort().values)


def test_a_list_does_not_depend_on_its_batch_mates(monkeypatch):
    """However many items they have seen, and also beside one that is left fewer items than wanted (the last)."""
    monkeypatch.setattr(nearest, "CANDIDATES_MORE", 0)
    rng, of = np.random.default_rng(3), model()
    allowed = torch.from_numpy(rng.permutation(ITEMS) < ITEMS // 2)
    seen = [rng.permutation(ITEMS)[:count] + 1 for count in (1, 40, 3, 0, 900, 7, 2, 200)]
    seen += [torch.nonzero(allowed)[left:, 0].numpy() + 1 for left in (20, 6)]
    ends = np.cumsum([len(one) for one in seen])
    histories = Sequences(np.concatenate(seen).astype(np.int32), np.r_[0, ends[:-1]], ends)
    index = ItemIndex.build(of)
    index.breadth = 2  # so little that who asks for more candidates gets a better list

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


def test_items_of_like_direction_share_a_cell():
    """Items in groups of like direction: each cell holds items of one group alone."""
    groups = F.normalize(torch.randn(8, 16, generator=torch.Generator().manual_seed(3)), dim=1)
    weight = torch.cat([torch.zeros(1, 16), groups.repeat_interleave(50, 0)])
    weight[1:] += 0.01 * torch.randn(400, 16, generator=torch.Generator().manual_seed(4))
    order, offsets = in_cells(Catalogue(weight, None, rough=False))
    assert sorted(order.tolist()) == list(range(400))
    for begin, end in pairwise(offsets.tolist()):
        assert len((order[begin:end] // 50).unique()) == 1


def test_items_that_are_all_alike_leave_no_empty_cells():
    """A cell without items would have a mean of zeros, and win where all scores are negative."""
    of = model(tied_output=False)
    with torch.no_grad():
        of.table.output.weight[500:] = of.table.output.weight[500]
        of.table.output.bias.fill_(-9)
    assert int(in_cells(catalogue_of(of))[1].diff().min()) > 0
    assert bool((ItemIndex.build(of)(torch.ones(1, 1, 16), 10)[:, 0] > 0).all())


@pytest.mark.parametrize("items", [1, 2, 14, 40])
def test_lists_of_a_tiny_catalogue_are_whole(items):
    """faiss never names an item whose score is the least that the codes can have; the list is made up all the same."""
    torch.manual_seed(0)
    of = SASRec(SASRecConfig(max_length=8, hidden_size=12, num_layers=1, embedding_std=0.5), items).eval()
    index = ItemIndex.build(of)
    index.breadth = index.num_cells
    history = Sequences(np.ones(1, np.int32), np.array([0]), np.array([1]))
    how = {"allowed": torch.ones(items, dtype=torch.bool), "filter_viewed": False}
    exact, found = (of.top_of_histories(history, items, **how, nearest=nearest) for nearest in (None, index))
    assert torch.equal(exact.columns, found.columns)
    assert torch.allclose(exact.probabilities, found.probabilities, rtol=1e-4)


def test_codes_stand_for_the_items():
    """The score of a code is that of the item but for what sixteen values for four numbers leave out."""
    of = model(tied_output=False)
    index, catalogue = ItemIndex.build(of), catalogue_of(of)
    order, offsets, means, codebooks, codes = index.tensors().values()
    each = torch.stack([codes & 15, codes >> 4], dim=2).flatten(1).long()  # the lower half of a byte comes first
    parts = codebooks[torch.arange(each.shape[1]), each].flatten(1)
    cell = torch.repeat_interleave(torch.arange(len(means)), offsets.diff())
    given = torch.cat([catalogue.weight[1:], catalogue.bias[1:, None]], dim=1).detach()[order.long()]
    rebuilt = (means[cell] + parts)[:, :17]
    assert float((given - rebuilt).square().sum() / given.square().sum()) < 0.3
    # faiss ranks by these, of which its look-up keeps eight bits.
    draws = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(7))
    scores = torch.cat([draws[0], torch.ones(4, 1)], dim=1) @ rebuilt.T
    index.breadth = index.num_cells
    wanted = order[scores.topk(10).indices] + 1
    assert overlap(wanted, index(draws, 10)) == 1


def test_long_lists_and_long_histories_are_found_as_well():
    """The breadth is found for lists of ten after short histories; more candidates take more of it."""
    generator = torch.Generator().manual_seed(6)
    groups = torch.randn(200, 16, generator=generator).repeat_interleave(20, 0)
    weight = torch.cat([torch.zeros(1, 16), groups + 0.5 * torch.randn(4000, 16, generator=generator)])
    of = SASRec(SASRecConfig(max_length=8, hidden_size=16, num_layers=1, tied_output=True), 4000).eval()
    with torch.no_grad():
        of.table.embedding.weight.copy_(weight)
    index = ItemIndex.build(of)
    index.breadth = 8
    draws = torch.randn(1, 30, 16, generator=generator)
    scores = draws[0] @ weight[1:].T
    shares = {}
    for count in (104, 800):
        wanted = scores.topk(count // 4).indices + 1
        shares[count] = overlap(wanted, index(draws, count))
    assert shares[104] > 0.8 and shares[800] > shares[104] - 0.05


def test_fewer_items_in_the_cells_than_wanted_are_filled_up_with_zeros():
    index = ItemIndex.build(model())
    found = index(torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(5)), 100)
    assert found.shape == (3, 400)
    assert bool((found == 0).any()) and bool((found[:, 0] > 0).all())


BREAKS = {
    "beyond": lambda t: t["order"].__setitem__(3, ITEMS),
    "twice": lambda t: t["order"].__setitem__(3, int(t["order"][4])),
    "short": lambda t: t.__setitem__("order", t["order"][:-1]),
    "late": lambda t: t["offsets"].__setitem__(0, 1),
    "too-long": lambda t: t["offsets"].__setitem__(-1, ITEMS + 1),
    "backwards": lambda t: t["offsets"].__setitem__(1, ITEMS),
    "an-empty-cell": lambda t: t["offsets"].__setitem__(1, 0),
    "no-cells": lambda t: t.update(offsets=t["offsets"][:1], means=t["means"][:0]),
    "no-numbers": lambda t: t.__setitem__("offsets", t["offsets"].float()),
    "missing": lambda t: t.pop("offsets"),
    "more": lambda t: t.__setitem__("levels", t["offsets"]),
    "another-size": lambda t: t.__setitem__("means", t["means"][:, :8].contiguous()),
    "not-a-mean": lambda t: t["means"].fill_(float("nan")),
    "few-codes": lambda t: t.__setitem__("codes", t["codes"][:-1]),
    "short-codes": lambda t: t.__setitem__("codes", t["codes"][:, :1].contiguous()),
    "other-codes": lambda t: t.__setitem__("codes", t["codes"].short()),
    "few-books": lambda t: t.__setitem__("codebooks", t["codebooks"][:-1]),
}


@pytest.mark.parametrize("broken", list(BREAKS.values()), ids=list(BREAKS))
def test_what_faiss_could_not_look_up_is_refused(broken):
    of = model()
    index = ItemIndex.build(of)
    tensors = {name: tensor.clone() for name, tensor in index.tensors().items()}
    ItemIndex.restore(of, dict(tensors), index.facts())
    broken(tensors)
    with pytest.raises(RunError, match="not one of its items"):
        ItemIndex.restore(of, tensors, index.facts())


def test_models_without_item_vectors_are_refused():
    popularity = Popularity(Popularity.config_class(), ITEMS)
    with pytest.raises(SettingError, match="popularity has no item vectors"):
        ItemIndex.build(popularity)


def test_without_faiss_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(SettingError, match=r"pip install 'seqdiffrec\[ann\]'"):
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
