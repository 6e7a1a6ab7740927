"""Exported files: the same answers as torch for any batch and length, whole or not there, 8 bits."""

import copy
import json
from collections.abc import Iterator

import numpy as np
import onnxruntime
import pytest
import torch

import seqdiffrec as sdr
from seqdiffrec.inference import export
from seqdiffrec.models.padded import padded
from seqdiffrec.training import Reporter
from tests.inference.conftest import make
from tests.shapes import unchecked


@pytest.fixture(scope="module", autouse=True)
def _shapes_are_not_checked() -> Iterator[None]:
    """jaxtyping would take the numbers that stand for any batch and length for wrong types."""
    with unchecked():
        yield


@pytest.fixture(scope="module", params=["diffrec", "sasrec"])
def exported(request, models, tmp_path_factory) -> tuple[sdr.Recommender, onnxruntime.InferenceSession, dict]:
    path = tmp_path_factory.mktemp("onnx") / "mine.onnx"
    model = models[request.param]
    found = sdr.export_onnx(model, path, k=5, filter_viewed=request.param == "sasrec")
    return model, onnxruntime.InferenceSession(path), found


@pytest.mark.slow
def test_any_batch_and_length_gets_the_models_answer(exported):
    model, session, found = exported
    assert found["largest_difference"] < 1e-6 and found["out_of_order"] == 0 and found["overlap"] > 0.99
    facts = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
    assert facts["item_ids"] == model.vocabulary["item_id"].to_list() and facts["max_length"] == 6
    network = padded(model.model, 5, filter_viewed=facts["filter_viewed"])
    noise = {} if facts["noise"] is None else {"noise": np.array(facts["noise"], np.float32)}
    assert (facts["noise"] is None) == (model.model_name == "sasrec")
    rng = np.random.default_rng(0)
    for batch, length in [(1, 1), (1, 3), (2, 1), (3, 5), (7, 6), (2, 40)]:
        history = rng.integers(0, len(model.vocabulary) + 1, (batch, length))
        history[:, -1] = 1  # not empty, where ties are many
        items, probabilities = session.run(None, {"history": history, **noise})
        with torch.no_grad():
            own = network(torch.from_numpy(history), network.noise)
        assert np.abs(probabilities - own[1].numpy()).max() < 1e-5
        assert (items == own[0].numpy()).all()
    if noise:  # other draws, and another number of them
        history, noise = np.array([[1, 2, 3]]), np.ones((1, 8), np.float32)
        _, probabilities = session.run(None, {"history": history, "noise": noise})
        with torch.no_grad():
            own = network(torch.from_numpy(history), torch.from_numpy(noise))
        assert np.abs(probabilities - own[1].numpy()).max() < 1e-5


class Wrong:
    """In place of onnxruntime's session: the right answers but for one."""

    def __init__(self, network, change):
        self.network, self.change = network, change

    def run(self, _: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            items, probabilities = self.network(torch.from_numpy(inputs["history"]), self.network.noise)
        return [part.numpy() for part in self.change(items.clone(), probabilities.clone())]


def swapped(items, probabilities):
    return items.flip(1), probabilities.flip(1)


def off(items, probabilities):
    probabilities[0, 2] += 2e-4
    return items, probabilities


@pytest.mark.parametrize("name", ["shared", "sasrec"])
def test_a_difference_is_seen(name: str, models, data):
    network = padded(models[name].model, 5, filter_viewed=True)
    asked = data.corpus.sequences()
    right = export.compared(Wrong(network, lambda *parts: parts), network, asked)
    assert right["largest_difference"] < 1e-6 and right["out_of_order"] == 0 and right["overlap"] == 1
    assert export.compared(Wrong(network, swapped), network, asked)["out_of_order"] == len(asked)
    assert export.compared(Wrong(network, off), network, asked)["largest_difference"] == pytest.approx(2e-4, rel=0.01)


def test_nothing_is_written_where_the_answers_differ(models, tmp_path, monkeypatch):
    network = padded(models["sasrec"].model, 10, filter_viewed=True)
    proto = type("Proto", (), {"metadata_props": type("List", (), {"add": lambda self, **_: None})()})()
    proto.SerializeToString = lambda: b"graph"
    monkeypatch.setattr(export, "traced", lambda _: proto)
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda _: Wrong(network, off))
    with pytest.raises(RuntimeError, match="differ, so nothing is written"):
        sdr.export_onnx(models["sasrec"], tmp_path / "mine.onnx")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda _: Wrong(network, lambda *parts: parts))
    assert sdr.export_onnx(models["sasrec"], tmp_path / "mine.onnx")["bytes"] == 5


@pytest.mark.slow
def test_eight_bits_are_smaller_and_say_what_they_lose(data, tmp_path, monkeypatch):
    model = make("sasrec", hidden_size=64).fit(data, reporter=Reporter())
    # Both files come from the same graph, and making it takes seconds.
    graph = export.traced(padded(model.model, 10, filter_viewed=True))
    monkeypatch.setattr(export, "traced", lambda _: copy.deepcopy(graph))
    whole = sdr.export_onnx(model, tmp_path / "whole.onnx")
    small = sdr.export_onnx(model, tmp_path / "small.onnx", int8=True)
    assert small["bytes"] < whole["bytes"] / 2
    assert 0.5 < small["overlap"] <= 1 and small["largest_difference"] > whole["largest_difference"]
    session = onnxruntime.InferenceSession(tmp_path / "small.onnx")
    assert json.loads(session.get_modelmeta().custom_metadata_map["model"]) == "sasrec"


@pytest.mark.parametrize(
    ("path", "how", "said"),
    [
        ("mine.txt", {}, "the name of an ONNX file ends in .onnx"),
        ("there.onnx", {}, "there.onnx exists already"),
        ("mine.onnx", {"k": 0}, "at least 1, not 0"),
        ("mine.onnx", {"k": 1000}, "1000"),
    ],
)
def test_wrong_input_is_refused(path: str, how: dict, said: str, models, tmp_path):
    (tmp_path / "there.onnx").write_text("mine")
    with pytest.raises(sdr.SettingError, match=said):
        sdr.export_onnx(models["sasrec"], tmp_path / path, **how)
    assert (tmp_path / "there.onnx").read_text() == "mine" and not (tmp_path / "mine.onnx").exists()


def test_popularity_has_no_graph(models, tmp_path):
    with pytest.raises(sdr.SettingError, match="popularity cannot be exported; these can"):
        sdr.export_onnx(models["popularity"], tmp_path / "mine.onnx")


def test_without_the_log_random_histories_are_asked(models, tmp_path):
    loaded = sdr.Recommender.from_pretrained(models["sasrec"].save_pretrained(tmp_path / "mine"))
    histories, whose = export._histories(loaded, 50)
    assert len(histories) == 50 and whose.startswith("nobody")
    assert histories.lengths.min() >= 1 and histories.lengths.max() > 6
    assert histories.items.min() >= 1 and histories.items.max() <= len(loaded.vocabulary)
    asked, whose = export._histories(models["sasrec"], 5)
    assert len(asked) == 5 and whose == "users of the log"
