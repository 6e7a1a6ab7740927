"""The best k of each row, against a sort written out."""

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from seqdiffrec.models import top as tops
from seqdiffrec.models.top import BARRED, Barred, best

V = 6
# Few different values, zero among them, so that ties and impossible items come up.
row = st.lists(st.sampled_from([0.0, 0.125, 0.25, 0.5]), min_size=V, max_size=V)


@given(
    st.lists(st.tuples(row, st.lists(st.integers(0, V - 1), max_size=8)), min_size=1, max_size=5),
    st.integers(1, V + 2),
    st.lists(st.booleans(), min_size=V, max_size=V),
    st.integers(0, 4),
)
def test_against_a_sort(cases, k, allowed, first):
    """Of the rows from ``first`` on, as a block of a batch has them; a column may be barred twice."""
    pairs = [(number, column) for number, (_, own) in enumerate(cases) for column in own]
    rows, columns = (torch.tensor([pair[side] for pair in pairs], dtype=torch.int64) for side in (0, 1))
    probabilities = torch.tensor([values for values, _ in cases])[first:]
    if not len(probabilities):
        return
    Barred.all_but(torch.tensor(allowed), rows, columns).on(slice(first, len(cases))).put_into(probabilities)
    top = best(probabilities, k)
    for found, chosen, (values, own) in zip(*(part.tolist() for part in top), cases[first:], strict=True):
        left = [column for column in range(V) if allowed[column] and column not in own]
        expected = sorted(left, key=lambda column: (-values[column], column))[:k]
        kept = [column for value, column in zip(found, chosen, strict=True) if value != BARRED]
        assert kept == expected
        assert found[: len(kept)] == [values[column] for column in expected]


def test_barred_items_come_last():
    probabilities = torch.tensor([[0.5, 0.0, 0.25]])
    Barred(torch.tensor([0]), torch.tensor([0]), torch.tensor([2])).put_into(probabilities)
    assert best(probabilities, 3).columns.tolist() == [[1, 0, 2]]
    assert best(probabilities, 3).probabilities.tolist() == [pytest.approx([0.0, BARRED, BARRED])]


@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_the_largest_by_groups_are_those_of_topk(size, k, rows, seed):
    """With groups of four of a few different values, so that many are equal, within groups and across them."""
    values = torch.from_numpy(
        np.random.default_rng(seed).integers(0, 9, (rows, 4 * size + size % 4)).astype(np.float32)
    )
    k = min(k, values.shape[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tops, "GROUP", 4)
        patch.setattr(tops, "GROUPED_FROM", 1)
        found = tops.largest_of(values, k)
    assert torch.equal(found.probabilities, values.topk(k).values)
    assert torch.equal(values.gather(1, found.columns), found.probabilities)
    assert all(len(set(row)) == k for row in found.columns.tolist())
