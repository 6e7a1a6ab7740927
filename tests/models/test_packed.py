"""Linear layers that keep their weights laid out: what torch gives, also after a change; only without a gradient."""

import copy

import pytest
import torch
from torch.nn import functional as F

from seqdiffrec.models import DiffRec, DiffRecConfig
from seqdiffrec.models.packed import PackedLinear
from tests.models.tiny import ragged

ACTIVATIONS = {None: lambda x: x, "gelu": F.gelu, "relu": F.relu}


def by_hand(layer: PackedLinear, x: torch.Tensor, activation: str | None) -> torch.Tensor:
    return ACTIVATIONS[activation](x.double() @ layer.weight.detach().double().T + layer.bias.detach().double())


@pytest.fixture
def layer() -> PackedLinear:
    torch.manual_seed(0)
    return PackedLinear(48, 40).eval()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rows", [0, 1, 3, 70])
def test_laid_out_or_not_it_is_the_same_function(layer, activation, rows):
    x = torch.randn(rows, 48)
    trained = layer(x, activation)
    assert trained.requires_grad and layer._kept is None
    with torch.no_grad():
        packed = layer(x, activation)
    assert layer._kept is not None and layer._kept[1].is_copy
    for out in (trained, packed):
        torch.testing.assert_close(out.double(), by_hand(layer, x, activation), rtol=1e-5, atol=1e-5)


def test_a_changed_weight_is_laid_out_anew(layer):
    x = torch.randn(2, 48)
    with torch.no_grad():
        layer(x)
        first = layer._kept
        layer(x)
        assert layer._kept is first
        layer.weight.mul_(2)
        torch.testing.assert_close(layer(x).double(), by_hand(layer, x, None), rtol=1e-5, atol=1e-5)
        layer.weight = torch.nn.Parameter(torch.randn(40, 48))
        torch.testing.assert_close(layer(x).double(), by_hand(layer, x, None), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("in_training", [True, False])
def test_a_step_of_training_is_seen(layer, in_training):
    """The fused Adam does not count up a weight's version."""
    x, optimizer = torch.randn(2, 48), torch.optim.Adam(layer.parameters(), lr=0.1, fused=True)
    with torch.no_grad():
        before = layer.eval()(x)
    layer.train(in_training)(x).sum().backward()
    optimizer.step()
    with torch.no_grad():
        after = layer.eval()(x)
    assert (after - before).abs().max() > 1
    torch.testing.assert_close(after.double(), by_hand(layer, x, None), rtol=1e-5, atol=1e-5)


def test_in_training_nothing_is_kept_even_without_a_gradient(layer):
    """As where one side of a game is asked while the other learns."""
    with torch.no_grad():
        layer.train()(torch.randn(2, 48))
    assert layer._kept is None


def test_what_may_change_unseen_is_not_kept():
    with torch.inference_mode():
        layer, x = PackedLinear(8, 8).eval(), torch.randn(2, 8)
        layer(x)
        assert layer._kept is None
        layer.weight.zero_()
        assert (layer(x) == layer.bias).all()


def test_autocast_and_other_types_go_torchs_way(layer):
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(torch.randn(2, 48)).dtype == torch.bfloat16
        assert layer.double()(torch.randn(2, 48).double()).dtype == torch.float64
    assert layer._kept is None


def test_a_model_that_has_answered_can_be_copied():
    model = DiffRec(DiffRecConfig(hidden_size=8, num_layers=1, max_length=6, num_seeds=2), 12)
    asked = ragged([1, 2, 3], [4])
    before = model.predict_histories(asked).clone()
    model.top_of_histories(asked, 3, torch.ones(12, dtype=torch.bool), filter_viewed=False)
    copied = copy.deepcopy(model)
    assert copied.predict_histories(asked).equal(before)
    with torch.no_grad():
        for weight in copied.parameters():
            weight.zero_()
    torch.testing.assert_close(copied.predict_histories(asked), torch.full((2, 12), 1 / 12))
    assert model.predict_histories(asked).equal(before)
