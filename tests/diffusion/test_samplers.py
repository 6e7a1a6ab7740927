import math

import pytest
import torch
from torch import Tensor

from seqdiffrec.diffusion import (
    SCHEDULES,
    GaussianDiffusion,
    Variance,
    make_alpha_bar,
    sample_ancestral,
    sample_ddim,
    sample_direct,
)

F64 = torch.float64


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def noise_of(step: int) -> Tensor:
    return draw(3, seed=1000 + step)  # one vector for all rows


def denoise(h: Tensor, step: int) -> Tensor:
    """A toy model whose answer depends on both arguments."""
    return torch.tanh(h * (1 + step / 7))


class Recorder:
    """Wraps `denoise` and `noise_of`, and keeps the steps that they were called with."""

    def __init__(self) -> None:
        self.denoised: list[int] = []
        self.drawn: list[int] = []

    def denoise(self, h: Tensor, step: int) -> Tensor:
        self.denoised.append(step)
        return denoise(h, step)

    def noise(self, step: int) -> Tensor:
        self.drawn.append(step)
        return noise_of(step)


@pytest.fixture
def process() -> GaussianDiffusion:
    return GaussianDiffusion(make_alpha_bar("cosine", 12))


def test_algorithm_3_is_one_call_at_the_last_step(process: GaussianDiffusion) -> None:
    recorder, h = Recorder(), draw(2, 3)
    assert torch.equal(sample_direct(recorder.denoise, process, h), denoise(h, 12))
    assert recorder.denoised == [12]


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_algorithm_2_by_hand(variance: Variance) -> None:
    """Two steps, alpha = 0.8 and 0.5: noise at step N once, a reverse step, then f(h_1, 1)."""
    process = GaussianDiffusion(torch.tensor([1.0, 0.8, 0.4], dtype=F64))
    h2 = draw(2, 3)
    mean = (math.sqrt(0.8) * 0.5 * denoise(h2, 2) + math.sqrt(0.5) * 0.2 * h2) / 0.6
    deviation = math.sqrt(0.5 if variance == "beta" else 0.2 / 0.6 * 0.5)
    expected = denoise(mean + deviation * noise_of(2), 1)
    got = sample_ancestral(denoise, process, h2, num_inference_steps=2, variance=variance, noise=noise_of)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(("num_inference_steps", "steps"), [(12, list(range(12, 0, -1))), (3, [12, 8, 4]), (1, [12])])
def test_models_and_noise_are_asked_by_original_step(
    process: GaussianDiffusion, num_inference_steps: int, steps: list[int]
) -> None:
    ancestral, ddim, still = Recorder(), Recorder(), Recorder()
    h = draw(2, 3)
    sample_ancestral(
        ancestral.denoise, process, h, num_inference_steps=num_inference_steps, variance="beta", noise=ancestral.noise
    )
    sample_ddim(ddim.denoise, process, h, num_inference_steps=num_inference_steps, eta=1.0, noise=ddim.noise)
    sample_ddim(still.denoise, process, h, num_inference_steps=num_inference_steps, eta=0.0, noise=still.noise)
    assert ancestral.denoised == ddim.denoised == still.denoised == steps
    assert ancestral.drawn == ddim.drawn == steps[:-1]
    assert still.drawn == []


def test_one_step_of_each_is_algorithm_3(process: GaussianDiffusion) -> None:
    h = draw(2, 3)
    direct = sample_direct(denoise, process, h)
    assert torch.equal(
        sample_ancestral(denoise, process, h, num_inference_steps=1, variance="beta", noise=noise_of), direct
    )
    assert torch.equal(sample_ddim(denoise, process, h, num_inference_steps=1, eta=0.0, noise=noise_of), direct)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("num_inference_steps", [2, 5, 12])
def test_ddim_with_eta_1_is_ancestral_with_the_posterior_variance(schedule: str, num_inference_steps: int) -> None:
    process, h = GaussianDiffusion(make_alpha_bar(schedule, 12)), draw(2, 3)
    ancestral = sample_ancestral(
        denoise, process, h, num_inference_steps=num_inference_steps, variance="beta_tilde", noise=noise_of
    )
    ddim = sample_ddim(denoise, process, h, num_inference_steps=num_inference_steps, eta=1.0, noise=noise_of)
    torch.testing.assert_close(ddim, ancestral)


def test_ddim_without_noise_by_hand() -> None:
    """Two steps: the noise that h_2 holds by f is found, and mixed with f again at the level of step 1."""
    process = GaussianDiffusion(torch.tensor([1.0, 0.8, 0.4], dtype=F64))
    h2 = draw(2, 3)
    h0_hat = denoise(h2, 2)
    found = (h2 - math.sqrt(0.4) * h0_hat) / math.sqrt(0.6)
    expected = denoise(math.sqrt(0.8) * h0_hat + math.sqrt(0.2) * found, 1)
    got = sample_ddim(denoise, process, h2, num_inference_steps=2, eta=0.0, noise=noise_of)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_long_float32_chains_stay_close_to_float64(schedule: str, eta: float) -> None:
    process, h = GaussianDiffusion(make_alpha_bar(schedule, 10_000)), draw(2, 3)

    def towards_half(h: Tensor, step: int) -> Tensor:
        return 0.5 + 0.1 * torch.tanh(h)

    def noise32(step: int) -> Tensor:
        return noise_of(step).float()

    exact = sample_ddim(towards_half, process, h, num_inference_steps=100, eta=eta, noise=noise_of)
    single = sample_ddim(towards_half, process, h.float(), num_inference_steps=100, eta=eta, noise=noise32)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-4)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_ddim_refuses_eta_out_of_range(process: GaussianDiffusion, eta: float) -> None:
    with pytest.raises(ValueError, match="eta is"):
        sample_ddim(denoise, process, draw(2, 3), num_inference_steps=2, eta=eta, noise=noise_of)
