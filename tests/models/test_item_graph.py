"""The graph of items: stored, saved and loaded in any size, followed in stretches."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from seqdiffrec.models import item_graph
from seqdiffrec.models.item_graph import ItemGraph

V = 4
ARCS = {1: {2: 0.5, 4: 0.25}, 3: {3: 2.0}}  # 2 and 4 lead nowhere
POPULARITY = torch.tensor([0.1, 0.2, 0.3, 0.4])


def graph(arcs: dict[int, dict[int, float]]) -> ItemGraph:
    made = ItemGraph(V)
    counts = np.array([len(arcs.get(item, {})) for item in range(V + 1)])
    ends = [(item, weight) for start in sorted(arcs) for item, weight in arcs[start].items()]
    made.store(counts, np.array([item for item, _ in ends], dtype=np.int64), np.array([one for _, one in ends]))
    return made


def answer(of: ItemGraph, smoothing: float, rows: list[int], items: list[int], factors: list[float]) -> list:
    found = of.probabilities(torch.tensor(rows), torch.tensor(items), torch.tensor(factors), 3, POPULARITY, smoothing)
    return found.tolist()


@pytest.mark.parametrize("at_once", [1, 2, 2**22])
def test_probabilities_by_hand(monkeypatch, at_once):
    monkeypatch.setattr(item_graph, "ARCS_AT_ONCE", at_once)
    # Row 0: item 1 in full and item 3 by half; row 1: item 2, which leads nowhere; row 2: item 1 twice.
    entries = [0, 2, 1, 0, 2], [1, 1, 2, 3, 1], [1.0, 1.0, 1.0, 0.5, 1.0]
    first = [0, 0.5 / 1.75, 1 / 1.75, 0.25 / 1.75]
    last = [0, 2 / 3, 0, 1 / 3]
    for row, expected in zip(answer(graph(ARCS), 0.0, *entries), [first, POPULARITY.tolist(), last], strict=True):
        assert row == pytest.approx(expected, rel=1e-6)
    first = [0.05 / 2.25, 0.6 / 2.25, 1.15 / 2.25, 0.45 / 2.25]
    last = [0.05 / 2, 1.1 / 2, 0.15 / 2, 0.7 / 2]
    for row, expected in zip(answer(graph(ARCS), 0.5, *entries), [first, POPULARITY.tolist(), last], strict=True):
        assert row == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("before", [{}, {4: {1: 7.0, 2: 1.0, 3: 1.0, 4: 1.0}}, ARCS])
@pytest.mark.parametrize("arcs", [{}, ARCS], ids=["empty", "some"])
def test_weights_of_another_number_of_arcs_are_loaded(tmp_path, before, arcs):
    save_file(graph(arcs).state_dict(), tmp_path / "weights.safetensors")
    loaded = graph(before)
    loaded.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    for name, tensor in graph(arcs).state_dict().items():
        found = loaded.state_dict()[name]
        assert torch.equal(found, tensor) and found.dtype == tensor.dtype
    assert answer(loaded, 0.5, [0], [1], [1.0]) == answer(graph(arcs), 0.5, [0], [1], [1.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": torch.ones(2, dtype=torch.int32)}, "offsets ends at 3, but there are 2 items"),
        ({"offsets": torch.tensor([0, 0, 2, 2, 3])}, "size mismatch for offsets"),
        ({"weights": None}, "Missing key"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, message):
    state = {**graph(ARCS).state_dict(), **change}
    with pytest.raises(RuntimeError, match=message):
        ItemGraph(V).load_state_dict({name: tensor for name, tensor in state.items() if tensor is not None})
