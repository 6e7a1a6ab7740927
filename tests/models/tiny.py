"""Tiny models of DiffRec, batches for them, and what they should give, by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from seqdiffrec.data.batches import RaggedBatch, Windows, history_batch, window_batch
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.diffusion import make_alpha_bar
from seqdiffrec.models import DiffRec, DiffRecConfig

SIZE, T, N, ITEMS = 8, 6, 10, 12
BOTH = pytest.mark.parametrize("attention", ["bidirectional", "shared_history"])
LISTS = [[3, 4, 5], [7, 1, 2, 3, 9, 8], [2, 6]]


def make(attention: str = "bidirectional", **settings: object) -> DiffRec:
    torch.manual_seed(1)
    given = {
        "hidden_size": SIZE,
        "max_length": T,
        "num_steps": N,
        "dropout": 0.0,
        "embedding_std": 0.5,
        "weight_std": 0.5,
    }
    given |= settings
    model = DiffRec(DiffRecConfig(attention=attention, **given), ITEMS).eval()
    if model.table.output is not None:
        torch.nn.init.normal_(model.table.output.bias)
    return model


def ragged(*lists: list[int]) -> Sequences:
    lengths = np.array([len(one) for one in lists])
    items = np.array([item for one in lists for item in one], dtype=np.int32)
    return Sequences(items, np.cumsum(lengths) - lengths, np.cumsum(lengths))


def training_batch(*lists: list[int]) -> RaggedBatch:
    """One example a list: its last item after all before it."""
    sequences = ragged(*lists)
    return window_batch(sequences, Windows(sequences.starts, sequences.starts, sequences.ends - 1, sequences.ends - 1))


def question(*lists: list[int]) -> RaggedBatch:
    return history_batch(ragged(*lists), T)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fixed(monkeypatch: pytest.MonkeyPatch, model: DiffRec, step: list[int], probability: list[float]) -> Tensor:
    """Make the next loss use these steps with these probabilities, and the noise that is returned (3 places)."""
    noise = draw(3, SIZE, seed=7)
    drawn = torch.tensor(step), torch.tensor(probability, dtype=torch.float64)
    monkeypatch.setattr(model.step_sampler, "sample", lambda count: drawn)
    monkeypatch.setattr(torch, "randn_like", lambda h0: noise.clone())
    return noise


def by_hand(model: DiffRec, batch: RaggedBatch, step: list[int], noise: Tensor) -> tuple[Tensor, Tensor]:
    """(h_0, f(h_n, n)) of each target: Eq. 7 with the schedule's own figures, then the denoiser."""
    alpha_bar = make_alpha_bar(model.config.schedule, model.config.num_steps)[torch.tensor(step)].float()[:, None]
    h0 = model.table.embedding.weight[batch.targets]
    hn = alpha_bar.sqrt() * h0 + (1 - alpha_bar).sqrt() * noise
    return h0, model.denoiser.condition(batch, model.table).denoise(hn, torch.tensor(step))


def probabilities(model: DiffRec, h: Tensor) -> Tensor:
    """Eq. 8 in float64, item by item; the padding row is no item."""
    table, h = model.table, h.detach()
    if table.output is None:
        W, b = table.embedding.weight[1:].detach().double(), torch.zeros(ITEMS, dtype=torch.float64)
    else:
        W, b = table.output.weight[1:].detach().double(), table.output.bias[1:].detach().double()
    odds = [[math.exp(float(row @ w) + float(bias)) for w, bias in zip(W, b, strict=True)] for row in h.double()]
    return torch.tensor([[one / sum(row) for one in row] for row in odds])
