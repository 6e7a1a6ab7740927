"""The encoder over ragged tokens against torch's own layers over padded ones, with the same weights."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqdiffrec.models import encoder as encoder_module
from seqdiffrec.models.attention import RaggedAttention
from seqdiffrec.models.encoder import ROWS, Encoder, EncoderConfig, EncoderLayer, initialize, whole

LENGTHS = [5, 1, 9, 3, 12]


def make(**settings: object) -> Encoder:
    config = EncoderConfig(hidden_size=8, num_heads=2, dropout=0.0, **settings)
    torch.manual_seed(0)
    encoder = Encoder(config)
    initialize(encoder, 0.4, 0.4)
    with torch.no_grad():  # norms and biases that are not the neutral ones
        for name, parameter in encoder.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter += 0.3 * torch.randn_like(parameter)
    return encoder.eval()


def torch_layer(layer: EncoderLayer, activation: str, norm_first: bool) -> nn.TransformerEncoderLayer:
    size, wide = layer.narrow.out_features, layer.narrow.in_features
    twin = nn.TransformerEncoderLayer(
        size, layer.num_heads, wide, 0.0, activation=activation, batch_first=True, norm_first=norm_first
    )
    copies = {
        twin.self_attn.in_proj_weight: torch.cat([layer.query.weight, layer.key_value.weight]),
        twin.self_attn.in_proj_bias: torch.cat([layer.query.bias, layer.key_value.bias]),
        twin.self_attn.out_proj.weight: layer.output.weight,
        twin.self_attn.out_proj.bias: layer.output.bias,
        twin.linear1.weight: layer.wide.weight,
        twin.linear1.bias: layer.wide.bias,
        twin.linear2.weight: layer.narrow.weight,
        twin.linear2.bias: layer.narrow.bias,
        twin.norm1.weight: layer.attention_norm.weight,
        twin.norm1.bias: layer.attention_norm.bias,
        twin.norm2.weight: layer.feed_forward_norm.weight,
        twin.norm2.bias: layer.feed_forward_norm.bias,
    }
    with torch.no_grad():
        for theirs, ours in copies.items():
            theirs.copy_(ours)
    return twin


def padded(encoder: Encoder, x: Tensor, lengths: list[int], config: dict[str, object], causal: bool) -> Tensor:
    """All places of all sequences, by torch's layers over a padded batch; flat again."""
    activation, norm_first = str(config.get("activation", "gelu")), bool(config.get("norm_first", False))
    batch = nn.utils.rnn.pad_sequence(list(x.split(lengths)), batch_first=True, padding_value=7.0)
    real = torch.arange(batch.shape[1]) < torch.tensor(lengths)[:, None]
    later = torch.ones(batch.shape[1], batch.shape[1], dtype=torch.bool).triu(1) if causal else None
    h = encoder.input_norm(batch)
    for layer in encoder.layers:
        assert isinstance(layer, EncoderLayer)
        h = torch_layer(layer, activation, norm_first).to(h.dtype)(h, src_mask=later, src_key_padding_mask=~real)
    return encoder.output_norm(h)[real]


def flat() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    lengths = torch.tensor(LENGTHS)
    rows = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    places = torch.cat([torch.arange(length) for length in LENGTHS])
    offsets = torch.tensor([0, *LENGTHS]).cumsum(0)
    x = torch.randn(len(rows), 8, generator=torch.Generator().manual_seed(3))
    return x, rows, places, offsets


