"""Seconds of training until the validation NDCG@10 of Beauty passes a figure, ours beside other libraries.

Each system trains alone, with all threads, in a process of its own, and is looked at after 10 seconds of training and
then whenever that has grown by an eighth. All are judged by the same rule: the rank of each user's validation target
among all items, seen items kept, ties against the model. Only training counts; ranking does not. One run each.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.own_worker import MODULE
from benchmarks.peers.environments import PEERS
from benchmarks.training_speed import OTHER_REFERENCE, add_peer_arguments, chosen_peers, common_spec, peer_worker
from benchmarks.workers import Worker, kept
from benchmarks.workload import BATCH_TARGETS, load
from seqdiffrec.evaluation.metrics import ndcg
from seqdiffrec.models.device import pick_device, use_bfloat16

OWN = ("SASRec", "DiffRec shared_history")
FIRST_SECONDS, GROWTH = 10.0, 1.125
NOTES = [
    "An epoch is as many targets as the training split has; each library makes them in its own way.",
    "All have learning rate 1e-3 and Adam; what else a library leaves to its user is as it comes.",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--figure", type=float, default=0.035, help="the NDCG@10 to pass; default %(default)s")
    parser.add_argument("--limit", type=float, default=3600, help="seconds of training at most; default %(default)s")
    parser.add_argument("--systems", nargs="+", choices=OWN, default=OWN, help="of ours")
    add_peer_arguments(parser)


def train_until(worker: Worker, figure: float, limit: float, targets_an_epoch: int) -> list[dict[str, float]]:
    """The curve up to the figure or the limit: seconds of training, epochs, NDCG@10, and seconds of each ranking."""
    curve: list[dict[str, float]] = []
    seconds = 0.0
    while not curve or (curve[-1]["ndcg"] < figure and seconds < limit):
        goal = min(limit, max(seconds + FIRST_SECONDS, seconds * GROWTH))
        told = worker.ask("train", seconds=goal - seconds)
        seconds += told["seconds"]
        started = time.perf_counter()
        ranks = np.array(worker.ask("rank")["ranks"])
        curve.append(
            {
                "seconds": round(seconds, 2),
                "epochs": round(told["all_targets"] / targets_an_epoch, 3),
                "ndcg": round(ndcg(ranks, 10), 5),
                "ranking_seconds": round(time.perf_counter() - started, 2),
            }
        )
        said = "{seconds:,.0f} s, {epochs:.2f} epochs: NDCG@10 {ndcg:.4f}".format(**curve[-1])
        print(f"{worker.name}: {said}", flush=True)
    return curve


def row(curve: list[dict[str, float]], figure: float, worker: Worker) -> dict[str, Any]:
    """A system's figures; seconds and epochs to the figure are None where it was not reached."""
    last = curve[-1]
    reached = last["ndcg"] >= figure
    return {
        "seconds": last["seconds"] if reached else None,
        "epochs": last["epochs"] if reached else None,
        "best_ndcg": max(point["ndcg"] for point in curve),
        "seconds_trained": last["seconds"],
        "peak_memory_mib": round(worker.told["peak"] / 2**20),
        "batch": worker.facts["batch"],
        "curve": curve,
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Train each system until it is there, or the time is up."""
    peers = chosen_peers(options.peers, options.environments)
    load_ = load(options.data_root)
    threads = torch.get_num_threads()
    rows: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        load_.log.write(Path(folder) / "log.npz")
        spec = common_spec(Path(folder) / "log.npz", options)
        makers = {
            name: lambda name=name: Worker(name, MODULE, {**spec, "model": name}, threads=threads)
            for name in options.systems
        }
        for peer in peers:
            for name, model in PEERS[peer].models.items():
                if model == "SASRec":
                    makers[name] = lambda peer=peer, name=name: peer_worker(
                        peer, name, spec, load_.log, options.environments, threads=threads
                    )
        for name, make in makers.items():
            with kept() as workers:
                worker = workers[name] = make()
                curve = train_until(worker, options.figure, options.limit, load_.log.num_targets)
                rows[name] = row(curve, options.figure, worker)
                versions |= {name: worker.facts["versions"]} if "versions" in worker.facts else {}
    base = rows.get(OTHER_REFERENCE, {}).get("seconds")
    for own in rows.values():
        own["times_recbole"] = round(base / own["seconds"], 2) if base and own["seconds"] else None
    settings = {**options.size, "batch_targets": BATCH_TARGETS, "figure": options.figure, "limit": options.limit}
    settings |= {"seed": 0, "bfloat16": use_bfloat16(options.precision, pick_device("auto"))}
    record = {"data": load_.source, "settings": settings, "rows": rows, "notes": NOTES}
    return record | ({"peer_versions": versions} if versions else {})
