"""The frequency filter against its definition, place by place, and inside the encoder."""

import pytest
import torch

from seqdiffrec.models import DiffRecConfig
from seqdiffrec.models.attention import RaggedAttention
from seqdiffrec.models.encoder import Encoder, EncoderConfig, initialize
from seqdiffrec.models.frequency import FrequencyFilter

LENGTHS = [5, 1, 9, 3]
OFFSETS = torch.tensor([0, *LENGTHS]).cumsum(0)
ROWS = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
PLACES = torch.cat([torch.arange(length) for length in LENGTHS])


@pytest.mark.parametrize("width", [2, 3, 50])
def test_slow_and_fast_part_of_each_place(width):
    torch.manual_seed(0)
    module = FrequencyFilter(4, width)
    history = torch.randn(sum(LENGTHS), 4)
    rows, places = torch.tensor([2, 0, 2, 1, 3, 1]), torch.tensor([9, 2, 4, 1, 0, 0])
    x = torch.randn(6, 4)
    out = module(x, history, rows, places, OFFSETS)
    for i, (row, seen) in enumerate(zip(rows.tolist(), places.tolist(), strict=True)):
        start = int(OFFSETS[row])
        newest = torch.cat([history[start : start + seen], x[i : i + 1]])[-width:]
        slow = newest.mean(0)
        torch.testing.assert_close(out[i], slow + module.root**2 * (x[i] - slow))


def make(**settings: object) -> Encoder:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(hidden_size=8, dropout=0.0, filter_share=0.7, filter_width=3, **settings))
    initialize(encoder, 0.4, 0.4)
    return encoder.eval()


@pytest.mark.parametrize("settings", [{}, {"norm_first": True}, {"num_layers": 1}])
def test_a_target_after_the_history_is_the_last_place_of_one_sequence(settings):
    encoder = make(**settings)
    x = torch.randn(len(ROWS), 8)
    everywhere = encoder.causal(x, ROWS, PLACES, OFFSETS, torch.arange(len(x)))[0]
    shorter = torch.tensor([0, *(length - 1 for length in LENGTHS)]).cumsum(0)
    before = torch.cat([one[:-1] for one in x.split(LENGTHS)])
    keep = torch.tensor(LENGTHS)[ROWS] - 1 > PLACES
    _, history = encoder.causal(before, ROWS[keep], PLACES[keep], shorter, shorter[1:] - 1)
    rows, places = torch.arange(len(LENGTHS)), shorter.diff()
    last = encoder.attend_to_history(x[OFFSETS[1:] - 1], history, RaggedAttention(rows, places, shorter))
    torch.testing.assert_close(last, everywhere[OFFSETS[1:] - 1], rtol=0, atol=1e-5)


def test_a_later_item_changes_nothing_before_it():
    encoder = make()
    x = torch.randn(len(ROWS), 8)
    changed = x.clone()
    changed[3] += 1  # place 3 of the first sequence
    read = torch.arange(len(x))
    states = [encoder.causal(one, ROWS, PLACES, OFFSETS, read)[0] for one in (x, changed)]
    same = states[0] == states[1]
    assert same.all(1).tolist() == [place not in (3, 4) for place in range(len(x))]


def test_the_filter_changes_the_result_and_learns():
    x = torch.randn(len(ROWS), 8)
    read = torch.arange(len(x))
    encoder = make()
    encoder.causal(x, ROWS, PLACES, OFFSETS, read)[0].square().sum().backward()
    roots = [parameter.grad for name, parameter in encoder.named_parameters() if name.endswith("root")]
    assert len(roots) == 2
    assert all(root is not None and root.abs().sum() > 0 for root in roots)


def test_only_causal_attention_can_have_it():
    with pytest.raises(ValueError, match=r"filter_share = 0\.5 needs attention = shared_history"):
        DiffRecConfig(filter_share=0.5)
