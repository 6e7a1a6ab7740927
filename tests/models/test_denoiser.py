"""The denoise sequential recommender: what enters the encoder (Eq. 6, 7, 14, 15), what leaves it (Eq. 16)."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seqdiffrec.data.batches import RaggedBatch, Windows, cut_windows, history_batch, window_batch
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models import DiffRec
from seqdiffrec.models.denoiser import sinusoidal_step_embedding
from tests.models.tiny import BOTH, ITEMS, SIZE, N, T, make, ragged


def single_targets(*lists: list[int]) -> RaggedBatch:
    """One example a list: its last item after all before it."""
    sequences = ragged(*lists)
    last = sequences.ends - 1
    return window_batch(sequences, Windows(sequences.starts, np.maximum(sequences.starts, last - (T - 1)), last, last))


def shared_targets(*lists: list[int]) -> RaggedBatch:
    """All targets of each list in one window."""
    rng = np.random.default_rng(0)
    sequences = ragged(*lists)
    return window_batch(sequences, cut_windows(sequences, T, shared=True, prefixes=True, rng=rng))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class EncoderInputs:
    """What the encoder is given, in the order of the calls."""

    def __init__(self, model: DiffRec):
        self.calls: list[Tensor] = []
        model.denoiser.encoder.input_norm.register_forward_pre_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.calls.append(inputs[0].detach().clone())


def z(step: int) -> list[float]:
    """Eq. 15, dimension by dimension."""
    return [function(step / 10000 ** (2 * j / SIZE)) for j in range(SIZE // 2) for function in (math.sin, math.cos)]


def test_eq15_step_embedding_by_hand():
    table = sinusoidal_step_embedding(N, SIZE)
    assert table.shape == (N + 1, SIZE)
    for step in range(N + 1):
        assert table[step].tolist() == pytest.approx(z(step))
    assert sinusoidal_step_embedding(3, 4)[3].tolist() == pytest.approx(
        [math.sin(3), math.cos(3), math.sin(0.03), math.cos(0.03)]
    )


def test_eq15_tells_all_steps_apart():
    table = sinusoidal_step_embedding(10_000, 64)
    assert len({tuple(row.tolist()) for row in table[::101]}) == len(table[::101])
    torch.testing.assert_close(table.square().sum(1), torch.full((10_001,), 32.0, dtype=torch.float64))


@pytest.mark.parametrize("input_norm", [True, False])
def test_eq14_sum_of_item_position_and_step_on_every_place(input_norm):
    """The printed pattern: the target stands at position T, the history right before it."""
    model = make(input_norm=input_norm)
    batch = single_targets([3, 4, 5], [7, 1, 2, 3, 9, 8])
    seen, step, hn = EncoderInputs(model), [4, 9], draw(2, SIZE)
    model.denoiser.condition(batch, model.table).denoise(hn, torch.tensor(step))
    E, Y = model.table.embedding.weight, model.denoiser.position.weight
    assert Y.shape == (T, SIZE)
    places = [(E[3], 4, 4), (E[4], 5, 4), (hn[0], 6, 4)]
    places += [(E[item], position, 9) for position, item in enumerate([7, 1, 2, 3, 9], start=1)] + [(hn[1], 6, 9)]
    expected = torch.stack([h + Y[position - 1] + torch.tensor(z(n)) for h, position, n in places])
    torch.testing.assert_close(seen.calls[0], expected, rtol=0, atol=1e-5)


def test_eq14_shared_history_counts_positions_from_the_start_and_steps_targets_only():
    model = make("shared_history")
    batch = shared_targets([3, 4, 5], [7, 1])
    seen, hn = EncoderInputs(model), draw(3, SIZE)
    model.denoiser.condition(batch, model.table).denoise(hn, torch.tensor([4, 9, 1]))
    E, Y = model.table.embedding.weight, model.denoiser.position.weight
    history, targets = seen.calls[0].split([3, 3])
    torch.testing.assert_close(history, torch.stack([E[3] + Y[0], E[4] + Y[1], E[7] + Y[0]]))
    expected = [hn[0] + Y[1] + torch.tensor(z(4)), hn[1] + Y[2] + torch.tensor(z(9)), hn[2] + Y[1] + torch.tensor(z(1))]
    torch.testing.assert_close(targets, torch.stack(expected), rtol=0, atol=1e-5)


def test_eq06_the_clean_representation_is_the_embedding():
    """E(v) with beta_0 = 0: no noise at the embedding stage, also in training; index 0, unknown, is zero."""
    model = make().train()
    items = torch.tensor([1, 12, 5, 0])
    embedded = model.table.embed(items)
    assert torch.equal(embedded[:3], model.table.embedding.weight[items[:3]])
    assert not embedded[3].any()
    assert model.process.beta[0] == 0


@BOTH
def test_eq07_only_the_target_is_noised(attention):
    """Other noise and another step of noising change no history input of the encoder."""
    model = make(attention, step_embedding=False)
    batch = single_targets([3, 4, 5], [7, 1, 2, 3, 9, 8])
    inputs = []
    for seed, n in ((1, 2), (2, 9)):
        seen = EncoderInputs(model)
        conditioned = model.denoiser.condition(batch, model.table)
        hn = model.process.add_noise(conditioned.h0, torch.tensor([n, n]), draw(2, SIZE, seed=seed))
        conditioned.denoise(hn, torch.tensor([n, n]))
        inputs.append(torch.cat(seen.calls))
    assert torch.equal(conditioned.h0, model.table.embedding.weight[batch.targets])
    changed = (inputs[0] != inputs[1]).any(1).nonzero().flatten().tolist()
    # Bidirectional: each target follows its history. Shared: all history first, then the targets.
    assert changed == ([2, 8] if attention == "bidirectional" else [7, 8])


@pytest.mark.parametrize(("noised_items", "noised"), [(1, [2, 8]), (2, [1, 2, 7, 8]), ("all", list(range(9)))])
def test_noised_items_are_the_last_ones_of_each_example(noised_items, noised):
    model = make(noised_items=noised_items)
    batch = single_targets([3, 4, 5], [7, 1, 2, 3, 9, 8])
    seen = EncoderInputs(model)
    conditioned = model.denoiser.condition(batch, model.table)
    items = [[3, 4, 5, 7, 1, 2, 3, 9, 8][place] for place in noised]
    assert torch.equal(conditioned.h0, model.table.embedding.weight[items])
    for seed in (1, 2):
        out = conditioned.denoise(draw(len(noised), SIZE, seed=seed), torch.tensor([3, 3]))
        assert out.shape == (len(noised), SIZE)
    changed = (seen.calls[0] != seen.calls[1]).any(1).nonzero().flatten().tolist()
    assert changed == noised
    assert conditioned.back.tolist() == [[2, 1, 0, 5, 4, 3, 2, 1, 0][place] for place in noised]


def test_eq16_the_last_place_of_the_transformers_output():
    """f(h_n, n) is the encoder's output at the target's place, with all places seeing each other."""
    model = make()
    batch = single_targets([3, 4, 5])
    hn, step = draw(1, SIZE), torch.tensor([7])
    out = model.denoiser.condition(batch, model.table).denoise(hn, step)
    E, Y = model.table.embedding.weight, model.denoiser.position.weight
    H_hat = torch.stack([E[3], E[4], hn[0]]) + Y[T - 3 :] + torch.tensor(z(7))
    rows, offsets, every = torch.zeros(3).long(), torch.tensor([0, 3]), torch.arange(3)
    expected = model.denoiser.encoder.bidirectional(H_hat, rows, offsets, every)[-1:]
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


def output(model: DiffRec, batch: RaggedBatch, hn: Tensor, step: Tensor) -> Tensor:
    with torch.no_grad():
        return model.denoiser.condition(batch, model.table).denoise(hn, step)


def test_eq16_shared_history_target_attends_to_the_items_before_it():
    model = make("shared_history")
    hn, step = draw(3, SIZE), torch.tensor([7, 2, 5])
    shared = output(model, shared_targets([3, 4, 5, 6]), hn, step)
    alone = [output(model, single_targets([3, 4, 5, 6][: k + 2]), hn[k : k + 1], step[k : k + 1]) for k in range(3)]
    torch.testing.assert_close(shared, torch.cat(alone), rtol=0, atol=1e-5)


@pytest.mark.parametrize("place", [1, 2, 3, 4])
def test_shared_history_looks_at_no_item_from_the_target_on(place):
    """Changing item k or a later one leaves the outputs for the targets up to k as they were, bit for bit."""
    model = make("shared_history")
    items, hn, step = [3, 4, 5, 6, 7, 8], draw(5, SIZE), torch.tensor([1, 3, 5, 7, 9])
    changed = [*items[:place], *(13 - item for item in items[place:])]
    before, after = (output(model, shared_targets(one), hn, step) for one in (items, changed))
    assert torch.equal(before[:place], after[:place])  # target r stands at place r + 1
    assert all(not torch.equal(before[r], after[r]) for r in range(place, 5))


def test_shared_history_targets_do_not_see_each_other():
    model = make("shared_history")
    batch, step = shared_targets([3, 4, 5, 6]), torch.tensor([7, 2, 5])
    hn = draw(3, SIZE)
    other = hn.clone()
    other[1] += 1
    before, after = output(model, batch, hn, step), output(model, batch, other, step)
    assert torch.equal(before[[0, 2]], after[[0, 2]]) and not torch.equal(before[1], after[1])
    assert not torch.equal(before[1], output(model, batch, hn, torch.tensor([7, 3, 5]))[1])


@BOTH
def test_training_and_inference_give_the_same_output(attention):
    """A training example and the same history at inference, where the target is not known."""
    model = make(attention)
    lists = [[3, 4, 5], [7, 1, 2, 3, 9, 8], [2, 6]]
    hn, step = draw(3, SIZE), torch.tensor([N, 3, 1])
    trained = output(model, single_targets(*lists), hn, step)
    asked = output(model, history_batch(ragged(*(one[:-1] for one in lists)), T), hn, step)
    torch.testing.assert_close(trained, asked, rtol=0, atol=1e-6)


def test_training_in_a_shared_window_is_inference_on_its_last_target():
    """A window from inside a long sequence shows its last target what inference would show."""
    model = make("shared_history")
    sequences = ragged([(5 * place) % ITEMS + 1 for place in range(30)])
    windows = cut_windows(sequences, T, shared=True, prefixes=True, rng=np.random.default_rng(1))
    batch = window_batch(sequences, windows)
    hn = draw(1, SIZE)
    trained = output(model, batch, hn.expand(len(batch.targets), -1), torch.full((len(batch.targets),), N))
    last = np.cumsum(windows.num_targets) - 1
    histories = Sequences(sequences.items, np.zeros(len(windows), dtype=np.int64), windows.last)
    count = len(windows)
    asked = output(model, history_batch(histories, T), hn.expand(count, -1), torch.full((count,), N))
    torch.testing.assert_close(trained[last], asked, rtol=0, atol=1e-5)


@BOTH
def test_without_step_embedding_the_step_has_no_effect(attention):
    batch, hn = single_targets([3, 4, 5]), draw(1, SIZE)
    for step_embedding in (True, False):
        model = make(attention, step_embedding=step_embedding)
        one, other = (output(model, batch, hn, torch.tensor([n])) for n in (1, N))
        assert torch.equal(one, other) != step_embedding


@BOTH
def test_without_position_embedding_the_order_has_no_effect(attention):
    """Bidirectional over any number of layers; causal places still know what came before them, so over one layer."""
    hn, step = draw(1, SIZE), torch.tensor([4])
    for position_embedding in (True, False):
        model = make(attention, position_embedding=position_embedding, num_layers=1)
        one, other = (output(model, single_targets(items), hn, step) for items in ([3, 4, 5, 9], [5, 3, 4, 9]))
        assert torch.allclose(one, other, rtol=0, atol=1e-6) != position_embedding
        assert any("position" in name for name, _ in model.named_parameters()) == position_embedding
