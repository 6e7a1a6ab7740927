"""The contrastive loss against its definition as loops."""

import math

import pytest
import torch

from seqdiffrec.losses import supervised_contrastive


def by_loops(z, labels, temperature):
    z = [row / row.norm() for row in z]
    losses = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        positives = [j for j in others if labels[j] == labels[i]]
        total = sum(math.exp(float(z[i] @ z[j]) / temperature) for j in others)
        if positives:
            terms = [math.log(math.exp(float(z[i] @ z[p]) / temperature) / total) for p in positives]
            losses.append(-sum(terms) / len(terms))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
@pytest.mark.parametrize("labels", [[0, 1, 2, 0, 1, 2], [3, 3, 3, 1, 1, 7], [5, 5, 5, 5, 5, 5]])
def test_against_loops(labels, temperature):
    z = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours = supervised_contrastive(z, torch.tensor(labels), temperature)
    assert ours.item() == pytest.approx(by_loops(z, labels, temperature), rel=1e-6)


def test_without_positives_there_is_nothing_to_pull():
    z = torch.randn(3, 4, requires_grad=True)
    loss = supervised_contrastive(z, torch.tensor([1, 2, 3]), 0.1)
    loss.backward()
    assert loss.item() == 0 and bool((z.grad == 0).all())
