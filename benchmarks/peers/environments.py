"""The peers, and an environment of its own for each: they need other versions than ours, and than each other."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.workers import ROOT, BenchmarkError

FOLDER = ROOT / "build" / "peers"
MAKE = "python -m benchmarks setup"
# Versions of Python that all of the peers' pinned packages have builds for, the best known first.
PYTHONS = ("python3.11", "python3.12", "python3")
PROBE = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
MADE = "made-from.json"


@dataclass(frozen=True)
class Peer:
    """A library: its package on the index, and its models by the names that the tables give them."""

    package: str
    models: dict[str, str]

    def module(self, name: str) -> str:
        """What its worker runs."""
        return f"benchmarks.peers.{name}_worker"


PEERS = {
    "recbole": Peer(
        "recbole", {"RecBole SASRec": "SASRec", "RecBole BERT4Rec": "BERT4Rec", "RecBole GRU4Rec": "GRU4Rec"}
    ),
    "rectools": Peer("rectools", {"RecTools SASRec": "SASRec", "RecTools BERT4Rec": "BERT4Rec"}),
    "replay": Peer("replay-rec", {"RePlay SasRec": "SASRec", "RePlay Bert4Rec": "BERT4Rec"}),
}

Run = Callable[[list[str]], subprocess.CompletedProcess[str]]


def run_command(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run, and keep what it says."""
    return subprocess.run(command, capture_output=True, text=True)


def find_python(wanted: str | None, run: Run = run_command) -> str:
    """The first interpreter that runs, is new enough and can make environments; or the wanted one, if it is such.

    Raises BenchmarkError where there is none.
    """
    for name in (wanted,) if wanted else PYTHONS:
        if shutil.which(name) and run([name, "-c", PROBE]).returncode == 0:
            return name
    raise BenchmarkError(
        f"{wanted or 'none of ' + ', '.join(PYTHONS)} is a Python 3.11 or newer with its venv module. Install one (on "
        f"Debian or Ubuntu python3.11 and python3.11-venv), or name it: {MAKE} --python /path/to/python3.11"
    )


def pinned_torch() -> str:
    """The line of constraints.txt that pins torch."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return next(line for line in lines if line.startswith("torch=="))


def requirements(name: str) -> Path:
    """The file with the packages of a peer's environment."""
    return Path(__file__).parent / f"{name}.txt"


def fingerprint(name: str) -> str:
    """Changes when the environment has to be made again."""
    return hashlib.sha256(pinned_torch().encode() + requirements(name).read_bytes()).hexdigest()


def state(name: str, folder: Path) -> str:
    """How a peer's environment is: ready, missing, or old, which is made from other requirements than those of now."""
    made = folder / name / MADE
    if not made.is_file():
        return "missing"
    return "ready" if json.loads(made.read_text())["fingerprint"] == fingerprint(name) else "old"


def python_of(name: str, folder: Path) -> Path:
    """The interpreter of a peer's environment. Raises BenchmarkError where it is not there, and says what to do."""
    found = state(name, folder)
    if found == "ready":
        return folder / name / "bin" / "python"
    into = "" if folder == FOLDER else f" --environments {folder}"
    why = "there is none" if found == "missing" else "it was made from other requirements than those of now"
    raise BenchmarkError(f"{name} needs an environment of its own, and {why}. Make it with: {MAKE} {name}{into}")


def make(name: str, folder: Path, python: str, run: Run = run_command) -> str | None:
    """Make a peer's environment; None when it is there, else the step that failed, the end of its output, and advice.

    torch goes first, by its exact version: asked for as a range, pip may take another build than the one pinned.
    """
    place = folder / name
    own = str(place / "bin" / "python")
    pip = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    steps: list[tuple[str, list[str]]] = [
        ("make the environment", [python, "-m", "venv", "--clear", str(place)]),
        (f"install {pinned_torch()}", [*pip, pinned_torch()]),
        (f"install {PEERS[name].package}", [*pip, pinned_torch(), "-r", str(requirements(name))]),
        (f"import {PEERS[name].package}", [own, "-c", f"import {name}"]),
    ]
    place.parent.mkdir(parents=True, exist_ok=True)
    for step, command in steps:
        done = run(command)
        if done.returncode != 0:
            said = "\n".join(f"    {line}" for line in (done.stdout + done.stderr).strip().splitlines()[-8:])
            return (
                f"{name}: could not {step} ({python}):\n{said}\n"
                f"    Without it the benchmarks leave out {', '.join(PEERS[name].models)}. The pinned packages are in "
                f"benchmarks/peers/{name}.txt;\n    they have builds for Python 3.11 on Linux. Try another Python: "
                f"{MAKE} {name} --python /path/to/python3.11"
            )
    (place / MADE).write_text(json.dumps({"fingerprint": fingerprint(name), "python": python}))
    return None


def set_up(names: Sequence[str], folder: Path, python: str | None, say: Callable[[str], None] = print) -> bool:
    """Make the environments of these peers, those that are there already left as they are; whether all are there."""
    found: str | None = None
    failed: list[str] = []
    for name in names:
        if state(name, folder) == "ready":
            say(f"{name}: there already, in {folder / name}")
            continue
        found = found or find_python(python)
        say(f"{name}: making {folder / name} with {found}; some minutes, 1.5 GB on disk")
        problem = make(name, folder, found)
        say(problem or f"{name}: ready")
        failed += [name] if problem else []
    if failed:
        say(f"not there: {', '.join(failed)}; the others can be used: python -m benchmarks training --peers")
    return not failed
