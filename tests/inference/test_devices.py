"""A run that is opened answers on the device that its training asks for, as that is here."""

import json
from pathlib import Path

import polars as pl
import pytest
import torch

import seqdiffrec as sdr
from seqdiffrec.serving.model_process import Answering
from seqdiffrec.training import Reporter
from tests.inference.conftest import make


@pytest.mark.parametrize("name", ["diffrec", "shared", "sasrec", "popularity"])
@pytest.mark.parametrize("device", ["auto", "cuda:1"])
def test_a_loaded_model_is_on_the_device_of_its_training(data, tmp_path, monkeypatch, name, device):
    """Also in the process that serves. The GPU of this test is torch's device without memory."""
    make(name, device="cpu").fit(data, out=tmp_path / "run", reporter=Reporter())
    asks_for(tmp_path / "run", device)
    gpu = torch.device("meta")
    monkeypatch.setattr("seqdiffrec.models.device.pick_device", {device: gpu}.__getitem__)
    loaded, serving = sdr.load(tmp_path / "run"), Answering()
    serving.load({"model": 1, "run": str(tmp_path / "run"), "hash": loaded.run.weights_hash(), "with_index": False})
    for model in (loaded.model, serving._models[1][0]):
        assert {one.device for one in (*model.parameters(), *model.buffers())} == {gpu}


def test_a_run_of_a_gpu_that_is_not_here_answers_on_the_cpu_and_says_so_once(data, tmp_path, monkeypatch, caplog):
    on_cpu = make("diffrec", device="cpu").fit(data, out=tmp_path / "run", reporter=Reporter())
    asks_for(tmp_path / "run", "cuda:7")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    loaded = [sdr.load(tmp_path / "run") for _ in range(2)]
    assert [record.getMessage() for record in caplog.records] == [
        "the run was trained on cuda:7, and torch finds no such GPU here: the model answers on the CPU"
    ]
    assert all(model.recommend([101], 5).equals(on_cpu.recommend([101], 5)) for model in loaded)
    more = pl.DataFrame({"user_id": [101, 101], "item_id": [10, 20]})
    learned = loaded[0].fit_partial(more, epochs=1, reporter=Reporter())
    assert learned.training.device == "cuda:7" and learned.model.item_counts.device.type == "cpu"
    with pytest.raises(sdr.SettingError, match="no such GPU"):
        make("diffrec", device="cuda:7").fit(data, reporter=Reporter())


def asks_for(run: Path, device: str) -> None:
    """Have the run's record say that it was trained on this device."""
    record = json.loads((run / "run.json").read_text())
    record["settings"]["training"]["device"] = device
    (run / "run.json").write_text(json.dumps(record))
