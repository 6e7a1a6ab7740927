from collections import defaultdict, deque
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st

from seqdiffrec.diffusion import ImportanceStepSampler, StepSampler, UniformStepSampler


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def filled(losses: list[float]) -> ImportanceStepSampler:
    """A sampler that has seen each step's loss ten times."""
    sampler = ImportanceStepSampler(len(losses))
    step = torch.arange(1, len(losses) + 1).repeat(10)
    sampler.update(step, torch.tensor(losses, dtype=torch.float64).repeat(10))
    return sampler


def test_uniform_by_hand() -> None:
    sampler = UniformStepSampler(4)
    step, probability = sampler.sample(1000, seeded())
    assert set(step.tolist()) == {1, 2, 3, 4}
    assert step.dtype == torch.int64
    assert probability.tolist() == [0.25] * 1000
    sampler.update(step, torch.rand(1000))
    assert sampler.probabilities().tolist() == [0.25] * 4
    assert sampler.state_dict() == {}


def test_eq18_importance_probabilities_by_hand() -> None:
    sampler = filled([1.0, 3.0])
    sampler.update(torch.tensor([1] * 5), torch.tensor([7.0] * 5))  # step 1 now holds 1 and 7 five times each: mean 25
    size = [5.0, 3.0]
    expected = [0.999 * value / 8 + 0.001 / 2 for value in size]
    assert sampler.probabilities().tolist() == pytest.approx(expected)


def test_eq18_weighted_loss_is_unbiased() -> None:
    """sum_n p_n (L_n / p_n) = sum_n L_n, with the p_n that `sample` hands out and draws by."""
    losses = [0.1, 5.0, 0.0, 2.0, 2.5]
    sampler = filled(losses)
    step, probability = sampler.sample(200_000, seeded())
    handed_out = dict(zip(step.tolist(), probability.tolist(), strict=True))
    p = sampler.probabilities().tolist()
    assert sum(p) == pytest.approx(1)
    assert handed_out == {n + 1: p[n] for n in range(5)}
    assert sum(p[n] * losses[n] / handed_out[n + 1] for n in range(5)) == pytest.approx(sum(losses))

    weighted = torch.tensor(losses, dtype=torch.float64)[step - 1] / probability
    standard_error = (weighted.std() / len(step) ** 0.5).item()
    assert abs(weighted.mean().item() - sum(losses)) < 5 * standard_error + 1e-9


@pytest.mark.parametrize("sampler", [UniformStepSampler(5), filled([0.1, 5.0, 0.0, 2.0, 2.5])])
def test_steps_are_drawn_as_often_as_their_probabilities_say(sampler: StepSampler) -> None:
    step, _ = sampler.sample(200_000, seeded())
    share = torch.bincount(step - 1, minlength=5) / 200_000
    p = sampler.probabilities()
    assert ((share - p).abs() < 5 * (p * (1 - p) / 200_000).sqrt() + 1e-12).all()


def test_uniform_until_the_last_step_has_ten_losses() -> None:
    sampler = ImportanceStepSampler(3)
    sampler.update(torch.tensor([1] * 10 + [2] * 30 + [3] * 9), torch.arange(49.0))
    assert sampler.probabilities().tolist() == pytest.approx([1 / 3] * 3)
    sampler.update(torch.tensor([3]), torch.tensor([1.0]))
    assert sampler.probabilities()[0] < 0.2


def test_floor_bounds_the_weights() -> None:
    p = filled([0.0] * 9 + [1e6]).probabilities()
    assert p.min().item() == pytest.approx(0.001 / 10)
    assert p.sum().item() == pytest.approx(1)


def test_all_losses_zero_is_uniform() -> None:
    assert filled([0.0, 0.0]).probabilities().tolist() == [0.5, 0.5]


record = st.tuples(st.integers(1, 4), st.floats(0, 100))


@given(calls=st.lists(st.lists(record, max_size=60), max_size=6))
def test_history_is_that_of_a_queue_of_ten_for_each_step(calls: list[list[tuple[int, float]]]) -> None:
    sampler = ImportanceStepSampler(4)
    queues: dict[int, deque[float]] = defaultdict(lambda: deque(maxlen=10))
    total: dict[int, int] = defaultdict(int)
    for call in calls:
        sampler.update(
            torch.tensor([step for step, _ in call], dtype=torch.int64),
            torch.tensor([loss for _, loss in call], dtype=torch.float64),
        )
        for step, loss in call:
            queues[step].append(loss)
            total[step] += 1
    for step in range(1, 5):
        held = min(total[step], 10)
        assert sampler.counts[step - 1] == total[step]
        assert sorted(sampler.losses[step - 1, :held].tolist()) == sorted(queues[step])


def test_update_detaches_and_keeps_float32_losses() -> None:
    sampler = ImportanceStepSampler(1)
    loss = torch.tensor([0.5] * 10, requires_grad=True)
    sampler.update(torch.ones(10, dtype=torch.int64), loss * 2)
    assert not sampler.losses.requires_grad
    assert sampler.losses.tolist() == [[1.0] * 10]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_update_refuses_losses_that_are_not_finite(bad: float) -> None:
    with pytest.raises(AssertionError, match="not finite"):
        ImportanceStepSampler(2).update(torch.tensor([1]), torch.tensor([bad]))


def test_history_travels_in_the_state_dict() -> None:
    sampler = filled([1.0, 2.0, 9.0])
    fresh = ImportanceStepSampler(3)
    fresh.load_state_dict(sampler.state_dict())
    assert torch.equal(fresh.probabilities(), sampler.probabilities())
    assert fresh.probabilities()[2] > 0.7
    for one in (sampler, fresh):  # and goes on in the same slots
        one.update(torch.tensor([2, 2, 1]), torch.tensor([4.0, 5.0, 6.0]))
    assert torch.equal(fresh.losses, sampler.losses)


@pytest.mark.parametrize("make", [UniformStepSampler, ImportanceStepSampler])
def test_the_same_seed_draws_the_same_steps(make: Any) -> None:
    sampler = make(1000)
    first, again, other = (sampler.sample(50, seeded(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        assert torch.equal(sampler.sample(50)[0], first)
