"""The best k items of each history."""

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

# What stands in the place of the probability of an item that may not be recommended.
BARRED = -1.0
# Values of a group, and of a row from which on it is faster to compare the largest of each group first.
GROUP, GROUPED_FROM = 128, 2**15


class Top(NamedTuple):
    """Best first: probabilities, and columns (column j is item index j + 1); `BARRED` where there are no more items."""

    probabilities: Float[Tensor, "B k"]
    columns: Int64[Tensor, "B k"]


@dataclass(frozen=True, eq=False)
class Barred:
    """Items that may not be recommended: for all histories, and for single ones.

    everywhere: columns, each once, rising. rows, columns: pairs of a history and a column, in the histories' order.
    """

    everywhere: Int64[Tensor, " A"]
    rows: Int64[Tensor, " E"]
    columns: Int64[Tensor, " E"]

    @classmethod
    def all_but(cls, allowed: Bool[Tensor, " V"], rows: Tensor, columns: Tensor) -> "Barred":
        """All columns that are not allowed, and the pairs."""
        # Mostly all are, and of ten million that is seen in a tenth of the time.
        if len(allowed) and bool(allowed.view(torch.uint8).amin()):
            return cls(rows.new_empty(0), rows, columns)
        return cls(torch.nonzero(~allowed).squeeze(1), rows, columns)

    def on(self, histories: slice) -> "Barred":
        """What counts for a stretch of the histories."""
        bounds = torch.searchsorted(self.rows, self.rows.new_tensor([histories.start, histories.stop]))
        begin, end = cast(list[int], bounds.tolist())
        return Barred(self.everywhere, self.rows[begin:end] - histories.start, self.columns[begin:end])

    def of(self, histories: Int64[Tensor, " n"]) -> "Barred":
        """What counts for some of the histories, in rising order, which are counted anew."""
        place, here = places_of(self.rows, histories)
        return Barred(self.everywhere, place[here], self.columns[here])

    def put_into(self, probabilities: Float[Tensor, "B V"]) -> None:
        """Write `BARRED` over their probabilities."""
        if len(self.everywhere):
            probabilities[:, self.everywhere] = BARRED
        probabilities[self.rows, self.columns] = BARRED


def places_of(rows: Int64[Tensor, " E"], chosen: Int64[Tensor, " n"]) -> tuple[Int64[Tensor, " E"], Bool[Tensor, " E"]]:
    """Where each row stands among those that are chosen, in rising order, and whether it is one of them at all."""
    place = torch.searchsorted(chosen, rows).clamp(max=len(chosen) - 1)
    return place, chosen[place] == rows


def best(probabilities: Float[Tensor, "B V"], k: int) -> Top:
    """The k best of each row; ties go to the smaller column."""
    found = largest_of(probabilities, min(k, probabilities.shape[1])).probabilities
    # Which of several equal ones topk takes, and in which order, is left open, so all that equal its last are ranked.
    rows, columns = torch.nonzero(probabilities >= found[:, -1:], as_tuple=True)
    if len(rows) > 2 * found.numel():  # many are equal
        sort = probabilities.sort(dim=1, descending=True, stable=True)
        return Top(*(part[:, : found.shape[1]] for part in sort))
    values = probabilities[rows, columns]
    order = values.argsort(descending=True, stable=True)
    order = order[rows[order].argsort(stable=True)]
    rows = rows[order]
    first = torch.searchsorted(rows, torch.arange(len(probabilities), device=rows.device))
    chosen = order[first[:, None] + torch.arange(found.shape[1], device=rows.device)]
    return Top(values[chosen], columns[chosen])


def largest_of(values: Float[Tensor, "B V"], k: int) -> Top:
    """The k largest of each row as ``topk`` finds them, whichever of equal ones that is.

    Wide rows go by groups: the k groups with the largest values hold them all.
    """
    whole = values.shape[1] // GROUP * GROUP
    if values.shape[1] < GROUPED_FROM or k > whole // GROUP:
        return Top(*values.topk(k))
    groups = values[:, :whole].reshape(len(values), -1, GROUP).amax(-1).topk(k).indices
    columns = (groups[..., None] * GROUP + torch.arange(GROUP, device=values.device)).flatten(1)
    rest = torch.arange(whole, values.shape[1], device=values.device).expand(len(values), -1)
    columns = torch.cat([columns, rest], dim=1)
    found = values.gather(1, columns).topk(k)
    return Top(found.values, columns.gather(1, found.indices))
