"""Full ranking: where the target stands among all items of the catalogue.

Nothing is sampled. Cases are scored in blocks, and a block's scores are dropped before the next one is asked for, so
memory grows with the block and the catalogue, never with the number of users.

Two protocols are computed from the same scores, and both are always reported, since the choice between them moves a
figure more than most models differ:

- `seen_kept`: every item of the catalogue stays in the ranking.
- `seen_removed`: the items of the history are taken out, all of them, also those older than what the model reads.
  The target always stays a candidate. A person may take again what they had before, and a protocol that removed such
  a target would have no rank for the case.

Ties count against the model: rank = 1 + the number of other items whose score is at least the target's. A model that
gives all items the same score gets the last rank, not the first.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypedDict

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqdiffrec.allocator import keep_freed_memory
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.data.split import Cases
from seqdiffrec.data.storage import cannot_write, write_file
from seqdiffrec.evaluation.metrics import DEFAULT_CUTOFFS, check_cutoff, summarize

# Scores of a block: 64 MiB.
SCORES_AT_ONCE = 2**24
# Ones that float32 adds without rounding.
EXACT_SUM = 2**24

Predict = Callable[[Sequences], Tensor]
"""Histories to scores: float32 (B, num_items), higher is better, column j for item index j + 1."""

Progress = Callable[[int, int], None]
"""Called after each block with the number of cases done and the number of all cases."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """The rank of each case's target, from 1, under both protocols.

    Attributes:
        users: int64 (B,), rows of the corpus.
        targets: int32 (B,), item indices from 1.
        seen_kept: int64 (B,), ranks among all items.
        seen_removed: int64 (B,), ranks among the items that are not in the history, and the target.
    """

    users: NDArray[np.int64]
    targets: NDArray[np.int32]
    seen_kept: NDArray[np.int64]
    seen_removed: NDArray[np.int64]


class Evaluation(TypedDict):
    """The metrics of both protocols by name, and what they were measured on. Goes into JSON as it is."""

    seen_kept: dict[str, float]
    seen_removed: dict[str, float]
    cases: int
    num_items: int
    ties: str


def evaluate(
    predict: Predict,
    cases: Cases,
    num_items: int,
    ks: Sequence[int] = DEFAULT_CUTOFFS,
    *,
    block_size: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Rank every target and give the metrics of both protocols.

    Args:
        predict: histories to scores.
        cases: histories and their targets.
        num_items: the catalogue's size.
        ks: the cutoffs of the metrics.
        block_size: cases scored at once; without it as many as fit 64 MiB, at most 256.
        progress: told after each block.

    Raises:
        ValueError: a cutoff is below 1 or larger than the catalogue, there are no cases, or as in `rank_targets`.
    """
    for k in ks:  # before the ranking, which may take minutes
        check_cutoff(k, num_items)
    ranks = rank_targets(predict, cases, num_items, block_size=block_size, progress=progress)
    return report(ranks, num_items, ks)


def report(ranks: Ranks, num_items: int, ks: Sequence[int] = DEFAULT_CUTOFFS) -> Evaluation:
    """The metrics of both protocols from ranks that are there already.

    Raises:
        ValueError: a cutoff is below 1 or larger than the catalogue, or there are no ranks.
    """
    return {
        "seen_kept": summarize(ranks.seen_kept, ks, num_items),
        "seen_removed": summarize(ranks.seen_removed, ks, num_items),
        "cases": len(ranks.users),
        "num_items": num_items,
        "ties": "against the model",
    }


@torch.no_grad()
def rank_targets(
    predict: Predict,
    cases: Cases,
    num_items: int,
    *,
    block_size: int | None = None,
    progress: Progress | None = None,
) -> Ranks:
    """The rank of each case's target among all items, with the history's items kept and with them removed.

    Args:
        predict: histories to float32 scores (B, num_items), column j for item index j + 1, on any device.
        cases: B histories and their targets.
        num_items: the catalogue's size.
        block_size: cases scored at once, without it as many as fit 64 MiB, at most 256; changes memory and speed,
            never a rank.
        progress: told after each block.

    Raises:
        ValueError: `block_size` is below 1, an item index lies outside 1..num_items, or scores are not float32
            (half-precision scores tie in masses), have the wrong shape, or are not finite.
    """
    if block_size is None:
        block_size = cases_at_once(num_items)
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, not {block_size}")
    keep_freed_memory()
    num_cases = len(cases)
    kept = np.empty(num_cases, np.int64)
    removed = np.empty(num_cases, np.int64)
    for start in range(0, num_cases, block_size):
        block = slice(start, min(start + block_size, num_cases))
        kept[block], removed[block] = _rank_block(
            predict, cases.histories.select(block), cases.users[block], cases.targets[block], num_items
        )
        if progress is not None:
            progress(block.stop, num_cases)
    return Ranks(cases.users, cases.targets, kept, removed)


