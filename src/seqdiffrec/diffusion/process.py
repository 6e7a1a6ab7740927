"""The Gaussian diffusion process: q(h_n | h_0), q(h_{n-1} | h_n, h_0) and p(h_{n-1} | h_n).

Equations 1 to 4 and 10 of DiffRec (arXiv 2304.04541). Eq. 3 is printed there with sqrt(alpha_bar_n) before h_n;
it is sqrt(alpha_n), as in its Eq. 11 and in Ho et al. 2020, Eq. 7.
"""

from typing import Literal

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

Variance = Literal["beta", "beta_tilde"]

Steps = Int64[Tensor, " batch"] | Int64[Tensor, ""] | int
"""Diffusion steps: one for each row, or one for all."""


class GaussianDiffusion(nn.Module):
    """A diffusion process of N steps over vectors; step 0 is clean, step N nearly pure noise.

    Its tables are float64 buffers of N + 1 values, indexed by the step. They are derived from the schedule and
    therefore not part of a checkpoint. Values are looked up and combined in float64, then cast to the dtype of the
    data; so the module may move between devices but must stay float64.

    In every method `step` holds steps 1..N, one for each row (B,) or one for all rows, and `noise` is a standard normal
    draw whose shape broadcasts to that of the data.

    Args:
        alpha_bar: float64 (N + 1,), starts at 1 and falls strictly (see `make_alpha_bar`).

    Attributes:
        num_steps: N.
        alpha_bar, beta, alpha: the schedule; beta_0 = 0, alpha_0 = 1.
        posterior_h0, posterior_hn: the factors of h_0 and h_n in the posterior mean (Eq. 3).
        beta_tilde: the posterior variance (Eq. 3); 0 at steps 0 and 1.
    """

    alpha_bar: Tensor
    beta: Tensor
    alpha: Tensor
    posterior_h0: Tensor
    posterior_hn: Tensor
    beta_tilde: Tensor

    def __init__(self, alpha_bar: Float64[Tensor, " num_steps_plus_1"]) -> None:
        super().__init__()
        assert alpha_bar.dtype == torch.float64
        assert alpha_bar[0] == 1
        assert alpha_bar[-1] > 0
        assert bool((alpha_bar.diff() < 0).all())
        self.num_steps = len(alpha_bar) - 1

        before, now = alpha_bar[:-1], alpha_bar[1:]
        alpha = now / before
        beta = 1 - alpha
        noise_share = (1 - before) / (1 - now)
        # each table: its value at step 0, then those of steps 1..N
        self._add_table("alpha_bar", 1.0, now)
        self._add_table("beta", 0.0, beta)
        self._add_table("alpha", 1.0, alpha)
        self._add_table("posterior_h0", 1.0, before.sqrt() * beta / (1 - now))
        self._add_table("posterior_hn", 0.0, alpha.sqrt() * noise_share)
        self._add_table("beta_tilde", 0.0, noise_share * beta)

    def _add_table(self, name: str, at_step_0: float, values: Tensor) -> None:
        self.register_buffer(name, torch.cat([values.new_tensor([at_step_0]), values]), persistent=False)

    def add_noise(
        self, h0: Float[Tensor, "batch *rest"], step: Steps, noise: Float[Tensor, "..."]
    ) -> Float[Tensor, "batch *rest"]:
        """Draw h_n from q(h_n | h_0): sqrt(alpha_bar_n) h_0 + sqrt(1 - alpha_bar_n) noise (Eq. 2). Step 0 gives h_0."""
        alpha_bar = _at(self.alpha_bar, step)
        return _rows(alpha_bar.sqrt(), h0) * h0 + _rows((1 - alpha_bar).sqrt(), h0) * noise

    def add_noise_one_step(
        self, h_prev: Float[Tensor, "batch *rest"], step: Steps, noise: Float[Tensor, "..."]
    ) -> Float[Tensor, "batch *rest"]:
        """Draw h_n from q(h_n | h_{n-1}): sqrt(1 - beta_n) h_{n-1} + sqrt(beta_n) noise (Eq. 1)."""
        keep, add = _at(self.alpha, step).sqrt(), _at(self.beta, step).sqrt()
        return _rows(keep, h_prev) * h_prev + _rows(add, h_prev) * noise

    def posterior_mean(
        self, h0: Float[Tensor, "batch *rest"], hn: Float[Tensor, "batch *rest"], step: Steps
    ) -> Float[Tensor, "batch *rest"]:
        """Mean of q(h_{n-1} | h_n, h_0) (Eq. 3); with the predicted h_0, the mean of p(h_{n-1} | h_n) (Eq. 10)."""
        return _rows(_at(self.posterior_h0, step), hn) * h0 + _rows(_at(self.posterior_hn, step), hn) * hn

    def posterior_variance(self, step: Steps) -> Float64[Tensor, "..."]:
        """Variance of q(h_{n-1} | h_n, h_0), beta_tilde_n (Eq. 3): float64, of the shape of `step`; 0 at step 1."""
        return _at(self.beta_tilde, step)

    def reverse_step(
        self,
        h0_hat: Float[Tensor, "batch *rest"],
        hn: Float[Tensor, "batch *rest"],
        step: Steps,
        noise: Float[Tensor, "..."],
        variance: Variance = "beta",
    ) -> Float[Tensor, "batch *rest"]:
        """Draw h_{n-1} from p(h_{n-1} | h_n), given the predicted h_0 (Eq. 4). Step 1 adds no noise.

        Args:
            variance: `beta` as in Eq. 4, or `beta_tilde`, the posterior's (Eq. 3).
        """
        table = {"beta": self.beta, "beta_tilde": self.beta_tilde}[variance]
        deviation = _at(table, step).sqrt() * (step > 1)
        return self.posterior_mean(h0_hat, hn, step) + _rows(deviation, hn) * noise

    def respaced(self, num_inference_steps: int) -> tuple["GaussianDiffusion", Int64[Tensor, " num_inference_steps"]]:
        """The same process with only K evenly spaced steps s_k = round(N k / K), k = 1..K, the last being N.

        Its betas are 1 - alpha_bar[s_k] / alpha_bar[s_{k-1}] (Nichol and Dhariwal 2021, Eq. 19).

        Returns:
            The process of K steps, and the original steps s_1..s_K, int64 (K,), to be told to the denoiser.

        Raises:
            ValueError: K outside 1..N.
        """
        if not 1 <= num_inference_steps <= self.num_steps:
            raise ValueError(
                f"num_inference_steps is {num_inference_steps}: "
                f"give 1 to {self.num_steps}, the number of steps of the process"
            )
        k = torch.arange(1, num_inference_steps + 1, dtype=torch.float64, device=self.alpha_bar.device)
        steps = (k * self.num_steps / num_inference_steps).round().long()
        return GaussianDiffusion(torch.cat([self.alpha_bar[:1], self.alpha_bar[steps]])), steps


def _at(table: Tensor, step: Steps) -> Tensor:
    """The table's float64 values at `step`, in its shape."""
    assert table.dtype == torch.float64, "the diffusion tables were cast: move the module by device only, not by dtype"
    return table[step]


def _rows(values: Tensor, data: Tensor) -> Tensor:
    """Values (B,) or () in the dtype of `data`, with the trailing dimensions that make them one factor for each row."""
    return values.to(data.dtype).reshape(values.shape + (1,) * (data.ndim - values.ndim))
