"""Attention and dropout over ragged tokens."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

# Chunks are made up to whole multiples of this many sequences, queries and keys: a matrix library compiles a kernel for
# every new shape, and without this each batch brings some.
STEP = 8
# So few pairs of a query and a key are computed faster, all of them, than they are sorted by length. Not in training,
# whose operations are counted.
AT_A_STROKE = 2**16
# In place of a row, where none stands.
PAD = -1


@dataclass(frozen=True)
class _Padding:
    """Where n rows stand among P padded ones: each at one place, or, where its sequence is not asked, at none.

    source: the row at each padded place; any row where there is none.
    place: where each row stands; any place for those that are `left`.
    left: the rows that stand nowhere.
    """

    source: Int64[Tensor, " P"]
    place: Int64[Tensor, " n"]
    left: Int64[Tensor, " l"]

    @classmethod
    def of(cls, index: Int64[Tensor, " P"], count: int) -> "_Padding":
        """By the row at each padded place, `PAD` for none, of so many rows."""
        real = torch.nonzero(index != PAD).squeeze(1)
        place = index.new_full((count,), PAD)
        place[index[real]] = real
        left = torch.nonzero(place == PAD).squeeze(1)
        return cls(index.clamp(min=0), place.clamp(min=0), left)


@dataclass(frozen=True)
class _Chunk:
    """b sequences of like length, padded to Q queries and K keys each."""

    num_queries: int  # of all b, b Q
    num_keys: int  # b K
    distance: Tensor  # int64 (b, 1, Q, K): how many places a key stands before its query
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
        self.rows, self.places, self.offsets = rows, places, offsets
        self.chunks: list[_Chunk] = []
        self.queries: _Padding | None = None
        self.keys: _Padding | None = None
        lengths, self.num_keys = offsets.diff(), int(offsets[-1])
        is_small = not torch.is_grad_enabled() and len(places) * self.num_keys <= AT_A_STROKE
        if len(offsets) == 2 or is_small:  # all queries against all keys, without padding
            key_rows = torch.repeat_interleave(lengths, output_size=self.num_keys)
            slots = torch.arange(self.num_keys, device=places.device) - offsets[key_rows]
            distance = places[:, None] - slots
            hidden = (distance <= 0) | (rows[:, None] != key_rows)
            self.chunks = [_Chunk(len(places), self.num_keys, distance[None, None], hidden[None, None])]
            return
        queries = torch.bincount(rows, minlength=len(lengths))
        by_row = torch.argsort(rows, stable=True)
        first_query = queries.cumsum(0) - queries
        size = torch.frexp(torch.maximum(lengths, queries).clamp(min=8).double() - 0.5).exponent
        query_index: list[Tensor] = []
        key_index: list[Tensor] = []
        for exponent in cast(list[int], size[queries > 0].unique().tolist()):
            members, real = _whole(torch.nonzero((size == exponent) & (queries > 0)).squeeze(1))
            slot, is_query = _padded(queries[members], real)
            query = by_row[first_query[members, None] + slot * is_query]  # (b, Q)
            key_slot, is_key = _padded(lengths[members], real)
            key = offsets[members, None] + key_slot  # (b, K)
            distance = (places[query][:, :, None] - key_slot[:, None, :])[:, None]
            self.chunks.append(_Chunk(query.numel(), key.numel(), distance, distance <= 0))
            query_index.append(torch.where(is_query, query, PAD).flatten())
            key_index.append(torch.where(is_key, key, PAD).flatten())
        self.queries = _Padding.of(torch.cat(query_index), len(rows))
        self.keys = _Padding.of(torch.cat(key_index), self.num_keys)

    def __call__(
        self,
        query: Float[Tensor, "n H d"],
        key: Float[Tensor, "m H d"],
        value: Float[Tensor, "m H d"],
        own: tuple[Float[Tensor, "n H d"], Float[Tensor, "n H d"]] | None,
        dropout_rate: float,
        slopes: Float[Tensor, " H"] | None = None,
    ) -> Float[Tensor, "n H d"]:
        """Attend; ``own`` is one more key and value of each query, its own place's as a rule.

        Keys and values may have more rows than there are places to see; nobody sees those at the end.
        slopes: what each head takes off a key's score for each place that it stands before its query.
        """
        query = query * query.shape[-1] ** -0.5
        own_score = None if own is None else (query * own[0]).sum(-1)
        weights = self.weigh(query, key, own_score, dropout_rate, slopes)
        return self.mix(weights, value, None if own is None else own[1])

    def weigh(
        self,
        query: Float[Tensor, "n H d"],
        key: Float[Tensor, "m H d"],
        own_score: Float[Tensor, "n H"] | None,
        dropout_rate: float,
        slopes: Float[Tensor, " H"] | None = None,
    ) -> list[Tensor]:
        """Each chunk's weights, (b, H, Q, K): a softmax over inner products, which are not scaled.

        Where there is an ``own_score``, of each query with its own place, its weight stands first.
        """
        queries, keys = self._of_queries(query), self._of_keys(key)
        own_scores = None if own_score is None else self._of_queries(own_score[..., None])
        weights: list[Tensor] = []
        for number, chunk in enumerate(self.chunks):
            b, _, num_queries, num_keys = chunk.hidden.shape
            # (b, H, Q, d) @ (b, H, d, K) -> (b, H, Q, K)
            scores = _split(queries[number], b, num_queries) @ _split(keys[number], b, num_keys).mT
            if slopes is not None:
                scores = scores - slopes.to(scores.dtype)[:, None, None] * chunk.distance
            scores = scores.masked_fill(chunk.hidden, float("-inf"))
            if own_scores is not None:
                scores = torch.cat([_split(own_scores[number], b, num_queries), scores], dim=-1)
            weights.append(dropout(scores.softmax(-1), dropout_rate))
        return weights

    def mix(
        self,
        weights: list[Tensor],
        value: Float[Tensor, "m H d"],
        own_value: Float[Tensor, "n H d"] | None,
    ) -> Float[Tensor, "n H d"]:
        """The sums of the values under weights as `weigh` gives them, own places first where they have a value."""
        outputs: list[Tensor] = []
        own_weights: list[Tensor] = []
        for chunk, each, values in zip(self.chunks, weights, self._of_keys(value), strict=True):
            b, _, _, num_keys = chunk.hidden.shape
            if own_value is not None:
                own, each = cast(tuple[Tensor, Tensor], each.split([1, num_keys], -1))
                own_weights.append(own.transpose(1, 2).flatten(0, 1))
            outputs.append((each @ _split(values, b, num_keys)).transpose(1, 2).flatten(0, 1))
        attended = _unpad(torch.cat(outputs), self.queries)
        if own_value is None:
            return attended
        return attended + _unpad(torch.cat(own_weights), self.queries) * own_value

    # Split, not sliced one by one: each slice has a gradient as long as the whole.
    def _of_queries(self, x: Float[Tensor, "n H d"]) -> list[Tensor]:
        """Each chunk's part of what queries have, padded."""
        x = x if self.queries is None else cast(Tensor, _Pad.apply(x, self.queries))
        return list(cast(tuple[Tensor, ...], x.split([chunk.num_queries for chunk in self.chunks])))

    def _of_keys(self, x: Float[Tensor, "m H d"]) -> list[Tensor]:
        """Each chunk's part of what keys have, padded."""
        x = x[: self.num_keys] if self.keys is None else cast(Tensor, _Pad.apply(x, self.keys))
        return list(cast(tuple[Tensor, ...], x.split([chunk.num_keys for chunk in self.chunks])))


