"""What an index holds of items, and is asked for: their weights and a bias as one vector."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from seqdiffrec.models.base import SequenceModel
from seqdiffrec.models.catalogue import Catalogue
from seqdiffrec.models.item_table import TableModel
from seqdiffrec.models.settings import SettingError

Progress = Callable[[int, int], None]
"""How much is done, of how much."""


def catalogue_of(model: SequenceModel) -> Catalogue:
    """The weights that a model scores items by. Raises SettingError where its items are no vectors."""
    if not isinstance(model, TableModel):
        raise SettingError(f"{model.name} has no item vectors to index; its exact lists are quick anyway")
    with torch.inference_mode():
        return model.eval().table.catalogue()


def vectors(catalogue: Catalogue, columns: Int64[Tensor, " n"]) -> Float32[Tensor, "n D1"]:
    """Weights of some items, and the bias as one dimension more where there is one."""
    items = columns.to(catalogue.weight.device) + 1
    parts = [catalogue.vectors(items)]
    if catalogue.bias is not None:
        parts.append(catalogue.bias[items, None])
    return torch.cat(parts, dim=1).detach().float().cpu()


def queries(draws: Float[Tensor, "*n D"], size: int) -> Float32[Tensor, "*n D1"]:
    """What is multiplied with `vectors` of this size: a bias counts once."""
    h = draws.detach().float().cpu()
    return torch.cat([h, h.new_ones(*h.shape[:-1], size - h.shape[-1])], dim=-1)
