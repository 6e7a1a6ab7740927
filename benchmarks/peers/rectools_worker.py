"""RecTools trains: its data preparator, its loader, Lightning's loop. Runs in RecTools' own environment.

A row is a user's training sequence, the last T + 1 items of it, padded to T on the left. SASRec predicts each item from
those before: a target is a place that is not padding. BERT4Rec masks places at random: those are the targets.
"""

import platform
from importlib import metadata
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import BERT4RecModel, SASRecModel

from benchmarks.peers.lightning_pace import pacing
from benchmarks.protocol import Channel, Log, Pace, validation_ranks

MODELS = {"SASRec": SASRecModel, "BERT4Rec": BERT4RecModel}


def interactions(log: Log) -> pd.DataFrame:
    """The training split as RecTools takes it, with the place in the sequence as the time."""
    rows = log.training
    lengths = [len(row) for row in rows]
    place = np.concatenate([np.arange(length) for length in lengths])
    return pd.DataFrame(
        {
            Columns.User: np.repeat(np.arange(len(rows)), lengths),
            Columns.Item: np.concatenate(rows),
            Columns.Weight: 1.0,
            Columns.Datetime: pd.to_datetime(place, unit="s"),
        }
    )


def make_model(spec: dict[str, Any], callback: Callback) -> Any:
    """RecTools' own defaults where nothing is set here, its trainer with the callback added."""
    size = spec["size"]

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=1_000_000,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            enable_checkpointing=False,
            devices=1,
            callbacks=[callback],
        )

    return MODELS[spec["model"]](
        n_blocks=size["num_layers"],
        n_heads=size["num_heads"],
        n_factors=size["hidden_size"],
        dropout_rate=size["dropout"],
        session_max_len=size["max_length"],
        batch_size=spec["sequences"],
        loss="softmax",
        lr=spec["learning_rate"],
        get_trainer_func=trainer,
    )


def main() -> None:
    """Train until the benchmark has had enough."""
    channel = Channel.open()
    spec = channel.spec
    seed_everything(spec["seed"])
    log = Log.read(spec["data"])
    table = interactions(log)

    def columns() -> NDArray[np.int64]:
        """Of each item of ours, RecTools' index; it knows the items of the training split alone."""
        found = np.full(log.num_items + 1, -1)
        for place, item in enumerate(model.data_preparator.item_id_map.get_external_sorted_by_internal()):
            if not isinstance(item, str):  # padding and masks have names
                found[int(item)] = place
        return found[1:]

    def score(histories: list[NDArray[np.int32]]) -> torch.Tensor:
        net, index = model.lightning_model.torch_model, np.concatenate([[-1], columns()])
        net.eval()
        rows = [(index[history].tolist(), [1.0] * len(history), {}) for history in histories]
        items = net.item_model.get_all_embeddings()
        batch = model.data_preparator._collate_fn_recommend(rows)
        states = net.encode_sessions({name: part.to(items.device) for name, part in batch.items()}, items)[:, -1]
        net.train()
        return net.similarity_module(states, items)

    facts = {
        "versions": {name: metadata.version(name) for name in ("rectools", "torch", "pytorch-lightning", "numpy")}
        | {"python": platform.python_version()},
        "batch": f"{spec['sequences']} sequences",
        "num_items": table[Columns.Item].nunique(),
        "rows_an_epoch": int((table[Columns.User].value_counts() >= 2).sum()),
    }
    pace = Pace(channel, facts, {"rank": lambda: validation_ranks(log, score, columns())})
    model = make_model(spec, pacing(Callback, pace, lambda batch: int((batch["y"] != 0).sum())))
    model.fit(Dataset.construct(table))


if __name__ == "__main__":
    main()
