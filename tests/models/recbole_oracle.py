"""What RecBole 1.2.1's SASRec, GRU4Rec and BERT4Rec make of given weights and histories: `recbole_figures.json`.

Written by RecBole in its own environment, since it needs an older NumPy than ours; a test then gives our models the
same weights (`test_against_recbole.py`):

    python -m benchmarks setup recbole
    build/peers/recbole/bin/python -m tests.models.recbole_oracle

Two of its settings are ours: norms add 1e-5 to the variance, not 1e-12, and padding is no candidate of the softmax.
"""

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

FIGURES = Path(__file__).with_name("recbole_figures.json")
ITEMS, SIZE, HEADS, LAYERS, LENGTH = 12, 8, 2, 2, 6
HISTORIES = [[3, 4, 5], [7, 1, 2, 3, 9, 8], [2]]
TARGETS = [6, 10, 12]
# Of BERT4Rec: windows, and the places masked in each; RecBole takes a mask at place 0 for padding.
WINDOWS = [[3, 4, 5, 6, 7, 1], [9, 2], [1, 12, 11]]
MASKED = [[1, 4], [1], [1, 2]]
SETTINGS = {
    "USER_ID_FIELD": "user",
    "ITEM_ID_FIELD": "item",
    "LIST_SUFFIX": "_list",
    "ITEM_LIST_LENGTH_FIELD": "length",
    "NEG_PREFIX": "neg_",
    "MAX_ITEM_LIST_LENGTH": LENGTH,
    "MASK_ITEM_SEQ": "masked",
    "POS_ITEMS": "positives",
    "NEG_ITEMS": "negatives",
    "MASK_INDEX": "places",
    "device": "cpu",
    "loss_type": "CE",
    "hidden_size": SIZE,
    "embedding_size": SIZE,
    "inner_size": 4 * SIZE,
    "n_heads": HEADS,
    "n_layers": LAYERS,
    "num_layers": LAYERS,
    "hidden_dropout_prob": 0.0,
    "attn_dropout_prob": 0.0,
    "dropout_prob": 0.0,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "initializer_range": 0.02,
    "mask_ratio": 0.2,
}


def given_weight(name: str, shape: list[int]) -> Tensor:
    """Numbers for the parameter of that name: about 0, but about 1 for what a norm multiplies by."""
    phase = sum(ord(letter) * (place + 1) for place, letter in enumerate(name))
    values = 0.5 * np.sin(phase + 1.7 * np.arange(np.prod(shape)))
    is_scale = "norm" in name.lower() or "_ln" in name
    values += is_scale and name.endswith("weight")
    return torch.from_numpy(values.astype(np.float32)).view(*shape)


def padded(lists: list[list[int]]) -> Tensor:
    return torch.tensor([one + [0] * (LENGTH - len(one)) for one in lists])


class Catalogue:
    """All that RecBole's classes ask of a dataset."""

    def num(self, field: str) -> int:
        return ITEMS + 1


class WithoutPadding(nn.CrossEntropyLoss):
    """Softmax over items alone."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return super().forward(input[:, 1:], target - 1)


def figures(model: nn.Module, batch: dict[str, Tensor], question: dict[str, Tensor], watched: str) -> dict[str, Any]:
    """Its parameters' shapes, scores of all items, loss, and the loss's gradient of one parameter."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(given_weight(name, list(parameter.shape)))
        parameters["item_embedding.weight"][0] = 0
        if "output_bias" in parameters:
            parameters["output_bias"][0] = -1e9  # so that padding is no candidate
    model.eval()
    loss = model.calculate_loss(batch)
    loss.backward()
    with torch.no_grad():
        scores = model.full_sort_predict(question)[:, 1:]
    return {
        "shapes": {name: list(parameter.shape) for name, parameter in parameters.items()},
        "scores": scores.tolist(),
        "loss": loss.item(),
        "watched": watched,
        "gradient": parameters[watched].grad.tolist(),
    }


def main() -> None:
    """Write the figures of all three."""
    from recbole.model.sequential_recommender import BERT4Rec, GRU4Rec, SASRec

    lengths = torch.tensor([len(one) for one in HISTORIES])
    rows = {"item_list": padded(HISTORIES), "length": lengths, "item": torch.tensor(TARGETS)}
    found = {}
    for kind, watched in ((SASRec, "item_embedding.weight"), (GRU4Rec, "gru_layers.weight_ih_l0")):
        model = kind(SETTINGS, Catalogue())
        model.loss_fct = WithoutPadding()
        found[kind.__name__] = figures(model, rows, rows, watched)
    bert4rec = BERT4Rec(SETTINGS, Catalogue())
    most = max(len(one) for one in MASKED)
    hidden = [
        [ITEMS + 1 if place in at else item for place, item in enumerate(one)]
        for one, at in zip(WINDOWS, MASKED, strict=True)
    ]
    positives = [[one[place] for place in at] for one, at in zip(WINDOWS, MASKED, strict=True)]
    cloze = {
        "masked": padded(hidden),
        "places": torch.tensor([[0] * (most - len(at)) + at for at in MASKED]),
        "positives": torch.tensor([[0] * (most - len(one)) + one for one in positives]),
        "negatives": torch.zeros((len(MASKED), most), dtype=torch.int64),
    }
    # To make room for the mask it drops the first item, whether or not there is room.
    recent = [[1, *one[1 - LENGTH :]] for one in HISTORIES]
    asked = {"item_list": padded(recent), "length": torch.tensor([len(one) for one in recent])}
    found["BERT4Rec"] = figures(bert4rec, cloze, asked, "item_embedding.weight")
    versions = {name: metadata.version(name) for name in ("recbole", "torch", "numpy")}
    lines = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(one)}" for name, one in {"versions": versions, **found}.items()
    )
    FIGURES.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
