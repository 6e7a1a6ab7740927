"""The padded networks give what the models themselves give, from histories of any length and padded in any way."""

import numpy as np
import pytest
import torch

from seqdiffrec.data import Sequences
from seqdiffrec.models import MODELS
from seqdiffrec.models.padded import padded
from seqdiffrec.models.settings import SettingError

NUM_ITEMS, LENGTH = 14, 6
SMALL = {"hidden_size": 8, "num_layers": 2, "max_length": LENGTH, "embedding_std": 0.5, "weight_std": 0.5}
NOISE = {"num_steps": 10, "num_seeds": 3}
ADDITIONS = {"cosine_output": True, "seen_bias": True, "filter_share": 0.4, "linear_bias": True}
PUBLISHED = {"norm_first": True, "activation": "relu", "input_norm": False, "scale_embeddings": True}
CASES = {
    "sasrec": ("sasrec", SMALL),
    "sasrec as published": ("sasrec", {**SMALL, **PUBLISHED}),
    "sasrec with additions": ("sasrec", {**SMALL, **ADDITIONS, "position_embedding": False}),
    "cl4srec": ("cl4srec", SMALL),
    "duorec": ("duorec", SMALL),
    "bert4rec": ("bert4rec", SMALL),
    "diffrec": ("diffrec", {**SMALL, **NOISE}),
    "diffrec, positions from the start": ("diffrec", {**SMALL, **NOISE, "positions": "from_start", "noise_std": 2.0}),
    "diffrec without noise": ("diffrec", {**SMALL, **NOISE, "num_seeds": 0}),
    "diffrec, a mask": ("diffrec", {**SMALL, **NOISE, "target_input": "mask"}),
    "shared": ("diffrec", {**SMALL, **NOISE, "attention": "shared_history", "positions": "from_target"}),
    "shared with additions": (
        "diffrec",
        {**SMALL, **NOISE, **ADDITIONS, "attention": "shared_history", "history_skip": True, "tied_output": True},
    ),
}
# Empty, short, as long as the model reads, longer, and with repeats in what it reads and before it.
HISTORIES = [[], [3], [5, 5], [1, 2, 3, 4, 5], [9, 8, 7, 6, 5, 4], [1, 2, 1, 3, 3, 4, 5, 6, 7, 8, 3, 9]]


def make(name: str, settings: dict) -> torch.nn.Module:
    torch.manual_seed(0)
    kind = MODELS[name]
    model = kind(kind.config_class(**settings), NUM_ITEMS).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # also what starts as zeros or ones
            parameter.add_(0.2 * torch.randn_like(parameter))
        model.table.embedding.weight[0] = 0
    model.count_items(sequences([[1, 2, 2, 3], [7, 7, 7]]))
    return model


def sequences(histories: list[list[int]]) -> Sequences:
    lengths = np.array([len(history) for history in histories])
    ends = lengths.cumsum()
    return Sequences(np.array([item for history in histories for item in history], np.int32), ends - lengths, ends)


def matrix(histories: list[list[int]], width: int, side: str) -> torch.Tensor:
    rows = []
    for number, history in enumerate(histories):
        zeros = [0] * (width - len(history))
        cut = {"left": 0, "right": len(history), "amid": number % (len(history) + 1)}[side]
        rows.append([*history[:cut], *zeros, *history[cut:]])
    return torch.tensor(rows)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("side", ["left", "right", "amid"])
def test_probabilities_are_those_of_the_model(case: str, side: str):
    model = make(*CASES[case])
    network = padded(model, NUM_ITEMS, filter_viewed=False)
    expected = model.predict_histories(sequences(HISTORIES))
    with torch.no_grad():
        items, probabilities = network(matrix(HISTORIES, 15, side), network.noise)
    found = torch.zeros_like(expected).scatter(1, items - 1, probabilities)
    assert expected.max() > 2 / NUM_ITEMS  # there is something to tell apart
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_what_the_history_holds_is_left_out_and_the_rest_of_the_list_is_empty():
    network = padded(make(*CASES["sasrec"]), NUM_ITEMS, filter_viewed=True)
    with torch.no_grad():
        items, probabilities = network(torch.tensor([[0, 1, 2, 1, 9]]))
    there = items[0] > 0
    assert there.tolist() == [True] * (NUM_ITEMS - 3) + [False] * 3
    assert set(items[0, there].tolist()) == set(range(1, NUM_ITEMS + 1)) - {1, 2, 9}
    assert probabilities[0, ~there].tolist() == [0.0] * 3 and (probabilities[0].diff() <= 0).all()


def test_noise_of_ones_own_is_averaged_over_its_rows():
    network = padded(make(*CASES["shared"]), NUM_ITEMS, filter_viewed=False)
    history, noise = torch.tensor([[1, 2, 3]]), torch.randn(5, 8)

    def ask(noise: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return network.probabilities(history, noise)

    each = torch.stack([ask(row[None]) for row in noise])
    torch.testing.assert_close(ask(noise), each.mean(0))
    assert (each.std(0) > 1e-6).any()  # and it matters


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("popularity", {}, "popularity cannot be exported; these can: diffrec, sasrec"),
        ("gru4rec", {}, "gru4rec cannot be exported"),
        ("diffrec", {"noised_items": 2}, "noised_items = 2 cannot be exported"),
        ("diffrec", {"inference_steps": 3}, "inference_steps = 3 cannot be exported"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_the_reason(name: str, settings: dict, said: str):
    kind = MODELS[name]
    with pytest.raises(SettingError, match=said):
        padded(kind(kind.config_class(**settings), NUM_ITEMS), 5, filter_viewed=True)
