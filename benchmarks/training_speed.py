"""Training speed on Beauty: DiffRec with both attention patterns and SASRec, beside a padded SASRec in plain torch.

With --peers also RecBole, RecTools and RePlay, each with its own data preparation, loader and training loop. All have
the same size, catalogue and full cross-entropy, score items by their embeddings, and run in a process of their own with
the same number of threads; they take turns. A target is a (history, next item) pair that gets a gradient, for BERT4Rec
a masked place.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.machine import as_facts, matmul_rates, mean_rates, shares
from benchmarks.own_worker import MODULE, REFERENCE
from benchmarks.pairs import Laps, Spread, add_rounds, ratios, take_turns
from benchmarks.peers.environments import FOLDER, MAKE, PEERS, python_of, state
from benchmarks.protocol import Log
from benchmarks.workers import BenchmarkError, Worker, kept
from benchmarks.workload import BATCH_TARGETS, SYSTEMS, load
from seqdiffrec.models.device import pick_device, use_bfloat16

OTHER_REFERENCE = "RecBole SASRec"
# Sequences of a batch of BERT4Rec where a row is a whole sequence: what it masks in them is drawn. RecTools' default.
MASKED_SEQUENCES = 128
NOTES = [
    "A target is a (history, next item) pair that gets a gradient; for BERT4Rec it is a masked place.",
    "RecBole: a row a target, padded to T. RecTools, RePlay: a row a sequence, padded to T, all its targets trained at "
    f"once, as shared_history does; as many sequences a batch as have {BATCH_TARGETS} targets. BERT4Rec: "
    f"{BATCH_TARGETS} rows of RecBole, {MASKED_SEQUENCES} sequences of RecTools and RePlay.",
    "The peers train in float32, as they do by default; ours and the reference in bfloat16 where settings say so.",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_rounds(parser)
    parser.add_argument("--steps", type=int, default=20, help="training steps of a system in a round")
    add_peer_arguments(parser)


def add_peer_arguments(parser: argparse.ArgumentParser) -> None:
    """Which peers, and where their environments are."""
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=list(PEERS),
        metavar="NAME",
        help=f"other libraries, too: {', '.join(PEERS)}; without names all that `{MAKE}` has made",
    )
    parser.add_argument(
        "--environments", type=Path, default=FOLDER, metavar="DIR", help="folder with them; default build/peers"
    )


def chosen_peers(wanted: list[str] | None, folder: Path) -> list[str]:
    """The peers to take. Raises BenchmarkError where one that is named is not there, or, without names, none is."""
    if wanted is None:
        return []
    if wanted:
        for name in wanted:
            python_of(name, folder)
        return wanted
    there = [name for name in PEERS if state(name, folder) == "ready"]
    for name in PEERS:
        if name not in there:
            print(f"without {name}: make its environment with {MAKE} {name}")
    if not there:
        raise BenchmarkError(f"no peer has an environment. Make all with: {MAKE}")
    return there


def sequences_with(log: Log, targets: int) -> int:
    """How many sequences have about so many training targets."""
    return max(1, round(targets / (log.num_targets / (len(log.offsets) - 1))))


def peer_worker(peer: str, system: str, spec: dict[str, Any], log: Log, folder: Path, **more: Any) -> Worker:
    """A peer's model as a worker."""
    model = PEERS[peer].models[system]
    sequences = MASKED_SEQUENCES if model == "BERT4Rec" else sequences_with(log, spec["rows"])
    own = {**spec, "model": model, "sequences": sequences}
    return Worker(system, PEERS[peer].module(peer), own, python=python_of(peer, folder), **more)


def common_spec(data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What all workers are told."""
    return {
        "data": str(data),
        "size": options.size,
        "rows": BATCH_TARGETS,
        "precision": options.precision,
        "learning_rate": 1e-3,
        "seed": 0,
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Time all systems. Returns data, settings, the matmul rate, and a row a system."""
    peers = chosen_peers(options.peers, options.environments)
    load_ = load(options.data_root)
    device, steps = pick_device("auto"), {"steps": options.steps, "threads": torch.get_num_threads()}
    with TemporaryDirectory() as folder, kept() as workers:
        load_.log.write(Path(folder) / "log.npz")
        spec = common_spec(Path(folder) / "log.npz", options)
        for name in (REFERENCE, *SYSTEMS):
            workers[name] = Worker(name, MODULE, {**spec, "model": name}, **steps)
        for peer in peers:
            for name in PEERS[peer].models:
                workers[name] = peer_worker(peer, name, spec, load_.log, options.environments, **steps)
        for worker in workers.values():
            worker()  # a lap to warm up
        before = matmul_rates(device)
        laps = take_turns(workers, options.rounds)
        rates = mean_rates(before, device)
        rows = {name: row(worker, laps, rates) for name, worker in workers.items()}
        versions = {PEERS[peer].package: workers[next(iter(PEERS[peer].models))].facts["versions"] for peer in peers}
    settings = {**options.size, "tied_output": True, "batch_targets": BATCH_TARGETS, "steps": options.steps}
    settings |= {"rounds": options.rounds, "bfloat16": use_bfloat16(options.precision, device)}
    record = {"data": load_.source, "settings": settings, "reference": REFERENCE}
    record |= as_facts(rates) | {"rows": rows}
    return record | ({"peer_versions": versions, "notes": NOTES} if peers else {})


def row(worker: Worker, laps: Laps, rates: dict[str, float]) -> dict[str, Any]:
    """A system's figures: operations are counted for ours alone."""
    speed = Spread.of([lap.rate for lap in laps[worker.name]])
    flop = worker.told["flop"] / worker.told["all_targets"] if "flop" in worker.told else None
    against = {"times_reference": REFERENCE, "times_recbole": OTHER_REFERENCE}
    return {
        "targets_per_second": vars(speed),
        **{key: vars(ratios(laps, base)[worker.name]) for key, base in against.items() if base in laps},
        "mflop_per_target": None if flop is None else round(flop / 1e6, 1),
        **shares(None if flop is None else speed.median * flop, rates),
        "peak_memory_mib": round(worker.told["peak"] / 2**20),
        "batch": worker.facts["batch"],
    }
