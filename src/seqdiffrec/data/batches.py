"""Training sequences and histories become ragged batches: real items only, no padding to T.

A *window* is a stretch of one user's sequence whose last targets are trained together. With one target a window, every
(history, target) is an example of its own; with up to T - 1 of them, all targets of a stretch share one history.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from seqdiffrec.data.corpus import Sequences

# How many places before the visible history are known: nearly everybody's whole past, and a bound to what the longest
# sequences cost.
REMEMBERED = 2000


@dataclass(frozen=True)
class RaggedBatch:
    """Clean history items of B sequences, and R targets, each of which sees the first items of one of them.

    Target r belongs to sequence ``rows[r]`` and sees its first ``places[r]`` items,
    ``tokens[offsets[rows[r]] : offsets[rows[r]] + places[r]]``. At inference ``targets`` holds 0: not known.

    ``older[older_offsets[b] : older_offsets[b + 1]]`` are the items of sequence b before its first token, each once:
    too far back to be read, but known to have been taken, ``older_back`` places before the first token (1 for the one
    right before it). At most the last `REMEMBERED` places count.

    ``origins[r]`` is where target r stands in the items of the sequences that the batch was cut from
    (`Sequences.items`); -1 where there is no such place, as at inference.
    """

    tokens: Int64[Tensor, " M"]
    offsets: Int64[Tensor, " B_plus_1"]
    rows: Int64[Tensor, " R"]
    places: Int64[Tensor, " R"]
    targets: Int64[Tensor, " R"]
    older: Int64[Tensor, " O"]
    older_back: Int64[Tensor, " O"]
    older_offsets: Int64[Tensor, " B_plus_1"]
    origins: Int64[Tensor, " R"]

    @property
    def lengths(self) -> Int64[Tensor, " B"]:
        """Number of history items of each sequence."""
        return self.offsets.diff()

    def locate_tokens(self) -> tuple[Int64[Tensor, " M"], Int64[Tensor, " M"]]:
        """The sequence of each history token, and its place from that sequence's start, 0 first."""
        return spread(self.lengths)

    def seen(self, max_length: int) -> tuple[Int64[Tensor, " E"], Int64[Tensor, " E"], Int64[Tensor, " E"]]:
        """Each (target, item taken before it): the target 0..R-1, the item index, and how far back, 0 for the newest.

        All that is ``max_length - 1`` back or further counts as that. Index 0, an item that is not known, is left out.
        """
        target, place = spread(self.places)
        item = self.tokens[self.offsets[self.rows[target]] + place]
        back = self.places[target] - 1 - place
        older_target, number = spread(self.older_offsets.diff()[self.rows])
        older = self.older_offsets[self.rows[older_target]] + number
        older_back = (self.places[older_target] - 1 + self.older_back[older]).clamp(max=max_length - 1)
        target, item = torch.cat([target, older_target]), torch.cat([item, self.older[older]])
        known = item > 0
        return target[known], item[known], torch.cat([back, older_back])[known]

    def extend(self, items: Int64[Tensor, " B"]) -> "RaggedBatch":
        """The same batch with one more item at the end of each sequence; what its targets see is as before."""
        device = self.tokens.device
        offsets = self.offsets + torch.arange(len(self.offsets), device=device)
        is_last = torch.zeros(len(self.tokens) + len(items), dtype=torch.bool, device=device)
        is_last[offsets[1:] - 1] = True
        tokens = self.tokens.new_empty(len(is_last))
        tokens[is_last], tokens[~is_last] = items, self.tokens
        return replace(self, tokens=tokens, offsets=offsets)

    def repeat_targets(self, times: int) -> "RaggedBatch":
        """Every target ``times`` times over the same histories: all of them once, then all of them again."""
        repeated = {name: getattr(self, name).repeat(times) for name in ("rows", "places", "targets", "origins")}
        return replace(self, **repeated)

    def of_targets(self, chosen: Int64[Tensor, " r"]) -> "RaggedBatch":
        """These targets alone, over the same histories."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in ("rows", "places", "targets", "origins")})

    def append(self, tokens: Int64[Tensor, " m"], lengths: Int64[Tensor, " b"]) -> "RaggedBatch":
        """This batch, and b more histories of these lengths behind it, each with a target, not known, that sees it all.

        Nothing is known of what came before them.
        """
        sequences = len(self.offsets) - 1 + torch.arange(len(lengths), device=lengths.device)
        return RaggedBatch(
            tokens=torch.cat([self.tokens, tokens]),
            offsets=torch.cat([self.offsets, self.offsets[-1] + lengths.cumsum(0)]),
            rows=torch.cat([self.rows, sequences]),
            places=torch.cat([self.places, lengths]),
            targets=torch.cat([self.targets, torch.zeros_like(lengths)]),
            older=self.older,
            older_back=self.older_back,
            older_offsets=torch.cat([self.older_offsets, self.older_offsets[-1:].expand(len(lengths))]),
            origins=torch.cat([self.origins, torch.full_like(lengths, -1)]),
        )

    def to(self, device: torch.device | str) -> "RaggedBatch":
        """The same batch on another device."""
        moved = {name: value.to(device) for name, value in vars(self).items()}
        return replace(self, **moved)


@dataclass(frozen=True)
class Windows:
    """Stretches of a flat item array: history ``items[start:last]``, targets ``items[first..last]``, both ends in.

    Target at place a sees ``items[start:a]``, so ``start < first <= last`` and ``last - start <= T - 1``. The sequence
    that the stretch is of starts at ``begin <= start``.
    """

    begin: NDArray[np.int64]
    start: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.start)

    @property
    def num_targets(self) -> NDArray[np.int64]:
        """Number of targets of each window."""
        return self.last - self.first + 1

    def select(self, index: NDArray[np.int64] | slice) -> "Windows":
        """The windows at ``index``."""
        return Windows(self.begin[index], self.start[index], self.first[index], self.last[index])


def cut_windows(
    sequences: Sequences,
    max_length: int,
    *,
    shared: bool,
    prefixes: bool,
    rng: np.random.Generator,
    first_targets: NDArray[np.int64] | None = None,
) -> Windows:
    """Cut training sequences so that every target is trained exactly once.

    A target is any item but a sequence's first; with ``prefixes=False`` only its last item. ``shared=False`` gives
    each target a window of its own. ``shared=True`` packs up to ``max_length - 1`` neighbouring targets into one
    window. A window that starts inside a long sequence still reaches ``max_length - 1`` items back from its last
    target, so each window's last target is trained at full history, as inference uses it; ``rng`` shifts the cuts,
    so that over the epochs every target takes every place. ``first_targets`` are the places of the sequences' first
    targets, where not all are trained (`Split.first_targets`).
    """
    reach = max_length - 1
    first = sequences.starts + 1 if first_targets is None else np.maximum(sequences.starts + 1, first_targets)
    has_targets = first < sequences.ends
    begin, first, end = sequences.starts[has_targets], first[has_targets], sequences.ends[has_targets]
    if not prefixes:
        last = end - 1
        return Windows(begin, np.maximum(begin, last - reach), last, last)
    if not shared:
        target = _ranges(first, end)
        begin = np.repeat(begin, end - first)
        return Windows(begin, np.maximum(begin, target - reach), target, target)
    # The first window of a long sequence ends after `shift` targets, the others follow every `reach` targets.
    num_targets = end - first
    is_long = num_targets > reach
    shift = np.where(is_long, rng.integers(1, reach + 1, size=len(begin)), num_targets)
    count = 1 + np.maximum(0, -(-(num_targets - shift) // reach))
    sequence = np.repeat(np.arange(len(begin)), count)
    number = _ranges(np.zeros_like(count), count)  # 0, 1, ... within each sequence
    cut = first[sequence] - 1 + shift[sequence] + number * reach
    last = np.minimum(cut, end[sequence] - 1)
    first = np.where(number == 0, first[sequence], cut - reach + 1)
    return Windows(begin[sequence], np.maximum(begin[sequence], last - reach), first, last)


def epoch_batches(
    sequences: Sequences, windows: Windows, batch_size: int, rng: np.random.Generator, *, skip: int = 0
) -> Iterator[RaggedBatch]:
    """Shuffle the windows and yield batches of about ``batch_size`` targets, from batch number ``skip`` on.

    A window is never split: it goes to the batch in which its first target falls.
    """
    windows = windows.select(rng.permutation(len(windows)))
    ends = np.cumsum(windows.num_targets)
    batch_of = (ends - windows.num_targets) // batch_size
    cuts = np.flatnonzero(np.diff(batch_of, prepend=-1, append=-1))
    for lower, upper in zip(cuts[skip:-1], cuts[skip + 1 :], strict=True):
        yield window_batch(sequences, windows.select(slice(lower, upper)))


def window_batch(sequences: Sequences, windows: Windows) -> RaggedBatch:
    """The batch that holds these windows, in their order."""
    target = _ranges(windows.first, windows.last + 1)
    rows = np.repeat(np.arange(len(windows)), windows.num_targets)
    return _as_tensors(
        tokens=sequences.items[_ranges(windows.start, windows.last)],
        offsets=_offsets(windows.last - windows.start),
        rows=rows,
        places=target - windows.start[rows],
        targets=sequences.items[target],
        origins=target,
        **_older(sequences.items, windows.begin, windows.start),
    )


def history_batch(histories: Sequences, max_length: int) -> RaggedBatch:
    """The batch that asks for the next item after each history, of which the last ``max_length - 1`` are seen."""
    starts = np.maximum(histories.starts, histories.ends - (max_length - 1))
    lengths = histories.ends - starts
    return _as_tensors(
        tokens=histories.items[_ranges(starts, histories.ends)],
        offsets=_offsets(lengths),
        rows=np.arange(len(histories)),
        places=lengths,
        targets=np.zeros(len(histories)),
        origins=np.full(len(histories), -1),
        **_older(histories.items, histories.starts, starts),
    )


def _ranges(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """``arange(starts[0], ends[0])``, ``arange(starts[1], ends[1])``, ... end to end."""
    lengths = ends - starts
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum(), dtype=np.int64)


def _older(
    items: NDArray[np.int32], begin: NDArray[np.int64], start: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """What stands in ``items[begin:start]`` of each sequence, each item where it stands last."""
    begin = np.maximum(begin, start - REMEMBERED)
    place = _ranges(begin, start)[::-1]  # the newest first
    row = np.repeat(np.arange(len(start)), start - begin)[::-1]
    older = items[place].astype(np.int64)
    pair = row * (older.max(initial=0) + 1) + older
    newest = np.sort(np.unique(pair, return_index=True)[1])[::-1]
    row, place, older = row[newest], place[newest], older[newest]
    return {
        "older": older,
        "older_back": start[row] - place,
        "older_offsets": _offsets(np.bincount(row, minlength=len(start))),
    }


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where stretches of these lengths begin that lie end to end, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths)])


def spread(counts: Int64[Tensor, " R"]) -> tuple[Int64[Tensor, " E"], Int64[Tensor, " E"]]:
    """For each of ``counts[r]`` entries of r = 0, 1, ...: r, and the entry's number within r."""
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    before = counts.cumsum(0) - counts
    return owner, torch.arange(len(owner), device=counts.device) - before[owner]


def _as_tensors(**arrays: NDArray[np.generic]) -> RaggedBatch:
    return RaggedBatch(**{name: torch.from_numpy(array.astype(np.int64)) for name, array in arrays.items()})
