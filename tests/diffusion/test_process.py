"""The process against its equations, worked out by hand or by an independent route. One test names each equation."""

import math
import re

import pytest
import torch
from hypothesis import given, strategies as st
from torch.distributions import Normal, kl_divergence

from seqdiffrec.diffusion import SCHEDULES, GaussianDiffusion, make_alpha_bar

F64 = torch.float64
BY_HAND = torch.tensor([1.0, 0.8, 0.4, 0.1], dtype=F64)  # alpha = 0.8, 0.5, 0.25


@pytest.fixture
def process() -> GaussianDiffusion:
    return GaussianDiffusion(BY_HAND)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def posterior_by_bayes(process: GaussianDiffusion, h0: float, hn: float, n: int) -> tuple[float, float]:
    """Mean and variance of q(h_{n-1} | h_n, h_0), from q(h_{n-1} | h_0) as prior and q(h_n | h_{n-1}) as likelihood."""
    before, beta = process.alpha_bar[n - 1].item(), process.beta[n].item()
    precision = 1 / (1 - before) + (1 - beta) / beta
    mean = (math.sqrt(before) * h0 / (1 - before) + math.sqrt(1 - beta) * hn / beta) / precision
    return mean, 1 / precision


def test_eq01_one_step_by_hand(process: GaussianDiffusion) -> None:
    h_prev, noise = torch.tensor([[2.0], [4.0]], dtype=F64), torch.tensor([[3.0], [-1.0]], dtype=F64)
    h = process.add_noise_one_step(h_prev, torch.tensor([2, 3]), noise)
    expected = [
        math.sqrt(0.5) * 2 + math.sqrt(0.5) * 3,
        math.sqrt(0.25) * 4 - math.sqrt(0.75),
    ]
    assert h.flatten().tolist() == pytest.approx(expected)


def test_eq02_add_noise_by_hand(process: GaussianDiffusion) -> None:
    h0, noise = torch.tensor([[2.0], [4.0]], dtype=F64), torch.tensor([[3.0], [-1.0]], dtype=F64)
    hn = process.add_noise(h0, torch.tensor([2, 3]), noise)
    expected = [
        math.sqrt(0.4) * 2 + math.sqrt(0.6) * 3,
        math.sqrt(0.1) * 4 - math.sqrt(0.9),
    ]
    assert hn.flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_eq02_is_eq01_repeated(schedule: str) -> None:
    """Without noise the signal factors multiply up; with a unit of noise at each step the variances add up."""
    process = GaussianDiffusion(make_alpha_bar(schedule, 20))
    one, zero = torch.ones(1, 1, dtype=F64), torch.zeros(1, 1, dtype=F64)
    signal, variance = one, zero
    for n in range(1, 21):
        signal = process.add_noise_one_step(signal, n, zero)
        kept, added = process.add_noise_one_step(variance.sqrt(), n, zero), process.add_noise_one_step(zero, n, one)
        variance = kept**2 + added**2
        torch.testing.assert_close(process.add_noise(one, n, zero), signal)
        torch.testing.assert_close(process.add_noise(zero, n, one) ** 2, variance)


@given(step=st.integers(2, 50), h0=st.floats(-3, 3), hn=st.floats(-3, 3), schedule=st.sampled_from(SCHEDULES))
def test_eq03_posterior_is_bayes_rule(step: int, h0: float, hn: float, schedule: str) -> None:
    process = GaussianDiffusion(make_alpha_bar(schedule, 50))
    mean, variance = posterior_by_bayes(process, h0, hn, step)
    got = process.posterior_mean(torch.tensor([[h0]], dtype=F64), torch.tensor([[hn]], dtype=F64), step)
    assert got.item() == pytest.approx(mean, rel=1e-8, abs=1e-8)
    assert process.posterior_variance(step).item() == pytest.approx(variance, rel=1e-8)


def test_eq03_at_step_1_is_h0_without_variance(process: GaussianDiffusion) -> None:
    h0, h1 = draw(4, 3), draw(4, 3, seed=1)
    torch.testing.assert_close(process.posterior_mean(h0, h1, 1), h0)
    assert process.posterior_variance(1) == 0


