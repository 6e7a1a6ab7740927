"""How items are scored, against the definitions written out densely."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.models import catalogue
from seqdiffrec.models.item_table import COSINE_SCALE, SEEN_BIAS_SCALE, ItemTable, ItemTableConfig, directions

ITEMS, SIZE = 7, 4
# Histories 3 4 3, with 3 . 6 before what is read, and 1; targets 5 after 3, 3 after 3 4 3, and 1 after 1.
BATCH = RaggedBatch(
    tokens=torch.tensor([3, 4, 3, 1]),
    offsets=torch.tensor([0, 3, 4]),
    rows=torch.tensor([0, 0, 1]),
    places=torch.tensor([1, 3, 1]),
    targets=torch.tensor([5, 3, 1]),
    older=torch.tensor([3, 6]),
    older_back=torch.tensor([3, 1]),
    older_offsets=torch.tensor([0, 2, 2]),
    origins=torch.tensor([3, 5, 7]),
)
VARIANTS = [
    {},
    {"tied_output": True},
    {"cosine_output": True},
    {"cosine_output": True, "tied_output": True},
    {"seen_bias": True},
    {"seen_bias": True, "tied_output": True, "cosine_output": True},
    {"tied_output": True, "tied_bias": True},
]


def make(*, tied_bias: bool = False, **settings: object) -> tuple[ItemTable, Tensor]:
    torch.manual_seed(0)
    table = ItemTable(ItemTableConfig(max_length=6, **settings), ITEMS, SIZE, tied_bias=tied_bias)
    if table.bias is not None:
        torch.nn.init.normal_(table.bias)
    if table.seen_bias is not None:
        torch.nn.init.normal_(table.seen_bias)
    return table, torch.randn(3, SIZE)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("settings", VARIANTS)
def test_the_loss_is_the_cross_entropy_of_the_probabilities(settings, smoothing):
    table, h = make(label_smoothing=smoothing, **settings)
    h.requires_grad_()
    scores = table.probabilities(h[None], BATCH).log()
    assert scores.shape == (3, ITEMS)
    expected = F.cross_entropy(scores, BATCH.targets - 1, reduction="none", label_smoothing=smoothing)
    loss = table.loss(h, BATCH)
    torch.testing.assert_close(loss, expected)
    upstream = torch.tensor([1.0, -0.5, 2.0])
    wanted = [h, *table.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad(loss, wanted, upstream, allow_unused=True),
        torch.autograd.grad(expected, wanted, upstream, allow_unused=True),
        strict=True,
    ):
        if theirs is None:
            assert ours is None
        else:
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_cosine_by_hand():
    table, h = make(cosine_output=True, tied_output=True)
    cosines = F.cosine_similarity(h[:, None], table.embedding.weight[None, 1:], dim=-1)
    expected = (COSINE_SCALE * cosines).softmax(-1)
    torch.testing.assert_close(table.probabilities(h[None], BATCH), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_a_cosine_output_keeps_no_directions_and_sees_what_changes(tied):
    table, h = make(cosine_output=True, tied_output=tied)
    weight = table.embedding.weight if tied else table.output.weight
    with torch.no_grad():
        assert table.catalogue().weight is weight and table.catalogue() is table.catalogue()
        for change in (
            lambda: weight[3].mul_(7).add_(1),
            lambda: table.load_state_dict({key: -2 * one for key, one in table.state_dict().items()}),
            lambda: table.log_scale.fill_(1.0),
        ):
            before = table.probabilities(h[None], BATCH)
            change()
            after = table.probabilities(h[None], BATCH)
            assert not torch.allclose(before, after)
            bias = 0 if tied else table.output.bias[1:]
            cosines = F.cosine_similarity(h[:, None], weight[None, 1:], dim=-1)
            expected = (table.log_scale.exp() * cosines + bias).softmax(-1)
            torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-6)


def test_the_probabilities_of_several_draws_are_their_mean():
    """The mean of the softmaxes, not the softmax of the mean (Algorithm 3)."""
    table, h = make(seen_bias=True)
    other = torch.randn(3, SIZE)
    apart = [table.probabilities(one[None], BATCH) for one in (h, other)]
    torch.testing.assert_close(table.probabilities(torch.stack([h, other]), BATCH), (apart[0] + apart[1]) / 2)


@pytest.mark.parametrize("settings", VARIANTS)
def test_targets_one_at_a_time_have_the_same_probabilities(monkeypatch, settings):
    table, h = make(**settings)
    draws = torch.stack([h, torch.randn(3, SIZE)])
    together = table.probabilities(draws, BATCH)
    monkeypatch.setattr(catalogue, "SCORES_AT_ONCE", 1)
    torch.testing.assert_close(table.probabilities(draws, BATCH), together)


def test_a_tied_output_may_have_a_bias_for_each_item():
    table, h = make(tied_output=True, tied_bias=True)
    expected = (h @ table.embedding.weight[1:].T + table.bias[1:]).softmax(-1)
    torch.testing.assert_close(table.probabilities(h[None], BATCH), expected)
    with torch.no_grad():  # what is laid out for scoring is kept only as long as the bias is the same
        before = table.probabilities(h[None], BATCH)
        table.bias = torch.nn.Parameter(torch.zeros(ITEMS + 1))
        assert not torch.allclose(table.probabilities(h[None], BATCH), before)
    untied, _ = make(tied_bias=True)
    assert untied.bias is None and untied.output is not None


@pytest.mark.parametrize("tied", [True, False])
def test_a_loss_over_drawn_items_knows_the_biases(monkeypatch, tied):
    """With all other items drawn, each as often as expected, it is the full loss."""
    table, h = make(tied_output=tied, tied_bias=True, loss="sampled", num_negatives=ITEMS)
    full, _ = make(tied_output=tied, tied_bias=True)
    if table.output is not None:
        torch.nn.init.normal_(table.output.bias)
    full.load_state_dict(table.state_dict())
    table.count_items(torch.ones(ITEMS, dtype=torch.int64))
    monkeypatch.setattr(table.drawn.sampler, "draw", lambda count: (torch.arange(1, count + 1), torch.zeros(count)))
    loss = table.loss(h, BATCH)
    torch.testing.assert_close(loss, full.loss(h, BATCH))
    bias = table.bias if table.output is None else table.output.bias
    assert bool(torch.autograd.grad(loss.sum(), bias)[0][1:].all())


def test_seen_bias_by_hand():
    """A number for each distance back, the last for all that is further; an item that is there twice gets both."""
    table, h = make(seen_bias=True, tied_output=True)
    plain = h @ table.embedding.weight[1:].T
    b = SEEN_BIAS_SCALE * table.seen_bias
    extra = torch.zeros(3, ITEMS)
    extra[0, 3 - 1] = b[0]
    extra[1, 3 - 1], extra[1, 4 - 1] = b[0] + b[2], b[1]
    extra[2, 1 - 1] = b[0]
    extra[0, 6 - 1], extra[1, 6 - 1] = b[1], b[3]
    extra[0, 3 - 1] += b[3]
    extra[1, 3 - 1] += b[5]
    torch.testing.assert_close(table.probabilities(h[None], BATCH), (plain + extra).softmax(-1))


def test_seen_bias_starts_at_nothing():
    table = ItemTable(ItemTableConfig(max_length=6, seen_bias=True), ITEMS, SIZE)
    assert table.seen_bias.shape == (6,) and not table.seen_bias.any()


def test_directions_are_torchs_normalize_and_zeros_stay():
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        x[2] = 0
    results = []
    for function in (directions, lambda x: F.normalize(x, dim=-1)):
        unit = function(x)
        (gradient,) = torch.autograd.grad(unit, x, torch.arange(20, dtype=torch.float64).view(5, 4))
        results.append((unit, gradient[[0, 1, 3, 4]]))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not directions(x)[2].any()
