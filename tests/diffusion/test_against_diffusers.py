"""The same betas, noises and toy model through diffusers' schedulers (their t is our step - 1)."""

from collections.abc import Callable

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from seqdiffrec.diffusion import (
    SCHEDULES,
    GaussianDiffusion,
    Variance,
    make_alpha_bar,
    sample_ancestral,
    sample_ddim,
)

F64 = torch.float64
NUM_STEPS = 30
VARIANCES: list[tuple[Variance, str]] = [("beta", "fixed_large"), ("beta_tilde", "fixed_small")]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def denoise(h: Tensor, step: int) -> Tensor:
    return torch.tanh(h * (1 + step / 20))


def noise_of(step: int) -> Tensor:
    return draw(2, 5, seed=1000 + step)


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def in_float64(scheduler: DDPMScheduler | DDIMScheduler, betas: Tensor) -> None:
    """diffusers rounds betas to float32, which alone costs more than 1e-5 where 1 - alpha_bar is small."""
    scheduler.betas, scheduler.alphas = betas, 1 - betas
    scheduler.alphas_cumprod = torch.cumprod(1 - betas, dim=0)


@pytest.fixture(params=SCHEDULES)
def process(request: pytest.FixtureRequest) -> GaussianDiffusion:
    return GaussianDiffusion(make_alpha_bar(request.param, NUM_STEPS))


MakeDDPM = Callable[..., DDPMScheduler]


@pytest.fixture
def ddpm(process: GaussianDiffusion) -> MakeDDPM:
    def make(variance_type: str = "fixed_large") -> DDPMScheduler:
        betas = process.beta[1:]
        scheduler = DDPMScheduler(
            num_train_timesteps=NUM_STEPS,
            trained_betas=betas.tolist(),
            prediction_type="sample",
            clip_sample=False,
            variance_type=variance_type,
        )
        in_float64(scheduler, betas)
        return scheduler

    return make


@pytest.fixture
def ddim(process: GaussianDiffusion) -> DDIMScheduler:
    betas = process.beta[1:]
    scheduler = DDIMScheduler(
        num_train_timesteps=NUM_STEPS,
        trained_betas=betas.tolist(),
        prediction_type="sample",
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )
    in_float64(scheduler, betas)
    return scheduler


def patch_noise(monkeypatch: pytest.MonkeyPatch, steps: list[int]) -> None:
    """Hand diffusers' scheduler our draws, in the order of the steps that it takes."""
    draws = iter([*steps, 0])
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_args, **_kwargs: noise_of(next(draws))
    )


def test_add_noise(process: GaussianDiffusion, ddpm: MakeDDPM) -> None:
    step = torch.arange(1, NUM_STEPS + 1)
    h0, noise = draw(NUM_STEPS, 5), draw(NUM_STEPS, 5, seed=1)
    close(process.add_noise(h0, step, noise), ddpm().add_noise(h0, noise, step - 1))


@pytest.mark.parametrize(("variance", "variance_type"), VARIANCES)
def test_variance_of_the_reverse_step(
    process: GaussianDiffusion, ddpm: MakeDDPM, variance: Variance, variance_type: str
) -> None:
    zero, one = torch.zeros(1, 1, dtype=F64), torch.ones(1, 1, dtype=F64)
    scheduler = ddpm(variance_type)
    for step in range(2, NUM_STEPS + 1):  # at step 1 diffusers floors beta_tilde at 1e-20 and then adds no noise
        ours = process.reverse_step(zero, zero, step, one, variance).item() ** 2
        assert ours == pytest.approx(scheduler._get_variance(step - 1).item(), rel=1e-5)


@pytest.mark.parametrize(("variance", "variance_type"), VARIANCES)
def test_reverse_step(
    process: GaussianDiffusion,
    ddpm: MakeDDPM,
    monkeypatch: pytest.MonkeyPatch,
    variance: Variance,
    variance_type: str,
) -> None:
    h0_hat, hn = draw(2, 5), draw(2, 5, seed=1)
    scheduler = ddpm(variance_type)
    patch_noise(monkeypatch, list(range(NUM_STEPS, 1, -1)))
    for step in range(NUM_STEPS, 0, -1):
        theirs = scheduler.step(h0_hat, step - 1, hn).prev_sample
        close(process.reverse_step(h0_hat, hn, step, noise_of(step), variance), theirs)


@pytest.mark.parametrize("num_inference_steps", [NUM_STEPS, 7, 1])
@pytest.mark.parametrize(("variance", "variance_type"), VARIANCES)
def test_ancestral_loop(
    process: GaussianDiffusion,
    ddpm: MakeDDPM,
    monkeypatch: pytest.MonkeyPatch,
    num_inference_steps: int,
    variance: Variance,
    variance_type: str,
) -> None:
    scheduler = ddpm(variance_type)
    steps = [round(NUM_STEPS * k / num_inference_steps) for k in range(num_inference_steps, 0, -1)]
    scheduler.set_timesteps(timesteps=[step - 1 for step in steps])
    patch_noise(monkeypatch, steps)
    h = draw(2, 5)
    for step in steps:
        result = scheduler.step(denoise(h, step), step - 1, h)
        h = result.prev_sample

    ours = sample_ancestral(
        denoise,
        process,
        draw(2, 5),
        num_inference_steps=num_inference_steps,
        variance=variance,
        noise=noise_of,
    )
    close(ours, result.pred_original_sample)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("num_inference_steps", [NUM_STEPS, 6, 1])
def test_ddim_loop(process: GaussianDiffusion, ddim: DDIMScheduler, num_inference_steps: int, eta: float) -> None:
    ddim.set_timesteps(num_inference_steps)
    h = draw(2, 5)
    for t in ddim.timesteps.tolist():
        result = ddim.step(denoise(h, t + 1), t, h, eta=eta, variance_noise=noise_of(t + 1))
        h = result.prev_sample

    ours = sample_ddim(denoise, process, draw(2, 5), num_inference_steps=num_inference_steps, eta=eta, noise=noise_of)
    close(ours, result.pred_original_sample)
    close(ours, h)  # the step to 0 lands on the predicted h_0
