"""Noise schedules: how much of the clean signal is left after each diffusion step.

A schedule is the table `alpha_bar` (n = 0..N). Everything else in the process (beta, alpha, the posterior) follows
from it.
"""

import difflib
import math
from typing import Literal, get_args

import torch
from jaxtyping import Float64
from torch import Tensor

ScheduleName = Literal["sqrt", "cosine", "linear", "linear_scaled"]
SCHEDULES: tuple[ScheduleName, ...] = get_args(ScheduleName)

MAX_STEPS = 10_000
# A beta of 1 would erase the signal and divide by zero one step later (Nichol and Dhariwal 2021, Section 3.2).
MAX_BETA = 0.999


def make_alpha_bar(schedule: str, num_steps: int) -> Float64[Tensor, " num_steps_plus_1"]:
    """The share of the clean signal's variance that is left after step n, for n = 0..N.

    The schedules are those of DiffRec, Section 5.3.1:

    - `sqrt`: alpha_bar_n = 1 - sqrt(n/N + 0.0001) for n >= 1 (Li et al. 2022);
    - `cosine`: alpha_bar_n = g(n)/g(0), g(n) = cos^2((n/N + 0.008)/1.008 * pi/2) (Nichol and Dhariwal 2021);
    - `linear`: beta from 1e-4 to 0.02 whatever N is (Ho et al. 2020), so that a small N leaves most of the signal;
    - `linear_scaled`: the same betas times 1000/N, so that every N ends in noise.

    Betas are clipped at 0.999 and alpha_bar is rebuilt from them.

    Args:
        schedule: one of `SCHEDULES`.
        num_steps: N, 1 to 10,000.

    Returns:
        float64 (N + 1,); the first value is 1, the rest falls strictly and stays above 0.

    Raises:
        ValueError: an unknown schedule, or N outside 1..10,000.
    """
    if not 1 <= num_steps <= MAX_STEPS:
        raise ValueError(f"num_steps is {num_steps}: the number of diffusion steps must be 1 to {MAX_STEPS:,}")
    if schedule == "sqrt":
        beta = _betas_of(_sqrt_curve(num_steps))
    elif schedule == "cosine":
        beta = _betas_of(_cosine_curve(num_steps))
    elif schedule == "linear":
        beta = _linear_betas(num_steps)
    elif schedule == "linear_scaled":
        beta = _linear_betas(num_steps) * (1000 / num_steps)
    else:
        raise ValueError(_unknown_schedule(schedule))
    one = torch.ones(1, dtype=torch.float64)
    return torch.cat([one, torch.cumprod(1 - beta.clamp(max=MAX_BETA), dim=0)])


def _sqrt_curve(num_steps: int) -> Tensor:
    progress = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    curve = 1 - torch.sqrt(progress + 1e-4)
    curve[0] = 1.0  # the formula gives 0.99, but step 0 is clean
    return curve


def _cosine_curve(num_steps: int) -> Tensor:
    progress = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    g = torch.cos((progress + 0.008) / 1.008 * (math.pi / 2)) ** 2
    return g / g[0]


def _betas_of(curve: Tensor) -> Tensor:
    """beta_n = 1 - alpha_bar_n / alpha_bar_{n-1} (DiffRec, footnote 5), not clipped."""
    before, after = curve[:-1], curve[1:]
    # The sqrt curve falls below 0 at n = N, and for N = 10,000 it is 0 up to rounding already at N - 1.
    return torch.where(before > 0, 1 - after / before, 1.0)


def _linear_betas(num_steps: int) -> Tensor:
    if num_steps == 1:  # first and last value at once: the last, as the process has to end in noise
        return torch.tensor([0.02], dtype=torch.float64)
    return torch.linspace(1e-4, 0.02, num_steps, dtype=torch.float64)


def _unknown_schedule(schedule: str) -> str:
    nearest = difflib.get_close_matches(schedule, SCHEDULES, n=1, cutoff=0.0)[0]
    return f"unknown noise schedule {schedule!r}; did you mean {nearest!r}? Known schedules: {', '.join(SCHEDULES)}"
