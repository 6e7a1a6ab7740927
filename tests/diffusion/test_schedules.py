import math

import pytest
import torch
from hypothesis import given, strategies as st

from seqdiffrec.diffusion import SCHEDULES, make_alpha_bar

EDGES = [1, 2, 3, 10, 1000, 9_999, 10_000]


def check_table(alpha_bar: torch.Tensor, num_steps: int) -> None:
    assert alpha_bar.dtype == torch.float64
    assert alpha_bar.shape == (num_steps + 1,)
    assert alpha_bar[0] == 1
    assert (alpha_bar.diff() < 0).all()
    assert alpha_bar[-1] > 0
    beta = 1 - alpha_bar[1:] / alpha_bar[:-1]
    assert beta.max() <= 0.999 + 1e-12


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("num_steps", EDGES)
def test_falls_strictly_from_one_and_stays_above_zero_at_the_edges(schedule: str, num_steps: int) -> None:
    check_table(make_alpha_bar(schedule, num_steps), num_steps)


@given(schedule=st.sampled_from(SCHEDULES), num_steps=st.integers(1, 10_000))
def test_falls_strictly_from_one_and_stays_above_zero(schedule: str, num_steps: int) -> None:
    check_table(make_alpha_bar(schedule, num_steps), num_steps)


def test_sqrt_is_the_printed_formula_until_the_clip() -> None:
    alpha_bar = make_alpha_bar("sqrt", 1000)
    for n in (1, 2, 500, 999):
        assert alpha_bar[n].item() == pytest.approx(1 - math.sqrt(n / 1000 + 1e-4), rel=1e-9)
    assert alpha_bar[1000].item() == pytest.approx(alpha_bar[999].item() * 0.001, rel=1e-9)


def test_sqrt_clips_twice_where_the_curve_reaches_zero_one_step_early() -> None:
    alpha_bar = make_alpha_bar("sqrt", 10_000)  # (N - 1)/N + 1e-4 is 1
    assert (alpha_bar[1:] / alpha_bar[:-1])[-2:].tolist() == pytest.approx([0.001, 0.001])
    assert alpha_bar[9_998].item() == pytest.approx(1 - math.sqrt(0.9999), rel=1e-6)


def test_cosine_is_the_printed_formula_until_the_clip() -> None:
    def g(n: int) -> float:
        return math.cos((n / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    alpha_bar = make_alpha_bar("cosine", 1000)
    for n in (1, 2, 500, 999):
        assert alpha_bar[n].item() == pytest.approx(g(n) / g(0), rel=1e-9)
    assert alpha_bar[1000].item() == pytest.approx(alpha_bar[999].item() * 0.001, rel=1e-6)


@pytest.mark.parametrize(
    ("schedule", "num_steps", "betas"),
    [
        ("linear", 3, [1e-4, 0.01005, 0.02]),
        ("linear_scaled", 100, [1e-3 + (0.2 - 1e-3) * n / 99 for n in range(100)]),
        ("linear_scaled", 3, [1e-4 * 1000 / 3, 0.999, 0.999]),
        ("linear", 1, [0.02]),
        ("linear_scaled", 1, [0.999]),
    ],
)
def test_linear_betas(schedule: str, num_steps: int, betas: list[float]) -> None:
    expected = 1.0
    for beta, value in zip(betas, make_alpha_bar(schedule, num_steps)[1:].tolist(), strict=True):
        expected *= 1 - beta
        assert value == pytest.approx(expected, rel=1e-9)


def test_printed_and_scaled_linear_agree_at_1000_steps_and_differ_at_10() -> None:
    torch.testing.assert_close(make_alpha_bar("linear", 1000), make_alpha_bar("linear_scaled", 1000))
    assert make_alpha_bar("linear", 10)[-1] > 0.9  # most of the signal is still there
    assert make_alpha_bar("linear_scaled", 10)[-1] < 1e-4


@pytest.mark.parametrize("num_steps", [0, -1, 10_001])
def test_refuses_a_number_of_steps_out_of_range(num_steps: int) -> None:
    with pytest.raises(ValueError, match=rf"{num_steps}.*1 to 10,000"):
        make_alpha_bar("sqrt", num_steps)


def test_refuses_an_unknown_schedule_and_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="'cosin'; did you mean 'cosine'"):
        make_alpha_bar("cosin", 10)
