"""The padded form of every model is that model on rows of T - 1 places; nothing here is timed."""

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.model_speed import WAYS, trained
from benchmarks.model_worker import ModelSystem, filled, make_system, padded_rows
from benchmarks.own_worker import batches
from benchmarks.workload import Workload, generated
from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.models import DuoRec

LENGTH = 6
SIZE = {"hidden_size": 4, "num_layers": 2, "num_heads": 2, "max_length": LENGTH, "dropout": 0.1}
LOG = generated(40, 15)
FORMS = [(model, settings) for model in trained() for settings in WAYS.get(model, {model: {}}).values()]


def system(model: str, settings: dict[str, Any], *, padded: bool) -> ModelSystem:
    spec = {"model": model, "settings": settings, "padded": padded, "rows": 20, "size": SIZE}
    return make_system(spec | {"precision": "float32", "learning_rate": 1e-3, "seed": 0}, LOG)


def watch(monkeypatch: pytest.MonkeyPatch, model: Any, name: str) -> list[RaggedBatch]:
    """The batches that a method of the model gets from now on."""
    seen: list[RaggedBatch] = []
    method = getattr(model, name)

    def watched(batch: RaggedBatch) -> Any:
        seen.append(batch)
        return method(batch)

    monkeypatch.setattr(model, name, watched)
    return seen


def test_histories_are_made_up_with_zeros_before_them() -> None:
    tokens, offsets = filled(torch.tensor([7, 8, 9, 4]), torch.tensor([3, 1]), 4)
    assert tokens.tolist() == [0, 7, 8, 9, 0, 0, 0, 4] and offsets.tolist() == [0, 4, 8]


def test_padding_changes_the_histories_alone_and_no_full_one() -> None:
    train = Workload(LOG, "").split.train
    batch = next(batches(train, LENGTH, 50, shared=False, seed=0))
    rows = padded_rows(batch, LENGTH - 1)
    assert rows.tokens.view(-1, LENGTH - 1).shape[0] == len(batch.targets) == 50
    assert torch.equal(rows.tokens[rows.tokens > 0], batch.tokens)
    for name in ("rows", "targets", "origins", "older", "older_back", "older_offsets"):
        assert torch.equal(getattr(rows, name), getattr(batch, name))
    again = padded_rows(rows, LENGTH - 1)
    assert all(torch.equal(getattr(again, name), getattr(rows, name)) for name in vars(rows))


@pytest.mark.parametrize(("model", "settings"), FORMS)
def test_every_model_trains_on_rows_of_one_target(
    model: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    padded = system(model, settings, padded=True)
    seen = watch(monkeypatch, padded.model, "loss")
    weight = next(padded.model.parameters())
    before = weight.detach().clone()
    assert [padded.step() for _ in range(3)] == [20, 20, 20]
    for batch in seen:
        assert batch.lengths.tolist() == batch.places.tolist() == [LENGTH - 1] * 20
        assert batch.rows.tolist() == list(range(20))
    assert not torch.equal(weight, before)


@pytest.mark.parametrize(("model", "settings"), FORMS)
def test_beside_it_every_model_trains_as_the_library_does(
    model: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = system(model, settings, padded=False)
    seen = watch(monkeypatch, own.model, "loss")
    count = own.step()
    shares = own.model.shares_history
    expected = next(batches(own.trainer.split.train, LENGTH, 20, shared=shares, seed=0))
    assert torch.equal(seen[0].tokens, expected.tokens) and torch.equal(seen[0].targets, expected.targets)
    assert (len(expected.lengths) < len(expected.targets)) == shares
    assert (count == len(expected.targets)) == (model != "bert4rec")


def test_a_target_of_bert4rec_is_a_masked_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for padded in (False, True):
        one = system("bert4rec", {"mask_proportion": 0.5}, padded=padded)
        seen = watch(monkeypatch, one.model, "_encode")
        count = one.step()
        (cloze,) = seen
        assert count == len(cloze.targets) and bool((cloze.tokens[cloze.offsets[cloze.rows] + cloze.places] == 0).all())
        assert padded == (count == len(cloze.lengths) and bool((cloze.places == LENGTH - 1).all()))


def test_other_histories_of_the_same_target_are_padded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for padded in (True, False):
        one = system("duorec", {}, padded=padded)
        assert isinstance(one.model, DuoRec)
        seen = watch(monkeypatch, one.model, "_encode")
        one.step()
        lengths = seen[0].lengths
        assert len(lengths) == 3 * 20  # each history, again, and another one of its target
        assert padded == bool((lengths == LENGTH - 1).all())


def test_the_two_sides_of_mfgan_take_turns_by_batches() -> None:
    one = system("mfgan", {}, padded=True)
    sides = []
    for _ in range(6):
        sides.append(one.model.phase())
        one.step()
    assert sides == ["generator", "discriminators"] * 3


def test_all_models_that_train_are_there_at_one_size() -> None:
    assert {"acvae", "bert4rec", "cl4srec", "diffrec", "duorec", "gru4rec", "mfgan", "sasrec", "stosa", "vsan"} <= set(
        trained()
    )
    assert not {"popularity", "markov", "itemknn"} & set(trained())
    for model, settings in FORMS:
        own = system(model, settings, padded=False).model
        assert own.max_length == LENGTH
        assert own.table.embedding.weight.shape[1] == (8 if model == "stosa" else 4)  # a mean and a covariance
        assert np.isfinite(own.table.mean_norm())
