"""What DiffRec can do beyond the paper: controls without a diffusion, added losses, other positions, by hand."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from seqdiffrec.models import DiffRecConfig
from seqdiffrec.models.denoiser import GATE
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


@BOTH
@pytest.mark.parametrize("target_input", ["pure_noise", "mask", "zeros"])
def test_controls_see_nothing_of_the_target(attention, target_input, monkeypatch):
    """The denoiser gets the same input at step N whatever the target is."""
    model = make(attention, target_input=target_input, noise_std=2.0).train()
    batch, inputs = training_batch(*LISTS), []
    condition = model.denoiser.condition

    def watched(*given: object) -> object:
        conditioned = condition(*given)

        def denoise(hn: Tensor, step: Tensor) -> Tensor:
            inputs.append((hn.clone(), step.tolist()))
            return conditioned.denoise(hn, step)

        return replace(conditioned, denoise=denoise)

    monkeypatch.setattr(model.denoiser, "condition", watched)
    for targets in (batch.targets, batch.targets % ITEMS + 1):
        torch.manual_seed(3)
        model.loss(replace(batch, targets=targets))
    (first, steps), (second, _) = inputs
    assert torch.equal(first, second) and steps == [N] * 3
    expected = {"mask": model.mask, "zeros": torch.zeros(SIZE)}.get(target_input)
    if expected is not None:
        assert torch.equal(first, expected.expand(3, -1))
    else:
        assert first.std().item() == pytest.approx(2.0, rel=0.5) and len(set(first.flatten().tolist())) == 3 * SIZE


@BOTH
@pytest.mark.parametrize("target_input", ["mask", "zeros"])
def test_controls_without_noise_have_one_answer(attention, target_input):
    model = make(attention, target_input=target_input)
    assert model.default_seeds == 1
    one, many = (model.predict(question(*LISTS), seeds) for seeds in (1, 3))
    torch.testing.assert_close(one, many)


def test_noise_std_scales_the_noise_of_training_and_inference(monkeypatch):
    model, plain = make(noise_std=3.0), make()
    batch, step = training_batch(*LISTS), [2, 5, 9]
    noise = fixed(monkeypatch, model, step, [0.1] * 3)
    _, h0_hat = by_hand(model, batch, step, 3.0 * noise)
    recommendation = model.table.loss(h0_hat, batch).mean().item()
    assert model.loss(batch).parts["recommendation"] == pytest.approx(recommendation, rel=1e-5)
    asked = question(*LISTS)
    conditioned = model.denoiser.condition(asked, model.table)
    start = 3.0 * noise_of_seed(0, START, 1, SIZE).expand(3, -1)
    expected = probabilities(model, conditioned.denoise(start, torch.full((3,), N)))
    torch.testing.assert_close(model.predict(asked, 1), expected, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(expected, plain.predict(asked, 1))


def test_several_noise_draws_are_one_step_over_repeated_targets():
    many, one = make("shared_history", noise_draws=3), make("shared_history")
    batch = training_batch(*LISTS)
    torch.manual_seed(5)
    ours = many.loss(batch).parts
    torch.manual_seed(5)
    theirs = one.loss(batch.repeat_targets(3)).parts
    assert ours == theirs
    assert batch.repeat_targets(3).targets.tolist() == batch.targets.tolist() * 3


@BOTH
@pytest.mark.parametrize(("positions", "used"), [("from_start", {0, 1, 2}), ("from_target", {3, 4, 5})])
def test_positions_count_from_either_end(attention, positions, used):
    """Two items and their target, T = 6: places 1 to 3, or 4 to 6."""
    model = make(attention, positions=positions, tied_output=True).train()
    model.loss(training_batch([3, 4, 5])).total.backward()
    assert set(model.denoiser.position.weight.grad.any(1).nonzero().flatten().tolist()) == used
    usual = "from_target" if attention == "bidirectional" else "from_start"
    model.eval()
    same = torch.allclose(
        model.predict(question(*LISTS), 2), make(attention, tied_output=True).predict(question(*LISTS), 2)
    )
    assert same == (positions == usual)


@pytest.mark.parametrize("positives", ["draws", "targets"])
def test_contrastive_term_joins_the_loss(positives):
    settings = {"noise_draws": 2, "contrastive_positives": positives}
    batch = training_batch([3, 4, 5], [7, 1, 5], [2, 6])
    parts = []
    for weight in (0.0, 0.5):
        model = make("shared_history", contrastive_weight=weight, **settings)
        torch.manual_seed(5)
        parts.append(model.loss(batch).parts)
    assert "contrastive" not in parts[0]
    assert parts[1]["loss"] == pytest.approx(parts[0]["loss"] + 0.5 * parts[1]["contrastive"], rel=1e-5)
    assert parts[1]["contrastive"] > 0


def test_history_weight_adds_the_loss_of_a_causal_model():
    """The history's own states are those of SASRec's encoder with the same weights."""
    batch, parts = training_batch(*LISTS), []
    for weight in (0.0, 0.5):
        model = make("shared_history", history_weight=weight, num_layers=2)
        torch.manual_seed(5)
        parts.append(model.loss(batch).parts)
    rows, places = batch.locate_tokens()
    x = model.table.embed(batch.tokens) + model.denoiser.position(places)
    states = model.denoiser.encoder.causal(x, rows, places, batch.offsets, batch.offsets[1:] - 1)[0]
    expected = model.table.loss(states, batch).mean().item()
    assert parts[1]["history"] == pytest.approx(expected, rel=1e-5)
    assert parts[1]["loss"] == pytest.approx(parts[0]["loss"] + 0.5 * expected, rel=1e-5)


def test_history_skip_adds_the_causal_state_to_the_prediction():
    plain = make("shared_history", num_layers=2, history_weight=1.0)  # which reads the history too
    skipping = make("shared_history", num_layers=2, history_skip=True)
    batch, hn, step = training_batch(*LISTS), draw(3, SIZE), torch.tensor([2, 5, N])
    conditioned = plain.denoiser.condition(batch, plain.table)
    expected = GATE * conditioned.denoise(hn, step) + conditioned.read_history()
    torch.testing.assert_close(skipping.denoiser.condition(batch, skipping.table).denoise(hn, step), expected)


@pytest.mark.parametrize("setting", [{"noise_draws": 2}, {"history_skip": True}, {"history_weight": 0.5}])
def test_what_needs_a_shared_history_says_so(setting):
    (name,) = setting
    with pytest.raises(ValueError, match=f"{name} = .* needs attention = shared_history"):
        DiffRecConfig(attention="bidirectional", **setting)


@BOTH
def test_no_seeds_are_one_answer_from_zeros(attention):
    model, batch = make(attention), question(*LISTS)
    conditioned = model.denoiser.condition(batch, model.table)
    expected = probabilities(model, conditioned.denoise(torch.zeros(3, SIZE), torch.full((3,), N)))
    torch.testing.assert_close(model.predict(batch, 0), expected, rtol=1e-5, atol=1e-7)
