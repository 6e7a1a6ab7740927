"""Approximate indexes over a model's items, for catalogues where a pass over all of them takes too long.

What they find are candidates only: `seqdiffrec.models.nearest` scores them exactly.
"""

from typing import Any

from torch import Tensor

from seqdiffrec.inference.index.base import (
    NOT_OURS,
    OVERLAP_AT,
    ItemIndex,
    Progress,
    best_columns,
    catalogue_of,
    overlap,
)
from seqdiffrec.inference.index.graph import GraphIndex
from seqdiffrec.inference.index.lists import ListIndex
from seqdiffrec.models.base import SequenceModel
from seqdiffrec.models.settings import refuse_unknown
from seqdiffrec.training import RunError

KINDS: dict[str, type[ItemIndex]] = {kind.kind: kind for kind in (GraphIndex, ListIndex)}
"""All kinds of index by name."""


def build_index(model: SequenceModel, kind: str, progress: Progress | None = None) -> ItemIndex:
    """An index of this kind over all items of a model.

    Raises SettingError for an unknown kind, a model whose items are no vectors, or without the library of the kind.
    """
    if kind not in KINDS:
        raise refuse_unknown(kind, list(KINDS), what="kind of index")
    return KINDS[kind].build(catalogue_of(model), progress)


def saved_index(model: SequenceModel, tensors: dict[str, Tensor], facts: dict[str, Any]) -> ItemIndex:
    """A saved index, over the weights that it was built from. Raises RunError where it does not fit."""
    kind = KINDS.get(facts.get("kind", GraphIndex.kind))  # before there were kinds, all were graphs
    if kind is None:
        raise RunError(NOT_OURS)
    index = kind.restore(catalogue_of(model), tensors)
    index.breadth, index.overlap = facts["breadth"], facts[f"overlap@{OVERLAP_AT}"]
    index.histories = facts["histories"]
    index.exact_ms, index.approximate_ms = facts.get("exact_ms"), facts.get("approximate_ms")  # younger than the rest
    return index


__all__ = [
    "KINDS",
    "ItemIndex",
    "Progress",
    "best_columns",
    "build_index",
    "catalogue_of",
    "overlap",
    "saved_index",
]
