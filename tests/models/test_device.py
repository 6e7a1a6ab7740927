"""Ranking in bfloat16: factors rounded, sums and scores float32, and nothing of it afterwards."""

import pytest
import torch

from seqdiffrec.models import device
from seqdiffrec.models.device import rank_in, rounds_factors
from seqdiffrec.models.packed import PackedWeight
from seqdiffrec.models.settings import SettingError

CPU = torch.device("cpu")


@pytest.mark.skipif(not rounds_factors(CPU), reason="this processor has no AMX")
def test_factors_are_rounded_and_nothing_else():
    torch.manual_seed(0)
    weight, h = torch.randn(600, 64), torch.randn(80, 64)
    by_hand = h.bfloat16().double() @ weight.bfloat16().double().T
    exact = h.double() @ weight.double().T
    with torch.inference_mode():
        before = PackedWeight(weight)
        with rank_in("bfloat16", CPU):
            inside = PackedWeight(weight)
            found = [before.product(h), inside.product(h), h @ weight.T]
        after = [before.product(h), inside.product(h), h @ weight.T]
    for one in found:
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), by_hand, rtol=1e-5, atol=1e-4)
        assert (one - exact).abs().max() > 1e-2
    for one in after:
        torch.testing.assert_close(one.double(), exact, rtol=1e-5, atol=1e-4)


@pytest.mark.skipif(not rounds_factors(CPU), reason="this processor has no AMX")
def test_an_error_inside_ends_it_too():
    before = torch.backends.mkldnn.matmul.fp32_precision
    with pytest.raises(ZeroDivisionError), rank_in("bfloat16", CPU):
        _ = 1 / 0
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_it_is_refused_where_it_is_of_no_use(monkeypatch):
    with (
        pytest.raises(SettingError, match="model is on cuda:1; leave the"),
        rank_in("bfloat16", torch.device("cuda:1")),
    ):
        pass
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert device.has_bfloat16(CPU)
    with pytest.raises(SettingError, match="a CPU with AMX: this processor has none"), rank_in("bfloat16", CPU):
        pass
    with rank_in("float32", CPU):
        pass
