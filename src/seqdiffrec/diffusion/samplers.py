"""From noise to a predicted h_0: Algorithm 3 (one call), Algorithm 2 (step by step) and DDIM.

A sampler knows the model only as a function of (h_n, step). `step` is always the original one, 1..N, also when only
some of the steps are taken. The pure noise h_N that a sampler starts from is drawn once, by the caller.
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from seqdiffrec.diffusion.process import GaussianDiffusion, Variance

Denoise = Callable[[Tensor, int], Tensor]
"""f(h_n, step) -> the predicted h_0 (Eq. 16); h_n and h_0 are (B, D)."""

Noise = Callable[[int], Tensor]
"""The standard normal draw for the reverse step that leaves `step`; its shape broadcasts to (B, D)."""


def sample_direct(
    denoise: Denoise, process: GaussianDiffusion, h_N: Float[Tensor, "batch dim"]
) -> Float[Tensor, "batch dim"]:
    """h_0 straight from pure noise, f(h_N, N): one seed of Algorithm 3."""
    return denoise(h_N, process.num_steps)


def sample_ancestral(
    denoise: Denoise,
    process: GaussianDiffusion,
    h_N: Float[Tensor, "batch dim"],
    *,
    num_inference_steps: int,
    variance: Variance = "beta",
    noise: Noise,
) -> Float[Tensor, "batch dim"]:
    """Algorithm 2: a reverse step (Eq. 4) at every step but the first, then the prediction at the first.

    Args:
        h_N: pure noise.
        num_inference_steps: K, 1..N evenly spaced steps; N takes all of them, 1 is `sample_direct`.
        variance: of the reverse steps, see `GaussianDiffusion.reverse_step`.
        noise: the draw for each reverse step, called with the original step from N downwards.

    Returns:
        The h_0 predicted by the last call of `denoise`.

    Raises:
        ValueError: K outside 1..N.
    """
    chain, steps = process.respaced(num_inference_steps)
    original: list[int] = [0, *steps.tolist()]  # by k; a list, so that a GPU is asked once
    h = h_N
    for k in range(num_inference_steps, 1, -1):
        h0_hat = denoise(h, original[k])
        h = chain.reverse_step(h0_hat, h, k, noise(original[k]), variance)
    return denoise(h, original[1])


def sample_ddim(
    denoise: Denoise,
    process: GaussianDiffusion,
    h_N: Float[Tensor, "batch dim"],
    *,
    num_inference_steps: int,
    eta: float = 0.0,
    noise: Noise,
) -> Float[Tensor, "batch dim"]:
    """DDIM (Song et al. 2021): `sample_ancestral` with a share `eta` of its noise.

    Args:
        h_N: pure noise.
        num_inference_steps: K, 1..N evenly spaced steps; 1 is `sample_direct`.
        eta: 0 (h_N decides the result) to 1 (`sample_ancestral` with the variance beta_tilde).
        noise: the draw for each step, called with the original step; not called when eta is 0.

    Returns:
        The h_0 predicted by the last call of `denoise`.

    Raises:
        ValueError: K outside 1..N, eta outside 0..1.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta is {eta}: it must lie between 0 (no noise) and 1 (as much as the posterior has)")
    chain, steps = process.respaced(num_inference_steps)
    original: list[int] = [0, *steps.tolist()]  # by k; a list, so that a GPU is asked once
    h = h_N
    for k in range(num_inference_steps, 1, -1):
        h0_hat = denoise(h, original[k])
        h = _ddim_mean(chain, h0_hat, h, k, eta)
        if eta > 0:
            h = h + eta * chain.posterior_variance(k).sqrt().to(h.dtype) * noise(original[k])
    return denoise(h, original[1])


def _ddim_mean(
    chain: GaussianDiffusion, h0_hat: Float[Tensor, "batch dim"], hn: Float[Tensor, "batch dim"], step: int, eta: float
) -> Float[Tensor, "batch dim"]:
    """h_{n-1} of DDIM before its noise (Song et al. 2021, Eq. 12, 16): h_0 and the noise found in h_n, mixed anew."""
    now, before = chain.alpha_bar[step], chain.alpha_bar[step - 1]
    noise_factor = ((1 - before - eta**2 * chain.posterior_variance(step)).clamp(min=0) / (1 - now)).sqrt()
    h0_factor = before.sqrt() - noise_factor * now.sqrt()
    return h0_factor.to(hn.dtype) * h0_hat + noise_factor.to(hn.dtype) * hn