class _Pad(torch.autograd.Function):
    """The first n rows to padded rows.

    What stands where there is no row is never seen, or cut off again: its gradient is zero.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, padding: _Padding) -> Tensor:
        ctx.padding, ctx.shape = padding, rows.shape
        return rows.index_select(0, padding.source)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        padding, rows = cast(_Padding, ctx.padding), gradients[0].new_empty(ctx.shape)
        known = rows[: len(padding.place)]
        torch.index_select(gradients[0], 0, padding.place, out=known)
        known.index_fill_(0, padding.left, 0)
        rows[len(known) :] = 0
        return rows, None


class _Unpad(torch.autograd.Function):
    """The way back from `_Pad`, where no row is left: padded rows to rows."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, padding: _Padding) -> Tensor:
        ctx.padding, ctx.shape = padding, padded.shape
        return padded.index_select(0, padding.place)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        padded = gradients[0].new_zeros(ctx.shape)
        return padded.index_copy_(0, cast(_Padding, ctx.padding).place, gradients[0]), None


def _unpad(padded: Tensor, padding: _Padding | None) -> Tensor:
    return padded if padding is None else cast(Tensor, _Unpad.apply(padded, padding))


def _split(padded: Float[Tensor, "P H d"], count: int, length: int) -> Float[Tensor, "b H L d"]:
    return padded.view(count, length, *padded.shape[1:]).transpose(1, 2)


def _whole(members: Int64[Tensor, " b"]) -> tuple[Int64[Tensor, " b8"], Tensor]:
    """Members made up to a multiple of `STEP` with copies of the first, and which of them are real, (b8, 1)."""
    count = len(members)
    members = torch.cat([members, members[:1].expand(-count % STEP)])
    return members, (torch.arange(len(members), device=members.device) < count)[:, None]


def _padded(lengths: Int64[Tensor, " b"], real: Tensor) -> tuple[Int64[Tensor, "b L"], Tensor]:
    """Slots 0..L-1 of each row, and which of them are real; L is 1, or a multiple of `STEP` that holds the longest."""
    longest = int(lengths.max())
    size = longest if longest == 1 else -(-longest // STEP) * STEP
    slot = torch.arange(size, device=lengths.device).expand(len(lengths), -1)
    return slot, (slot < lengths[:, None]) & real


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
    threshold = min(round(rate * 2**16), 2**16 - 1) - 2**15
    keep = draws.view(torch.int16)[: x.numel()].view(x.shape) >= threshold
    return x * keep.to(x.dtype).mul_(2**16 / (2**15 - threshold))
