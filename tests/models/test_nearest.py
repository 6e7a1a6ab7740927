"""Lists from candidates against lists from the whole catalogue."""

import pytest
import torch

from seqdiffrec.losses import Added
from seqdiffrec.models import catalogue, nearest
from seqdiffrec.models.catalogue import Catalogue
from seqdiffrec.models.nearest import top_near
from seqdiffrec.models.top import BARRED, Barred

DRAWS, ROWS, ITEMS, SIZE = 3, 5, 900, 16
NOTHING = Barred(*(torch.empty(0, dtype=torch.int64) for _ in range(3)))


def make(*, biased: bool = True, cosine: bool = False) -> tuple[Catalogue, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(ITEMS + 1, SIZE, generator=draw)
    bias = torch.randn(ITEMS + 1, generator=draw) if biased else None
    inverse = 4 / weight.norm(dim=1) if cosine else None
    return Catalogue(weight, bias, False, inverse), 0.7 * torch.randn(DRAWS, ROWS, SIZE, generator=draw)


def added() -> Added:
    """In no order, and with a repeat: some items that no query would find rise to the top."""
    rows = torch.tensor([4, 0, 0, 2, 0, 4])
    items = torch.tensor([7, 3, 800, 3, 3, 1])
    return Added(rows, items, torch.tensor([9.0, 4.0, 9.0, -9.0, 5.0, 2.0]))


def brute(of: Catalogue):
    """What an index without error gives, filled up with zeros as one that finds no more."""

    def find(draws: torch.Tensor, count: int) -> torch.Tensor:
        weight = of.weight if of.inverse_lengths is None else of.weight * of.inverse_lengths[:, None]
        scores = draws @ weight[1:].T + (0 if of.bias is None else of.bias[1:])
        found = scores.topk(count).indices + 1  # (S, r, count)
        return torch.cat([*found, found.new_zeros(found.shape[1], 2)], dim=1)

    return find


def by_row(named: torch.Tensor, h: torch.Tensor):
    """What names for each row of ``h`` the items of that row, whichever rows are asked about together."""

    def find(draws: torch.Tensor, count: int) -> torch.Tensor:
        same = (draws[:, :, None] == h[:, None]).all(-1).all(0)  # (rows asked, rows)
        return named[same.int().argmax(1)]

    return find


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("with_added", [True, False])
@pytest.mark.parametrize("at_once", [1, 2**23])
@pytest.mark.parametrize("cosine", [True, False])
def test_the_lists_of_a_faultless_index_are_the_exact_ones(monkeypatch, biased, with_added, at_once, cosine):
    monkeypatch.setattr(nearest, "AT_ONCE", at_once)
    of, h = make(biased=biased, cosine=cosine)
    extra = added() if with_added else None
    some = Barred(torch.arange(0, ITEMS, 9), torch.tensor([1, 1, 3]), torch.tensor([10, 11, 12]))
    for barred in (NOTHING, some):
        wanted = of.top(h, extra, 10, barred)
        top = top_near(of, h, extra, 10, barred, brute(of))
        assert torch.equal(top.columns, wanted.columns)
        torch.testing.assert_close(top.probabilities, wanted.probabilities, rtol=1e-4, atol=0)


def test_the_rest_of_the_sum_is_estimated_from_a_sample(monkeypatch):
    monkeypatch.setattr(catalogue, "SAMPLE", 300)
    of, h = make()
    wanted = of.top(h, added(), 10, NOTHING)
    top = top_near(of, h, added(), 10, NOTHING, brute(of))
    assert not torch.allclose(top.probabilities, wanted.probabilities, rtol=1e-4)
    torch.testing.assert_close(top.probabilities, wanted.probabilities, rtol=0.1, atol=0)


def test_only_what_is_named_is_recommended():
    """And the items whose scores are raised by the history, which an index cannot know."""
    of, h = make()
    named = torch.arange(401, 521).expand(ROWS, -1)
    top = top_near(of, h, None, 10, NOTHING, lambda queries, count: named)
    assert bool(((top.columns >= 400) & (top.columns < 520)).all())
    raised = top_near(of, h, added(), 10, NOTHING, lambda queries, count: named)
    assert {799, 2} <= set(raised.columns[0].tolist())
    assert 2 not in raised.columns[1].tolist()


def test_where_candidates_do_not_suffice_all_items_are_looked_at():
    of, h = make()
    allowed = torch.tensor([5, 600, 700])
    but_three = Barred(torch.tensor([one for one in range(ITEMS) if one not in allowed]), *[torch.empty(0).long()] * 2)
    top = top_near(of, h, None, 5, but_three, brute(of))
    assert (top.probabilities != BARRED).sum(1).tolist() == [3] * ROWS
    assert top.columns[:, :3].sort().values.tolist() == [allowed.tolist()] * ROWS


def test_only_targets_whose_candidates_do_not_suffice_get_the_exact_list(monkeypatch):
    monkeypatch.setattr(nearest, "FEW_LEFT", 0)
    of, h = make()
    named = torch.arange(401, 521).repeat(ROWS, 1)
    named[3, 7:] = named[1, 9:] = 0
    some = Barred(torch.tensor([402]), torch.tensor([0, 1, 1, 3]), torch.tensor([403, 5, 6, 7]))
    top, exact = top_near(of, h, added(), 10, some, by_row(named, h)), of.top(h, added(), 10, some)
    assert torch.equal(top.columns[[1, 3]], exact.columns[[1, 3]])
    for row in (0, 2, 4):
        raised = added().items[added().rows == row] - 1
        assert bool(((top.columns[row] >= 400) & (top.columns[row] < 520) | torch.isin(top.columns[row], raised)).all())
        assert not torch.equal(top.columns[row], exact.columns[row])


def test_seen_items_do_not_use_up_the_candidates():
    """A history that holds the best hundred items of its target still gets a list."""
    of, h = make()
    columns = of.top(h, None, 100, NOTHING).columns
    viewed = Barred(NOTHING.everywhere, torch.arange(ROWS).repeat_interleave(100), columns.flatten())
    wanted, top = of.top(h, None, 10, viewed), top_near(of, h, None, 10, viewed, brute(of))
    assert torch.equal(top.columns, wanted.columns)


def test_a_catalogue_smaller_than_the_list():
    of, h = make()
    small = Catalogue(of.weight[:4], None, rough=False)
    top = top_near(small, h, None, 10, NOTHING, lambda queries, count: torch.tensor([[1, 2, 3]]).expand(ROWS, -1))
    assert torch.equal(top.columns, small.top(h, None, 10, NOTHING).columns)


def test_an_index_that_names_nothing():
    """Then all items are looked at, with those left out that were seen."""
    of, h = make()
    viewed = Barred(NOTHING.everywhere, torch.arange(ROWS), torch.arange(ROWS))
    top = top_near(of, h, None, 10, viewed, lambda draws, count: torch.zeros(ROWS, 4, dtype=torch.int64))
    assert torch.equal(top.columns, of.top(h, None, 10, viewed).columns)


def asked_for(find, numbers: list[int]):
    def noted(draws: torch.Tensor, count: int) -> torch.Tensor:
        numbers.append(count)
        return find(draws, count)

    return noted


@pytest.mark.parametrize("left", [0, 1, 7, 10, 60])
def test_where_few_items_are_left_all_of_them_are_scored(monkeypatch, left):
    """By no index, and without the pass over all items."""
    monkeypatch.setattr(nearest, "FEW_LEFT", 60)
    of, h = make()
    allowed = torch.zeros(ITEMS, dtype=torch.bool)
    allowed[torch.randperm(ITEMS, generator=torch.Generator().manual_seed(1))[:left]] = True
    barred = Barred.all_but(allowed, torch.tensor([0, 0]), torch.tensor([3, 800]))
    exact, numbers = of.top(h, added(), 10, barred), list[int]()
    monkeypatch.setattr(Catalogue, "top", None)
    top = top_near(of, h, added(), 10, barred, asked_for(brute(of), numbers))
    assert not numbers
    listed = exact.probabilities != BARRED
    assert torch.equal(top.probabilities != BARRED, listed)
    assert torch.equal(top.columns[listed], exact.columns[listed])
    torch.testing.assert_close(top.probabilities[listed], exact.probabilities[listed], rtol=1e-4, atol=0)


def test_what_is_barred_for_all_is_made_up_for(monkeypatch):
    """The best ninety of each draw are left out, or all but a tenth: the list is as good as without."""
    monkeypatch.setattr(nearest, "FEW_LEFT", 0)
    monkeypatch.setattr(nearest, "CANDIDATES_MORE", 0)
    monkeypatch.setattr(nearest, "BARRED_AT_MOST", 300)
    of, h = make()
    best = brute(of)(h[:, :1], 90)[0]
    first, tenth = torch.ones(ITEMS, dtype=torch.bool), torch.arange(ITEMS) % 10 == 0
    first[best[best > 0] - 1] = False
    # Forty for a list of ten, and those that are left out, or ten times as many.
    for allowed, wanted in ((first, 40 + int((~first).sum())), (tenth, 400)):
        barred, numbers = Barred.all_but(allowed, *(torch.empty(0, dtype=torch.int64),) * 2), list[int]()
        exact = of.top(h, None, 10, barred)
        with monkeypatch.context() as patch:
            patch.setattr(Catalogue, "top", None)
            top = top_near(of, h, None, 10, barred, asked_for(brute(of), numbers))
        assert torch.equal(top.columns, exact.columns) and numbers == [wanted]
