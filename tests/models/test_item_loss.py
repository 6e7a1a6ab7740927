"""The losses over drawn items as a model has them: which items they hold a target against, and the sums by hand."""

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.losses import draw_others, draw_unseen
from seqdiffrec.models import GRU4RecConfig, SASRecConfig, item_loss
from seqdiffrec.models.item_table import SEEN_BIAS_SCALE, ItemTable, ItemTableConfig

ITEMS, SIZE = 9, 4
# Histories 3 4 3, with 6 before what is read, and 1; targets 5 after 3, 8 after 3 4 3, and 5 after 1.
BATCH = RaggedBatch(
    tokens=torch.tensor([3, 4, 3, 1]),
    offsets=torch.tensor([0, 3, 4]),
    rows=torch.tensor([0, 0, 1]),
    places=torch.tensor([1, 3, 1]),
    targets=torch.tensor([5, 8, 5]),
    older=torch.tensor([6]),
    older_back=torch.tensor([1]),
    older_offsets=torch.tensor([0, 1, 1]),
    origins=torch.tensor([1, 3, 5]),
)
LOSSES = ["sampled", "in_batch", "bce", "gbce", "bpr_max", "top1_max"]


def make(**settings: object) -> tuple[ItemTable, Tensor]:
    torch.manual_seed(0)
    table = ItemTable(ItemTableConfig(max_length=6, **settings), ITEMS, SIZE)
    for parameter in table.parameters():
        torch.nn.init.normal_(parameter)
    table.count_items(torch.arange(1, ITEMS + 1))
    return table, torch.randn(3, SIZE)


def scores(table: ItemTable, h: Tensor) -> list[list[float]]:
    """In float64: of each target's row for all items, 0 for the padding."""
    weight = table.embedding.weight if table.output is None else table.output.weight
    found = (h.double() @ weight.double().T).tolist()
    for row, of_row in enumerate(found):
        of_row[0] = 0.0
        for item in range(1, ITEMS + 1):
            of_row[item] += 0.0 if table.output is None else table.output.bias[item].item()
        if table.seen_bias is not None:
            b = [SEEN_BIAS_SCALE * value for value in table.seen_bias.tolist()]
            back = [[(3, 0), (6, 1)], [(3, 0), (4, 1), (3, 2), (6, 3)], [(1, 0)]][row]
            for item, distance in back:
                of_row[item] += b[distance]
    return found


def softplus(x: float) -> float:
    return math.log1p(math.exp(-abs(x))) + max(x, 0.0)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


OUTPUTS = [{}, {"tied_output": True}, {"seen_bias": True}]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("rows_a_score", [0, 64])
def test_binary_cross_entropy_by_hand(monkeypatch, output, rows_a_score):
    """Kang and McAuley: the sum over the target and its negatives."""
    monkeypatch.setattr("seqdiffrec.losses.binary.ROWS_A_SCORE", rows_a_score)
    table, h = make(loss="bce", negatives_per_target=2, **output)
    negatives = [[2, 7], [2, 2], [4, 0]]  # of the last there is but one
    monkeypatch.setattr(item_loss, "draw_unseen", lambda *_: torch.tensor(negatives))
    expected = [
        softplus(-of_row[target]) + sum(softplus(of_row[item]) for item in own if item)
        for of_row, target, own in zip(scores(table, h), [5, 8, 5], negatives, strict=True)
    ]
    assert table.loss(h, BATCH).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("t", [0.0, 0.75, 1.0])
def test_generalised_binary_cross_entropy_by_hand(monkeypatch, output, t):
    """Petrov and Macdonald: the mean, the target's part times beta. Negatives that were seen keep their bias."""
    table, h = make(loss="gbce", negatives_per_target=2, calibration=t, **output)
    negatives = [[3, 7], [6, 3], [1, 9]]
    monkeypatch.setattr(item_loss, "draw_others", lambda *_: torch.tensor(negatives))
    alpha = 2 / (ITEMS - 1)
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
    expected = [
        (beta * softplus(-of_row[target]) + sum(softplus(of_row[item]) for item in own)) / 3
        for of_row, target, own in zip(scores(table, h), [5, 8, 5], negatives, strict=True)
    ]
    assert table.loss(h, BATCH).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("draws", [1, 3])
