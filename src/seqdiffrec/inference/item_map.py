"""Items on a plane: the two directions in which their vectors differ most."""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from seqdiffrec.models import DiffRec, SequenceModel
from seqdiffrec.models.item_table import TableModel, directions
from seqdiffrec.models.settings import SettingError


@dataclass(frozen=True, eq=False)
class ItemMap:
    """The most popular items on two axes, on which a model's states can be drawn too.

    columns: which items are on it, most popular first; column j is item index j + 1.
    vectors: of all items, as the map draws them; row j is column j.
    centre, axes: a vector h lies at ``(h - centre) axes``.
    points: where the items of `columns` lie.
    shares: of the items' variance that each axis shows, 0 to 1.
    """

    columns: Int64[Tensor, " n"]
    vectors: Float[Tensor, "V D"]
    centre: Float[Tensor, " D"]
    axes: Float[Tensor, "D 2"]
    points: Float[Tensor, "n 2"]
    shares: Float[Tensor, " 2"]

    @classmethod
    @torch.inference_mode()
    def of(cls, model: SequenceModel, limit: int = 2000) -> "ItemMap":
        """The first two principal components of the ``limit`` most popular items' vectors.

        They are the embeddings, on which the diffusion works, where the model has one; else what its states are scored
        against. Raises SettingError for a model without item vectors.
        """
        if not isinstance(model, TableModel):
            raise SettingError(f"{model.name} has no item vectors, so there is no map of the items")
        table = model.table
        vectors = table.embedding.weight if isinstance(model, DiffRec) else table.catalogue().vectors(slice(None))
        vectors = vectors.detach()[1:].float()
        columns = model.item_counts.argsort(descending=True, stable=True)[:limit]
        shown = vectors[columns]
        centre = shown.mean(0)
        _, lengths, components = cast(tuple[Tensor, ...], torch.linalg.svd(shown - centre, full_matrices=False))
        axes = _upright(components[:2].T)
        if axes.shape[1] < 2:  # of a single item, or vectors of one dimension
            axes = torch.cat([axes, axes.new_zeros((len(axes), 2 - axes.shape[1]))], dim=1)
        variance = lengths.square()
        shares = torch.zeros(2, device=variance.device)
        shares[: len(variance[:2])] = variance[:2] / variance.sum().clamp(min=torch.finfo(variance.dtype).tiny)
        return cls(columns, vectors, centre, axes, (shown - centre) @ axes, shares)

    def place(self, h: Float[Tensor, "*n D"]) -> Float[Tensor, "*n 2"]:
        """Where representations lie on the map."""
        return (h.float() - self.centre) @ self.axes

    def nearest(self, h: Float[Tensor, "n D"], k: int) -> Int64[Tensor, "n k"]:
        """The columns of the k items whose vectors point most nearly in the direction of each row."""
        alike = directions(h.float()) @ directions(self.vectors).T
        return alike.topk(min(k, len(self.vectors))).indices


def _upright(axes: Float[Tensor, "D a"]) -> Float[Tensor, "D a"]:
    """The axes with their largest entry positive: which way round SVD gives them is left to chance."""
    largest = axes.abs().argmax(0)
    return axes * axes[largest, torch.arange(axes.shape[1], device=axes.device)].sign()