def test_eq04_reverse_step_by_hand(process: GaussianDiffusion) -> None:
    h0_hat, hn, noise = (torch.full((2, 1), value, dtype=F64) for value in (2.0, 3.0, 0.5))
    step = torch.tensor([2, 3])
    # step 2: sqrt(.8) .5 / .6 and sqrt(.5) .2 / .6; step 3: sqrt(.4) .75 / .9 and sqrt(.25) .6 / .9
    mean = [
        (math.sqrt(0.8) * 0.5 * 2 + math.sqrt(0.5) * 0.2 * 3) / 0.6,
        (math.sqrt(0.4) * 0.75 * 2 + 0.5 * 0.6 * 3) / 0.9,
    ]
    by_beta = [mean[0] + math.sqrt(0.5) * 0.5, mean[1] + math.sqrt(0.75) * 0.5]
    by_beta_tilde = [mean[0] + math.sqrt(0.2 / 0.6 * 0.5) * 0.5, mean[1] + math.sqrt(0.6 / 0.9 * 0.75) * 0.5]
    assert process.reverse_step(h0_hat, hn, step, noise).flatten().tolist() == pytest.approx(by_beta)
    tilde = process.reverse_step(h0_hat, hn, step, noise, "beta_tilde")
    assert tilde.flatten().tolist() == pytest.approx(by_beta_tilde)


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_eq04_adds_no_noise_at_step_1(process: GaussianDiffusion, variance: str) -> None:
    h0_hat, hn = draw(2, 3), draw(2, 3, seed=1)
    h = process.reverse_step(h0_hat, hn, torch.tensor([1, 2]), torch.full((2, 3), 9.0, dtype=F64), variance)
    torch.testing.assert_close(h[0], h0_hat[0])
    assert not torch.allclose(h[1], process.posterior_mean(h0_hat, hn, 2)[1])


def walk(process: GaussianDiffusion, h0: torch.Tensor) -> list[torch.Tensor]:
    """One path h_0, h_1, ..., h_N by Eq. 1."""
    path = [h0]
    for n in range(1, process.num_steps + 1):
        path.append(process.add_noise_one_step(path[-1], n, draw(*h0.shape, seed=n)))
    return path


def test_eq05_the_bound_splits_into_the_terms_of_the_steps() -> None:
    """log q(h_1..h_N | h_0) - log p(h_0..h_N) equals L_N + sum L_n - L_0 on every single path."""
    process = GaussianDiffusion(make_alpha_bar("cosine", 6))
    path = walk(process, draw(5, 1))
    beta, alpha_bar = process.beta, process.alpha_bar

    def p(n: int) -> Normal:  # p(h_{n-1} | h_n) of a toy model f(h_n) = 0.3 h_n
        return Normal(process.posterior_mean(0.3 * path[n], path[n], n), beta[n].sqrt())

    prior = Normal(torch.zeros((), dtype=F64), torch.ones((), dtype=F64))
    forward = sum(Normal((1 - beta[n]).sqrt() * path[n - 1], beta[n].sqrt()).log_prob(path[n]) for n in range(1, 7))
    reverse = prior.log_prob(path[6]) + sum(p(n).log_prob(path[n - 1]) for n in range(1, 7))

    last = Normal(alpha_bar[6].sqrt() * path[0], (1 - alpha_bar[6]).sqrt()).log_prob(path[6]) - prior.log_prob(path[6])
    middle = torch.zeros(5, 1, dtype=F64)
    for n in range(2, 7):
        q = Normal(process.posterior_mean(path[0], path[n], n), process.posterior_variance(n).sqrt())
        middle += q.log_prob(path[n - 1]) - p(n).log_prob(path[n - 1])
    torch.testing.assert_close(forward - reverse, last + middle - p(1).log_prob(path[0]))


@pytest.mark.parametrize("step", [2, 5, 12])
def test_eq10_kl_is_the_squared_distance_of_the_means(step: int) -> None:
    """KL(q || p) with the variance beta_n: |mu - mu_theta|^2 / (2 beta_n) + C, C from the two variances alone."""
    process = GaussianDiffusion(make_alpha_bar("sqrt", 12))
    h0, hn, h0_hat = draw(8), draw(8, seed=1), draw(8, seed=2)
    beta, beta_tilde = process.beta[step], process.posterior_variance(step)
    q = Normal(process.posterior_mean(h0, hn, step), beta_tilde.sqrt())
    # p's mean: the reverse step with its noise set to 0
    mean = process.reverse_step(h0_hat, hn, step, torch.zeros_like(hn))
    constant = 0.5 * (beta_tilde / beta - 1 - (beta_tilde / beta).log())
    torch.testing.assert_close(
        kl_divergence(q, Normal(mean, beta.sqrt())), (q.mean - mean) ** 2 / (2 * beta) + constant
    )
    torch.testing.assert_close(
        kl_divergence(q, Normal(mean, beta_tilde.sqrt())), (q.mean - mean) ** 2 / (2 * beta_tilde)
    )


@given(step=st.integers(1, 40), schedule=st.sampled_from(SCHEDULES))
def test_eq11_distance_of_the_means_is_that_of_h0_times_a_squared_factor(step: int, schedule: str) -> None:
    process = GaussianDiffusion(make_alpha_bar(schedule, 40))
    h0, hn, h0_hat = draw(8), draw(8, seed=1), draw(8, seed=2)
    before, now = process.alpha_bar[step - 1], process.alpha_bar[step]
    factor = before.sqrt() * (1 - now / before) / (1 - now)
    means = process.posterior_mean(h0, hn, step) - process.posterior_mean(h0_hat, hn, step)
    torch.testing.assert_close(means.square().sum(), factor**2 * (h0 - h0_hat).square().sum())


