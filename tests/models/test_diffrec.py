"""DiffRec's objective (Eq. 8, 9, 12, 13, 17, 18), Algorithms 1 to 3 and its options, by hand on tiny models."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.diffusion import SCHEDULES, make_alpha_bar
from seqdiffrec.models import DiffRec, DiffRecConfig, Loss
from seqdiffrec.models.diffrec import START, noise_of_seed
from tests.models.tiny import (
    BOTH,
    ITEMS,
    LISTS,
    SIZE,
    N,
    by_hand,
    draw,
    fixed,
    make,
    probabilities,
    question,
    training_batch,
)


@pytest.mark.parametrize("tied", [False, True])
def test_eq08_softmax_of_Wh_plus_b_by_hand(tied):  # noqa: N802
    model = make(tied_output=tied)
    h, batch = draw(3, SIZE), replace(training_batch(*LISTS), targets=torch.tensor([1, ITEMS, 4]))
    torch.testing.assert_close(model.table.probabilities(h[None], batch), probabilities(model, h), rtol=1e-5, atol=1e-7)
    assert any(name.startswith("table.output") for name, _ in model.named_parameters()) != tied
    loss = model.table.loss(h, batch)
    expected = -probabilities(model, h)[[0, 1, 2], [0, ITEMS - 1, 3]].log()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)


@BOTH
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_eq17_parts_of_the_objective_by_hand(attention, reduction, monkeypatch):
    """L_n = ||h_0 - f(h_n, n)||^2 and L_rec = -log p(v | predicted h_0), for steps 1, 4 and N."""
    model = make(attention, mse_reduction=reduction, step_sampling="uniform")
    batch, step = training_batch(*LISTS), [1, 4, N]
    noise = fixed(monkeypatch, model, step, [1 / N] * 3)
    loss = model.loss(batch)
    h0, h0_hat = by_hand(model, batch, step, noise)
    L = (h0 - h0_hat).square().sum(1) / (SIZE if reduction == "mean" else 1)
    rec = [-math.log(probabilities(model, h0_hat)[r, v - 1]) for r, v in enumerate(batch.targets.tolist())]
    assert loss.parts["mse"] == pytest.approx(L.mean().item(), rel=1e-5)
    assert loss.parts["recommendation"] == pytest.approx(sum(rec) / 3, rel=1e-5)


@BOTH
@pytest.mark.parametrize("weight", [1.0, 0.25, 0.0])
def test_eq13_the_objective_is_the_sum_of_both_parts(attention, weight, monkeypatch):
    model = make(attention, mse_weight=weight)
    fixed(monkeypatch, model, [2, 5, 9], [0.1, 0.2, 0.05])
    loss = model.loss(training_batch(*LISTS))
    assert loss.parts["loss"] == loss.total.item()
    assert loss.total.item() == pytest.approx(loss.parts["recommendation"] + weight * loss.parts["mse"], rel=1e-6)
    assert loss.parts["mse"] > 0


def test_eq12_the_mean_over_uniform_steps_is_the_sum_of_all_squared_errors(monkeypatch):
    """Steps 1 (the term of E(v_T)) to N count alike; the square of the fully noised representation is left out."""
    model = make(num_steps=4, mse_weighting="literal", mse_reduction="sum", step_sampling="uniform")
    batch = training_batch(*LISTS)
    mses, errors = [], []
    for n in range(1, 5):
        noise = fixed(monkeypatch, model, [n] * 3, [1 / 4] * 3)
        mses.append(model.loss(batch).parts["mse"])
        h0, h0_hat = by_hand(model, batch, [n] * 3, noise)
        errors.append((h0 - h0_hat).square().sum(1).mean().item())
    assert sum(mses) / 4 == pytest.approx(sum(errors), rel=1e-5)


def test_eq09_the_bound_is_on_the_last_place_only(monkeypatch):
    """Histories of 1, 2 and 5 items add no term of their own: a batch's loss is the mean over its targets."""
    model = make()
    lists, step, probability = LISTS, [2, 5, 9], [0.1, 0.2, 0.05]
    noise = fixed(monkeypatch, model, step, probability)
    together = model.loss(training_batch(*lists)).parts
    alone: list[dict[str, float]] = []
    for r in range(3):
        row, drawn = noise[r : r + 1], (torch.tensor(step[r : r + 1]), torch.tensor(probability[r : r + 1]).double())
        monkeypatch.setattr(model.step_sampler, "sample", lambda count, drawn=drawn: drawn)
        monkeypatch.setattr(torch, "randn_like", lambda h0, row=row: row.clone())
        alone.append(model.loss(training_batch(lists[r])).parts)
    for part in ("loss", "mse", "recommendation"):
        assert together[part] == pytest.approx(sum(one[part] for one in alone) / 3, rel=1e-5)


