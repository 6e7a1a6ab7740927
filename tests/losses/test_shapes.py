"""That wrong shapes and kinds are refused in tests at all, and where that is turned off."""

import pytest
import torch
from jaxtyping import TypeCheckError

from seqdiffrec.losses.contrastive import nt_xent
from seqdiffrec.losses.full import catalogue_cross_entropy
from tests.shapes import unchecked


def test_wrong_shapes_are_seen():
    two, three = torch.ones(2, 3), torch.ones(3, 3)
    nt_xent(two, two, 1.0)
    for wrong in (three, torch.ones(2, 3, dtype=torch.int64), [1.0]):
        with pytest.raises(TypeCheckError, match="second"):
            nt_xent(two, wrong, 1.0)
    with unchecked(), pytest.raises(RuntimeError):  # torch's own
        nt_xent(two, torch.ones(2, 4), 1.0)
    with pytest.raises(TypeCheckError):
        nt_xent(two, three, 1.0)


def test_what_may_be_none_is_checked_too():
    with pytest.raises(TypeCheckError, match="bias"):
        catalogue_cross_entropy(torch.ones(2, 3), torch.ones(5, 3), torch.ones(4), torch.ones(2, dtype=torch.int64))
