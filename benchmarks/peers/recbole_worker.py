"""RecBole trains: its dataset, its loader, its trainer. Runs in RecBole's own environment.

A row is a history padded to T on the right. SASRec and GRU4Rec have one target a row, the item after the history, and
all (history, next item) pairs of the training split are rows. BERT4Rec has the same rows, with places masked at
random; each masked place that its loss counts is a target.
"""

import os
import platform
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.utils import get_model, get_trainer, init_seed

from benchmarks.protocol import Channel, Log, Pace, padded, validation_ranks


def write_atomic_files(log: Log, folder: Path) -> None:
    """The log in RecBole's own format, with the place in the sequence as the time."""
    (folder / "log").mkdir()
    with (folder / "log" / "log.inter").open("w") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for user, (start, end) in enumerate(zip(log.offsets[:-1], log.offsets[1:], strict=True)):
            file.writelines(f"{user}\t{item}\t{place}\n" for place, item in enumerate(log.items[start:end]))


def settings(spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """RecBole's own where nothing is set here; full cross-entropy is its default for these models."""
    size = spec["size"]
    common = {
        "data_path": str(folder),
        "checkpoint_dir": str(folder / "saved"),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "full"},
        "MAX_ITEM_LIST_LENGTH": size["max_length"],
        "train_batch_size": spec["rows"],
        "train_neg_sample_args": None,
        "loss_type": "CE",
        "hidden_size": size["hidden_size"],
        "epochs": 1_000_000,
        "learning_rate": spec["learning_rate"],
        "seed": spec["seed"],
        "state": "WARNING",
        "show_progress": False,
    }
    if spec["model"] == "GRU4Rec":
        own = {"embedding_size": size["hidden_size"], "num_layers": size["num_layers"], "dropout_prob": size["dropout"]}
    else:
        own = {
            "n_layers": size["num_layers"],
            "n_heads": size["num_heads"],
            "inner_size": 4 * size["hidden_size"],
            "hidden_dropout_prob": size["dropout"],
            "attn_dropout_prob": size["dropout"],
        }
    return common | own


class PacedLoader:
    """RecBole's loader; `Pace` is told when the loop asks for the next batch, which is when a step is done."""

    def __init__(self, loader: Any, pace: Pace):
        self.loader, self.pace = loader, pace

    def __iter__(self) -> Iterator[Interaction]:
        for batch in self.loader:
            masked = batch["MASK_INDEX"] if "MASK_INDEX" in batch.interaction else None
            yield batch
            self.pace.step(len(batch) if masked is None else int((masked > 0).sum()))

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


def main() -> None:
    """Train until the benchmark has had enough."""
    channel = Channel.open()
    spec = channel.spec
    log = Log.read(spec["data"])
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)  # its loggers write where it runs
        write_atomic_files(log, Path(name))
        config = Config(model=spec["model"], dataset="log", config_dict=settings(spec, Path(name)))
        init_seed(config["seed"], config["reproducibility"])
        dataset = create_dataset(config)
        loader, *_ = data_preparation(config, dataset)
        model = get_model(spec["model"])(config, loader.dataset).to(config["device"])
        trainer = get_trainer(config["MODEL_TYPE"], spec["model"])(config, model)
        index = np.array([dataset.token2id("item_id", str(item)) for item in range(1, log.num_items + 1)])

        def score(histories: list[NDArray[np.int32]]) -> torch.Tensor:
            model.eval()
            items = padded(
                [index[history - 1] for history in histories], spec["size"]["max_length"], fill=0, left=False
            )
            batch = Interaction({model.ITEM_SEQ: items, model.ITEM_SEQ_LEN: (items != 0).sum(1)})
            scores = model.full_sort_predict(batch.to(config["device"]))
            model.train()
            return scores

        facts = {
            "versions": {name: metadata.version(name) for name in ("recbole", "torch", "numpy")}
            | {"python": platform.python_version()},
            "batch": f"{spec['rows']} rows",
            "num_items": dataset.item_num - 1,
            "rows_an_epoch": len(loader.dataset),
        }
        pace = Pace(channel, facts, {"rank": lambda: validation_ranks(log, score, index)})
        pace.begin()
        trainer.fit(PacedLoader(loader, pace), saved=False, verbose=False)


if __name__ == "__main__":
    main()