def test_eq12_eq13_the_bound_is_a_weighted_sum_of_squared_errors() -> None:
    """A toy chain: what the bound gains when f changes is sum w_n (|h_0 - f_n|^2 - |h_0 - g_n|^2), n = 1 included."""
    process = GaussianDiffusion(make_alpha_bar("linear_scaled", 5))
    path = walk(process, draw(1, 1))
    h0, beta = path[0], process.beta

    def bound(slope: float) -> torch.Tensor:  # f(h_n, n) = slope * h_n
        total = -Normal(process.posterior_mean(slope * path[1], path[1], 1), beta[1].sqrt()).log_prob(h0)
        for n in range(2, 6):
            q = Normal(process.posterior_mean(h0, path[n], n), process.posterior_variance(n).sqrt())
            total = total + kl_divergence(
                q, Normal(process.posterior_mean(slope * path[n], path[n], n), beta[n].sqrt())
            )
        return total

    def weighted_errors(slope: float) -> torch.Tensor:
        total = torch.zeros(1, 1, dtype=F64)
        for n in range(1, 6):
            before, now = process.alpha_bar[n - 1], process.alpha_bar[n]
            weight = before * beta[n] / (2 * (1 - now) ** 2)  # Eq. 11's factor squared, over 2 beta_n
            total += weight * (h0 - slope * path[n]) ** 2
        return total

    torch.testing.assert_close(bound(0.9) - bound(0.2), weighted_errors(0.9) - weighted_errors(0.2))


@pytest.mark.parametrize(
    ("num_inference_steps", "steps"), [(1, [10]), (2, [5, 10]), (3, [3, 7, 10]), (10, list(range(1, 11)))]
)
def test_respaced_takes_evenly_spaced_steps_and_keeps_their_alpha_bar(
    num_inference_steps: int, steps: list[int]
) -> None:
    process = GaussianDiffusion(make_alpha_bar("sqrt", 10))
    chain, chosen = process.respaced(num_inference_steps)
    assert chosen.tolist() == steps
    assert chain.alpha_bar.tolist() == [process.alpha_bar[n].item() for n in [0, *steps]]
    pairs = zip([0, *steps], steps, strict=False)
    betas = [1 - process.alpha_bar[n].item() / process.alpha_bar[m].item() for m, n in pairs]
    assert chain.beta[1:].tolist() == pytest.approx(betas)


@given(num_steps=st.integers(1, 10_000), data=st.data())
def test_respaced_steps_rise_strictly_to_the_last(num_steps: int, data: st.DataObject) -> None:
    num_inference_steps = data.draw(st.integers(1, num_steps))
    chain, steps = GaussianDiffusion(make_alpha_bar("linear", num_steps)).respaced(num_inference_steps)
    assert chain.num_steps == len(steps) == num_inference_steps
    assert steps[0] >= 1
    assert steps[-1] == num_steps
    assert (steps.diff() > 0).all()


@pytest.mark.parametrize("num_inference_steps", [0, -3, 4])
def test_respaced_refuses_a_number_out_of_range(process: GaussianDiffusion, num_inference_steps: int) -> None:
    with pytest.raises(ValueError, match=re.escape(f"num_inference_steps is {num_inference_steps}: give 1 to 3")):
        process.respaced(num_inference_steps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_have_the_dtype_of_the_data(process: GaussianDiffusion, dtype: torch.dtype) -> None:
    h0, hn, noise = (draw(2, 3, seed=seed).to(dtype) for seed in range(3))
    for step in (2, torch.tensor(2), torch.tensor([2, 3])):
        assert process.add_noise(h0, step, noise).dtype == dtype
        assert process.add_noise_one_step(h0, step, noise).dtype == dtype
        assert process.reverse_step(h0, hn, step, noise).dtype == dtype


def test_a_step_for_each_row_and_one_for_all_agree_in_any_number_of_dimensions(process: GaussianDiffusion) -> None:
    h0, hn, noise = draw(3, 4, 5), draw(3, 4, 5, seed=1), draw(5, seed=2)  # one noise vector for all rows
    by_row = process.reverse_step(h0, hn, torch.tensor([3, 1, 2]), noise)
    for row, step in enumerate([3, 1, 2]):
        one = process.reverse_step(h0, hn, torch.tensor(step), noise)
        torch.testing.assert_close(by_row[row], one[row])
        torch.testing.assert_close(process.reverse_step(h0, hn, step, noise), one)


def test_tables_stay_out_of_checkpoints_and_refuse_a_cast(process: GaussianDiffusion) -> None:
    assert process.state_dict() == {}
    with pytest.raises(AssertionError, match="device only"):
        process.float().add_noise(draw(1, 1), 1, draw(1, 1))
