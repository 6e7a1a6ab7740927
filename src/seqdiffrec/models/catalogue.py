"""All items as a model scores them at inference: probabilities of all, or the best few."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from seqdiffrec.losses import Added
from seqdiffrec.models.packed import PackedWeight
from seqdiffrec.models.top import BARRED, Barred, Top, best

# Scores computed together, 4 MiB: more would not fit the cache, fewer would not fill a matrix product.
SCORES_AT_ONCE = 2**20
# Candidates looked at again in float32 for k items wanted.
CANDIDATES_EACH, CANDIDATES_MORE = 4, 64
# With more candidates than this share of the catalogue, scoring all of it in float32 is faster.
ROUGH_SHARE = 1 / 16
# How much further than any candidate's another item's rough score may be off.
CAUTION = 2.0


@dataclass(frozen=True, eq=False)
class Catalogue:
    """What items are scored by: ``weight h + bias``. Row 0 is padding and no candidate.

    rough: whether to look for the best items in bfloat16 first.
    """

    weight: Float[Tensor, "V1 D"]
    bias: Float[Tensor, " V1"] | None
    rough: bool

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
        stays in the sum over the catalogue, where it cancels but for a thousandth or so: items closer than that in
        probability may change places.
        """
        num_draws, count, _ = draws.shape
        k = min(k, len(self.weight) - 1)
        found = [
            self._top(draws[:, rows], added, rows, k, barred.on(rows)) for rows in self._stretches(num_draws, count)
        ]
        return Top(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def _mean(self, h: Float[Tensor, "S r D"], added: Added | None, rows: slice) -> Float32[Tensor, "r V1"]:
        scores = self._scores(h.flatten(0, 1)).float().view(*h.shape[:2], -1)
        return self._complete(scores, added, rows).softmax(-1).mean(0)

    def _top(self, h: Float[Tensor, "S r D"], added: Added | None, rows: slice, k: int, barred: Barred) -> Top:
        wanted = CANDIDATES_EACH * k + CANDIDATES_MORE
        if not self.rough or wanted > ROUGH_SHARE * len(self.weight):
            return self._exact_top(h, added, rows, k, barred)
        product = (h.flatten(0, 1).bfloat16() @ self._rough_weight.t()).view(*h.shape[:2], -1)
        each = self._complete(product.float(), added, rows).softmax(-1)  # (S, r, V + 1)
        mean = each.mean(0)
        # What the largest terms of each sum over the catalogue gain by the second look, barred or not.
        largest = mean.topk(wanted).indices
        looked, _ = self._again(largest, h, product, each)
        total = 1 + (looked - each.gather(2, largest.expand(len(h), -1, -1))).sum(-1, keepdim=True)
        barred.put_into(mean[:, 1:])
        mean[:, 0] = BARRED
        while wanted <= ROUGH_SHARE * len(self.weight):
            rough = mean.topk(wanted)
            columns = rough.indices.sort().values  # (r, c), so that ties go to the smaller
            looked, error = self._again(columns, h, product, each)
            probabilities = (looked / total).mean(0).masked_fill(mean.gather(1, columns) == BARRED, BARRED)
            top = best(probabilities, k)
            outside = rough.values[:, -1] * (CAUTION * error).exp()
            if bool((outside < top.probabilities[:, -1]).all()):
                return Top(top.probabilities, columns.gather(1, top.columns) - 1)
            wanted *= 4
        return self._exact_top(h, added, rows, k, barred)

    def _exact_top(self, h: Float[Tensor, "S r D"], added: Added | None, rows: slice, k: int, barred: Barred) -> Top:
        mean = self._mean(h, added, rows)[:, 1:]
        barred.put_into(mean)
        return best(mean, k)

    def _again(self, columns: Tensor, h: Tensor, product: Tensor, each: Tensor) -> tuple[Tensor, Tensor]:
        """In float32, each draw's terms of the items ``columns`` (r, c), relative to the rough sums: (S, r, c).

        And the largest error of their rough scores.
        """
        at = columns.expand(len(h), -1, -1)
        error = torch.einsum("rcd,srd->src", self.weight[columns], h) - product.gather(2, at).float()
        return each.gather(2, at) * error.exp(), error.abs().amax()

    def _scores(self, h: Float[Tensor, "n D"]) -> Float[Tensor, "n V1"]:
        """``h W^T``."""
        if torch.is_grad_enabled() or h.dtype != torch.float32 or self._packed is None:
            return (self.weight @ h.t()).t()  # nearly twice as fast this way round
        return self._packed.product(h)

    @cached_property
    def _packed(self) -> PackedWeight | None:
        return PackedWeight(self.weight) if PackedWeight.pays(self.weight) else None

    @cached_property
    def _rough_weight(self) -> Tensor:
        return self.weight.bfloat16()

    def _stretches(self, num_draws: int, count: int) -> list[slice]:
        at_once = max(1, SCORES_AT_ONCE // (num_draws * len(self.weight)))
        return [slice(start, min(start + at_once, count)) for start in range(0, count, at_once)]

    def _complete(self, product: Float32[Tensor, "S r V1"], added: Added | None, rows: slice) -> Tensor:
        """Add to a product, in place, what else belongs to the scores of the targets ``rows``."""
        if self.bias is not None:
            product += self.bias
        if added is not None:
            here = torch.nonzero((added.rows >= rows.start) & (added.rows < rows.stop)).squeeze(1)
            draw = torch.arange(len(product), device=here.device)[:, None]
            places = (draw, (added.rows[here] - rows.start)[None], added.items[here][None])
            product.index_put_(places, added.values[here][None], accumulate=True)
        product[..., 0] = float("-inf")
        return product
