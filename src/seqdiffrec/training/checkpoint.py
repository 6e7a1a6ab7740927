"""A run's folder: all that is needed to go on training, to judge the run, and to recommend without its data.

    run.json                       settings, versions, revision, corpus hash, best epoch; name and hash of every file
    metrics.jsonl                  a line an epoch
    weights-<epoch>.safetensors    the best weights so far
    checkpoint-<epoch>-<step>.safetensors   model, optimiser and state, to go on from
    index-<epoch>.safetensors      an approximate index of the items, where one was built
    items.arrow                    item ids, titles and categories, row j for item index j + 1
    corpus/                        the prepared log

Every file is written under a name of its own, then ``run.json`` is replaced to point to it, then the old one is
removed: whenever the machine stops, the folder is that of the last write or of the one before. Only ``metrics.jsonl``
may be an epoch ahead while a run is in training.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import polars as pl
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from seqdiffrec.data.corpus import Corpus
from seqdiffrec.data.errors import DataError
from seqdiffrec.data.storage import replace_file, replace_with, write_folder, write_frame, write_json
from seqdiffrec.models import SequenceModel
from seqdiffrec.training.not_a_run import what_it_is
from seqdiffrec.training.optimization import MovingAverage
from seqdiffrec.training.state import EpochRow, TrainingState

FORMAT = 1
# Where a run's record stands: in its own folder, or in one in the layout of the Hugging Face Hub.
RECORDS = ("run.json", "config.json")
KEYS = ("status", "settings", "corpus", "best", "weights", "checkpoint", "files")


class RunError(ValueError):
    """A run's folder is missing, broken, of another version or for other data."""


