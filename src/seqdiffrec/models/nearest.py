"""The best items of a catalogue that is too large to be scored whole: those that an index names, scored exactly."""

from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from seqdiffrec.losses import Added
from seqdiffrec.models.catalogue import CANDIDATES_EACH, CANDIDATES_MORE, SAMPLE, Catalogue, keys_of
from seqdiffrec.models.top import BARRED, Barred, Top, best, places_of

Nearest = Callable[[Float[Tensor, "S r D"], int], Int64[Tensor, "r c"]]
"""Draws of targets, and a number: the item indices of about so many highest scores of each draw; 0 fills up."""

# Weights of candidates, and scores of the sample, held at a time: 32 MiB each.
AT_ONCE = 2**23
# So few items may be left to recommend that each is scored.
FEW_LEFT = 1024
# So many of those that are barred everywhere may be the best ones.
BARRED_AT_MOST = 1024


def top_near(
    of: Catalogue, draws: Float[Tensor, "S R D"], added: Added | None, k: int, barred: Barred, nearest: Nearest
) -> Top:
    """The k best of R targets, of the items that ``nearest`` names for any of the S draws and those in ``added``.

    Their scores are exact in float32, what is added to them included. The sum over the catalogue, which makes
    probabilities of them, is theirs plus an estimate of the rest from a sample. Where few items may be recommended at
    all, they are the candidates; a target for which fewer than k of its candidates may be gets its list from the whole
    catalogue after all. What stands beside a target in the batch changes nothing about its candidates.
    """
    num_draws, count, size = draws.shape
    k = min(k, len(of.weight) - 1)
    wanted, few = _wanted(of, k, barred, count), _few_left(of, barred, k)
    if few is not None:
        wanted = torch.full_like(wanted, len(few))
    at_once = max(1, AT_ONCE // (num_draws * max(int(wanted.max()) * size, SAMPLE)))
    found: list[Top] = []
    for start in range(0, count, at_once):
        rows = slice(start, min(start + at_once, count))
        h, barred_here = draws[:, rows], barred.on(rows)
        here = None if added is None else _of(added, torch.arange(rows.start, rows.stop, device=h.device))
        named = _named(nearest, h, wanted[rows], k) if few is None else few.expand(h.shape[1], -1)
        items = _candidates(named, here, k)
        scores = _scores(of, h, items, here)
        scores = scores - _log_sums(of, h, items, scores)[:, None]
        probabilities = scores.exp().mean(-1).masked_fill(items == 0, BARRED)
        _bar(probabilities, items, barred_here, len(of.weight))
        top = best(probabilities, k)
        top = Top(top.probabilities, (items.gather(1, top.columns) - 1).clamp(min=0))
        short = torch.nonzero((probabilities != BARRED).sum(1) < k).squeeze(1)
        if few is None and len(short):
            whole = of.top(h[:, short], None if here is None else _of(here, short), k, barred_here.of(short))
            for part, exact in zip(top, whole, strict=True):
                part[short] = exact
        found.append(top)
    return Top(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _wanted(of: Catalogue, k: int, barred: Barred, count: int) -> Int64[Tensor, " R"]:
    """How many candidates each target needs: those that are barred may be its best ones.

    Of many that are barred everywhere, as all but a category, as great a share is among the best as of all items.
    """
    size, everywhere = len(of.weight) - 1, len(barred.everywhere)
    least = CANDIDATES_EACH * k + CANDIDATES_MORE
    for_all = max(least + min(everywhere, BARRED_AT_MOST), least * size // max(1, size - everywhere))
    return (for_all + torch.bincount(barred.rows, minlength=count)).clamp(max=size)


def _few_left(of: Catalogue, barred: Barred, k: int) -> Int64[Tensor, " c"] | None:
    """The items that may be recommended at all, if they are so few that no index is needed to find them; k places."""
    if len(of.weight) - 1 - len(barred.everywhere) > FEW_LEFT or not len(barred.everywhere):
        return None
    allowed = torch.ones(len(of.weight), dtype=torch.bool, device=barred.everywhere.device)
    allowed[0], allowed[barred.everywhere + 1] = False, False
    few = torch.nonzero(allowed).squeeze(1)
    return F.pad(few, (max(0, k - len(few)), 0))


def _named(nearest: Nearest, h: Float[Tensor, "S r D"], wanted: Int64[Tensor, " r"], k: int) -> Int64[Tensor, "r c"]:
    """What the index names, at least k places wide, for each target as if it was asked about that one alone.

    How far an index looks goes by the number that it is asked for, so only those that want as many share a call.
    """
    numbers = sorted(set(cast(list[int], wanted.tolist())))
    groups = [torch.nonzero(wanted == number).squeeze(1) for number in numbers]
    parts = [nearest(h[:, rows], number) for rows, number in zip(groups, numbers, strict=True)]
    named = torch.zeros(h.shape[1], max(k, *(part.shape[1] for part in parts)), dtype=torch.int64, device=h.device)
    for rows, part in zip(groups, parts, strict=True):
        named[rows, : part.shape[1]] = part.to(h.device)
    return named


def _candidates(named: Int64[Tensor, "r c"], added: Added | None, k: int) -> Int64[Tensor, "r C"]:
    """The items to look at for each target, k places or more: each once, rising, after zeros that make up the rows."""
    if added is not None and len(added.rows):
        rows, order = added.rows.sort()
        place = torch.arange(len(rows), device=rows.device) - torch.searchsorted(rows, rows)
        more = named.new_zeros(len(named), int(place.max()) + 1)
        more[rows, place] = added.items[order]
        named = torch.cat([named, more], dim=1)
    items = named.sort(dim=1).values
    again = items[:, 1:] == items[:, :-1]
    items[:, 1:][again] = 0
    items = items.sort(dim=1).values
    return items[:, min(int((items == 0).sum(1).min()), items.shape[1] - k) :]


def _scores(
    of: Catalogue, h: Float[Tensor, "S r D"], items: Int64[Tensor, "r C"], added: Added | None
) -> Float32[Tensor, "r C S"]:
    product = (of.vectors(items) @ h.permute(1, 2, 0)).permute(2, 0, 1)  # (S, r, C)
    scores = of.complete_at(items, product, added, slice(0, len(items))).permute(1, 2, 0)
    return scores.masked_fill(items[..., None] == 0, float("-inf"))


def _log_sums(
    of: Catalogue, h: Float[Tensor, "S r D"], items: Int64[Tensor, "r C"], scores: Float32[Tensor, "r C S"]
) -> Float32[Tensor, "r S"]:
    """The logarithm of the sum of ``exp(score)`` over the catalogue: exact for candidates, an estimate for the rest."""
    sample, part = of.sample
    others = part.product(h.flatten(0, 1)).view(*h.shape[:2], -1)  # (S, r, n)
    if part.bias is not None:
        others = others + part.bias
    at = torch.searchsorted(sample, items.contiguous()).clamp(max=len(sample) - 1)
    row, place = torch.nonzero(sample[at] == items, as_tuple=True)
    others[:, row, at[row, place]] = float("-inf")
    drawn = len(sample) - torch.bincount(row, minlength=h.shape[1])
    rest = len(of.weight) - 1 - (items != 0).sum(1)
    share = torch.where(drawn > 0, rest / drawn.clamp(min=1), 0.0).log()
    return torch.logaddexp(scores.logsumexp(1), (others.logsumexp(-1) + share).t())


def _bar(probabilities: Tensor, items: Int64[Tensor, "r C"], barred: Barred, size: int) -> None:
    """Write `BARRED` over the candidates that may not be recommended."""
    if len(barred.everywhere):
        at = torch.searchsorted(barred.everywhere, items - 1).clamp(max=len(barred.everywhere) - 1)
        probabilities[barred.everywhere[at] == items - 1] = BARRED
    keys = keys_of(items, size)
    wanted = barred.rows * size + barred.columns + 1
    at = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    probabilities.view(-1)[at[keys[at] == wanted]] = BARRED


def _of(added: Added, rows: Int64[Tensor, " n"]) -> Added:
    """What is added for some targets, in rising order, which are counted anew."""
    place, here = places_of(added.rows, rows)
    return Added(place[here], added.items[here], added.values[here])
