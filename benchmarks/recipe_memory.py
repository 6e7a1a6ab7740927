"""Memory of every trained system on ML-1M, by its recipe: the peak of a process that trains, then ranks for validation.

The recipes with each paper's settings, and DiffRec's that reaches Table 2. Steps are the recipe's own: its batch, its
windows; then validation ranks everybody, as after an epoch. The sides of `mfgan` take turns from the first step on.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from benchmarks.recipe_worker import MODULE
from benchmarks.workers import ROOT, BenchmarkError, Worker, kept
from benchmarks.workload import load

RECIPES = ROOT / "recipes"
DATASET = "ml-1m"
SYSTEMS = ("acvae", "bert4rec", "cl4srec", "diffrec-plus", "duorec", "gru4rec", "mfgan", "sasrec-published", "stosa")
SYSTEMS += ("vsan",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS, help="default all")
    parser.add_argument("--steps", type=int, default=20, help="of training; default %(default)s")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """A row for each recipe."""
    if options.data_root is None:
        raise BenchmarkError("recipes need their dataset: name a folder that has it with --data-root")
    if options.steps < 1:
        raise BenchmarkError(f"--steps {options.steps} trains nothing")
    source, rows = load(options.data_root, DATASET).source, dict[str, dict[str, Any]]()
    for system in options.systems:
        recipe = f"{DATASET}-{system}"
        spec = {"recipe": str(RECIPES / f"{recipe}.toml"), "data_root": str(Path(options.data_root).resolve())}
        spec["precision"] = options.precision
        with kept() as workers:
            worker = workers[recipe] = Worker(recipe, MODULE, spec, threads=torch.get_num_threads())
            rows[recipe] = row(worker, options.steps)
        print(f"{recipe}: {rows[recipe]['peak_memory_mib']} MiB", flush=True)
    return {"data": source, "settings": {"steps": options.steps}, "rows": rows}


def row(worker: Worker, steps: int) -> dict[str, Any]:
    """What a recipe's process has held at once, after the steps and with validation."""
    trained, validated = worker.ask("train", steps=steps), worker.ask("validate")
    facts = {name: worker.facts[name] for name in ("hidden_size", "max_length", "batch")}
    peaks = {"training_peak_memory_mib": trained["peak"], "peak_memory_mib": validated["peak"]}
    return facts | {name: round(peak / 2**20) for name, peak in peaks.items()}