class RunFolder:
    """A run on disk. Get one by `create` or `open`.

    record: the content of ``run.json``; or of ``config.json``, in the folder that `write_pretrained` makes.
    """

    def __init__(self, path: Path, record: dict[str, Any], name: str = RECORDS[0]):
        self.path, self.record, self.name = path, record, name

    @classmethod
    def create(cls, path: Path, settings: dict[str, Any], corpus: Corpus, facts: dict[str, Any]) -> "RunFolder":
        """Make the folder, whole or not at all.

        Raises RunError where there is one, DataError where it cannot be written.

        settings: what makes the run again; facts: versions, revision, machine, command.
        """
        refuse_existing(path, can_resume=True)
        record: dict[str, Any] = {
            "format": FORMAT,
            "status": "training",
            "settings": settings,
            "corpus": corpus_facts(corpus),
            **facts,
            "best": None,
            "weights": None,
            "checkpoint": None,
            "files": {},
        }

        def write(folder: Path) -> None:
            write_frame(folder / "items.arrow", corpus.vocabulary())
            record["files"]["items.arrow"] = _fingerprint(folder / "items.arrow")
            corpus.save(folder / "corpus")
            write_json(folder / "run.json", record)

        write_folder(path, write)
        return cls(path, record)

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Open a folder. Raises RunError where it is missing, broken or of another version."""
        name = next((name for name in RECORDS if (path / name).exists()), RECORDS[0])
        try:
            record = json.loads((path / name).read_bytes())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RunError(what_it_is(path)) from error
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else f"it is no whole JSON ({error})"
            raise RunError(f"{path / name} cannot be read: {why}; restore it or train again") from error
        if not isinstance(record, dict) or "format" not in record:
            raise RunError(
                f"{path / name} is not a run's record; if {path} was a run, restore it or train again, else name one"
            )
        if record["format"] != FORMAT:
            raise RunError(
                f"{path} is a run of format {record['format']}, this version of seqdiffrec reads format {FORMAT}: "
                f"use the version that wrote it ({record.get('versions', {}).get('seqdiffrec', 'unknown')})"
            )
        missing = [key for key in KEYS if key not in record]
        if missing:
            raise RunError(f"{path / name} lacks {', '.join(missing)}; restore it or train again")
        return cls(path, cast(dict[str, Any], record), name)

    def save_checkpoint(
        self,
        model: SequenceModel,
        optimizer: torch.optim.Optimizer,
        average: MovingAverage | None,
        state: TrainingState,
    ) -> None:
        """Replace the checkpoint. Raises DataError where it cannot be written; the one before stays then."""
        tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in moments.items()}
        if average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in average.weights.items()}
        name = f"checkpoint-{state.epoch:03}-{state.step:06}.safetensors"
        self._replace("checkpoint", name, tensors, {"state": json.dumps(asdict(state))})

    def load_checkpoint(
        self, model: SequenceModel, optimizer: torch.optim.Optimizer, average: MovingAverage | None
    ) -> TrainingState:
        """Put model, optimiser and moving average back to where the checkpoint was written."""
        name = self.record["checkpoint"]
        if name is None:
            why = "its training has ended" if self.record["status"] == "finished" else "none was written yet"
            raise RunError(f"{self.path} has no checkpoint to go on from: {why}; start a new run, with another --out")
        tensors, metadata = self._read_tensors(name)
        model.load_state_dict({key[6:]: value for key, value in tensors.items() if key.startswith("model.")})
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, moment = key.split(".")
                moments.setdefault(int(index), {})[moment] = value
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        if average is not None:
            average.load({key[8:]: value for key, value in tensors.items() if key.startswith("average.")})
        return TrainingState(**json.loads(metadata["state"]))

    def note_resumed(self, settings: dict[str, Any], facts: dict[str, Any]) -> None:
        """Record that the run goes on: with more epochs or patience perhaps, and by which code."""
        resumed = [*self.record.get("resumed", []), facts]
        changed = {**self.record, "settings": settings, "resumed": resumed, "files": dict(self.record["files"])}
        self._commit(changed, remove=None)

    def save_epoch(self, state: TrainingState, best: dict[str, Tensor] | None) -> None:
        """Write the epochs' metrics, and the weights where the last epoch was the best."""
        self._write_metrics(state)
        if best is not None:
            row: EpochRow = state.history[-1]
            self.record["best"] = {"epoch": row["epoch"], "validation": row["validation"]}
            self._replace("weights", f"weights-{row['epoch']:03}.safetensors", best, {})

    def load_weights(self) -> dict[str, Tensor]:
        """The best weights, checked: their hash is the recorded one and every value is a number."""
        name = self.record["weights"]
        if name is None:
            raise RunError(f"{self.path} has no weights yet: its first epoch is not done. Go on with --resume")
        tensors, _ = self._read_tensors(name)
        for key, tensor in tensors.items():
            if tensor.is_floating_point() and not all_finite(tensor):
                raise RunError(f"{self.path / name}: {key} holds values that are not numbers; train again")
        return tensors

    def save_final(self, state: TrainingState, weights: dict[str, Tensor]) -> None:
        """Write a model whose training has ended already."""
        name = f"weights-{state.best_epoch + 1:03}.safetensors"
        self._write_metrics(state)
        if state.history:
            row = state.history[state.best_epoch]
            self.record["best"] = {"epoch": row["epoch"], "validation": row["validation"]}
        self._replace("weights", name, weights, {})
        self.finish(state, "saved from memory")

    def save_index(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Write an index of the items, which belongs to the weights that are there now."""
        name = str(self.record["weights"]).replace("weights", "index")
        if name == self.record.get("index"):  # the one before stays whole until run.json names the new one
            name = name.replace("index", "index-again")
        self._replace("index", name, tensors, {"facts": json.dumps({**facts, "weights": self.weights_hash()})})

    def load_index(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What `save_index` wrote last; None where nothing, or where the weights have changed since."""
        name = self.record.get("index")
        if name is None:
            return None
        tensors, metadata = self._read_tensors(name)
        facts = json.loads(metadata["facts"])
        return (tensors, facts) if facts["weights"] == self.weights_hash() else None

    def save_temperature(self, facts: dict[str, Any]) -> None:
        """Note a temperature for the probabilities, ``value``, which belongs to the weights that are there now."""
        noted = {**facts, "weights": self.weights_hash()}
        self._commit({**self.record, "temperature": noted, "files": dict(self.record["files"])}, remove=None)

    def temperature(self) -> float | None:
        """What `save_temperature` noted last; None where nothing, or where the weights have changed since."""
        noted = self.record.get("temperature")
        return noted["value"] if noted is not None and noted["weights"] == self.weights_hash() else None

    def weights_hash(self) -> str:
        """The SHA-256 of the weights that are there now."""
        return self.record["files"][self.record["weights"]]["sha256"]

    def finish(self, state: TrainingState, reason: str) -> None:
        """The training has ended: note it, and drop the checkpoint."""
        ended = {"epochs": state.epoch, "reason": reason}
        changed = {**self.record, "status": "finished", "ended": ended, "checkpoint": None}
        self._commit({**changed, "files": dict(self.record["files"])}, remove=self.record["checkpoint"])

    def items(self) -> pl.DataFrame:
        """Columns item_id, title and categories (null where unknown); row j belongs to item index j + 1."""
        items = pl.read_ipc(self._checked("items.arrow"))
        if "categories" in items.columns:
            return items
        return items.with_columns(categories=pl.lit(None, pl.List(pl.String)))  # an older run

    def corpus(self) -> Corpus | None:
        """The prepared log, if it is still there. Raises RunError where it is another one."""
        folder = self.path / "corpus"
        if not folder.exists():
            return None
        corpus = Corpus.load(folder)
        self.check_corpus(corpus)
        return corpus

    def check_corpus(self, corpus: Corpus) -> None:
        """Raise RunError where the run was not trained on this corpus."""
        trained = self.record["corpus"]
        if corpus.content_hash != trained["content_hash"]:
            raise RunError(
                f"the corpus {corpus.name!r} ({corpus.num_users} users, {corpus.num_items} items) is not the one that "
                f"{self.path} was trained on: {trained['name']!r} ({trained['users']} users, {trained['items']} items, "
                f"hash {trained['content_hash'][:12]})"
            )

    def state(self) -> TrainingState:
        """Where the training stands by its metrics: epochs done, the best of them."""
        path = self.path / "metrics.jsonl"
        if self.record["status"] == "finished":
            lines = self._checked(path.name).read_text().splitlines()
        else:  # its newest line may be there before run.json says so
            lines = path.read_text().splitlines() if path.exists() else []
        try:
            history: list[EpochRow] = [json.loads(line) for line in lines]
        except ValueError as error:
            raise RunError(f"{path} holds a line that is not JSON ({error}); it was changed or cut off") from error
        best = -1 if self.record["best"] is None else self.record["best"]["epoch"] - 1
        return TrainingState(epoch=len(history), best_epoch=best, history=history)

    def _write_metrics(self, state: TrainingState) -> None:
        lines = "".join(json.dumps(row) + "\n" for row in state.history).encode()
        replace_file(self.path / "metrics.jsonl", lines)
        self.record["files"]["metrics.jsonl"] = _fingerprint(self.path / "metrics.jsonl")

    def _replace(self, role: str, name: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Write tensors from where they lie, without a copy in memory, and have them in place of the file before."""
        ready = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        replace_with(self.path / name, lambda partial: _save(ready, partial, metadata))
        old = self.record.get(role)
        changed = {**self.record, role: name, "files": {**self.record["files"], name: _fingerprint(self.path / name)}}
        try:
            self._commit(changed, remove=old if old != name else None)
        except DataError:
            if name not in self.record["files"]:  # run.json still points to the old one
                (self.path / name).unlink(missing_ok=True)
            raise

    def _commit(self, record: dict[str, Any], remove: str | None) -> None:
        """Make ``record`` the run's, on disk and then here; a file that it no longer needs goes last."""
        if remove is not None:
            del record["files"][remove]
        replace_file(self.path / self.name, json.dumps(record, indent=2).encode() + b"\n")
        self.record = record
        if remove is not None:
            (self.path / remove).unlink(missing_ok=True)

    def _checked(self, name: str) -> Path:
        """Where a file of the run is, checked against its recorded size and hash."""
        recorded, path = self.record["files"].get(name), self.path / name
        try:
            size = path.stat().st_size
            if recorded is None or size != recorded["bytes"]:
                expected = "an unknown number of" if recorded is None else recorded["bytes"]
                raise RunError(
                    f"{path} has {size} bytes, {self.name} says {expected}: it was cut off or swapped; "
                    "restore it or train again"
                )
            if _fingerprint(path) != recorded:
                raise RunError(
                    f"{path} is not the file that this run wrote (its SHA-256 differs from {self.name}): it was "
                    "changed or swapped; restore it or train again"
                )
        except OSError as error:
            raise RunError(f"{path} cannot be read ({error.strerror}); restore it or train again") from error
        return path

    def _read_tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
        path = self._checked(name)
        try:
            with cast(Any, safe_open(path, "pt")) as file:
                names = cast(list[str], file.keys())
                return {name: cast(Tensor, file.get_tensor(name)) for name in names}, file.metadata() or {}
        except SafetensorError as error:
            raise RunError(f"{path} is not a whole safetensors file: {error}; train again") from error


def write_pretrained(
    path: Path,
    record: dict[str, Any],
    weights: dict[str, Tensor],
    items: pl.DataFrame,
    state: TrainingState,
    card: Callable[[dict[str, Any]], str],
) -> None:
    """A finished run in the layout of the Hugging Face Hub, which `RunFolder.open` reads too; whole or not at all.

    record: of the run, as far as others may see it. card: README.md, by the record as it is written.
    Raises DataError where it cannot be written.
    """
    best = state.history[state.best_epoch] if state.history else None
    told = {
        **record,
        "format": FORMAT,
        "status": "finished",
        "best": None if best is None else {"epoch": best["epoch"], "validation": best["validation"]},
        "weights": "model.safetensors",
        "checkpoint": None,
    }

    def write(folder: Path) -> None:
        write_frame(folder / "items.arrow", items)
        _save({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors", {})
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in state.history))
        files = ("items.arrow", "model.safetensors", "metrics.jsonl")
        told["files"] = {name: _fingerprint(folder / name) for name in files}
        (folder / "README.md").write_text(card(told), encoding="utf-8")
        write_json(folder / "config.json", told)

    write_folder(path, write)


def corpus_facts(corpus: Corpus) -> dict[str, Any]:
    """Which data a run is of: name, hash and size, as runs and records hold them."""
    return {
        "name": corpus.name,
        "content_hash": corpus.content_hash,
        "users": corpus.num_users,
        "items": corpus.num_items,
        "actions": corpus.num_actions,
    }


def refuse_existing(path: Path, *, can_resume: bool = False) -> None:
    """Raise RunError where there is something at ``path`` that a run would overwrite.

    An empty folder is fine, unless it is the one that one stands in, which could not be replaced.

    can_resume: whether the caller could go on with a run that is there.
    """
    if not path.name or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        resume = " or go on with it: --resume" if can_resume and (path / "run.json").exists() else ""
        raise RunError(f"{path} exists already; choose another --out{resume}")


def all_finite(tensor: Tensor) -> bool:
    """Whether all values are numbers; unlike ``isfinite().all()`` without three tables of the same size."""
    return tensor.numel() == 0 or all(bool(end.isfinite()) for end in tensor.aminmax())


def _save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:  # which has the number of the system's error in its text alone
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise OSError(str(error)) from error
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}
