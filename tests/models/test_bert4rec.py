"""BERT4Rec: what is masked, what a masked place sees, and its loss and scores by hand."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seqdiffrec.data.batches import RaggedBatch, cut_windows, window_batch
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models import BERT4Rec, BERT4RecConfig
from seqdiffrec.models.item_table import SEEN_BIAS_SCALE

T, ITEMS, SIZE, HEADS = 7, 12, 8, 2
WALKS = [3, 4, 5, 6, 7], [9, 2], [1, 12, 11]


def make(num_items: int = ITEMS, **settings: object) -> BERT4Rec:
    """Without dropout, and with norms and biases that are not the neutral ones."""
    torch.manual_seed(1)
    given = {"hidden_size": SIZE, "num_heads": HEADS, "max_length": T, "dropout": 0.0}
    given |= {"embedding_std": 0.5, "weight_std": 0.5, **settings}
    model = BERT4Rec(BERT4RecConfig(**given), num_items).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.3 * torch.randn_like(parameter)
    return model


def sequences(*lists: list[int]) -> Sequences:
    lengths = np.array([len(one) for one in lists])
    items = np.array([item for one in lists for item in one], dtype=np.int32)
    return Sequences(items, np.cumsum(lengths) - lengths, np.cumsum(lengths))


def windows(*lists: list[int]) -> RaggedBatch:
    train = sequences(*lists)
    return window_batch(train, cut_windows(train, T, shared=True, prefixes=True, rng=np.random.default_rng(0)))


def masking(monkeypatch: pytest.MonkeyPatch, model: BERT4Rec, *places: list[int]) -> None:
    """Fix which places of each window are masked."""

    def draw(rows: Tensor, place: Tensor, lengths: Tensor) -> Tensor:
        pairs = zip(rows.tolist(), place.tolist(), strict=True)
        return torch.tensor([at in places[row] for row, at in pairs])

    monkeypatch.setattr(model, "_draw", draw)


def norm(x: Tensor, part: torch.nn.Module) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * part.weight.double() + part.bias.double()


def linear(x: Tensor, part: torch.nn.Module) -> Tensor:
    return x @ part.weight.double().T + part.bias.double()


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


@torch.no_grad()
def log_probabilities(model: BERT4Rec, items: list[int]) -> Tensor:
    """Of all items at each place, in float64; index 0 is the mask (Eq. 1 to 7, the head with its norm)."""
    E = model.table.embedding.weight.double()
    x = torch.stack([E[item] if item else model.mask.weight[0].double() for item in items])
    x = norm(x + model.position.weight[: len(items)].double(), model.encoder.input_norm)
    for layer in model.encoder.layers:
        query, (key, value) = linear(x, layer.query), linear(x, layer.key_value).chunk(2, dim=-1)
        heads = []
        for q, k, v in zip(*(part.chunk(HEADS, dim=-1) for part in (query, key, value)), strict=True):
            heads.append((q @ k.T / math.sqrt(SIZE / HEADS)).softmax(-1) @ v)
        x = norm(x + linear(torch.cat(heads, dim=-1), layer.output), layer.attention_norm)
        x = norm(x + linear(gelu(linear(x, layer.wide)), layer.narrow), layer.feed_forward_norm)
    h = norm(gelu(linear(x, model.head[0])), model.head[2])
    return (h @ E[1:].T + model.table.bias[1:].double()).log_softmax(-1)


def test_the_loss_by_hand(monkeypatch):
    model, masked = make(), ([1, 4], [0], [0, 1, 2])
    masking(monkeypatch, model, *masked)
    expected = []
    for walk, places in zip(WALKS, masked, strict=True):
        hidden = [0 if place in places else item for place, item in enumerate(walk)]
        found = log_probabilities(model, hidden)
        expected += [-float(found[place, walk[place] - 1]) for place in places]
    loss = model.loss(windows(*WALKS))
    assert loss.total.item() == pytest.approx(np.mean(expected), rel=1e-5)
    assert loss.parts == {"loss": loss.total.item()}
    loss.total.backward()
    assert all(bool(parameter.grad.to_dense().any()) for parameter in model.parameters())


def test_scores_by_hand():
    """At inference the mask stands behind the last T - 1 items."""
    model, histories = make(), [*WALKS, [8], [1, 2, 3, 4, 5, 6, 7, 8, 9]]
    expected = torch.stack([log_probabilities(model, [*one[-(T - 1) :], 0])[-1] for one in histories]).exp()
    torch.testing.assert_close(model.predict_histories(sequences(*histories)), expected.float(), rtol=1e-4, atol=1e-6)


def test_training_on_the_last_item_is_the_question_of_inference():
    """Places and what is seen agree, for windows that begin with their sequence and for those that do not."""
    model = make(last_item_proportion=1.0)
    long = [(5 * place) % ITEMS + 1 for place in range(3 * T + 2)]
    batch = windows(*WALKS, long)
    ends = [batch.targets[batch.rows == row][-1].item() for row in range(len(batch.lengths))]
    histories = [piece.tolist() for piece in batch.tokens.split(batch.lengths.tolist())]
    assert len(histories) > len(WALKS) + 1 and max(len(one) for one in histories) == T - 1
    asked = model.predict_histories(sequences(*histories))
    expected = -asked[torch.arange(len(ends)), torch.tensor(ends) - 1].log().mean()
    torch.testing.assert_close(model.loss(batch).total, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("seen_bias", [False, True])
def test_nothing_depends_on_what_is_masked(monkeypatch, seen_bias):
    model = make(seen_bias=seen_bias)
    masking(monkeypatch, model, [1, 4])

    def state(*items: int) -> Tensor:
        cloze = model._mask(windows(list(items)))
        return model.table.probabilities(model._encode(cloze)[None], cloze)

    before = state(3, 4, 5, 6, 7)
    assert torch.equal(before, state(3, 9, 5, 6, 1))
    for other in ([8, 4, 5, 6, 7], [3, 4, 8, 6, 7], [3, 4, 5, 8, 7]):  # on both sides of the first mask
        assert not torch.isclose(before, state(*other), rtol=0, atol=1e-6).all(1).any()


def test_masked_items_are_not_seen(monkeypatch):
    """The numbers of `seen_bias` go to the items before a masked place that are not masked themselves."""
    model = make(seen_bias=True, label_smoothing=0.2)
    masking(monkeypatch, model, [1, 4])
    cloze = model._mask(windows([3, 4, 5, 6, 7]))
    h = model._encode(cloze)
    scores = h @ model.table.embedding.weight[1:].T + model.table.bias[1:]
    bias = SEEN_BIAS_SCALE * model.table.seen_bias
    scores[0, 3 - 1] += bias[0]
    for item, back in ((6, 0), (5, 1), (3, 3)):
        scores[1, item - 1] += bias[back]
    expected = F.cross_entropy(scores, torch.tensor([4, 7]) - 1, label_smoothing=0.2)
    torch.testing.assert_close(model.loss(windows([3, 4, 5, 6, 7])).total, expected)


@pytest.mark.parametrize("mask_proportion", [0.01, 0.25, 0.6, 0.99])
def test_how_many_places_are_masked(mask_proportion):
    """Rounded half up, as Python 2 rounds; at least one."""
    model = make(mask_proportion=mask_proportion, last_item_proportion=0.0)
    lengths = torch.arange(1, 60)
    rows = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    places = torch.cat([torch.arange(length) for length in lengths.tolist()])
    masked = model._draw(rows, places, lengths)
    expected = [max(1, math.floor(mask_proportion * length + 0.5)) for length in lengths.tolist()]
    assert torch.bincount(rows[masked], minlength=len(lengths)).tolist() == expected


def test_all_choices_of_places_are_as_likely_and_some_sequences_mask_the_last_only():
    model, count, length = make(mask_proportion=0.5, last_item_proportion=0.4), 20_000, 4
    torch.manual_seed(0)
    rows, places = torch.arange(count).repeat_interleave(length), torch.arange(length).repeat(count)
    masked = model._draw(rows, places, torch.full((count,), length)).view(count, length)
    found = Counter(tuple(torch.nonzero(row).flatten().tolist()) for row in masked)
    pairs = [(a, b) for a in range(length) for b in range(a + 1, length)]
    assert found.keys() == {(length - 1,), *pairs}
    assert found[length - 1,] / count == pytest.approx(0.4, abs=0.02)
    assert all(found[pair] / count == pytest.approx(0.1, abs=0.01) for pair in pairs)


def test_an_epoch_covers_each_window_once_and_nothing_else():
    """Items that stand in the log behind a training sequence, as those of validation and test do, never come in."""
    log = np.arange(1, 61, dtype=np.int32)
    train = Sequences(log, np.array([0, 8, 30]), np.array([6, 28, 31]))
    model = make(num_items=60)
    cut = cut_windows(train, T, shared=True, prefixes=True, rng=np.random.default_rng(3))
    cloze = model._mask(window_batch(train, cut))
    tokens = cloze.tokens.clone()
    at = cloze.offsets[cloze.rows] + cloze.places
    assert not tokens[at].any() and (tokens == 0).sum() == len(at)
    assert cloze.targets.tolist() == log[cloze.origins].tolist()
    tokens[at] = cloze.targets
    whole = [log[start : last + 1].tolist() for start, last in zip(cut.start, cut.last, strict=True)]
    assert [piece.tolist() for piece in tokens.split(cloze.lengths.tolist())] == whole
    assert set(tokens.tolist()) == {*log[0:6].tolist(), *log[8:28].tolist()}


def test_masks_are_drawn_anew_from_torchs_generator():
    model, batch, losses = make(), windows(*WALKS), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(model.loss(batch).total.item())
    assert losses[0] == losses[1] != losses[2]
    assert model.loss(batch).total.item() != losses[2]


@pytest.mark.parametrize("settings", [{"filter_share": 0.3}, {"linear_bias": True}])
def test_what_needs_causal_attention_is_refused(settings):
    with pytest.raises(ValueError, match="needs causal attention"):
        BERT4RecConfig(**settings)
