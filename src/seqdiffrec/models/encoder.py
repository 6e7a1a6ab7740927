"""The Transformer encoder over ragged tokens (Eq. 16), written once for all models.

Linear layers and norms see real tokens only. In the last layer only the places that are read go through the query,
the output projection and the feed-forward part.
"""

from collections.abc import Iterable
from typing import Annotated, Literal, Self, cast

import torch
from jaxtyping import Float, Int64
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from seqdiffrec.models.attention import RaggedAttention, dropout
from seqdiffrec.models.base import ModelConfig

KeysValues = tuple[Float[Tensor, "m H d"], Float[Tensor, "m H d"]]


class EncoderConfig(ModelConfig):
    """Size and shape of the encoder; the defaults are the paper's (Section 5.1.4) and BERT4Rec's where it is silent.

    weight_std: standard deviation of the initial weights of its linear layers.
    """

    hidden_size: Annotated[int, Field(ge=2, le=8192, multiple_of=2)] = 256
    num_layers: Annotated[int, Field(ge=1, le=64)] = 2
    num_heads: Annotated[int, Field(ge=1, le=64)] = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    feed_forward_factor: Annotated[int, Field(ge=1, le=64)] = 4
    activation: Literal["gelu", "relu"] = "gelu"
    norm_first: bool = False
    input_norm: bool = True
    input_dropout: bool = True
    position_embedding: bool = True
    weight_std: Annotated[float, Field(gt=0, le=10)] = 0.02

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
            x = layer(x, layer.keys_values(x), attention)
        last = self._layers()[-1]
        attention = RaggedAttention(rows[read], lengths[rows[read]], offsets)
        x = last(x[read], last.keys_values(x), attention)
        return self.output_norm(x)

    def causal(
        self,
        x: Float[Tensor, "n D"],
        rows: Int64[Tensor, " n"],
        places: Int64[Tensor, " n"],
        offsets: Int64[Tensor, " B1"],
        read: Int64[Tensor, " R"],
    ) -> Float[Tensor, "R D"]:
        """Every place sees those before it and itself; returns the places ``read``."""
        history, x = self.encode_history(x, rows, places, offsets)
        return self.read_history(x, history[-1], rows, places, offsets, read)

    def encode_history(
        self,
        x: Float[Tensor, "n D"],
        rows: Int64[Tensor, " n"],
        places: Int64[Tensor, " n"],
        offsets: Int64[Tensor, " B1"],
    ) -> tuple[list[KeysValues], Float[Tensor, "n D"]]:
        """Causal pass over history places: the keys and values that targets attend to, a pair a layer.

        Also what goes into the last layer, for `read_history`.
        """
        x = self._enter(x)
        attention = RaggedAttention(rows, places, offsets)
        history: list[KeysValues] = []
        for layer in self._layers():
            history.append(layer.keys_values(x))
            if layer is not self.layers[-1]:
                x = layer(x, history[-1], attention, own=history[-1])
        return history, x

    def read_history(
        self,
        x: Float[Tensor, "n D"],
        last: KeysValues,
        rows: Int64[Tensor, " n"],
        places: Int64[Tensor, " n"],
        offsets: Int64[Tensor, " B1"],
        read: Int64[Tensor, " R"],
    ) -> Float[Tensor, "R D"]:
        """Take the history places ``read`` through the last layer too: what `causal` gives for them."""
        key, value = last
        attention = RaggedAttention(rows[read], places[read], offsets)
        x = self._layers()[-1](x[read], last, attention, own=(key[read], value[read]))
        return self.output_norm(x)

    def attend_to_history(
        self, x: Float[Tensor, "R D"], history: list[KeysValues], attention: RaggedAttention
    ) -> Float[Tensor, "R D"]:
        """Target places, each of which sees the history that ``attention`` gives it, and itself."""
        x = self._enter(x)
        for layer, keys_values in zip(self._layers(), history, strict=True):
            x = layer(x, keys_values, attention, own=layer.keys_values(x))
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
        self.query = nn.Linear(size, size)
        self.key_value = nn.Linear(size, 2 * size)
        self.output = nn.Linear(size, size)
        self.attention_norm = nn.LayerNorm(size)
        self.wide, self.narrow = nn.Linear(size, wide), nn.Linear(wide, size)
        self.feed_forward_norm = nn.LayerNorm(size)
        self.activation = F.gelu if config.activation == "gelu" else F.relu

    def keys_values(self, x: Float[Tensor, "m D"]) -> KeysValues:
        """Keys and values of places that are to be attended to."""
        x = self.attention_norm(x) if self.norm_first else x
        key, value = self.key_value(x).unflatten(-1, (2, self.num_heads, -1)).unbind(1)
        return key, value

    def forward(
        self,
        x: Float[Tensor, "n D"],
        keys_values: KeysValues,
        attention: RaggedAttention,
        own: tuple[Float[Tensor, "n H d"], Float[Tensor, "n H d"]] | None = None,
    ) -> Float[Tensor, "n D"]:
        """Pass the querying places ``x`` through the layer."""
        rate = self.rate if self.training else 0.0
        query = self.query(self.attention_norm(x) if self.norm_first else x).unflatten(-1, (self.num_heads, -1))
        x = x + dropout(self.output(attention(query, *keys_values, own, rate).flatten(1)), rate)
        x = x if self.norm_first else self.attention_norm(x)
        wide = self.activation(self.wide(self.feed_forward_norm(x) if self.norm_first else x))
        x = x + dropout(self.narrow(wide), rate)
        return x if self.norm_first else self.feed_forward_norm(x)


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
