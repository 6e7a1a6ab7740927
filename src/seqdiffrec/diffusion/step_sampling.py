"""Which diffusion step each training target gets: uniform, or by importance (DiffRec, Eq. 18)."""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

HISTORY = 10
FLOOR = 0.001


class StepSampler(nn.Module):
    """Draws diffusion steps 1..N with known probabilities p_n, so that the mean of L_n / p_n is the sum of all L_n."""

    def __init__(self, num_steps: int) -> None:
        super().__init__()
        assert num_steps >= 1
        self.num_steps = num_steps

    def probabilities(self) -> Float64[Tensor, " num_steps"]:
        """p_n of steps 1..N; sums to 1."""
        raise NotImplementedError

    def update(self, step: Int64[Tensor, " count"], loss: Float[Tensor, " count"]) -> None:
        """Record the loss L_n of each target that was trained at step n; only finite losses."""
        raise NotImplementedError

    def sample(
        self, count: int, generator: torch.Generator | None = None
    ) -> tuple[Int64[Tensor, " count"], Float64[Tensor, " count"]]:
        """Draw a step for each of `count` targets.

        The random numbers come from `generator` on its own device (default: torch's generator on the CPU), so that a
        seed gives the same steps wherever the model is.

        Returns:
            The steps, 1..N, and the probability p_n of each.
        """
        probabilities = self.probabilities()
        cumulative = probabilities.cumsum(0)
        device = None if generator is None else generator.device
        draws = torch.rand(count, generator=generator, dtype=torch.float64, device=device).to(cumulative.device)
        # scaled by the last value, which may miss 1 by rounding: a draw is always below it
        index = torch.searchsorted(cumulative, draws * cumulative[-1], right=True).clamp(max=self.num_steps - 1)
        return index + 1, probabilities[index]


class UniformStepSampler(StepSampler):
    """Every step is as likely as any other: p_n = 1/N."""

    _probabilities: Tensor

    def __init__(self, num_steps: int) -> None:
        super().__init__(num_steps)
        uniform = torch.full((num_steps,), 1 / num_steps, dtype=torch.float64)
        self.register_buffer("_probabilities", uniform, persistent=False)

    def probabilities(self) -> Float64[Tensor, " num_steps"]:
        """1/N for steps 1..N."""
        return self._probabilities

    def update(self, step: Int64[Tensor, " count"], loss: Float[Tensor, " count"]) -> None:
        """Nothing is recorded: the probabilities never change."""


class ImportanceStepSampler(StepSampler):
    """Steps with a larger loss are drawn more often: p_n in proportion to sqrt(E[L_n^2]) (Eq. 18).

    The mean is over the last 10 losses of the step. Until every step has 10, the draw is uniform (Nichol and Dhariwal
    2021, Section 3.3). A share of 0.001 stays uniform for good, so that 1/p_n is at most 1000 N.

    Attributes:
        losses: float64 (N, 10), the last 10 losses of each step, the oldest overwritten first. In the state dict.
        counts: int64 (N,), how many losses each step has had so far. In the state dict.
    """

    losses: Tensor
    counts: Tensor

    def __init__(self, num_steps: int) -> None:
        super().__init__(num_steps)
        self.register_buffer("losses", torch.zeros(num_steps, HISTORY, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(num_steps, dtype=torch.int64))

    def probabilities(self) -> Float64[Tensor, " num_steps"]:
        """p_n of steps 1..N by the losses recorded so far; at least 0.001/N each."""
        uniform = torch.full_like(self.losses[:, 0], 1 / self.num_steps)
        size = self.losses.square().mean(dim=1).sqrt()
        total = size.sum()
        known = (self.counts >= HISTORY).all() & (total > 0)
        return torch.where(known, (1 - FLOOR) * size / total + FLOOR * uniform, uniform)

    @torch.no_grad()
    def update(self, step: Int64[Tensor, " count"], loss: Float[Tensor, " count"]) -> None:
        """Record losses in the given order; each step keeps its last 10.

        Args:
            step: the steps 1..N that were trained.
            loss: L_n of each, finite and not weighted by 1/p_n; detached here.
        """
        loss = loss.to(self.losses)
        assert bool(torch.isfinite(loss).all()), "a loss that is not finite cannot be recorded"
        order = torch.argsort(step, stable=True)
        row, loss = step[order] - 1, loss[order]
        group_size = torch.bincount(row, minlength=self.num_steps)
        group_start = group_size.cumsum(0) - group_size
        place = torch.arange(len(row), device=row.device) - group_start[row]  # 0, 1, ... among the records of a step
        # of more than 10 records of a step only the last 10 are written: no slot is written twice
        last = place >= group_size[row] - HISTORY
        slot = (self.counts[row] + place) % HISTORY
        self.losses[row[last], slot[last]] = loss[last]
        self.counts += group_size
