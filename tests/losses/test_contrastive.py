"""The contrastive losses against their definitions as loops."""

import math

import pytest
import torch

from seqdiffrec.losses import nt_xent, supervised_contrastive


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


def nt_xent_by_loops(first, second, temperature):
    views = [[float(x) for x in row] for row in [*first, *second]]
    count, losses = len(first), []
    for i, view in enumerate(views):
        products = [sum(x * y for x, y in zip(view, other, strict=True)) / temperature for other in views]
        total = sum(math.exp(product) for j, product in enumerate(products) if j != i)
        losses.append(math.log(total) - products[(i + count) % (2 * count)])
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_nt_xent_against_loops(count, temperature):
    first, second = torch.randn(2, count, 4, generator=torch.Generator().manual_seed(count))
    ours = nt_xent(first, second, temperature)
    assert ours.item() == pytest.approx(nt_xent_by_loops(first, second, temperature), rel=1e-5, abs=1e-6)


def test_on_directions_both_are_one():
    """Of unit vectors the inner products are the cosines, and a pair is all there is of a label."""
    first, second = torch.nn.functional.normalize(torch.randn(2, 5, 4), dim=-1)
    both = supervised_contrastive(torch.cat([first, second]), torch.arange(5).repeat(2), 0.3)
    torch.testing.assert_close(nt_xent(first, second, 0.3), both)


def test_nt_xent_is_the_same_under_autocast():
    first, second = 8 * torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        inside = nt_xent(first, second, 1.0)
    assert torch.equal(inside, nt_xent(first, second, 1.0))


def test_one_example_has_nothing_to_be_told_from():
    first = torch.randn(1, 4, requires_grad=True)
    loss = nt_xent(first, torch.randn(1, 4), 1.0)
    loss.backward()
    assert loss.item() == 0 and bool((first.grad == 0).all())
