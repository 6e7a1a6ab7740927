"""The way from noise to an item, for people to look at: Algorithm 2 on a map of the items."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from seqdiffrec.data.batches import history_batch
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.inference.item_map import ItemMap
from seqdiffrec.models import DiffRec, SequenceModel
from seqdiffrec.models.item_table import TableModel, directions
from seqdiffrec.models.settings import SettingError
from seqdiffrec.models.top import Barred, Top


@dataclass(frozen=True, eq=False)
class Trace:
    """What a model has at the target's place after a history, step by step; a row for each step n, 0 last.

    steps: the diffusion steps n; 0 alone for a model without a diffusion, whose only row is its state.
    at: where h_n lies on the map. predicted: where the h_0 lies that the denoiser predicts from it (Eq. 16).
    nearest: columns of the items nearest to h_n, nearest first.
    said: the items that the predicted h_0 stands for, best first, and their probabilities (Eq. 8).
    """

    steps: list[int]
    at: Float[Tensor, "n 2"]
    predicted: Float[Tensor, "n 2"]
    nearest: Int64[Tensor, "n k"]
    said: Top


@torch.inference_mode()
def trace_denoising(
    model: SequenceModel,
    item_map: ItemMap,
    history: NDArray[np.int32],
    *,
    seed: int = 0,
    num_inference_steps: int = 30,
    k: int = 5,
    filter_viewed: bool = True,
) -> Trace:
    """Follow Algorithm 2 from step N to 0 after a history of item indices, oldest first.

    seed: of the noise. num_inference_steps: how many of the N steps are taken, N at most.
    k, filter_viewed: of the lists of items; what is near to h_n may be in the history all the same.
    Raises SettingError for an empty history, or a model without item vectors.
    """
    if not isinstance(model, TableModel):
        raise SettingError(f"{model.name} has no item vectors, so nothing of it can be drawn on a map")
    if len(history) == 0:
        raise SettingError("an empty history gets the most popular items, without the model: there is nothing to draw")
    model.eval()
    whole = Sequences(history, np.zeros(1, np.int64), np.array([len(history)]))
    batch = history_batch(whole, model.max_length).to(model.item_counts.device)
    if isinstance(model, DiffRec) and model.has_diffusion:
        steps = min(num_inference_steps, model.config.num_steps)
        passed = model.denoising(batch, seed, steps)
        final = passed[-1].h0_hat
        numbers = [*(one.step for one in passed), 0]
        states = torch.cat([*(one.hn for one in passed), final])
        predicted = torch.cat([*(one.h0_hat for one in passed), final])
    else:
        numbers, state = [0], model.represent(batch, 1)[0]
        # A cosine output reads the direction alone, and its item vectors have the length 1.
        states = predicted = state if model.table.log_scale is None else directions(state)
    said = _said(model, whole, predicted, k, filter_viewed)
    return Trace(numbers, item_map.place(states), item_map.place(predicted), item_map.nearest(states, k), said)


def _said(model: TableModel, history: Sequences, predicted: Tensor, k: int, filter_viewed: bool) -> Top:
    """The best items for each of several representations after the same history."""
    count, device = len(predicted), model.item_counts.device
    histories = history.select(np.zeros(count, np.int64))
    rows, items = histories.flat() if filter_viewed else (np.empty(0, np.int64), np.empty(0, np.int32))
    pairs = (torch.from_numpy(part.astype(np.int64)).to(device) for part in (rows, items - 1))
    barred = Barred.all_but(torch.ones(model.num_items, dtype=torch.bool, device=device), *pairs)
    batch = history_batch(histories, model.max_length).to(device)
    return model.table.top(predicted[None], batch, k, barred)
