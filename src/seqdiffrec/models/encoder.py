"""The Transformer encoder over ragged tokens (Eq. 16), written once for all models.

Linear layers and norms see real tokens only. In the last layer only the places that are read go through the query,
the output projection and the feed-forward part.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Self, cast

import torch
from jaxtyping import Float, Int64
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from seqdiffrec.models.attention import RaggedAttention, dropout
from seqdiffrec.models.base import ModelConfig
from seqdiffrec.models.frequency import FrequencyFilter
from seqdiffrec.models.packed import Activation, PackedLinear

# Rows of a linear layer's input are made up to whole multiples of this.
ROWS = 32
# So many places of several draws go through the layers at once, or those of one draw: more would leave the cache.
DRAWN_AT_ONCE = 2**12


@dataclass(frozen=True)
class Memory:
    """What a layer keeps of places that are attended to: what went in, (m, D), and its keys and values, (m, H, d).

    Keys and values may have further rows, which nobody attends to.
    """

    x: Tensor
    key: Tensor
    value: Tensor

    def __getitem__(self, places: slice | Tensor) -> "Memory":
        return Memory(self.x[places], self.key[places], self.value[places])


class EncoderConfig(ModelConfig):
    """Size and shape of the encoder; the defaults are the paper's (Section 5.1.4) and BERT4Rec's where it is silent.

    attention_dropout: of the attention weights; as ``dropout`` where it is not set.
    attention_output_dropout: of what attention gives; as ``dropout`` where it is not set.
    inner_dropout: between the two layers of the feed-forward part.
    weight_std: standard deviation of the initial weights of its linear layers.
    filter_share: each layer's attention gives up this share of its output to a frequency filter over the newest
        ``filter_width`` places (`FrequencyFilter`; not in the paper); needs causal attention.
    linear_bias: each head lowers its attention scores in proportion to how far back a place is, by a factor that it
        learns (ALiBi, Press et al. 2022, where it is fixed; not in the paper); needs causal attention.
    """

    hidden_size: Annotated[int, Field(ge=2, le=8192, multiple_of=2)] = 256
    num_layers: Annotated[int, Field(ge=1, le=64)] = 2
    num_heads: Annotated[int, Field(ge=1, le=64)] = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    attention_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    attention_output_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    inner_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    feed_forward_factor: Annotated[int, Field(ge=1, le=64)] = 4
    activation: Activation = "gelu"
    norm_first: bool = False
    input_norm: bool = True
    input_dropout: bool = True
    position_embedding: bool = True
    weight_std: Annotated[float, Field(gt=0, le=10)] = 0.02
    filter_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    filter_width: Annotated[int, Field(ge=2, le=1000)] = 5
    linear_bias: bool = False

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size, {self.hidden_size}, must be a multiple of num_heads, {self.num_heads}")
        return self


class Encoder(nn.Module):
    """Input norm and dropout, then ``num_layers`` Transformer layers; forward passes take flat tokens (n, D)."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.input_norm = nn.LayerNorm(config.hidden_size) if config.input_norm else nn.Identity()
        self.input_dropout = config.dropout if config.input_dropout else 0.0
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_layers))
        # Post-norm layers end in a norm already.
        self.output_norm = nn.LayerNorm(config.hidden_size) if config.norm_first else nn.Identity()

    def bidirectional(
        self,
        x: Float[Tensor, "n D"],
        rows: Int64[Tensor, " n"],
        offsets: Int64[Tensor, " B1"],
        read: Int64[Tensor, " R"],
    ) -> Float[Tensor, "R D"]:
        """Every place sees all places of its sequence; returns the places ``read``."""
        lengths = offsets.diff()
        x = self._enter(x)
        attention = RaggedAttention(rows, lengths[rows], offsets)
        for layer in self._layers()[:-1]:
            x = layer(x, layer.remember(x), attention)
        last = self._layers()[-1]
        attention = RaggedAttention(rows[read], lengths[rows[read]], offsets)
        x = last(x[read], last.remember(x), attention)
        return self.output_norm(x)

    def bidirectional_draws(
        self,
        history: Float[Tensor, "m D"],
        drawn: Float[Tensor, "S R D"],
        rows: Int64[Tensor, " m"],
        offsets: Int64[Tensor, " R1"],
    ) -> Float[Tensor, "S R D"]:
        """As `bidirectional`, of S draws of each sequence's last place, which is the one read; ``history`` is the rest.

        Not for training. What the history brings to the first layer is the same for all draws, and computed once.
        """
        first = self._layers()[0]
        assert first.filter is None and first.log_slopes is None, "these are causal"
        memory = first.remember(self._enter(history))
        query = first.ask(memory.x)
        at_once = max(1, DRAWN_AT_ONCE // (len(history) + drawn.shape[1]))
        parts = cast(tuple[Tensor, ...], self._enter(drawn).split(at_once))
        return self.output_norm(torch.cat([self._some_draws(part, query, memory, rows, offsets) for part in parts]))

    def _some_draws(
        self,
        drawn: Float[Tensor, "s R D"],
        query: Float[Tensor, "m H d"],
        memory: Memory,
        rows: Int64[Tensor, " m"],
        offsets: Int64[Tensor, " R1"],
    ) -> Float[Tensor, "s R D"]:
        """Of so many draws, given the history's queries, and what else it brings to the first layer."""
        (first, *others), (draws, count, _) = self._layers(), drawn.shape
        x, lengths, number = drawn.flatten(0, 1), offsets.diff(), torch.arange(draws * count, device=rows.device)
        if not others:
            attention = RaggedAttention(number % count, lengths[number % count], offsets)
            return first(x, memory, attention, own=first.remember(x)).view(drawn.shape)
        # All places, the history's first, with the number of the drawn place that they see and are seen by.
        whose = torch.cat([number.view(draws, count)[:, rows].flatten(), number])
        x, query = torch.cat([memory.x.repeat(draws, 1), x]), torch.cat([query.repeat(draws, 1, 1), first.ask(x)])
        attention = RaggedAttention(whose % count, lengths[whose % count], offsets)
        x = first.answer(x, query, memory, attention, first.remember(x[-len(number) :])[whose])
        # From here on each draw has a history of its own.
        lengths = lengths.repeat(draws)
        offsets = F.pad(lengths.cumsum(0), (1, 0))
        attention = RaggedAttention(whose, lengths[whose], offsets)
        for layer in others[:-1]:
            history, drawn_places = x[: -len(number)], x[-len(number) :]
            x = layer(x, layer.remember(history), attention, own=layer.remember(drawn_places)[whose])
        history, drawn_places = x[: -len(number)], x[-len(number) :]
        own, attention = others[-1].remember(drawn_places), RaggedAttention(number, lengths, offsets)
        return others[-1](drawn_places, others[-1].remember(history), attention, own=own).view(drawn.shape)

    def causal(
        self,
        x: Float[Tensor, "n D"],
        rows: Int64[Tensor, " n"],
        places: Int64[Tensor, " n"],
        offsets: Int64[Tensor, " B1"],
        read: Int64[Tensor, " R"],
    ) -> tuple[Float[Tensor, "R D"], list[Memory]]:
        """Every place sees those of the history before it, and itself; returns the places ``read``.

        The first ``offsets[-1]`` places are the history. Those after them, noised targets for instance, are seen by
        nobody else. What later targets attend to comes back too: a memory of the history for each layer.
        """
        x, length = self._enter(x), int(offsets[-1])
        attention = RaggedAttention(rows, places, offsets)
        history: list[Memory] = []
        for number, layer in enumerate(self._layers(), start=1):
            own = layer.remember(x)
            history.append(own[:length])
            # Whole keys and values: slices would each have a gradient as long as the whole.
            memory = replace(own, x=own.x[:length])
            if number == len(self.layers) and not _is_all(read, len(x)):
                x, own, attention = x[read], own[read], RaggedAttention(rows[read], places[read], offsets)
            x = layer(x, memory, attention, own=own)
        return self.output_norm(x), history

    def attend_to_history(
        self, x: Float[Tensor, "R D"], history: list[Memory], attention: RaggedAttention
    ) -> Float[Tensor, "R D"]:
        """Target places, each of which sees the history that ``attention`` gives it, and itself."""
        x = self._enter(x)
        for layer, memory in zip(self._layers(), history, strict=True):
            x = layer(x, memory, attention, own=layer.remember(x))
        return self.output_norm(x)

    def _layers(self) -> list["EncoderLayer"]:
        return cast(list[EncoderLayer], list(self.layers))

    def _enter(self, x: Tensor) -> Tensor:
        return dropout(self.input_norm(x), self.input_dropout if self.training else 0.0)


class EncoderLayer(nn.Module):
    """Multi-head attention and a feed-forward part, each with dropout, a residual and a norm before or after it."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        size, wide = config.hidden_size, config.hidden_size * config.feed_forward_factor
        self.num_heads, self.rate, self.norm_first = config.num_heads, config.dropout, config.norm_first
        self.attention_rate = config.dropout if config.attention_dropout is None else config.attention_dropout
        of_output = config.attention_output_dropout
        self.output_rate, self.inner_rate = config.dropout if of_output is None else of_output, config.inner_dropout
        self.query = PackedLinear(size, size)
        self.key_value = PackedLinear(size, 2 * size)
        self.output = PackedLinear(size, size)
        self.attention_norm = nn.LayerNorm(size)
        self.wide, self.narrow = PackedLinear(size, wide), PackedLinear(wide, size)
        self.feed_forward_norm = nn.LayerNorm(size)
        self.activation: Activation = config.activation
        # ALiBi's slopes: 2^(-8 h / H) of head h = 1..H, learned as logarithms, so that they stay positive.
        exponents = -8 * torch.arange(1, config.num_heads + 1) / config.num_heads
        self.log_slopes = nn.Parameter(exponents * math.log(2)) if config.linear_bias else None
        self.filter_share = config.filter_share
        self.filter = FrequencyFilter(size, config.filter_width) if config.filter_share else None

    def remember(self, x: Float[Tensor, "m D"]) -> Memory:
        """Take in places that are to be attended to."""
        key_value = cast(Tensor, whole(self.key_value, self._enter(x)).unflatten(-1, (2, self.num_heads, -1)))
        key, value = key_value.unbind(1)
        return Memory(x, key, value)

    def forward(
        self, x: Float[Tensor, "n D"], memory: Memory, attention: RaggedAttention, own: Memory | None = None
    ) -> Float[Tensor, "n D"]:
        """Pass the querying places ``x`` through the layer; with ``own``, each sees one more place besides the memory:
        itself, or what was drawn for it."""
        return self.answer(x, self.ask(x), memory, attention, own)

    def ask(self, x: Float[Tensor, "n D"]) -> Float[Tensor, "n H d"]:
        """The queries of places."""
        return cast(Tensor, whole(self.query, self._enter(x)).unflatten(-1, (self.num_heads, -1)))

    def answer(
        self,
        x: Float[Tensor, "n D"],
        query: Float[Tensor, "n H d"],
        memory: Memory,
        attention: RaggedAttention,
        own: Memory | None,
    ) -> Float[Tensor, "n D"]:
        """As `forward`, given the queries."""
        itself = None if own is None else (own.key, own.value)
        slopes = None if self.log_slopes is None else self.log_slopes.exp()
        attended = attention(query, memory.key, memory.value, itself, self._now(self.attention_rate), slopes)
        mixed = whole(self.output, attended.flatten(1))
        if self.filter is not None:
            assert own is not None, "the filter is causal"
            filtered = self.filter(
                self._enter(x), self._enter(memory.x), attention.rows, attention.places, attention.offsets
            )
            mixed = torch.lerp(mixed, filtered.to(mixed.dtype), self.filter_share)
        x = x + dropout(mixed, self._now(self.output_rate))
        x = x if self.norm_first else self.attention_norm(x)
        wide = whole(self._feed_forward, self.feed_forward_norm(x) if self.norm_first else x)
        x = x + dropout(wide, self._now(self.rate))
        return x if self.norm_first else self.feed_forward_norm(x)

    def _enter(self, x: Tensor) -> Tensor:
        return self.attention_norm(x) if self.norm_first else x

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.narrow(dropout(self.wide(x, self.activation), self._now(self.inner_rate)))

    def _now(self, rate: float) -> float:
        return rate if self.training else 0.0


def _is_all(read: Int64[Tensor, " R"], count: int) -> bool:
    """Whether these are all places, in order."""
    return len(read) == count and bool((read == torch.arange(count, device=read.device)).all())


def whole(function: Callable[[Tensor], Tensor], x: Float[Tensor, "n D"]) -> Tensor:
    """A function of single rows; under autocast it gets a whole multiple of `ROWS`: zeros at the end, cut off again.

    No two batches have as many tokens, and in bfloat16 the matrix library compiles a kernel for each number that it
    has not met.
    """
    if not torch.is_autocast_enabled(x.device.type):
        return function(x)
    return function(F.pad(x, (0, 0, 0, -len(x) % ROWS)))[: len(x)]


def initialize(module: nn.Module, weight_std: float, embedding_std: float) -> None:
    """Normal weights of the given standard deviations, zero biases, unit norms, as BERT4Rec; drawn in module order.

    Embeddings, and what scores items, have `embedding_std`; all other linear layers `weight_std`.
    """
    for name, part in cast(Iterable[tuple[str, nn.Module]], module.named_modules()):
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=embedding_std if name == "table.output" else weight_std)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=embedding_std)
            if part.padding_idx is not None:
                with torch.no_grad():
                    part.weight[part.padding_idx] = 0
