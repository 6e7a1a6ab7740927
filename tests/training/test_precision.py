"""In which precision and on which device training computes, and what is said of it."""

import pytest
import torch

from seqdiffrec.models.device import pick_device, use_bfloat16
from seqdiffrec.models.settings import SettingError


@pytest.mark.parametrize(
    ("name", "settings"), [("sasrec", {}), ("diffrec", {}), ("diffrec", {"attention": "shared_history"})]
)
def test_bfloat16_products_train_float32_weights(build, trainer_for, name, settings):
    histories = []
    for precision in ("bfloat16", "float32"):
        model = build(name, **settings)
        histories.append(trainer_for(model, epochs=1, precision=precision).train().history)
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    losses = [history[0]["train"]["loss"] for history in histories]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("name", "precision", "emulated", "warned"),
    [
        ("sasrec", "bfloat16", True, True),
        ("sasrec", "bfloat16", False, False),
        ("sasrec", "auto", True, False),
        ("sasrec", "float32", True, False),
        ("popularity", "bfloat16", True, False),
    ],
)
def test_bfloat16_that_is_emulated_is_told(build, trainer_for, monkeypatch, caplog, name, precision, emulated, warned):
    """Once a training, and only where it is asked for; ``auto`` leaves it out, and what only counts has no products."""
    for where in ("models.device", "training.loop"):
        monkeypatch.setattr(f"seqdiffrec.{where}.has_bfloat16", lambda device: not emulated)
    trainer_for(build(name), epochs=2, precision=precision).train()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == warned
    if warned:
        assert "emulates it" in told[0] and "set training.precision to auto or float32" in told[0]


def test_precision_and_device_are_as_told():
    cpu = torch.device("cpu")
    assert use_bfloat16("bfloat16", cpu) and not use_bfloat16("float32", cpu)
    assert isinstance(use_bfloat16("auto", cpu), bool)
    assert pick_device("cpu") == cpu
    if not torch.cuda.is_available():
        assert pick_device("auto") == cpu
        with pytest.raises(SettingError, match="no such GPU"):
            pick_device("cuda")
