"""Drawing of items to hold targets against."""

from typing import cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


class NegativeSampler(nn.Module):
    """Draws items in proportion to a power of how often they occur in training, those that never occur as if once.

    counts: (V,) occurrences of item indices 1..V. exponent: 0 draws all alike, 1 by popularity.
    """

    def __init__(self, counts: Int64[Tensor, " V"], exponent: float):
        super().__init__()
        weight = counts.clamp(min=1).double() ** exponent
        # In no state: they follow from the counts.
        self.register_buffer("log_probability", (weight / weight.sum()).log(), persistent=False)
        self.register_buffer("cumulative", (weight / weight.sum()).cumsum(0), persistent=False)

    log_probability: Tensor
    cumulative: Tensor

    def draw_items(self, count: int) -> Int64[Tensor, " count"]:
        """``count`` draws with replacement, as they come."""
        device = self.cumulative.device
        place = torch.searchsorted(self.cumulative, torch.rand(count, dtype=torch.float64, device=device))
        return 1 + place.clamp(max=len(self.cumulative) - 1)

    def draw(self, count: int) -> tuple[Int64[Tensor, " K"], Float[Tensor, " K"]]:
        """``count`` draws with replacement: the items, ascending and each once, and their `log_expected`."""
        return self.of(self.draw_items(count), count)

    def of(self, items: Int64[Tensor, " n"], count: int) -> tuple[Int64[Tensor, " K"], Float[Tensor, " K"]]:
        """The same for items that were drawn elsewhere in these proportions, of which ``count`` count."""
        negatives, times = cast(tuple[Tensor, Tensor], items.unique(return_counts=True))
        expected = self.log_probability[negatives - 1] + torch.log(torch.tensor(max(count, 1)).double())
        return negatives, (expected - times.double().log()).float()


def draw_others(targets: Int64[Tensor, " R"], num_items: int, count: int) -> Int64[Tensor, "R K"]:
    """``count`` items for each target, drawn all alike, with replacement, from all of 1..num_items but the target.

    0 where there is no other item.
    """
    if num_items == 1:
        return targets.new_zeros((len(targets), count))
    drawn = torch.randint(1, num_items, (len(targets), count), device=targets.device)
    return drawn + (drawn >= targets[:, None])


def draw_unseen(
    rows: Int64[Tensor, " R"],
    seen_rows: Int64[Tensor, " E"],
    seen_items: Int64[Tensor, " E"],
    num_items: int,
    count: int,
) -> Int64[Tensor, "R K"]:
    """``count`` items for each of ``rows``, drawn all alike, with replacement, from those that the row has not seen.

    Item ``seen_items[e]`` of 1..num_items is one that row ``seen_rows[e]`` has seen; pairs may repeat. 0 where a row
    has seen all items.
    """
    size = num_items + 1
    key = cast(Tensor, (seen_rows * size + seen_items).unique())
    seen_row, seen_item = key // size, key % size
    number = torch.bincount(seen_row, minlength=int(rows.max()) + 1)
    first = number.cumsum(0) - number
    # Below its k-th seen item, k from 0, a row has `item - 1 - k` unseen ones: the n-th unseen one, n from 1, stands
    # behind all seen items with `item - k <= n`. Rows follow one another, so one search serves all.
    key = seen_row * size + seen_item - (torch.arange(len(key), device=key.device) - first[seen_row])
    left = (num_items - number)[rows, None]
    nth = 1 + (torch.rand((len(rows), count), dtype=torch.float64, device=rows.device) * left).long()
    before = torch.searchsorted(key, rows[:, None] * size + nth, right=True) - first[rows, None]
    return torch.where(left > 0, nth + before, 0)
