"""The best items of a catalogue that is too large to be scored whole: those that an index names, scored exactly."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from seqdiffrec.losses import Added
from seqdiffrec.models.catalogue import CANDIDATES_EACH, CANDIDATES_MORE, SAMPLE, Catalogue, keys_of
from seqdiffrec.models.top import BARRED, Barred, Top, best

Nearest = Callable[[Float[Tensor, "S r D"], int], Int64[Tensor, "r c"]]
"""Draws of targets, and a number: the item indices of about so many highest scores of each draw; 0 fills up."""

# Weights of candidates, and scores of the sample, held at a time: 32 MiB each.
AT_ONCE = 2**23


def top_near(
    of: Catalogue, draws: Float[Tensor, "S R D"], added: Added | None, k: int, barred: Barred, nearest: Nearest
) -> Top:
    """The k best of R targets, of the items that ``nearest`` names for any of the S draws and those in ``added``.

    Their scores are exact in float32, what is added to them included. The sum over the catalogue, which makes
    probabilities of them, is theirs plus an estimate of the rest from a sample. Where fewer than k candidates may be
    recommended, the whole catalogue is looked at after all.
    """
    num_draws, count, size = draws.shape
    k = min(k, len(of.weight) - 1)
    barred_each = int(torch.bincount(barred.rows).max()) if len(barred.rows) else 0
    wanted = min(CANDIDATES_EACH * k + CANDIDATES_MORE + barred_each, len(of.weight) - 1)
    at_once = max(1, AT_ONCE // (num_draws * max(wanted * size, SAMPLE)))
    found: list[Top] = []
    for start in range(0, count, at_once):
        rows = slice(start, min(start + at_once, count))
        h, here = draws[:, rows], _on(added, rows)
        items = _candidates(nearest(h, wanted).to(h.device), here)
        scores = _scores(of, h, items, here)
        scores = scores - _log_sums(of, h, items, scores)[:, None]
        probabilities = scores.exp().mean(-1).masked_fill(items == 0, BARRED)
        _bar(probabilities, items, barred.on(rows), len(of.weight))
        if bool(((probabilities != BARRED).sum(1) < k).any()):
            found.append(of.top(h, here, k, barred.on(rows)))
            continue
        top = best(probabilities, k)
        found.append(Top(top.probabilities, items.gather(1, top.columns) - 1))
    return Top(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _candidates(named: Int64[Tensor, "r c"], added: Added | None) -> Int64[Tensor, "r C"]:
    """The items to look at for each target: each once, in rising order, after zeros that make up the rows."""
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
    return items[:, int((items == 0).sum(1).min()) :]


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
        probabilities[torch.isin(items - 1, barred.everywhere)] = BARRED
    keys = keys_of(items, size)
    if not len(keys):
        return
    wanted = barred.rows * size + barred.columns + 1
    at = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    probabilities.view(-1)[at[keys[at] == wanted]] = BARRED


def _on(added: Added | None, rows: slice) -> Added | None:
    if added is None:
        return None
    here = (added.rows >= rows.start) & (added.rows < rows.stop)
    return Added(added.rows[here] - rows.start, added.items[here], added.values[here])
