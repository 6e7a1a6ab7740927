"""SASRec, GRU4Rec and BERT4Rec with RecBole's weights give RecBole's scores, loss and gradients."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from seqdiffrec.data.batches import RaggedBatch, cut_windows, window_batch
from seqdiffrec.models import (
    BERT4Rec,
    BERT4RecConfig,
    GRU4Rec,
    GRU4RecConfig,
    SASRec,
    SASRecConfig,
    SequenceModel,
)
from tests.models.recbole_oracle import (
    FIGURES,
    HEADS,
    HISTORIES,
    ITEMS,
    LAYERS,
    LENGTH,
    MASKED,
    SIZE,
    TARGETS,
    WINDOWS,
    given_weight,
)
from tests.models.tiny import ragged, training_batch

ENCODER = {"hidden_size": SIZE, "num_layers": LAYERS, "num_heads": HEADS, "dropout": 0.0}
EMBEDDING = "table.embedding.weight"


def recbole(kind: type[SequenceModel]) -> tuple[dict[str, Tensor], dict]:
    """RecBole's parameters by their names there, and what it makes of them."""
    figures = json.loads(FIGURES.read_text())[kind.__name__]
    theirs = {name: given_weight(name, shape) for name, shape in figures["shapes"].items()}
    theirs["item_embedding.weight"][0] = 0
    return theirs, figures


def load(model: SequenceModel, ours: dict[str, Tensor]) -> None:
    """All parameters, none left out."""
    assert set(ours) == {name for name, _ in model.named_parameters()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(ours[name])
    model.eval()


def transformer(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Positions and encoder by our names. Ours has a place more, that of the target."""
    ours = {"position.weight": torch.cat([theirs["position_embedding.weight"], torch.zeros(1, SIZE)])}
    names = {
        "query": "multi_head_attention.query",
        "output": "multi_head_attention.dense",
        "attention_norm": "multi_head_attention.LayerNorm",
        "wide": "feed_forward.dense_1",
        "narrow": "feed_forward.dense_2",
        "feed_forward_norm": "feed_forward.LayerNorm",
    }
    for kind in ("weight", "bias"):
        ours[f"encoder.input_norm.{kind}"] = theirs[f"LayerNorm.{kind}"]
        for layer in range(LAYERS):
            at, there = f"encoder.layers.{layer}", f"trm_encoder.layer.{layer}"
            ours |= {f"{at}.{name}.{kind}": theirs[f"{there}.{theirs_is}.{kind}"] for name, theirs_is in names.items()}
            key, value = (theirs[f"{there}.multi_head_attention.{one}.{kind}"] for one in ("key", "value"))
            ours[f"{at}.key_value.{kind}"] = torch.cat([key, value])
    return ours


def sasrec() -> tuple[SASRec, dict, RaggedBatch, Tensor]:
    theirs, figures = recbole(SASRec)
    model = SASRec(SASRecConfig(**ENCODER, max_length=LENGTH + 1), ITEMS)
    load(model, {EMBEDDING: theirs["item_embedding.weight"]} | transformer(theirs))
    return model, figures, training_batch(*rows()), model.get_parameter(EMBEDDING)


def gru4rec() -> tuple[GRU4Rec, dict, RaggedBatch, Tensor]:
    """Their dense layer behind the recurrent ones is part of our output's weight and bias."""
    theirs, figures = recbole(GRU4Rec)
    E, W, b = (theirs[name] for name in ("item_embedding.weight", "dense.weight", "dense.bias"))
    ours = {EMBEDDING: E, "table.output.weight": E @ W, "table.output.bias": E @ b}
    for layer in range(LAYERS):
        for side in ("ih", "hh"):
            ours[f"layers.{layer}.weight_{side}_l0"] = theirs[f"gru_layers.weight_{side}_l{layer}"]
            ours[f"layers.{layer}.bias_{side}_l0"] = torch.zeros(3 * SIZE)
    config = GRU4RecConfig(hidden_size=SIZE, num_layers=LAYERS, max_length=LENGTH + 1, tied_output=False)
    model = GRU4Rec(config, ITEMS)
    load(model, ours)
    return model, figures, training_batch(*rows()), model.get_parameter("layers.0.weight_ih_l0")


def bert4rec() -> tuple[BERT4Rec, dict, RaggedBatch, Tensor]:
    """Their mask is one more row of the item table."""
    theirs, figures = recbole(BERT4Rec)
    E = theirs["item_embedding.weight"]
    ours = {EMBEDDING: E[: ITEMS + 1], "mask.weight": E[ITEMS + 1 :], "table.bias": theirs["output_bias"]}
    for kind in ("weight", "bias"):
        ours |= {f"head.0.{kind}": theirs[f"output_ffn.{kind}"], f"head.2.{kind}": theirs[f"output_ln.{kind}"]}
    ours |= transformer(theirs)
    ours["position.weight"] = ours["position.weight"][:LENGTH]
    model = BERT4Rec(BERT4RecConfig(**ENCODER, max_length=LENGTH), ITEMS)
    load(model, ours)

    def draw(row: Tensor, place: Tensor, _: Tensor) -> Tensor:
        pairs = zip(row.tolist(), place.tolist(), strict=True)
        return torch.tensor([at in MASKED[where] for where, at in pairs])

    model._draw = draw
    train = ragged(*WINDOWS)
    cut = cut_windows(train, LENGTH, shared=True, prefixes=True, rng=np.random.default_rng(0))
    return model, figures, window_batch(train, cut), model.get_parameter(EMBEDDING)


def rows() -> list[list[int]]:
    return [[*history, target] for history, target in zip(HISTORIES, TARGETS, strict=True)]


@pytest.mark.parametrize("made", [sasrec, gru4rec, bert4rec])
def test_scores_loss_and_gradient_are_recboles(made: Callable[[], tuple]):
    model, figures, batch, watched = made()
    expected = torch.tensor(figures["scores"]).softmax(-1)
    torch.testing.assert_close(model.predict_histories(ragged(*HISTORIES)), expected, rtol=1e-5, atol=1e-7)
    loss = model.loss(batch).total
    assert loss.item() == pytest.approx(figures["loss"], abs=1e-5)
    loss.backward()
    found, theirs = watched.grad.to_dense(), torch.tensor(figures["gradient"])
    if isinstance(model, BERT4Rec):  # whose mask is a row of their table
        found = torch.cat([found, model.mask.weight.grad])
    torch.testing.assert_close(found, theirs, rtol=1e-4, atol=1e-6)
