"""What an exported model loses and gains: NDCG@10 on test, size, and milliseconds of one request, beside torch.

    python -m benchmarks.export_loss RUN mine.onnx mine-int8.onnx --save NAME

The files are those of `seqdiffrec export RUN`, with lists of ten from which seen items are removed. They are asked for
each test user's list; requests take turns, one after the newest 49 items of a user.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
import torch

from benchmarks.machine import describe
from benchmarks.page import RESULTS
from seqdiffrec.cli_options import data_of
from seqdiffrec.data import Sequences
from seqdiffrec.data.storage import replace_file
from seqdiffrec.evaluation import hit_rate, ndcg
from seqdiffrec.inference import load
from seqdiffrec.inference.export import left_padded

TOP, BLOCK, WARM_UP = 10, 256, 5

Ask = Callable[[Sequences], np.ndarray]


def asker(path: Path) -> Ask:
    """Lists of an exported file, (B, k) item indices, with the model's own noise."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options)
    drawn = json.loads(session.get_modelmeta().custom_metadata_map["noise"])
    noise = {} if drawn is None else {"noise": np.array(drawn, np.float32)}
    return lambda histories: session.run(["items"], {"history": left_padded(histories), **noise})[0]


def quality(ask: Ask, histories: Sequences, targets: np.ndarray) -> dict[str, float]:
    """HR@10 and NDCG@10 of the lists; a target outside its list has no rank within it."""
    ranks = np.full(len(targets), TOP + 1)
    for start in range(0, len(targets), BLOCK):
        rows = slice(start, start + BLOCK)
        row, place = np.nonzero(ask(histories.select(rows)) == targets[rows, None])
        ranks[start + row] = place + 1
    return {f"HR@{TOP}": round(hit_rate(ranks, TOP), 5), f"NDCG@{TOP}": round(ndcg(ranks, TOP), 5)}


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Ask all systems, in turns."""
    recommender = load(arguments.run)
    model, cases = recommender.model, data_of(recommender).split.test
    allowed = torch.ones(model.num_items, dtype=torch.bool)

    def own(histories: Sequences) -> np.ndarray:
        return (model.top_of_histories(histories, TOP, allowed, filter_viewed=True).columns + 1).numpy()

    files = {"torch": None, "onnxruntime": arguments.whole, "onnxruntime, int8": arguments.int8}
    systems = {name: own if path is None else asker(path) for name, path in files.items()}
    rows: dict[str, dict[str, Any]] = {}
    for name, ask in systems.items():
        path = files[name]
        weights = sum(tensor.nbytes for tensor in model.state_dict().values())
        size = weights if path is None else path.stat().st_size
        rows[name] = {"megabytes": round(size / 1e6, 2), **quality(ask, cases.histories, np.asarray(cases.targets))}
    spent: dict[str, list[float]] = {name: [] for name in systems}
    starts = np.maximum(cases.histories.starts, cases.histories.ends - 49)
    visible = Sequences(cases.histories.items, starts, cases.histories.ends)
    for number in range(WARM_UP + arguments.requests):
        for name, ask in systems.items():
            started = time.perf_counter()
            ask(visible.select(slice(number, number + 1)))
            spent[name].append(1000 * (time.perf_counter() - started))
    for name, milliseconds in spent.items():
        kept = milliseconds[WARM_UP:]
        rows[name] |= {"p50_ms": round(median(kept), 2), "least_ms": round(min(kept), 2)}
    record = recommender.run.record
    return {
        "data": f"{record['corpus']['name']}, {len(cases.targets):,} test users, {model.num_items:,} items",
        "settings": {**record["settings"]["model_settings"], "epochs": len(recommender.state.history)},
        "rows": rows,
    }


def main() -> None:
    """Parse, run, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export_loss", description=__doc__)
    parser.add_argument("run", type=Path, help="the run that was exported")
    parser.add_argument("whole", type=Path, help="its export")
    parser.add_argument("int8", type=Path, help="its export with --int8")
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/export/NAME.json")
    arguments = parser.parse_args()
    command = f"python -m benchmarks.export_loss RUN WHOLE INT8 --requests {arguments.requests}"
    record = {"benchmark": "export", "command": command, **describe(torch.device("cpu")), **run(arguments)}
    json.dump(record, sys.stdout, indent=2)
    if arguments.save:
        (RESULTS / "export").mkdir(exist_ok=True)
        replace_file(RESULTS / "export" / f"{arguments.save}.json", json.dumps(record, indent=2).encode() + b"\n")


if __name__ == "__main__":
    main()