def test_in_batch_softmax_by_hand(draws):
    """Each other target is a negative, its score less the logarithm of how often it is expected among them."""
    table, h = make(loss="in_batch")
    targets = [5, 8, 5]
    expected = []
    for of_row, target in zip(scores(table, h), targets, strict=True):
        others = [item for item in targets if item != target]
        # Item i occurs i times, of 45 in all.
        rest = sum(math.exp(of_row[item]) / ((len(targets) - 1) * item / 45) for item in others)
        expected.append(math.log(math.exp(of_row[target]) + rest) - of_row[target])
    losses = table.loss(h.repeat(draws, 1), BATCH.repeat_targets(draws)).tolist()
    assert losses == pytest.approx(expected * draws, rel=1e-4), "several noises of a target bring no other negatives"


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("elu", [0.0, 0.5])
@pytest.mark.parametrize("loss", ["bpr_max", "top1_max"])
def test_ranking_max_by_hand(monkeypatch, loss, elu, output):
    """Hidasi and Karatzoglou: negatives are the batch's other targets and the draws, as often as they come."""
    penalty = {"score_penalty": 0.3} if loss == "bpr_max" else {}
    table, h = make(loss=loss, score_elu=elu, num_negatives=4, **penalty, **output)
    drawn = [2, 8, 2, 4]
    monkeypatch.setattr(table.drawn.sampler, "draw_items", lambda count: torch.tensor(drawn)[:count])
    expected = []
    for of_row, target in zip(scores(table, h), [5, 8, 5], strict=True):
        if elu:
            of_row = [score if score > 0 else elu * (math.exp(score) - 1) for score in of_row]
        own = of_row[target]
        negatives = [of_row[item] for item in [5, 8, 5, *drawn] if item != target]
        share = [math.exp(score) / sum(math.exp(other) for other in negatives) for score in negatives]
        pairs = list(zip(share, negatives, strict=True))
        if loss == "top1_max":
            expected.append(sum(s * (sigmoid(r - own) + sigmoid(r**2)) for s, r in pairs))
        else:
            ahead = sum(s * sigmoid(own - r) for s, r in pairs)
            expected.append(-math.log(ahead) + 0.3 * sum(s * r**2 for s, r in pairs))
    assert table.loss(h, BATCH).tolist() == pytest.approx(expected, rel=1e-4)


def negatives_drawn(monkeypatch: pytest.MonkeyPatch, loss: str) -> list[Counter[int]]:
    """How often each target is held against each item, in many draws."""
    kept: list[Tensor] = []
    for function in (draw_unseen, draw_others):
        monkeypatch.setattr(
            item_loss, function.__name__, lambda *given, draw=function: kept.append(draw(*given)) or kept[-1]
        )
    table, h = make(loss=loss, negatives_per_target=200)
    table.loss(h, BATCH)
    return [Counter(row) for row in kept[0].tolist()]


def test_bce_draws_what_the_sequence_does_not_hold(monkeypatch):
    """Neither history, what is older, nor any target of the sequence, later ones included."""
    held = [{3, 4, 6, 5, 8}, {3, 4, 6, 5, 8}, {1, 5}]
    drawn = negatives_drawn(monkeypatch, "bce")
    assert [set(row) for row in drawn] == [set(range(1, ITEMS + 1)) - items for items in held]


def test_gbce_draws_all_but_the_target(monkeypatch):
    drawn = negatives_drawn(monkeypatch, "gbce")
    assert [set(row) for row in drawn] == [set(range(1, ITEMS + 1)) - {target} for target in (5, 8, 5)]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
def test_where_the_gradient_goes(loss, tied):
    """To the target, and to none but items that were scored; of softmaxes over draws it is sparse."""
    torch.manual_seed(0)
    table = ItemTable(ItemTableConfig(loss=loss, tied_output=tied, max_length=6), 5000, SIZE)
    table.count_items(torch.ones(5000, dtype=torch.int64))
    table.loss(torch.randn(3, SIZE), BATCH).sum().backward()
    gradient = (table.embedding if tied else table.output).weight.grad
    assert gradient.is_sparse == (loss in ("sampled", "in_batch"))
    rows = torch.nonzero(gradient.to_dense().any(1)).squeeze(1).tolist()
    assert {5, 8} <= set(rows) and 0 not in rows
    assert len(rows) <= (2 if loss == "in_batch" else 5 if loss in ("bce", "gbce") else 1026)


REFUSED = [
    ({"label_smoothing": 0.1, "loss": "bce"}, "label_smoothing = 0.1 needs loss = full"),
    ({"num_negatives": 7}, "num_negatives = 7 needs loss = sampled or bpr_max or top1_max"),
    ({"num_negatives": 7, "loss": "bce"}, "num_negatives = 7 needs loss = sampled or bpr_max or top1_max"),
    ({"negative_exponent": 0.1, "loss": "in_batch"}, "negative_exponent = 0.1 needs loss = sampled"),
    ({"negatives_per_target": 2, "loss": "sampled"}, "negatives_per_target = 2 needs loss = bce or gbce"),
    ({"calibration": 0.5, "loss": "bce"}, "calibration = 0.5 needs loss = gbce"),
    ({"score_penalty": 0.5, "loss": "top1_max"}, "score_penalty = 0.5 needs loss = bpr_max"),
    ({"score_elu": 0.5}, "score_elu = 0.5 needs loss = bpr_max or top1_max"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_a_setting_that_the_loss_does_not_have_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SASRecConfig(**settings)


@pytest.mark.parametrize("config_class", [SASRecConfig, GRU4RecConfig])
@pytest.mark.parametrize("loss", ["full", *LOSSES])
def test_settings_that_are_written_down_whole_are_taken_again(config_class, loss):
    config = config_class(loss=loss)
    assert config_class(**config.model_dump()) == config
