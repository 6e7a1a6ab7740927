"""The service under load: requests a second and their time, reloads, and more requests than it can answer.

`seqdiffrec serve` runs in a process of its own, over an untrained DiffRec (speed does not depend on the weights) with
the log of Beauty. Requests come from this process, on the same machine, and name users of the log at random; each one's
time counts from when it was due. Everything goes over 127.0.0.1.
"""

import argparse
import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import seqdiffrec as sdr
from benchmarks.load import Answers, at_rate, client, one_after_the_other, post
from benchmarks.machine import matmul_rate
from benchmarks.service import Served
from benchmarks.workload import load
from seqdiffrec.data import Corpus, Dataset, load_corpus
from seqdiffrec.models.device import pick_device

PLUS = {"attention": "shared_history", "tied_output": True, "cosine_output": True, "seen_bias": True}
Run = Callable[[argparse.Namespace, Path, list[int]], Coroutine[Any, Any, dict[str, dict[str, Any]]]]
PARTS = ("load", "reload", "overload")
# Rates that are asked for, of ten seeds and of one.
RATES = {10: 150.0, 1: 300.0}
TOP, CALLERS = 10, 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="which runs")
    parser.add_argument("--seconds", type=float, default=30, help="of the runs at a rate")
    parser.add_argument("--reloads", type=int, default=10, help="models loaded under load")
    parser.add_argument("--warm-up", type=int, default=200, help="requests before those that count")
    parser.add_argument("--threads", type=int, default=1, help="of the service's products")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All runs that were asked for, one after the other."""
    source, rows = run_parts(options, _RUNS)
    settings = {**options.size, **PLUS, "top": TOP, "threads": options.threads, "seconds": options.seconds}
    rate = round(matmul_rate(pick_device("cpu")) / 1e9, 1)
    return {"data": source, "settings": settings, "matmul_gflop_per_second": rate, "rows": rows}


def run_parts(options: argparse.Namespace, runs: dict[str, Run]) -> tuple[str, dict[str, dict[str, Any]]]:
    """What the log is, and the rows of the parts that were asked for, over one run and store."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="seqdiffrec-serving-") as name:
        folder = Path(name)
        users, source = make_run(options, folder / "run")
        rows: dict[str, dict[str, Any]] = {}
        for part in options.parts:
            print(f"{part} ...", flush=True)
            rows |= asyncio.run(runs[part](options, folder, users))
    return source, rows


async def _load(options: argparse.Namespace, folder: Path, users: list[int]) -> dict[str, dict[str, Any]]:
    """How much the service can do, and how long requests take at the rates that are asked for."""
    rows: dict[str, dict[str, Any]] = {}
    with service(options, folder) as served:
        async with client("127.0.0.1", served.port) as one:
            for seeds, rate in RATES.items():
                await one_after_the_other(one, list(some_requests(users, options.warm_up, seeds)), 4)
                alone = await one_after_the_other(one, list(some_requests(users, options.warm_up, seeds)), 1)
                rows[f"one at a time, {seeds} seeds"] = _row(alone, served)
                many = list(some_requests(users, int(options.seconds * rate), seeds))
                rows[f"{CALLERS} callers, {seeds} seeds"] = _row(await one_after_the_other(one, many, CALLERS), served)
                rows[f"{rate:g} a second, {seeds} seeds"] = _row(await at_rate(one, many, rate), served)
    return rows


async def _reload(options: argparse.Namespace, folder: Path, users: list[int]) -> dict[str, dict[str, Any]]:
    """Models are loaded while requests come in at half the rate that is asked for."""
    rate = RATES[10] / 2
    with service(options, folder) as served:
        async with client("127.0.0.1", served.port) as one:
            await one_after_the_other(one, list(some_requests(users, options.warm_up, 10)), 4)
            requests = list(some_requests(users, int(options.seconds * rate), 10))
            asked = asyncio.create_task(at_rate(one, requests, rate))
            done = 0
            for _ in range(options.reloads):
                await asyncio.to_thread(served.call, "POST", "/v1/models/reload")
                done += 1
                if asked.done():
                    break
            answers = await asked
    return {f"{rate:g} a second, {done} reloads": _row(answers, served) | {"reloads": done}}


async def _overload(options: argparse.Namespace, folder: Path, users: list[int]) -> dict[str, dict[str, Any]]:
    """Three times as many requests as the service has been measured to answer."""
    with service(options, folder) as served:
        async with client("127.0.0.1", served.port) as one:
            await one_after_the_other(one, list(some_requests(users, options.warm_up, 10)), 4)
            count = int(options.seconds * RATES[10] / 2)
            most = await one_after_the_other(one, list(some_requests(users, count, 10)), CALLERS)
            rate = 3 * most.statuses.count(200) / most.seconds
            answers = await at_rate(one, list(some_requests(users, int(options.seconds * rate), 10)), rate)
    return {f"3 times capacity: {rate:.0f} a second, 10 seeds": _row(answers, served)}


_RUNS = {"load": _load, "reload": _reload, "overload": _overload}


def service(options: argparse.Namespace, folder: Path) -> Served:
    return Served(folder / "run", folder / "events.sqlite", "--threads", str(options.threads))


def some_requests(users: list[int], count: int, seeds: int) -> Iterator[bytes]:
    chosen = np.random.default_rng(seeds).integers(0, len(users), count)
    for place in chosen.tolist():
        yield post("/v1/recommendations", json.dumps({"user_id": users[place], "k": TOP, "seeds": seeds}).encode())


def _row(answers: Answers, served: Served) -> dict[str, Any]:
    statuses = Counter(answers.statuses)
    return {
        "requests": len(answers.statuses),
        "answered_per_second": round(statuses[200] / answers.seconds, 1),
        "p50_ms": answers.milliseconds(200, 50),
        "p99_ms": answers.milliseconds(200, 99),
        "refused": statuses[503],
        "failed": count_failed(statuses),
    }


def count_failed(statuses: Counter[int]) -> int:
    """Neither answered nor refused for want of time."""
    return sum(count for status, count in statuses.items() if status not in (200, 503))


def make_run(options: argparse.Namespace, out: Path) -> tuple[list[int], str]:
    """An untrained run with the log of Beauty, or a made-up one of its size; the users, and what the log is."""
    workload = load(options.data_root)
    if options.data_root is None:
        log = workload.log
        ids = [torch.arange(1, count + 1).numpy() for count in (len(log.offsets) - 1, log.num_items)]
        import polars as pl

        corpus = Corpus(log.items, log.offsets, pl.Series(ids[0]), pl.Series(ids[1]), None, None, "generated")
    else:
        corpus = load_corpus("beauty", options.data_root)
    settings = {**options.size, **PLUS, "history_skip": True, "epochs": 1}
    untrained(Dataset.of(corpus), settings, out)
    return corpus.user_ids.to_list(), workload.source


def untrained(data: Dataset, settings: dict[str, Any], out: Path) -> None:
    """Write a run of DiffRec with its first weights."""
    model = sdr.DiffRec(**settings)
    model._take(model._new_model(data.corpus.num_items), data.corpus, None)
    model.model.count_items(data.split.train)
    model.save(out)
