"""Models as plain padded networks: shapes follow from the input's alone, so that they can be written as a graph (ONNX).

Weights and layers are the model's own. Only what is ragged there is written again here: which places attend to which,
and the way from a history to a representation. Histories are item indices (B, L) with 0 as padding, wherever it stands;
inside they begin in the first column.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from seqdiffrec.data.batches import REMEMBERED
from seqdiffrec.models.attention import RaggedAttention
from seqdiffrec.models.base import SequenceModel
from seqdiffrec.models.bert4rec import BERT4Rec
from seqdiffrec.models.denoiser import BidirectionalDenoiser, DenoiseSequentialRecommender, SharedHistoryDenoiser
from seqdiffrec.models.diffrec import START, DiffRec, noise_of_seed
from seqdiffrec.models.encoder import Encoder, EncoderLayer, Memory
from seqdiffrec.models.item_table import SEEN_BIAS_SCALE, TableModel
from seqdiffrec.models.sasrec import SASRec
from seqdiffrec.models.settings import SettingError


class PaddedAttention(RaggedAttention):
    """`RaggedAttention` over B rows of Q queries and K keys each, padded: a query sees the first ``places`` keys."""

    def __init__(self, places: Tensor, num_keys: int):
        """``places``: (B, Q)."""
        batch = places.shape[0]
        self.shape, self.num_keys = places.shape, num_keys
        self.places = places.reshape(-1)
        self.rows = torch.arange(batch)[:, None].expand(places.shape).reshape(-1)
        self.offsets = torch.arange(0, (batch + 1) * num_keys, num_keys)
        self.distance = (places[:, :, None] - torch.arange(num_keys))[:, None]  # (B, 1, Q, K)

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        own: tuple[Tensor, Tensor] | None,
        dropout_rate: float,
        slopes: Tensor | None = None,
    ) -> Tensor:
        """As `RaggedAttention`; there is no dropout."""
        batch, num_queries = self.shape
        query = query * query.shape[-1] ** -0.5
        scores = _heads(query, batch, num_queries) @ _heads(key, batch, self.num_keys).mT
        if slopes is not None:
            scores = scores - slopes[:, None, None] * self.distance
        scores = scores.masked_fill(self.distance <= 0, float("-inf"))
        values = _heads(value, batch, self.num_keys)
        if own is None:
            return (scores.softmax(-1) @ values).transpose(1, 2).flatten(0, 1)
        own_score = _heads((query * own[0]).sum(-1, keepdim=True), batch, num_queries)
        weights = torch.cat([own_score, scores], -1).softmax(-1)
        mixed = weights[..., 1:] @ values + weights[..., :1] * _heads(own[1], batch, num_queries)
        return mixed.transpose(1, 2).flatten(0, 1)


def _heads(flat: Tensor, batch: int, length: int) -> Tensor:
    """(B L, H, d) to (B, H, L, d)."""
    return flat.reshape(batch, length, *flat.shape[1:]).transpose(1, 2)


def _take(x: Tensor, place: Tensor) -> Tensor:
    """The state at one place of each row: (B, L, D) at (B,) to (B, D)."""
    return x.gather(1, place[:, None, None].expand(-1, -1, x.shape[-1])).squeeze(1)


def _layers(encoder: Encoder) -> list[EncoderLayer]:
    return cast(list[EncoderLayer], list(encoder.layers))


def causal(encoder: Encoder, x: Tensor, length: Tensor) -> tuple[Tensor, list[Memory]]:
    """Each place of (B, L, D) sees those before it and itself: the state of the newest, and each layer's memory."""
    batch, size, _ = x.shape
    attention = PaddedAttention(torch.arange(size).expand(batch, size), size)
    x = encoder.input_norm(x.flatten(0, 1))
    memories: list[Memory] = []
    for layer in _layers(encoder)[:-1]:
        memories.append(layer.remember(x))
        x = layer(x, memories[-1], attention, own=memories[-1])
    last = _layers(encoder)[-1]
    memories.append(last.remember(x))
    newest = (length - 1).clamp(min=0)
    x = _take(x.reshape(batch, size, -1), newest)
    x = last(x, memories[-1], PaddedAttention(newest[:, None], size), own=last.remember(x))
    return encoder.output_norm(x), memories


def bidirectional(encoder: Encoder, x: Tensor, last: Tensor) -> Tensor:
    """Each place of (B, L, D) sees all places up to ``last`` (B,): the state there."""
    batch, size, _ = x.shape
    seen = (last + 1)[:, None]
    attention = PaddedAttention(seen.expand(batch, size), size)
    x = encoder.input_norm(x.flatten(0, 1))
    for layer in _layers(encoder)[:-1]:
        x = layer(x, layer.remember(x), attention)
    final = _layers(encoder)[-1]
    memory = final.remember(x)
    x = final(_take(x.reshape(batch, size, -1), last), memory, PaddedAttention(seen, size))
    return encoder.output_norm(x)


