"""What a model says comes next, and after that, and so on: each item joins the history before the next is asked for."""

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor

from seqdiffrec.data.corpus import Sequences
from seqdiffrec.inference.asked import continued
from seqdiffrec.inference.ranking import AT_ONCE, BLOCK, Lists, top_items
from seqdiffrec.models import SequenceModel
from seqdiffrec.models.base import barred_items


def rollout(
    model: SequenceModel,
    histories: Sequences,
    steps: int,
    allowed: Bool[Tensor, " V"],
    *,
    filter_viewed: bool,
    num_seeds: int | None,
    sample_seed: int | None,
) -> Lists:
    """Up to ``steps`` items of each history, whose number is the row, in the order in which they come.

    sample_seed: None takes the most probable item each time; with a number each is drawn by its probability among
        those that may be listed. A history's draws depend on the number, the step and its place among the histories.
    """
    rows, items, scores = list[NDArray[np.int64]](), list[NDArray[np.int32]](), list[NDArray[np.float64]]()
    for step in range(steps):
        if sample_seed is None:
            found = top_items(model, histories, 1, allowed, filter_viewed=filter_viewed, num_seeds=num_seeds)
        else:
            chance = np.random.default_rng([sample_seed, step]).random(len(histories))
            found = _drawn(model, histories, chance, allowed, filter_viewed=filter_viewed, num_seeds=num_seeds)
        rows.append(np.array(found.rows, np.int64))
        items.append(np.array(found.items, np.int32))
        scores.append(np.array(found.scores))
        histories = continued(histories, rows[-1], items[-1])
    row = np.concatenate(rows)
    order = row.argsort(kind="stable")
    listed = (part[order].tolist() for part in (row, np.concatenate(items), np.concatenate(scores)))
    return Lists(*listed)


def _drawn(
    model: SequenceModel,
    histories: Sequences,
    chance: NDArray[np.float64],
    allowed: Bool[Tensor, " V"],
    *,
    filter_viewed: bool,
    num_seeds: int | None,
) -> Lists:
    """One item of each history, where ``chance`` (B,), in [0, 1), falls among the probabilities laid end to end."""
    found = Lists([], [], [])
    size = max(1, min(BLOCK, AT_ONCE // model.num_items))
    for start in range(0, len(histories), size):
        block = histories.select(slice(start, start + size))
        probabilities = model.predict_histories(block, num_seeds).clone()
        barred_items(block, allowed, filter_viewed=filter_viewed, device=probabilities.device).put_into(probabilities)
        ends = probabilities.clamp_(min=0).double().cumsum(1)
        total = ends[:, -1:]
        here = torch.from_numpy(chance[start : start + size]).to(ends.device)[:, None]
        column = torch.searchsorted(ends, here * total, right=True).clamp(max=model.num_items - 1).squeeze(1)
        row = torch.nonzero(total.squeeze(1) > 0).squeeze(1)
        found.add(start + row, column[row], probabilities[row, column[row]])
    return found
