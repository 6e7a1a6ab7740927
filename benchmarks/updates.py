"""A daily update beside training anew: how well each says what comes next, and how long it takes.

A named dataset with times is cut at two points in time. A model learns all before the first, then what lies between:
by `fit_partial`, and by being trained anew on all. Each is asked for actions after the second cut, with all that the
user did before as history; all items are ranked, those that it does not know count as missed. Seconds are those of the
processor, all threads together, so that other work on the machine is not in them.
"""

import argparse
import time
from typing import Any

import numpy as np
import polars as pl
import torch

import seqdiffrec as sdr
from benchmarks.workload import SIZE
from seqdiffrec.data import Corpus, Sequences
from seqdiffrec.data.split import Cases
from seqdiffrec.evaluation import rank_targets
from seqdiffrec.training import Reporter

MODELS = {"SASRec": (sdr.SASRec, {}), "DiffRec": (sdr.DiffRec, {"attention": "shared_history"})}
K = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--dataset", default="ml-100k", help="a named dataset with times; default %(default)s")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS), help="default both")
    parser.add_argument("--cuts", nargs=2, type=float, default=(0.8, 0.9), help="shares of the actions, in time")
    parser.add_argument("--epochs", type=int, default=15, help="of a training; default %(default)s")
    parser.add_argument("--learning-rate", type=float, default=0.003, help="of a training; default %(default)s")
    parser.add_argument("--update-epochs", nargs="+", type=int, default=[1, 3], help="of an update")
    parser.add_argument("--cases", type=int, default=4000, help="actions after the second cut that are asked for")
    parser.add_argument("--seed", type=int, default=0)


def log_of(corpus: Corpus) -> pl.DataFrame:
    """A corpus as a frame of actions, in order of time. Raises ValueError where it has no times."""
    if corpus.timestamps is None:
        raise ValueError(f"{corpus.name} has no times to be cut at; take ml-100k or ml-1m")
    users = np.repeat(np.arange(corpus.num_users), np.diff(corpus.offsets))
    columns = {"user_id": users, "item_id": corpus.items, "timestamp": corpus.timestamps}
    return pl.DataFrame(columns).sort("timestamp", maintain_order=True)


def cases_after(log: pl.DataFrame, cut: int, known: set[int], count: int, seed: int) -> list[tuple[list[int], int]]:
    """Histories and targets of some actions from row ``cut`` on, whose history has an item that is known."""
    taken: dict[int, list[int]] = {}
    found: list[tuple[list[int], int]] = []
    for row, (user, item, _) in enumerate(log.iter_rows()):
        history = taken.setdefault(user, [])
        if row >= cut and any(one in known for one in history[-SIZE["max_length"] :]):
            found.append((history[-SIZE["max_length"] :], item))
        history.append(item)
    chosen = np.random.default_rng(seed).permutation(len(found))[:count]
    return [found[place] for place in np.sort(chosen).tolist()]


def ndcg(model: sdr.Recommender, cases: list[tuple[list[int], int]]) -> float:
    """NDCG@10 over all cases; an unknown target is a miss."""
    index = {item: place + 1 for place, item in enumerate(model.vocabulary["item_id"].to_list())}
    asked = [([index[one] for one in history if one in index], index.get(item, 0)) for history, item in cases]
    asked = [(history, target) for history, target in asked if target]
    ends = np.cumsum([len(history) for history, _ in asked])
    items = np.array([one for history, _ in asked for one in history], dtype=np.int32)
    histories = Sequences(items, np.concatenate([[0], ends[:-1]]), ends)
    targets = np.array([target for _, target in asked], dtype=np.int32)
    ranks = rank_targets(
        model.model.predict_histories, Cases(np.arange(len(asked)), histories, targets), model.model.num_items
    ).seen_removed
    return float((1 / np.log2(1 + ranks[ranks <= K])).sum() / len(cases))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure each model in its turns."""
    log = log_of(sdr.load_dataset(options.dataset, options.data_root).corpus)
    first, second = (int(share * len(log)) for share in options.cuts)
    before, between, until = log[:first], log[first:second], log[:second]
    known = set(before["item_id"].to_list())
    cases = cases_after(log, second, known, options.cases, options.seed)
    quiet = {"reporter": Reporter()}
    old, whole = (sdr.Dataset.from_interactions(part).whole() for part in (before, until))
    rows: dict[str, Any] = {}
    for name in options.models:
        kind, more = MODELS[name]
        names = ("epochs", "learning_rate", "seed", "precision")
        size = {**options.size, **more, **{one: getattr(options, one) for one in names}}

        def note(what: str, model: sdr.Recommender, started: float, name: str = name) -> None:
            seconds = round(time.process_time() - started, 1)
            rows[f"{name}: {what}"] = row = {"NDCG@10": round(ndcg(model, cases), 4), "processor_seconds": seconds}
            print(f"{name}: {what}: {row}", flush=True)

        started = time.process_time()
        model = kind(**size).fit(old, **quiet)
        note("before the update", model, started)
        for epochs in options.update_epochs:
            started = time.process_time()
            updated = model.fit_partial(between, epochs=epochs, **quiet)
            note(f"updated, {epochs} epoch{'s' * (epochs > 1)}", updated, started)
        started = time.process_time()
        note("trained anew on all", kind(**size).fit(whole, **quiet), started)
    new_items = len(set(until["item_id"].to_list()) - known)
    new_users = len(set(until["user_id"].to_list()) - set(before["user_id"].to_list()))
    return {
        "data": options.dataset,
        "settings": {
            **options.size,
            "epochs": options.epochs,
            "learning_rate": options.learning_rate,
            "actions before": first,
            "actions between": second - first,
            "new users between": new_users,
            "new items between": new_items,
            "cases": len(cases),
            "seed": options.seed,
            "precision": options.precision,
            "threads": torch.get_num_threads(),
        },
        "rows": rows,
    }