@pytest.mark.parametrize(("weighting", "weights"), [("literal", [10, 5, 20]), ("normalised", [1, 0.5, 2])])
def test_eq18_weights_by_hand(weighting, weights, monkeypatch):
    """1 / p_n as printed, or 1 / (N p_n), with N = 10."""
    model = make(mse_weighting=weighting, mse_reduction="sum")
    batch, step = training_batch(*LISTS), [2, 5, 9]
    noise = fixed(monkeypatch, model, step, [0.1, 0.2, 0.05])
    loss = model.loss(batch)
    h0, h0_hat = by_hand(model, batch, step, noise)
    L = (h0 - h0_hat).square().sum(1).tolist()
    expected = sum(weight * one for weight, one in zip(weights, L, strict=True)) / 3
    assert loss.parts["mse"] == pytest.approx(expected, rel=1e-5)


def test_eq18_the_losses_that_drive_the_sampling_are_not_weighted(monkeypatch):
    model = make(mse_weighting="literal", mse_reduction="sum", mse_weight=3.0)
    batch, step = training_batch(*LISTS), [2, 5, 9]
    noise = fixed(monkeypatch, model, step, [0.1, 0.2, 0.05])
    model.loss(batch)
    assert not model.step_sampler.counts.any(), "nothing is recorded outside of training"
    model.train()
    model.loss(batch)
    h0, h0_hat = by_hand(model, batch, step, noise)
    L = (h0 - h0_hat).square().sum(1).detach().double()
    assert model.step_sampler.counts.nonzero().flatten().tolist() == [1, 4, 8]
    torch.testing.assert_close(model.step_sampler.losses[[1, 4, 8], 0], L, rtol=1e-5, atol=0)


def test_stop_gradient_takes_the_clean_target_out_of_the_squared_error(monkeypatch):
    """The value stays; the gradient is that of ||constant - f(h_n, n)||^2."""
    gradients = []
    for stop in (False, True):
        model = make(mse_stop_gradient=stop, mse_reduction="sum", step_sampling="uniform")
        batch, step = training_batch(*LISTS), [2, 5, 9]
        noise = fixed(monkeypatch, model, step, [1 / N] * 3)
        loss = model.loss(batch)
        h0, h0_hat = by_hand(model, batch, step, noise)
        L = ((h0.detach() if stop else h0) - h0_hat).square().sum(1).mean()
        expected = L + model.table.loss(h0_hat, batch).mean()
        (ours,) = torch.autograd.grad(loss.total, model.table.embedding.weight)
        (theirs,) = torch.autograd.grad(expected, model.table.embedding.weight)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
        gradients.append(ours)
    assert not torch.allclose(*gradients)


@BOTH
def test_algorithm1_each_target_draws_its_own_step_and_noise(attention, monkeypatch):
    """Lines 3 to 11: n for each target, noise for each target, the recommendation from the predicted h_0."""
    model = make(attention).train()
    counts, real = [], model.step_sampler.sample
    monkeypatch.setattr(model.step_sampler, "sample", lambda count: counts.append(count) or real(count))
    noises, randn_like = [], torch.randn_like
    monkeypatch.setattr(torch, "randn_like", lambda h0: noises.append(randn_like(h0)) or noises[-1])
    batch = training_batch(*LISTS)
    torch.manual_seed(0)
    first = model.loss(batch)
    assert counts == [3]
    assert noises[0].shape == (3, SIZE) and len(set(noises[0].flatten().tolist())) == 3 * SIZE
    assert int(model.step_sampler.counts.sum()) == 3
    torch.manual_seed(0)
    assert model.loss(batch).parts == first.parts, "all draws come from torch's generator"
    assert model.loss(batch).parts != first.parts


@BOTH
def test_algorithm1_gradients_reach_every_parameter(attention):
    model = make(attention, tied_output=True).train()
    model.loss(training_batch(*LISTS)).total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
        assert parameter.grad.any(), name
    assert not model.table.embedding.weight.grad[0].any(), "padding learns nothing"