SETTINGS: list[dict[str, object]] = [
    {},
    {"norm_first": True},
    {"activation": "relu", "num_layers": 3, "input_norm": False},
    {"num_layers": 1, "feed_forward_factor": 2},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("causal", [False, True])
def test_against_torchs_layers(settings, causal):
    encoder = make(**settings)
    x, rows, places, offsets = flat()
    expected = padded(encoder, x, LENGTHS, settings, causal)
    for read in (torch.arange(len(x)), offsets[1:] - 1, torch.tensor([7, 2, 7])):
        if causal:
            out, _ = encoder.causal(x, rows, places, offsets, read)
        else:
            out = encoder.bidirectional(x, rows, offsets, read)
        torch.testing.assert_close(out, expected[read], rtol=0, atol=1e-5)


@pytest.mark.parametrize("settings", SETTINGS)
def test_targets_over_a_shared_history_against_torchs_layers(settings):
    """A target that sees k items comes out as the last place of a causal sequence of those k items and itself."""
    encoder = make(**settings)
    x, rows, places, offsets = flat()
    target_rows, target_places = torch.tensor([2, 0, 2, 4, 1, 3, 0]), torch.tensor([9, 2, 1, 12, 1, 0, 5])
    targets = torch.randn(7, 8, generator=torch.Generator().manual_seed(4))
    together = torch.cat([x, targets]), torch.cat([rows, target_rows]), torch.cat([places, target_places]), offsets
    newest = torch.tensor([3, 8])
    out, history = encoder.causal(*together, torch.cat([newest, torch.arange(len(x), len(x) + 7)]))
    torch.testing.assert_close(out[:2], encoder.causal(x, rows, places, offsets, newest)[0], rtol=0, atol=1e-5)
    later = encoder.attend_to_history(targets, history, RaggedAttention(target_rows, target_places, offsets))
    torch.testing.assert_close(later, out[2:], rtol=0, atol=1e-5)
    sequences = [
        torch.cat([x[offsets[row] : offsets[row] + seen], targets[i : i + 1]])
        for i, (row, seen) in enumerate(zip(target_rows.tolist(), target_places.tolist(), strict=True))
    ]
    lengths = [len(sequence) for sequence in sequences]
    expected = padded(encoder, torch.cat(sequences), lengths, settings, causal=True)
    torch.testing.assert_close(later, expected[torch.tensor(lengths).cumsum(0) - 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("at_once", [1, 80, 4096])
@pytest.mark.parametrize("with_gradient", [False, True])
def test_draws_of_the_last_place_against_torchs_layers(monkeypatch, settings, at_once, with_gradient):
    """Each draw comes out as the last place of the history with it; one at a time, two at a time, all at once."""
    monkeypatch.setattr(encoder_module, "DRAWN_AT_ONCE", at_once)
    encoder, lengths = make(**settings), torch.tensor([5, 0, 9, 3, 12])
    rows, offsets = torch.repeat_interleave(torch.arange(5), lengths), F.pad(lengths.cumsum(0), (1, 0))
    x, draws = (torch.randn(*shape, generator=torch.Generator().manual_seed(4)) for shape in ((29, 8), (3, 5, 8)))
    with torch.set_grad_enabled(with_gradient):
        found = encoder.bidirectional_draws(x, draws, rows, offsets)
    for draw, out in zip(draws, found, strict=True):
        sequences = torch.cat([torch.cat([x[rows == row], one[None]]) for row, one in enumerate(draw)])
        expected = padded(encoder, sequences, (lengths + 1).tolist(), settings, causal=False)
        torch.testing.assert_close(out, expected[(lengths + 1).cumsum(0) - 1], rtol=0, atol=1e-5)


def test_the_history_of_all_draws_enters_the_first_layer_once():
    encoder = make()
    x, rows, _, offsets = flat()
    counts = []
    for layer in encoder.layers:
        for part in (layer.query, layer.key_value):
            part.register_forward_hook(lambda _, given, __: counts.append(len(given[0])))
    encoder.bidirectional_draws(x, torch.zeros(4, len(LENGTHS), 8), rows, offsets)
    history, drawn = len(x), 4 * len(LENGTHS)
    # keys and queries of the history, then of the draws; the last layer's keys of all, and the queries that are read
    assert sorted(counts) == sorted([history, history, drawn, drawn, 4 * history, drawn, drawn])


def test_gradients_against_torchs_layers():
    encoder = make().double()
    x, rows, _, offsets = flat()
    x = x.double().requires_grad_()
    upstream = torch.randn(len(LENGTHS), 8, generator=torch.Generator().manual_seed(5)).double()
    last = offsets[1:] - 1
    (ours,) = torch.autograd.grad(encoder.bidirectional(x, rows, offsets, last), x, upstream)
    (theirs,) = torch.autograd.grad(padded(encoder, x, LENGTHS, {}, causal=False)[last], x, upstream)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "settings",
    [
        {"dropout": 0.5},
        {"dropout": 0.5, "input_dropout": False},
        {"dropout": 0.5, "input_dropout": False, "attention_dropout": 0.0},
        {"dropout": 0.0, "attention_dropout": 0.5},
    ],
)
def test_dropout_acts_in_training_only(settings):
    encoder = Encoder(EncoderConfig(hidden_size=8, **settings))
    initialize(encoder, 0.4, 0.4)
    x, rows, _, offsets = flat()
    read = torch.arange(len(x))
    runs = [encoder.bidirectional(x, rows, offsets, read) for _ in range(2)]
    assert not torch.equal(*runs)
    encoder.eval()
    runs = [encoder.bidirectional(x, rows, offsets, read) for _ in range(2)]
    assert torch.equal(*runs)


@pytest.mark.parametrize(("attention_dropout", "rate"), [(None, 0.5), (0.25, 0.25), (0.0, 0.0)])
def test_the_attention_weights_may_have_a_rate_of_their_own(monkeypatch, attention_dropout, rate):
    rates: dict[str, set[float]] = {"attention": set(), "encoder": set()}
    for module, found in rates.items():
        monkeypatch.setattr(f"seqdiffrec.models.{module}.dropout", lambda x, rate, found=found: found.add(rate) or x)
    encoder = Encoder(EncoderConfig(hidden_size=8, dropout=0.5, attention_dropout=attention_dropout))
    x, rows, _, offsets = flat()
    encoder.bidirectional(x.float(), rows, offsets, torch.arange(len(x)))
    assert rates == {"attention": {rate}, "encoder": {0.5, 0.0}}  # 0.0: between the layers of the feed-forward part


def test_each_place_of_dropout_may_have_a_rate_of_its_own(monkeypatch):
    found: list[tuple[float, int]] = []
    monkeypatch.setattr("seqdiffrec.models.encoder.dropout", lambda x, rate: found.append((rate, x.shape[1])) or x)
    rates = {"dropout": 0.5, "attention_output_dropout": 0.0, "inner_dropout": 0.25}
    encoder = Encoder(EncoderConfig(hidden_size=8, num_layers=1, feed_forward_factor=3, **rates))
    x, rows, _, offsets = flat()
    encoder.bidirectional(x.float(), rows, offsets, torch.arange(len(x)))
    # The input, what attention gives, between the layers of the feed-forward part, what that gives.
    assert found == [(0.5, 8), (0.0, 8), (0.25, 24), (0.5, 8)]
    found.clear()
    encoder.eval().bidirectional(x.float(), rows, offsets, torch.arange(len(x)))
    assert {rate for rate, _ in found} == {0.0}


def test_initial_weights():
    torch.manual_seed(0)
    module = nn.ModuleList([Encoder(EncoderConfig(hidden_size=64)), nn.Embedding(500, 64, padding_idx=0)])
    initialize(module, 0.02, 0.02)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        elif "norm" in name:
            assert bool((parameter == 1).all())
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.05), name
    assert not module[1].weight[0].any()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"dropout": 1.5}, "less than 1"),
        ({"dropout": -0.1}, "greater than or equal to 0"),
        ({"attention_dropout": 1.0}, "less than 1"),
        ({"hidden_size": 10, "num_heads": 4}, "hidden_size, 10, must be a multiple of num_heads, 4"),
        ({"hidden_size": 7}, "multiple of 2"),
        ({"num_heads": 0}, "greater than or equal to 1"),
        ({"hiden_size": 64}, "hiden_size"),
        ({"max_length": 1}, "greater than or equal to 2"),
        ({"activation": "tanh"}, "'gelu' or 'relu'"),
    ],
)
def test_settings_that_make_no_encoder_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        EncoderConfig(**settings)


