"""Attention and dropout over ragged tokens."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class _Chunk:
    """Sequences of similar length, padded to their longest: b sequences, up to Q queries and K keys each."""

    query_index: Int64[Tensor, "b Q"]
    key_index: Int64[Tensor, "b K"]
    hidden: Tensor  # bool (b, 1, Q, K): keys that a query must not see


class RaggedAttention:
    """Softmax attention in which every query sees the first so many keys of one sequence, and possibly itself.

    Keys lie end to end, those of sequence b at ``offsets[b]:offsets[b + 1]``. Query i belongs to sequence ``rows[i]``
    and sees its first ``places[i]`` keys. One rule covers all uses: with ``places`` = number of items before a place
    and the place itself as its own key, attention is causal; with ``places`` = length it is bidirectional.

    Sequences are padded only here, and only against those of like length: up to 8 keys or queries, 9-16, 17-32, ... go
    together.
    """

    def __init__(self, rows: Int64[Tensor, " n"], places: Int64[Tensor, " n"], offsets: Int64[Tensor, " B_plus_1"]):
        lengths = offsets.diff()
        queries = torch.bincount(rows, minlength=len(lengths))
        by_row = torch.argsort(rows, stable=True)
        first_query = queries.cumsum(0) - queries
        size = torch.frexp(torch.maximum(lengths, queries).clamp(min=8).double() - 0.5).exponent
        self.chunks: list[_Chunk] = []
        position = torch.empty_like(rows)  # of each query among the padded queries of all chunks
        taken = 0
        for exponent in size[queries > 0].unique().tolist():
            members = torch.nonzero((size == exponent) & (queries > 0)).squeeze(1)
            slot, is_query = _padded(queries[members])
            query_index = by_row[first_query[members, None] + slot * is_query]
            key_slot, is_key = _padded(lengths[members])
            key_index = offsets[members, None] + key_slot * is_key
            hidden = key_slot[:, None, :] >= places[query_index][:, :, None]
            position[query_index[is_query]] = taken + torch.nonzero(is_query.flatten()).squeeze(1)
            taken += is_query.numel()
            self.chunks.append(_Chunk(query_index, key_index.clamp(max=int(offsets[-1]) - 1), hidden[:, None]))
        self.position = position

    def __call__(
        self,
        query: Float[Tensor, "n H d"],
        key: Float[Tensor, "m H d"],
        value: Float[Tensor, "m H d"],
        own: tuple[Float[Tensor, "n H d"], Float[Tensor, "n H d"]] | None,
        dropout_rate: float,
    ) -> Float[Tensor, "n H d"]:
        """Attend; ``own`` is the key and value of the query's own place, seen by that query alone."""
        query = query * query.shape[-1] ** -0.5
        own_score = None if own is None else (query * own[0]).sum(-1, keepdim=True)  # (n, H, 1)
        outputs: list[Tensor] = []
        own_weights: list[Tensor] = []
        for chunk in self.chunks:
            # (b, H, Q, d) @ (b, H, d, K) -> (b, H, Q, K)
            scores = query[chunk.query_index].transpose(1, 2) @ key[chunk.key_index].permute(0, 2, 3, 1)
            scores = scores.masked_fill(chunk.hidden, float("-inf"))
            if own_score is not None:
                scores = torch.cat([own_score[chunk.query_index].transpose(1, 2), scores], dim=-1)
            weights = dropout(scores.softmax(-1), dropout_rate)
            if own_score is not None:
                own_weights.append(weights[..., :1].transpose(1, 2).flatten(0, 1))
                weights = weights[..., 1:]
            attended = weights @ value[chunk.key_index].transpose(1, 2)
            outputs.append(attended.transpose(1, 2).flatten(0, 1))
        attended = torch.cat(outputs)[self.position]
        return attended if own is None else attended + torch.cat(own_weights)[self.position] * own[1]


def _padded(lengths: Int64[Tensor, " b"]) -> tuple[Int64[Tensor, "b L"], Tensor]:
    """Slots 0..L-1 of each row, and which of them are real; L is the largest length."""
    slot = torch.arange(int(lengths.max()), device=lengths.device).expand(len(lengths), -1)
    return slot, slot < lengths[:, None]


def dropout(x: Tensor, rate: float) -> Tensor:
    """Zero each value with probability ``rate`` and scale the rest; 0 does nothing.

    On a CPU one 64-bit random number serves four values (the rate is then exact to 1/65536), which is four times as
    fast as torch's own and takes its draws from the same global generator.
    """
    if rate == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, rate)
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    threshold = round(rate * 2**16) - 2**15
    keep = draws.view(torch.int16)[: x.numel()].view(x.shape) >= threshold
    return x * keep.to(x.dtype).mul_(2**16 / (2**15 - threshold))
