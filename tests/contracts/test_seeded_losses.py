"""No optimisation of the engine changes a seeded loss: values that were computed once, in float32 without dropout.

Two batches with a step between them, so that gradients count, too. To record a new variant, or a change that is meant
to change a loss: `SEQDIFFREC_RECORD_LOSSES=1 pytest tests/contracts/test_seeded_losses.py`, and say why in the commit.
"""

import json
import os
from pathlib import Path

import pytest
import torch

from seqdiffrec.models import MODELS
from seqdiffrec.training import TrainingConfig
from seqdiffrec.training.optimization import make_optimizer

from .test_models import LISTS, VARIANTS, make, ragged, training_batch

RECORD = Path(__file__).with_name("seeded_losses.json")
DISCRIMINATORS: dict[str, object] = {
    "pretraining_epochs": 0,
    "discriminator_pretraining_epochs": 100,
    "num_generated": 3,
}
TRAINED = [(name, settings) for name, settings in VARIANTS if list(make(name, settings).parameters())]
TRAINED += [("mfgan", DISCRIMINATORS)]


def key_of(name: str, settings: dict[str, object]) -> str:
    return " ".join([name, *(f"{key}={value}" for key, value in settings.items())])


def losses(name: str, settings: dict[str, object]) -> list[float]:
    fields = MODELS[name].config_class.model_fields
    still = {field: 0.0 for field in fields if "dropout" in field and fields[field].annotation is not bool}
    model = make(name, {**settings, **still}).train()
    model.count_items(ragged(*LISTS))
    optimizer = make_optimizer(model, TrainingConfig(learning_rate=0.02))
    found: list[float] = []
    for step in range(2):
        torch.manual_seed(step)
        loss = model.loss(training_batch(model, *LISTS))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        found.append(loss.total.item())
    return found


@pytest.mark.parametrize(("name", "settings"), TRAINED)
def test_a_seeded_loss_is_what_it_was(name, settings):
    recorded = json.loads(RECORD.read_text())
    found = losses(name, settings)
    if os.environ.get("SEQDIFFREC_RECORD_LOSSES"):
        RECORD.write_text(json.dumps({**recorded, key_of(name, settings): found}, indent=1) + "\n")
    else:
        assert found == pytest.approx(recorded[key_of(name, settings)], rel=1e-5)


def test_nothing_is_recorded_of_what_is_gone():
    assert json.loads(RECORD.read_text()).keys() == {key_of(name, settings) for name, settings in TRAINED}