@BOTH
def test_algorithm3_is_the_mean_over_seeds_of_one_call_at_step_N(attention):  # noqa: N802
    model = make(attention)
    batch = question(*LISTS)
    conditioned = model.denoiser.condition(batch, model.table)
    expected = torch.zeros(3, ITEMS)
    for seed in range(4):
        h_N = noise_of_seed(seed, START, 1, SIZE).expand(3, -1)
        expected += probabilities(model, conditioned.denoise(h_N, torch.full((3,), N))) / 4
    torch.testing.assert_close(model.predict(batch, 4), expected, rtol=1e-5, atol=1e-7)


def reverse_chain(model: DiffRec, batch: RaggedBatch, seed: int, variance: str) -> Tensor:
    """Algorithm 2 step by step, with Eq. 3 and 4 written out (sqrt(alpha_n) before h_n, see the notes on misprints)."""
    last = model.config.num_steps
    a_bar = make_alpha_bar(model.config.schedule, last).tolist()
    conditioned = model.denoiser.condition(batch, model.table)
    rows = len(batch.targets)
    h = noise_of_seed(seed, START, 1, SIZE).expand(rows, -1)
    for n in range(last, 1, -1):
        h0_hat = conditioned.denoise(h, torch.full((rows,), n))
        alpha = a_bar[n] / a_bar[n - 1]
        beta_tilde = (1 - a_bar[n - 1]) / (1 - a_bar[n]) * (1 - alpha)
        mean = math.sqrt(a_bar[n - 1]) * (1 - alpha) / (1 - a_bar[n]) * h0_hat
        mean = mean + math.sqrt(alpha) * (1 - a_bar[n - 1]) / (1 - a_bar[n]) * h
        deviation = math.sqrt(1 - alpha if variance == "beta" else beta_tilde)
        h = mean + deviation * noise_of_seed(seed, n, 1, SIZE)
    return conditioned.denoise(h, torch.full((rows,), 1))


