"""The denoise sequential recommender f_theta of DiffRec (Eq. 14 to 16), with either attention pattern.

Given a batch's histories a pattern returns a `Conditioned` recommender: which places are noised, and a function from
their noised representations and diffusion steps to the predicted clean ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.models.attention import RaggedAttention
from seqdiffrec.models.encoder import Encoder, EncoderConfig, Memory
from seqdiffrec.models.item_table import ItemTable


@dataclass(frozen=True)
class Conditioned:
    """A denoiser that has seen the histories of a batch of R targets.

    h0: clean representation of each noised place; zeros where it is not known (the target, at inference).
    of_target: the target, 0..R-1, whose example each noised place belongs to.
    back: how many places each noised place stands before its target, 0 for the target itself.
    denoise: ``(h_n of the noised places, step of each target) -> predicted h_0 of the noised places``. It also takes S
        draws at once, one after another: S P places, at the same R steps.
    read_history: after the first `denoise`, the state of the newest item that each target sees, as a causal model has
        it; None where the history sees the target, or nobody wants it.
    """

    h0: Float[Tensor, "P D"]
    of_target: Int64[Tensor, " P"]
    back: Int64[Tensor, " P"]
    denoise: Callable[[Float[Tensor, "SP D"], Int64[Tensor, " R"]], Float[Tensor, "SP D"]]
    read_history: Callable[[], Float[Tensor, "R D"]] | None = None


def sinusoidal_step_embedding(num_steps: int, size: int) -> Float64[Tensor, "N_plus_1 D"]:
    """z_n of Eq. 15 for n = 0..num_steps: ``sin(n / 10000^(2j/d))`` at 2j, the cosine at 2j + 1."""
    frequency = 10000.0 ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    angle = torch.arange(num_steps + 1, dtype=torch.float64)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


# Where the gate of a skip starts: the causal state leads, since the target's place is noise at first.
GATE = 0.1


class DenoiseSequentialRecommender(nn.Module):
    """Position embeddings, step embeddings and the encoder. Subclasses are the two attention patterns.

    from_target: positions count back from the last target, which stands at T; otherwise from the first item on.
    """

    step_table: Tensor

    def __init__(self, config: EncoderConfig, num_steps: int, *, step_embedding: bool, from_target: bool):
        super().__init__()
        size = config.hidden_size
        self.from_target = from_target
        self.position = nn.Embedding(config.max_length, size) if config.position_embedding else None
        table = sinusoidal_step_embedding(num_steps, size) * step_embedding
        self.register_buffer("step_table", table.float(), persistent=False)
        self.encoder = Encoder(config)
        self.max_length = config.max_length

    def condition(self, batch: RaggedBatch, table: ItemTable) -> Conditioned:
        """Look at the histories of a batch."""
        raise NotImplementedError

    def add_position(
        self, h: Float[Tensor, "n D"], place: Int64[Tensor, " n"], last: Int64[Tensor, " n"]
    ) -> Float[Tensor, "n D"]:
        """Add the embedding of each place, given from 0 with the place of its sequence's last target."""
        if self.position is None:
            return h
        return h + self.position(self.max_length - 1 - (last - place) if self.from_target else place)


class BidirectionalDenoiser(DenoiseSequentialRecommender):
    """The printed pattern: each (history, target) is an example of its own, in which every place sees every other.

    The target stands at position T, its history before it, unless positions count from the start; the step embedding
    is on all places (Eq. 14).

    noised_items: how many items are noised, counted back from the target and with it (Section 5.3.4); "all" for the
        whole sequence.
    """

    def __init__(
        self,
        config: EncoderConfig,
        num_steps: int,
        *,
        step_embedding: bool,
        from_target: bool,
        noised_items: int | str,
    ):
        super().__init__(config, num_steps, step_embedding=step_embedding, from_target=from_target)
        self.noised_items = config.max_length if noised_items == "all" else int(noised_items)

    def condition(self, batch: RaggedBatch, table: ItemTable) -> Conditioned:
        """One example a target: ``batch.rows`` must count 0, 1, ..., as a batch of single-target windows does."""
        whole = batch.extend(batch.targets)
        rows, places = whole.locate_tokens()
        last = batch.lengths[rows]
        back = last - places
        noised, clean = (torch.nonzero(one).squeeze(1) for one in (back < self.noised_items, back >= self.noised_items))
        h0 = table.embed(whole.tokens)

        def enter(h: Tensor, at: Tensor | slice, step: Tensor) -> Tensor:
            """Eq. 14, for what stands at these places."""
            return self.add_position(h, places[at], last[at]) + self.step_table[step[rows[at]]]

        def denoise_one(hn: Tensor, step: Tensor) -> Tensor:
            h = enter(h0.index_copy(0, noised, hn), slice(None), step)
            return self.encoder.bidirectional(h, rows, whole.offsets, noised)

        def denoise(hn: Tensor, step: Tensor) -> Tensor:
            draws = hn.view(-1, len(noised), hn.shape[1])
            if len(draws) == 1 or self.noised_items > 1:
                return torch.cat([denoise_one(draw, step) for draw in draws])
            history, drawn = enter(h0[clean], clean, step), enter(hn, noised.repeat(len(draws)), step)
            found = self.encoder.bidirectional_draws(history, drawn.view_as(draws), rows[clean], batch.offsets)
            return found.flatten(0, 1)

        return Conditioned(h0[noised], rows[noised], back[noised], denoise)


