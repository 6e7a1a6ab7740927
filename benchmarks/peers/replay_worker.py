"""RePlay trains: its loaders, its modules, Lightning's loop. Runs in RePlay's own environment.

A row is a user's training sequence, the last T items of it (SasRec: T + 1), padded on the left. SasRec predicts each
item from those before: a target is a place that is not padding. Bert4Rec masks places at random: those are the targets.
"""

import platform
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from lightning import Callback, Trainer, seed_everything
from numpy.typing import NDArray
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.data.nn.sequential_dataset import PandasSequentialDataset
from replay.models.nn.optimizer_utils import FatOptimizerFactory
from replay.models.nn.sequential.bert4rec import Bert4Rec, Bert4RecTrainingDataset
from replay.nn.lightning import LightningModule
from replay.nn.lightning.optimizer import OptimizerFactory
from replay.nn.sequential import SasRec
from replay.nn.transform.template import make_default_sasrec_transforms
from torch.utils.data import DataLoader

from benchmarks.peers.lightning_pace import pacing
from benchmarks.protocol import Channel, Log, Pace, padded, validation_ranks

ITEM = "item_id"


def item_schema(spec: dict[str, Any], num_items: int, padding: int) -> TensorSchema:
    """Items 0..V - 1."""
    item = TensorFeatureInfo(
        ITEM,
        is_seq=True,
        feature_type=FeatureType.CATEGORICAL,
        embedding_dim=spec["size"]["hidden_size"],
        padding_value=padding,
        cardinality=num_items,
        feature_hint=FeatureHint.ITEM_ID,
        feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, ITEM)],
    )
    return TensorSchema([item])


class SasRecSystem:
    """SasRec over RePlay's Parquet module."""

    def __init__(self, spec: dict[str, Any], log: Log, folder: Path):
        size, schema = spec["size"], item_schema(spec, log.num_items, padding=log.num_items)
        self.num_items, self.max_length = log.num_items, size["max_length"]
        rows = [row.astype(np.int64) - 1 for row in log.training]
        pq.write_table(pa.table({ITEM: pa.array(rows)}), folder / "train.parquet")
        self.model = SasRec.from_params(
            schema,
            embedding_dim=size["hidden_size"],
            num_heads=size["num_heads"],
            num_blocks=size["num_layers"],
            max_sequence_length=size["max_length"],
            dropout=size["dropout"],
            hidden_dim=4 * size["hidden_size"],
        )
        self.module = LightningModule(self.model, OptimizerFactory(learning_rate=spec["learning_rate"]))
        self.data = ParquetModule(
            batch_size=spec["sequences"],
            metadata={"train": {ITEM: {"shape": size["max_length"] + 1, "padding": log.num_items}}},
            transforms={"train": make_default_sasrec_transforms(schema)["train"]},
            train_path=str(folder / "train.parquet"),
        )

    def targets(self, batch: dict[str, Any]) -> int:
        """Places that have something to predict from, and something to predict."""
        return int((batch["target_padding_mask"][..., 0] & batch["padding_mask"]).sum())

    def score(self, histories: list[NDArray[np.int32]]) -> torch.Tensor:
        """Scores of all items after each history."""
        items = padded([row - 1 for row in histories], self.max_length, fill=self.num_items, left=True)
        self.model.eval()
        scores = self.model({ITEM: items}, items != self.num_items)["logits"]
        self.model.train()
        return scores


class Bert4RecSystem:
    """Bert4Rec over RePlay's sequential dataset, the only one that it takes."""

    def __init__(self, spec: dict[str, Any], log: Log, folder: Path):
        size = spec["size"]
        schema = item_schema(spec, log.num_items, padding=0)  # its embedding has no row for padding, which it masks
        rows = [row.astype(np.int64) - 1 for row in log.training]
        table = pd.DataFrame({"user_id": np.arange(len(rows)), ITEM: rows})
        sequences = PandasSequentialDataset(schema, "user_id", ITEM, table)
        self.module = Bert4Rec(
            schema,
            block_count=size["num_layers"],
            head_count=size["num_heads"],
            hidden_size=size["hidden_size"],
            max_seq_len=size["max_length"],
            dropout_rate=size["dropout"],
            enable_embedding_tying=True,
            optimizer_factory=FatOptimizerFactory(learning_rate=spec["learning_rate"]),
        )
        dataset = Bert4RecTrainingDataset(sequences, max_sequence_length=size["max_length"])
        self.data = DataLoader(dataset, batch_size=spec["sequences"], shuffle=True)

    def targets(self, batch: dict[str, Any]) -> int:
        """Masked places that are not padding."""
        return int((~batch["token_mask"] & batch["pad_mask"]).sum())

    def score(self, histories: list[NDArray[np.int32]]) -> torch.Tensor:
        """Not asked for by any benchmark."""
        raise NotImplementedError("only SASRec's lists are compared")


SYSTEMS = {"SASRec": SasRecSystem, "BERT4Rec": Bert4RecSystem}


def main() -> None:
    """Train until the benchmark has had enough."""
    channel = Channel.open()
    spec = channel.spec
    seed_everything(spec["seed"])
    log = Log.read(spec["data"])
    with tempfile.TemporaryDirectory() as folder:
        system = SYSTEMS[spec["model"]](spec, log, Path(folder))
        facts = {
            "versions": {name: metadata.version(name) for name in ("replay-rec", "torch", "lightning", "numpy")}
            | {"python": platform.python_version()},
            "batch": f"{spec['sequences']} sequences",
            "num_items": log.num_items,
            "rows_an_epoch": len(log.training),
        }
        columns = np.arange(log.num_items)
        pace = Pace(channel, facts, {"rank": lambda: validation_ranks(log, system.score, columns)})
        trainer = Trainer(
            max_epochs=1_000_000,
            limit_val_batches=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            enable_checkpointing=False,
            devices=1,
            callbacks=[pacing(Callback, pace, system.targets)],
        )
        trainer.fit(system.module, system.data)


if __name__ == "__main__":
    main()