@BOTH
@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_algorithm2_through_the_model_by_hand(attention, variance):
    model = make(attention, num_steps=5, inference_steps=5, variance=variance)
    batch = question(*LISTS)
    expected = sum(probabilities(model, reverse_chain(model, batch, seed, variance)) for seed in range(2)) / 2
    torch.testing.assert_close(model.predict(batch, 2), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
def test_algorithm2_asks_the_denoiser_at_evenly_spaced_steps(sampler, monkeypatch):
    model = make(inference_steps=5, sampler=sampler)
    asked: list[int] = []
    table = model.denoiser.step_table
    model.denoiser.encoder.input_norm.register_forward_pre_hook(lambda module, inputs: asked.append(1))
    with_one = make(inference_steps=1)
    with_one.load_state_dict(model.state_dict())
    batch = question(*LISTS)
    many, one = model.predict(batch, 1), with_one.predict(batch, 1)
    assert len(asked) == 5 and table.shape == (N + 1, SIZE)
    assert not torch.allclose(many, one)


def test_ddim_at_eta_one_is_algorithm2_with_the_posterior_variance():
    batch = question(*LISTS)
    ddim = make(inference_steps=4, sampler="ddim", eta=1.0).predict(batch, 2)
    ancestral = make(inference_steps=4, variance="beta_tilde").predict(batch, 2)
    torch.testing.assert_close(ddim, ancestral, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(ddim, make(inference_steps=4, sampler="ddim", eta=0.0).predict(batch, 2))


def test_the_noise_of_a_seed_is_one_vector_for_all_histories():
    first, again = noise_of_seed(3, 7, 1, 512), noise_of_seed(3, 7, 1, 512)
    assert torch.equal(first, again) and first.dtype == torch.float32
    assert not torch.equal(first, noise_of_seed(4, 7, 1, 512))
    assert not torch.equal(first, noise_of_seed(3, 8, 1, 512))
    # Places further back are drawn after those nearer to the target: how many there are changes none of them.
    assert torch.equal(noise_of_seed(3, 7, 9, 512)[:1], first)
    many = noise_of_seed(5, 0, 40, 500)
    assert many.mean().item() == pytest.approx(0, abs=0.035) and many.std().item() == pytest.approx(1, abs=0.025)


@pytest.mark.parametrize("settings", [{}, {"inference_steps": 3}, {"noised_items": 3}])
def test_histories_do_not_get_noise_of_their_own(settings):
    """The same history twice in a batch has the same answer."""
    model = make(**settings)
    out = model.predict(question([3, 4, 5], [7, 1], [3, 4, 5]), 2)
    torch.testing.assert_close(out[0], out[2], rtol=0, atol=1e-6)


@pytest.mark.parametrize("noised_items", [2, 3, 4, "all"])
def test_noising_more_items_trains_and_predicts(noised_items):
    model = make(noised_items=noised_items).train()
    loss = model.loss(training_batch(*LISTS))
    loss.total.backward()
    assert all(math.isfinite(value) for value in loss.parts.values())
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())
    model.eval()
    out = model.predict(question(*LISTS), 2)
    torch.testing.assert_close(out.sum(1), torch.ones(3))


def test_squared_error_over_several_noised_items_is_their_mean(monkeypatch):
    model = make(noised_items=2, mse_reduction="sum", step_sampling="uniform")
    batch, step = training_batch(*LISTS), torch.tensor([2, 5, 9])
    noise = draw(6, SIZE, seed=7)
    monkeypatch.setattr(model.step_sampler, "sample", lambda count: (step, torch.full((3,), 1 / N).double()))
    monkeypatch.setattr(torch, "randn_like", lambda h0: noise.clone())
    parts = model.loss(batch).parts
    conditioned = model.denoiser.condition(batch, model.table)
    h0 = model.table.embedding.weight[[4, 5, 9, 8, 2, 6]]
    h0_hat = conditioned.denoise(model.process.add_noise(h0, step.repeat_interleave(2), noise), step)
    L = (h0 - h0_hat).square().sum(1).reshape(3, 2).mean(1)
    assert parts["mse"] == pytest.approx(L.mean().item(), rel=1e-5)
    expected = model.table.loss(h0_hat[[1, 3, 5]], batch).mean().item()
    assert parts["recommendation"] == pytest.approx(expected, rel=1e-5)


def test_a_wholly_noised_history_is_erased_at_inference():
    """All places start from noise, so the answer does not depend on which items stood there."""
    out = make(noised_items="all").predict(question([3, 4, 5], [7, 1, 2]), 2)
    torch.testing.assert_close(out[0], out[1], rtol=0, atol=1e-6)
    out = make(noised_items=2).predict(question([3, 4, 5], [3, 4, 8], [9, 4, 5]), 2)
    torch.testing.assert_close(out[0], out[1], rtol=0, atol=1e-6)
    assert not torch.allclose(out[0], out[2], rtol=0, atol=1e-4)


@BOTH
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("num_steps", [1, 2, 1000])
def test_no_schedule_and_number_of_steps_gives_nan(attention, schedule, num_steps):
    model = make(attention, schedule=schedule, num_steps=num_steps, inference_steps=min(num_steps, 3)).train()
    loss: Loss = model.loss(training_batch(*LISTS))
    loss.total.backward()
    assert all(math.isfinite(value) for value in loss.parts.values())
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())
    out = model.eval().predict(question(*LISTS), 2)
    assert bool(out.isfinite().all())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"num_steps": 0}, "greater than or equal to 1"),
        ({"num_steps": -1}, "greater than or equal to 1"),
        ({"num_steps": 10_001}, "less than or equal to 10000"),
        ({"num_steps": 10, "inference_steps": 11}, "inference_steps is 11, more than num_steps, 10"),
        ({"attention": "shared_history", "noised_items": 2}, "needs attention = bidirectional"),
        ({"attention": "shared_history", "noised_items": "all"}, "needs attention = bidirectional"),
        ({"noised_items": 0}, "noised_items"),
        ({"dropout": 1.5}, "less than 1"),
        ({"hidden_size": 64, "num_heads": 3}, "must be a multiple of num_heads"),
        ({"schedule": "quadratic"}, "'sqrt', 'cosine', 'linear' or 'linear_scaled'"),
        ({"num_step": 10}, "num_step"),
        ({"eta": 1.5}, "less than or equal to 1"),
        ({"sampler": "ddim"}, "sampler = ddim needs inference_steps above 1"),
        ({"sampler": "ddim", "eta": 1.0}, "sampler = ddim needs inference_steps above 1"),
        ({"eta": 0.5}, "eta = 0.5 needs sampler = ddim; ancestral does not use it"),
        ({"eta": 0.5, "inference_steps": 3}, "eta = 0.5 needs sampler = ddim"),
        ({"num_seeds": -1}, "greater than or equal to 0"),
        ({"mse_weight": float("nan")}, "mse_weight"),
    ],
)
def test_settings_that_make_no_model_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        DiffRecConfig(**settings)


def test_settings_cannot_be_changed_behind_the_models_back():
    with pytest.raises(ValueError, match="frozen"):
        DiffRecConfig().num_steps = 5