class SharedHistoryDenoiser(DenoiseSequentialRecommender):
    """History places attend causally and never see a noised target; a target sees the history before it and itself.

    Another model than the printed one: one pass over the history serves all its targets, all seeds and all reverse
    steps. Positions count from the start of the visible history, unless they count from the last target; the step
    embedding is on target places only.

    skip: a target's prediction is the causal state of the newest item that it sees, plus what the target's place
        comes out as, times a learned `gate` for each dimension.
    reads_history: that state is wanted by others too.
    """

    def __init__(
        self,
        config: EncoderConfig,
        num_steps: int,
        *,
        step_embedding: bool,
        from_target: bool,
        skip: bool,
        reads_history: bool,
    ):
        super().__init__(config, num_steps, step_embedding=step_embedding, from_target=from_target)
        self.gate = nn.Parameter(torch.full((config.hidden_size,), GATE)) if skip else None
        self.reads_history = skip or reads_history

    def condition(self, batch: RaggedBatch, table: ItemTable) -> Conditioned:
        """The histories go through the encoder together with the first noised targets."""
        shared = _SharedHistory(self, batch, table)
        of_target = torch.arange(len(batch.rows), device=batch.rows.device)
        read_history = shared.newest if self.reads_history else None
        return Conditioned(shared.h0, of_target, torch.zeros_like(of_target), shared.denoise, read_history)


class _SharedHistory:
    """The histories of a batch, and what is kept of them after the first pass.

    h0: embeddings of the targets.
    """

    def __init__(self, of: SharedHistoryDenoiser, batch: RaggedBatch, table: ItemTable):
        self.of, self.batch = of, batch
        self.rows, self.places = batch.locate_tokens()
        # One look-up for both: each costs a pass over the whole table in the backward pass.
        embedded = table.embed(torch.cat([batch.tokens, batch.targets]))
        self.clean, self.h0 = cast(tuple[Tensor, Tensor], embedded.split([len(self.rows), len(batch.targets)]))
        self.clean = of.add_position(self.clean, self.places, batch.lengths[self.rows])
        self.memories: list[Memory] | None = None
        self.state: Tensor | None = None

    def denoise(self, hn: Float[Tensor, "SR D"], step: Int64[Tensor, " R"]) -> Float[Tensor, "SR D"]:
        """As `Conditioned.denoise`."""
        batch, draws = self.batch, len(hn) // len(self.batch.targets)
        rows, places = batch.rows.repeat(draws), batch.places.repeat(draws)
        h = self.of.add_position(hn, places, batch.lengths[rows]) + self.of.step_table[step].repeat(draws, 1)
        if self.memories is None:
            h = self._first_pass(h, rows, places)
        else:
            h = self.of.encoder.attend_to_history(h, self.memories, RaggedAttention(rows, places, batch.offsets))
        return h if self.of.gate is None else self.newest().repeat(draws, 1) + self.of.gate * h

    def newest(self) -> Float[Tensor, "R D"]:
        """The state of the newest item that each target sees; known after the first pass."""
        assert self.state is not None
        return self.state

    def _first_pass(self, h: Tensor, rows: Tensor, places: Tensor) -> Tensor:
        batch, start = self.batch, len(self.clean)
        targets = torch.arange(start, start + len(h), device=h.device)
        newest = (batch.offsets[batch.rows] + batch.places - 1)[: len(batch.rows) * self.of.reads_history]
        states, self.memories = self.of.encoder.causal(
            torch.cat([self.clean, h]),
            torch.cat([self.rows, rows]),
            torch.cat([self.places, places]),
            batch.offsets,
            torch.cat([newest, targets]),
        )
        self.state, predicted = cast(tuple[Tensor, Tensor], states.split([len(newest), len(targets)]))
        return predicted
