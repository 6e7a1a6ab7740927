"""The map of the items and the way on it, against NumPy and against the sampler that serves."""

import numpy as np
import pytest
import torch

from seqdiffrec.data import Sequences
from seqdiffrec.inference.denoising import trace_denoising
from seqdiffrec.inference.item_map import ItemMap
from seqdiffrec.models.settings import SettingError
from tests.inference.conftest import make

HISTORY = np.array([3, 1, 4, 1, 5], np.int32)


def test_the_axes_are_principal_components(models) -> None:
    model = models["diffrec"].model
    item_map = ItemMap.of(model, limit=9)
    popular = np.argsort(-model.item_counts.numpy(), kind="stable")[:9]
    shown = model.table.embedding.weight.detach().numpy()[1:][popular]
    values, vectors = np.linalg.eigh(np.cov(shown.T))
    assert item_map.columns.tolist() == popular.tolist()
    np.testing.assert_allclose(item_map.shares, (values / values.sum())[:-3:-1], rtol=1e-4)
    expected = (shown - shown.mean(0)) @ vectors[:, :-3:-1]
    np.testing.assert_allclose(item_map.points.abs().numpy(), np.abs(expected), atol=1e-5)
    np.testing.assert_allclose(item_map.place(torch.from_numpy(shown)), item_map.points, atol=1e-5)


@pytest.mark.parametrize("name", ["diffrec", "shared"])
def test_the_way_ends_where_the_sampler_does(name, models, data) -> None:
    served = models[name]
    long = make(name, inference_steps=5, num_seeds=1)
    long._take(served.model.__class__(long.config, served.model.num_items), data.corpus, None)
    long.model.load_state_dict(served.model.state_dict())
    expected = long.model.eval().predict_histories(Sequences(HISTORY, np.array([0]), np.array([5])))[0]

    trace = trace_denoising(
        served.model, ItemMap.of(served.model), HISTORY, num_inference_steps=5, k=4, filter_viewed=False
    )
    assert trace.steps == [10, 8, 6, 4, 2, 0]
    torch.testing.assert_close(trace.said.probabilities[-1], expected.sort(descending=True).values[:4])
    torch.testing.assert_close(trace.at[-1], trace.predicted[-1])
    assert not torch.allclose(trace.at[0], trace.predicted[0])


def test_the_first_prediction_is_that_of_the_same_seed(models) -> None:
    """Algorithm 3 ends where Algorithm 2 begins: at f(h_N, N)."""
    model = models["diffrec"].model
    picks = model.predict_histories(Sequences(HISTORY, np.array([0]), np.array([5])), num_seeds=1)[0]
    trace = trace_denoising(model, ItemMap.of(model), HISTORY, seed=0, filter_viewed=False)
    torch.testing.assert_close(trace.said.probabilities[0], picks.sort(descending=True).values[:5])
    other = trace_denoising(model, ItemMap.of(model), HISTORY, seed=1, filter_viewed=False)
    assert not torch.equal(trace.at[0], other.at[0])


def test_nearest_is_by_direction(models) -> None:
    model = models["diffrec"].model
    item_map = ItemMap.of(model)
    assert item_map.nearest(7 * item_map.vectors[[4, 2]], 1).flatten().tolist() == [4, 2]


def test_what_was_viewed_is_not_said(models) -> None:
    trace = trace_denoising(models["shared"].model, ItemMap.of(models["shared"].model), HISTORY, k=14)
    listed = trace.said.columns[trace.said.probabilities >= 0]
    assert not set((HISTORY - 1).tolist()) & set(listed.tolist())


def test_a_model_without_diffusion_has_a_state_alone(models) -> None:
    model = models["sasrec"].model
    trace = trace_denoising(model, ItemMap.of(model), HISTORY, k=3, filter_viewed=False)
    expected = model.predict_histories(Sequences(HISTORY, np.array([0]), np.array([5])))[0]
    assert trace.steps == [0]
    torch.testing.assert_close(trace.said.probabilities[0], expected.sort(descending=True).values[:3])


def test_what_cannot_be_drawn_is_said(models) -> None:
    with pytest.raises(SettingError, match="popularity has no item vectors"):
        ItemMap.of(models["popularity"].model)
    model = models["diffrec"].model
    with pytest.raises(SettingError, match="empty history"):
        trace_denoising(model, ItemMap.of(model), np.empty(0, np.int32))
    with pytest.raises(SettingError, match="popularity has no item vectors"):
        trace_denoising(models["popularity"].model, ItemMap.of(model), HISTORY)
