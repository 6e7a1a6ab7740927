"""All items as a model scores them at inference: probabilities of all, or the best few."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from seqdiffrec.losses import Added
from seqdiffrec.models.packed import PackedWeight, is_laid_out
from seqdiffrec.models.top import BARRED, Barred, Top, best, largest_of

# Scores computed together, 4 MiB: more would not fit the cache, fewer would not fill a matrix product.
SCORES_AT_ONCE = 2**20
# Rough scores turned into probabilities together, 2 MiB: all steps of it stay in the cache.
STRETCH = 2**19
# Every so many items are the sample by which sums over all are guessed, where there are so many items.
SAMPLED, SAMPLED_FROM = 64, 2**15
# Items whose scores stand for those of all that an index does not name.
SAMPLE = 2**14
# Candidates looked at again in float32 for k items wanted.
CANDIDATES_EACH, CANDIDATES_MORE = 4, 64
# With more candidates than this share of the catalogue, scoring all of it in float32 is faster.
ROUGH_SHARE = 1 / 16
# How much further than any candidate's another item's rough score may be off.
CAUTION = 2.0


@dataclass(frozen=True, eq=False)
class Catalogue:
    """What items are scored by: ``inverse_lengths (weight h) + bias``. Row 0 is padding and no candidate.

    rough: whether to look for the best items in bfloat16 first. inverse_lengths: of a cosine output, so that it needs
    no table of directions beside the weights.
    """

    weight: Float[Tensor, "V1 D"]
    bias: Float[Tensor, " V1"] | None
    rough: bool
    inverse_lengths: Float[Tensor, " V1"] | None = None

    def probabilities(self, draws: Float[Tensor, "S R D"], added: Added | None) -> Float32[Tensor, "R V"]:
        """``softmax(W h + b)`` (Eq. 8) of R targets, the mean over S draws of h (Algorithm 3); column j is item j + 1.

        Scores are held for as many targets at a time as fit the cache, all draws of each.
        """
        num_draws, count, _ = draws.shape
        mean = draws.new_empty((count, len(self.weight)), dtype=torch.float32)
        for rows in self._stretches(num_draws, count):
            mean[rows] = self._mean(draws[:, rows], added, rows)
        return mean[:, 1:]

    def top(self, draws: Float[Tensor, "S R D"], added: Added | None, k: int, barred: Barred) -> Top:
        """The k best of R targets by these probabilities; only a few targets' are held at a time.

        Rough, all items are scored in bfloat16, and those that may be among the best again in float32: so many that no
        other could reach the list unless its error was `CAUTION` times any that was seen. The rounding of all others
        stays in the sum over the catalogue, where it cancels but for a thousandth or so, or a hundredth where a few
        items have nearly all of a draw's probability: items closer than that may change places.
        """
        num_draws, count, _ = draws.shape
        k = min(k, len(self.weight) - 1)
        found = [
            self._top(draws[:, rows], added, rows, k, barred.on(rows)) for rows in self._stretches(num_draws, count)
        ]
        return Top(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def _mean(self, h: Float[Tensor, "S r D"], added: Added | None, rows: slice) -> Float32[Tensor, "r V1"]:
        scores = self.product(h.flatten(0, 1)).float().view(*h.shape[:2], -1)
        softmax = self._complete(scores, added, rows).softmax(-1)
        return softmax[0] if len(softmax) == 1 else softmax.mean(0)

    def _top(self, h: Float[Tensor, "S r D"], added: Added | None, rows: slice, k: int, barred: Barred) -> Top:
        wanted = CANDIDATES_EACH * k + CANDIDATES_MORE
        if not self.rough or wanted > ROUGH_SHARE * len(self.weight):
            return self._exact_top(h, added, rows, k, barred)
        product = self._rough.product(h.flatten(0, 1).bfloat16()).view(*h.shape[:2], -1)
        log_sums, mean, factor = self._sum_up(product, added, rows)
        if not bool(log_sums.isfinite().all()):  # a guess that was off by more than float32 holds
            return self._exact_top(h, added, rows, k, barred)
        mean[:, 0] = BARRED
        # What the largest terms of each sum over the catalogue gain by the second look, barred or not.
        largest = largest_of(mean, wanted).columns
        barred.put_into(mean[:, 1:])
        while wanted <= ROUGH_SHARE * len(self.weight):
            candidates = largest_of(mean, wanted)
            columns = torch.cat([largest, candidates.columns], dim=1).sort().values  # so that ties go to the smaller
            again = torch.zeros_like(columns, dtype=torch.bool)
            again[:, 1:] = columns[:, 1:] == columns[:, :-1]
            at = columns.expand(len(h), -1, -1)
            rounded = product.gather(2, at).float()
            error = torch.einsum("rcd,srd->src", self.vectors(columns), h) - rounded
            terms = (self.complete_at(columns, rounded, added, rows) - log_sums).exp()
            looked = terms * error.exp()
            total = 1 + (looked - terms).masked_fill(again, 0).sum(-1, keepdim=True)
            is_out = again | (mean.gather(1, columns) == BARRED)
            top = best((looked / total).mean(0).masked_fill(is_out, BARRED), k)
            outside = factor * candidates.probabilities[:, -1] * (CAUTION * error.abs().amax()).exp()
            if bool((outside < top.probabilities[:, -1]).all()):
                return Top(top.probabilities, columns.gather(1, top.columns) - 1)
            wanted *= 4
        return self._exact_top(h, added, rows, k, barred)

    def _sum_up(
        self, product: Float[Tensor, "S r V1"], added: Added | None, rows: slice
    ) -> tuple[Float32[Tensor, "S r 1"], Float32[Tensor, "r V1"], Float32[Tensor, " r"]]:
        """Of a rough product: the logarithm of each draw's sum over the catalogue, and about the mean of the softmaxes.

        On a CPU a large catalogue is gone through once, in stretches that fit the cache, so its sums are guessed
        beforehand from a sample; the mean is by the guess, and no more than what comes last, a factor, times too small.
        """
        draws, count, size = product.shape
        if size < SAMPLED_FROM or product.device.type != "cpu":
            scores = self._complete(product.float(), added, rows)
            log_sums = scores.logsumexp(-1, keepdim=True)
            return log_sums, scores.sub_(log_sums).exp_().mean(0), scores.new_ones(count)
        guess = product[..., 1::SAMPLED].float().logsumexp(-1, keepdim=True) + math.log(SAMPLED)
        sums = torch.zeros_like(guess)
        mean = guess.new_empty((count, size))
        step = max(1, STRETCH // (draws * count))
        for start in range(0, size, step):
            scores = self._complete(product[..., start : start + step].float(), added, rows, start)
            odds = scores.sub_(guess).exp_()
            sums += odds.sum(-1, keepdim=True)
            mean[:, start : start + step] = odds.mean(0)
        return guess + sums.log(), mean, 1 / sums.amin((0, 2))

    def _exact_top(self, h: Float[Tensor, "S r D"], added: Added | None, rows: slice, k: int, barred: Barred) -> Top:
        mean = self._mean(h, added, rows)[:, 1:]
        barred.put_into(mean)
        return best(mean, k)

    def product(self, h: Float[Tensor, "n D"]) -> Float[Tensor, "n V1"]:
        """What the rows of ``h`` score with all items, and with the padding's row, but for what is added."""
        if torch.is_grad_enabled() or h.dtype != torch.float32:
            scores = (self.weight @ h.t()).t()
        else:
            scores = self._exact.product(h)
            if self._exact.is_copy:
                return scores
        return scores if self.inverse_lengths is None else scores * self.inverse_lengths

    def vectors(self, items: Int64[Tensor, "*n"] | slice) -> Float[Tensor, "*n D"]:
        """What these items are scored by, the bias aside."""
        weight = self.weight[items]
        return weight if self.inverse_lengths is None else weight * self.inverse_lengths[items][..., None]

    @cached_property
    def sample(self) -> tuple[Int64[Tensor, " n"], "Catalogue"]:
        """Up to `SAMPLE` items, evenly spaced, and what they are scored by."""
        count = len(self.weight) - 1
        items = 1 + torch.arange(min(SAMPLE, count), device=self.weight.device) * count // min(SAMPLE, count)
        return items, Catalogue(self.vectors(items), None if self.bias is None else self.bias[items], rough=False)

    @cached_property
    def _exact(self) -> PackedWeight:
        """The vectors, laid out; where that would be too large a copy, the weights as they are."""
        return PackedWeight(self.vectors(slice(None)) if is_laid_out(self.weight) else self.weight)

    @cached_property
    def _rough(self) -> PackedWeight:
        rounded = torch.empty_like(self.weight, dtype=torch.bfloat16)
        step = max(1, SCORES_AT_ONCE // self.weight.shape[1])
        for start in range(0, len(rounded), step):  # in float32 the vectors are never there all at once
            part = slice(start, start + step)
            rounded[part] = self.vectors(part)
        return PackedWeight(rounded)

    def _stretches(self, num_draws: int, count: int) -> list[slice]:
        at_once = max(1, SCORES_AT_ONCE // (num_draws * len(self.weight)))
        return [slice(start, min(start + at_once, count)) for start in range(0, count, at_once)]

    def _complete(
        self, product: Float32[Tensor, "S r n"], added: Added | None, rows: slice, start: int = 0
    ) -> Float32[Tensor, "S r n"]:
        """Add to a product with the items ``start``, ``start + 1``, ..., in place, what else belongs to their scores.

        rows: which targets' it is.
        """
        stop = start + product.shape[-1]
        if self.bias is not None:
            product += self.bias[start:stop]
        if added is not None:
            of_these = (added.rows >= rows.start) & (added.rows < rows.stop)
            here = torch.nonzero(of_these & (added.items >= start) & (added.items < stop)).squeeze(1)
            draw = torch.arange(len(product), device=here.device)[:, None]
            places = (draw, (added.rows[here] - rows.start)[None], (added.items[here] - start)[None])
            product.index_put_(places, added.values[here][None], accumulate=True)
        if start == 0:
            product[..., 0] = float("-inf")
        return product

    def complete_at(
        self, items: Int64[Tensor, "r c"], product: Float32[Tensor, "S r c"], added: Added | None, rows: slice
    ) -> Float32[Tensor, "S r c"]:
        """Add to the products of a few items of each target, in rising order, what else belongs to their scores.

        rows: which targets' they are. Of equal items the first is completed.
        """
        if self.bias is not None:
            product = product + self.bias[items]
        if added is None:
            return product
        here = torch.nonzero((added.rows >= rows.start) & (added.rows < rows.stop)).squeeze(1)
        size = len(self.weight)
        keys = keys_of(items, size)
        wanted = (added.rows[here] - rows.start) * size + added.items[here]
        at = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        values = torch.where(keys[at] == wanted, added.values[here], 0)
        return product.flatten(1).index_add(1, at, values.expand(len(product), -1)).view(product.shape)


def keys_of(items: Int64[Tensor, "r c"], size: int) -> Int64[Tensor, " rc"]:
    """A number for each (target, item) of a catalogue of that size, rising where the items of a target do."""
    return (torch.arange(len(items), device=items.device)[:, None] * size + items).flatten()