def test_slopes_start_as_published_and_learn():
    """ALiBi: head h of 8 has slope 2^-h."""
    encoder = Encoder(EncoderConfig(hidden_size=16, num_heads=8, linear_bias=True, dropout=0.0))
    initialize(encoder, 0.4, 0.4)
    slopes = encoder.layers[0].log_slopes
    torch.testing.assert_close(slopes.exp(), 2.0 ** -torch.arange(1, 9))
    _, rows, places, offsets = flat()
    x = torch.randn(len(rows), 16)
    encoder.causal(x, rows, places, offsets, torch.arange(len(x)))[0].square().sum().backward()
    assert (slopes.grad != 0).all()


@pytest.mark.parametrize("count", [1, ROWS - 1, ROWS, ROWS + 1])
def test_rows_are_made_up_and_cut_off_again(count):
    linear, x = nn.Linear(4, 3), torch.randn(count, 4, requires_grad=True)
    counts = []

    def counted(rows: Tensor) -> Tensor:
        counts.append(len(rows))
        return linear(rows)

    torch.testing.assert_close(whole(counted, x), linear(x), rtol=0, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        made_up = whole(counted, x).float()
    assert counts == [count, ROWS * -(-count // ROWS)]
    torch.testing.assert_close(made_up, linear(x), rtol=0.02, atol=0.02)
    wanted = [x, linear.weight, linear.bias]
    for ours, theirs in zip(
        torch.autograd.grad(made_up.square().sum(), wanted),
        torch.autograd.grad(linear(x).square().sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.2)