class PaddedModel(nn.Module):
    """Best items and their probabilities from padded histories, with the weights of a model.

    num_best: how many. filter_viewed: leave out what the history holds.
    """

    def __init__(self, model: TableModel, num_best: int, *, filter_viewed: bool):
        super().__init__()
        self.model = model.eval()
        self.table = model.table
        self.num_best, self.filter_viewed = min(num_best, model.num_items), filter_viewed
        with torch.no_grad():
            catalogue = model.table.catalogue()
            # Not scaled scores: what is made 8 bits has to be what is multiplied.
            directions = None if catalogue.inverse_lengths is None else catalogue.vectors(slice(None))
        # In float32, as the model itself decides. Only a cosine output has weights that the model does not hold.
        self.weight, self.bias = catalogue.weight if directions is None else directions, catalogue.bias
        self.register_buffer("popularity", nn.functional.pad(model.popularity(), (1, 0)), persistent=False)

    popularity: Tensor

    @property
    def noise(self) -> Tensor | None:
        """The noise that the model itself draws, (S, D); None for a model that draws none."""
        return None

    def represent(self, tokens: Tensor, length: Tensor, noise: Tensor | None) -> Tensor:
        """What items are scored against, (B, S, D), given the visible items from the first column on, and how many."""
        raise NotImplementedError

    def forward(self, history: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``history`` (B, L), ``noise`` (S, D): item indices and probabilities, (B, k), best first; both 0 for none."""
        history = _right_aligned(history)
        # What must not be named is below what is not likely at all: padding, and what has been seen.
        barred = history if self.filter_viewed else torch.zeros_like(history)
        probabilities = self.probabilities(history, noise).scatter(1, nn.functional.pad(barred, (1, 0)), -1.0)
        best = probabilities.topk(self.num_best)
        there = best.values >= 0
        return torch.where(there, best.indices, 0), torch.where(there, best.values, 0.0)

    def probabilities(self, history: Tensor, noise: Tensor | None) -> Tensor:
        """Of all items, (B, V + 1), 0 for padding. The last column of a history is its newest item."""
        size = self.model.max_length - 1
        window = nn.functional.pad(history, (size, 0))[:, -size:]
        length = (window > 0).sum(1)
        slot = torch.arange(size)
        is_item = slot < length[:, None]
        tokens = window.gather(1, (slot + size - length[:, None]).clamp(max=size - 1)) * is_item
        draws = self.table.scored(self.represent(tokens, length, noise))
        scores = draws @ self.weight.T + self._added(history, tokens, length, is_item)[:, None]
        probabilities = scores.softmax(-1).mean(1)
        return torch.where((length > 0)[:, None], probabilities, self.popularity)

    def _added(self, history: Tensor, tokens: Tensor, length: Tensor, is_item: Tensor) -> Tensor:
        """What is added to each item's score, (B, V + 1): its bias, what the history says of it, never padding.

        One such row joins all draws' scores, which are the longest thing there is, in one pass.
        """
        added = torch.zeros(history.shape[0], self.model.num_items + 1)
        if self.table.seen_bias is not None:
            bias = SEEN_BIAS_SCALE * self.table.seen_bias
            places = torch.arange(history.shape[1])
            before = history.shape[1] - tokens.shape[1] - places  # places before the window, from 1 on
            older = history * ((before > 0) & (before <= REMEMBERED))
            added = added.scatter(1, older, bias[-1].expand(older.shape))  # each once, however often it is there
            back = (length[:, None] - 1 - torch.arange(tokens.shape[1])).clamp(min=0)
            added = added.scatter_add(1, tokens, bias[back] * is_item)
        added = added if self.bias is None else added + self.bias
        return added.scatter(1, torch.zeros_like(length)[:, None], float("-inf"))


def _right_aligned(history: Tensor) -> Tensor:
    """The same items in the same order, all padding before them."""
    slot = torch.arange(history.shape[1])
    return history.gather(1, torch.where(history > 0, slot, slot - 2**32).argsort(1))


class PaddedSASRec(PaddedModel):
    """SASRec, and what is trained in another way but asked alike: CL4SRec, DuoRec."""

    def represent(self, tokens: Tensor, length: Tensor, noise: Tensor | None) -> Tensor:
        """The state of the newest item, (B, 1, D)."""
        model = cast(SASRec, self.model)
        h = model.scaled(self.table.embedding(tokens))
        h = h if model.position is None else h + model.position(torch.arange(tokens.shape[1]))
        return causal(model.encoder, h, length)[0][:, None]


class PaddedBERT4Rec(PaddedModel):
    """BERT4Rec: a mask stands behind the history."""

    def represent(self, tokens: Tensor, length: Tensor, noise: Tensor | None) -> Tensor:
        """The state of the mask, (B, 1, D)."""
        model = cast(BERT4Rec, self.model)
        h, slot = self.table.embedding(_one_more(tokens)), torch.arange(tokens.shape[1] + 1)
        h = torch.where((slot == length[:, None])[..., None], model.mask.weight[0], h)
        h = h if model.position is None else h + model.position(slot)
        return model.head(bidirectional(model.encoder, h, length))[:, None]


class PaddedDiffRec(PaddedModel):
    """DiffRec with either pattern, by Algorithm 3: from pure noise in one step."""

    @property
    def noise(self) -> Tensor | None:
        """The draws of seeds 0, 1, ..., (S, D); None where something else stands at the target's place."""
        config = cast(DiffRec, self.model).config
        if config.target_input in ("mask", "zeros") or config.num_seeds == 0:
            return None
        draws = [noise_of_seed(seed, START, 1, config.hidden_size) for seed in range(config.num_seeds)]
        return torch.cat(draws)

    def represent(self, tokens: Tensor, length: Tensor, noise: Tensor | None) -> Tensor:
        """The predicted h_0 of each row of noise, (B, S, D)."""
        model = cast(DiffRec, self.model)
        config = model.config
        start = self._instead() if noise is None else noise * config.noise_std
        batch, draws = tokens.shape[0], start.shape[0]
        condition = self._shared if config.attention == "shared_history" else self._bidirectional
        denoise = condition(tokens, length, draws)
        start = start.expand(batch, -1, -1).flatten(0, 1)
        h0 = denoise(start, config.num_steps)
        return h0.reshape(batch, draws, -1)

    def _instead(self) -> Tensor:
        """What stands in the place of noise, (1, D)."""
        model = cast(DiffRec, self.model)
        return torch.zeros(1, model.config.hidden_size) if model.mask is None else model.mask[None]

    def _shared(self, tokens: Tensor, length: Tensor, draws: int) -> Callable[[Tensor, int], Tensor]:
        denoiser = cast(SharedHistoryDenoiser, cast(DiffRec, self.model).denoiser)
        h = _positioned(denoiser, self.table.embedding(tokens), length)
        newest, memories = causal(denoiser.encoder, h, length)
        places = length[:, None].expand(-1, draws)
        attention = PaddedAttention(places, tokens.shape[1])

        def denoise(hn: Tensor, step: int) -> Tensor:
            h = denoiser.add_position(hn, attention.places, attention.places) + denoiser.step_table[step]
            h = denoiser.encoder.attend_to_history(h, memories, attention)
            return h if denoiser.gate is None else newest[attention.rows] + denoiser.gate * h

        return denoise

    def _bidirectional(self, tokens: Tensor, length: Tensor, draws: int) -> Callable[[Tensor, int], Tensor]:
        denoiser = cast(BidirectionalDenoiser, cast(DiffRec, self.model).denoiser)
        clean = _repeat(self.table.embedding(_one_more(tokens)), draws)  # (B S, L + 1, D)
        last = _repeat(length, draws)
        is_target = (torch.arange(clean.shape[1]) == last[:, None])[..., None]

        def denoise(hn: Tensor, step: int) -> Tensor:
            h = torch.where(is_target, hn[:, None], clean)
            return bidirectional(denoiser.encoder, _positioned(denoiser, h, last) + denoiser.step_table[step], last)

        return denoise


def _repeat(x: Tensor, times: int) -> Tensor:
    """Each row so many times, one after another; torch's own has no graph for a number that is not fixed."""
    return x[:, None].expand(-1, times, *x.shape[1:]).flatten(0, 1)


def _one_more(tokens: Tensor) -> Tensor:
    """With room for a target behind the longest history."""
    return nn.functional.pad(tokens, (0, 1))


def _positioned(denoiser: DenoiseSequentialRecommender, h: Tensor, last: Tensor) -> Tensor:
    """(B, L, D) with the embedding of each place; what stands behind ``last`` is padding, and gets any."""
    place = torch.arange(h.shape[1]).minimum(last[:, None]).reshape(-1)
    of_row = last[:, None].expand(-1, h.shape[1]).reshape(-1)
    return denoiser.add_position(h.flatten(0, 1), place, of_row).reshape(h.shape)


PADDED: dict[type[TableModel], type[PaddedModel]] = {
    DiffRec: PaddedDiffRec,
    SASRec: PaddedSASRec,
    BERT4Rec: PaddedBERT4Rec,
}
"""By the class whose `represent` a model has."""


def padded(model: SequenceModel, num_best: int, *, filter_viewed: bool) -> PaddedModel:
    """The model as a padded network. Raises SettingError for one that has none, with those that have."""
    for kind, network in PADDED.items():
        if isinstance(model, kind) and type(model).represent is kind.represent:
            if isinstance(model, DiffRec):
                _check_noise(model)
            return network(cast(TableModel, model), num_best, filter_viewed=filter_viewed)
    known = "diffrec, sasrec, cl4srec, duorec, bert4rec"
    raise SettingError(f"{model.name} cannot be exported; these can: {known}")


def _check_noise(model: DiffRec) -> None:
    """Raise SettingError where noise besides one draw a seed is needed."""
    config = model.config
    if config.noised_items != 1:
        raise SettingError(f"noised_items = {config.noised_items} cannot be exported: its noise is more than (S, d)")
    if config.inference_steps > 1:
        raise SettingError(
            f"inference_steps = {config.inference_steps} cannot be exported; Algorithm 3, which is 1, can"
        )