def cases_at_once(num_items: int) -> int:
    """How many cases' scores are held: as many as fit 64 MiB, at most 256."""
    return min(256, max(1, SCORES_AT_ONCE // num_items))


def _rank_block(
    predict: Predict, histories: Sequences, users: NDArray[np.int64], targets: NDArray[np.int32], num_items: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The two ranks of each target of one block; the scores are dropped on return."""
    history_rows, history_items = histories.flat()
    _check_items("target", targets, users, num_items)
    _check_items("history", history_items, users[history_rows], num_items)

    scores = predict(histories)  # (block, num_items)
    check_scores(scores, users, num_items)
    # Index 0 is padding and has no column: item index i stands in column i - 1.
    target_columns = targets.astype(np.int64) - 1
    target_scores = scores.gather(1, torch.as_tensor(target_columns).to(scores.device)[:, None])  # (block, 1)
    kept = _count_at_least(scores, target_scores)

    # The seen items are looked up one by one, which spares a second pass over the catalogue.
    seen = history_rows * num_items + history_items.astype(np.int64) - 1
    is_target = history_items == targets[history_rows]
    keys = np.unique(seen[~is_target])  # each once, so that a repeat counts once
    return kept, kept - _count_seen_at_least(scores, target_scores, keys)


def _count_at_least(scores: Tensor, target_scores: Tensor) -> NDArray[np.int64]:
    """(block,) the number of items whose score is at least the target's; the target is one of them, so it is a rank.

    The comparison is written as float32, since summing booleans costs more than twice the time. Such sums are exact
    up to `EXACT_SUM` items; those of more are added as integers.
    """
    at_least = torch.ge(scores, target_scores, out=torch.empty_like(scores))
    stretches = [at_least[:, start : start + EXACT_SUM] for start in range(0, at_least.shape[1], EXACT_SUM)]
    return torch.stack([part.sum(dim=1).to(torch.int64) for part in stretches]).sum(dim=0).cpu().numpy()


def _count_seen_at_least(scores: Tensor, target_scores: Tensor, keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """(block,) the number of the items in `keys` (row * num_items + column) that score at least the target's score."""
    rows, columns = (torch.as_tensor(part).to(scores.device) for part in np.divmod(keys, scores.shape[1]))
    at_least = scores[rows, columns] >= target_scores[rows, 0]
    return torch.bincount(rows[at_least], minlength=len(scores)).cpu().numpy()


def _check_items(what: str, items: NDArray[np.int32], users: NDArray[np.int64], num_items: int) -> None:
    outside = (items < 1) | (items > num_items)
    if outside.any():
        place = int(outside.argmax())
        raise ValueError(
            f"the {what} of user row {users[place]} holds item index {items[place]}, outside 1..{num_items}; "
            "the cases and the model must come from the same corpus"
        )


def check_scores(scores: Tensor, users: NDArray[np.int64], num_items: int) -> None:
    """Raise ValueError where a predictor's scores are not float32, of another shape, or not finite."""
    expected = (len(users), num_items)
    if tuple(scores.shape) != expected:
        raise ValueError(
            f"predict must return scores of shape {expected}, a row a history and a column an item, "
            f"not {tuple(scores.shape)}"
        )
    if scores.dtype != torch.float32:
        raise ValueError(f"predict must return float32 scores, not {scores.dtype}; half-precision scores tie in masses")
    # A sum is not finite when one of its terms is not, and takes a fraction of the time of a look at each score.
    # It may also overflow over finite scores, so the rows that it names are looked at once more.
    for row in np.flatnonzero(~scores.sum(dim=1).isfinite().cpu().numpy()):
        bad = ~scores[row].isfinite()
        if bad.any():
            column = int(bad.to(torch.int8).argmax())
            raise ValueError(
                f"the scores of user row {users[row]} are not finite: item index {column + 1} has "
                f"{scores[row, column].item()} ({int(bad.sum())} such of {num_items}); a model that diverged cannot be "
                "ranked, so go back to an earlier checkpoint"
            )


_RANK_FORMATS = (".csv", ".parquet")


def check_ranks_path(path: str | os.PathLike[str]) -> None:
    """Refuse a path that `write_ranks` could not write, before a long evaluation rather than after it.

    Raises:
        ValueError: the suffix is neither .csv nor .parquet, the folder does not exist, or the path is a folder.
    """
    path = Path(path)
    if path.suffix.lower() not in _RANK_FORMATS:
        raise ValueError(f"cannot write ranks to {path}: its name must end in {' or '.join(_RANK_FORMATS)}")
    if not path.parent.is_dir():
        raise ValueError(f"cannot write ranks to {path}: the folder {path.parent} does not exist; make it first")
    if path.is_dir():
        raise ValueError(f"cannot write ranks to {path}: that is a folder; give the name of a file")


def write_ranks(ranks: Ranks, corpus_user_ids: pl.Series, item_ids: pl.Series, path: str | os.PathLike[str]) -> None:
    """Write a row a case: user_id, item_id (the target), rank_seen_kept, rank_seen_removed; ranks from 1.

    CSV or Parquet, by the suffix. Written whole or not at all: on a failure a file that was there stays as it was.

    Args:
        ranks: the ranks of the cases.
        corpus_user_ids: the user ids of the corpus that the cases come from, row u for user u.
        item_ids: its item ids, row j for item index j + 1.
        path: the file to write.

    Raises:
        ValueError: as in `check_ranks_path`, or the disk refused (a DataError), because it is full for instance.
    """
    check_ranks_path(path)
    path = Path(path)
    frame = pl.DataFrame(
        {
            "user_id": corpus_user_ids.gather(ranks.users),
            "item_id": item_ids.gather(ranks.targets - 1),
            "rank_seen_kept": ranks.seen_kept,
            "rank_seen_removed": ranks.seen_removed,
        }
    )
    content = BytesIO()  # in memory first: written to a full disk, Polars hides the OSError
    if path.suffix.lower() == ".csv":
        frame.write_csv(content)
    else:
        frame.write_parquet(content)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write_file(partial, lambda file: file.write(content.getbuffer()))
        partial.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        partial.unlink(missing_ok=True)
