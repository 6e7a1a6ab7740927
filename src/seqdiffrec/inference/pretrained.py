"""Models in the layout of the Hugging Face Hub: to and from a folder, and to and from the Hub.

    model.safetensors   the weights
    config.json         what run.json holds, without what is nobody else's business: command, machine, paths
    items.arrow         the vocabulary: item ids and titles
    metrics.jsonl       a line an epoch
    README.md           a model card with metadata

It is a run's folder under other names and without the log, so that all that reads a run reads it too: `load`,
``seqdiffrec recommend FOLDER --history ...``, ``seqdiffrec export FOLDER``. The users of the log are not in it.
"""

import importlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from seqdiffrec.inference.answers import Answers
from seqdiffrec.models import SequenceModel
from seqdiffrec.models.settings import SettingError
from seqdiffrec.training import RunError, TrainingState
from seqdiffrec.training.checkpoint import corpus_facts, refuse_existing, write_pretrained
from seqdiffrec.training.provenance import code_revision, versions

if TYPE_CHECKING:
    from seqdiffrec.inference.recommender import Recommender

LIBRARY = "seqdiffrec"
PRIVATE = ("command", "machine", "data", "resumed", "index", "source")
# What from_pretrained takes from the Hub, whatever else lies there.
FILES = ["config.json", "model.safetensors", "items.arrow", "metrics.jsonl", "README.md"]


class Pretrained(Answers):
    """What `Recommender` has to do with folders and repositories in the layout of the Hugging Face Hub."""

    state: TrainingState
    _split: dict[str, Any] | None

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write a fitted model into a new folder, whole or not at all; returns it.

        Raises RunError where there is something at that path already, SettingError before `fit`.
        """
        folder, kind = Path(folder), type(self.model)
        refuse_existing(folder)
        record = self.run.record if self.run is not None else self._new_record()
        public = {name: value for name, value in record.items() if name not in PRIVATE}
        weights = {name: tensor.detach().cpu() for name, tensor in self.model.state_dict().items()}
        first = self.vocabulary["item_id"].head(2).to_list()
        write_pretrained(folder, public, weights, self.vocabulary, self.state, lambda told: card(kind, told, first))
        return folder

    @classmethod
    def from_pretrained(
        cls, folder_or_repo: str | Path, *, revision: str | None = None, output: str = "polars"
    ) -> "Recommender":
        """A model out of a folder that is there, or else of a repository ``owner/name`` of the Hub (extra ``hub``).

        revision: branch, tag or commit of the repository. output: see `Recommender.load`.
        Raises RunError where there is no such folder and no such repository, or where it is broken.
        """
        folder = Path(folder_or_repo)
        if not folder.is_dir():
            folder = _download(str(folder_or_repo), revision)
        return cls.load(folder, output=output)

    def push_to_hub(
        self, repo_id: str, *, private: bool = True, token: str | None = None, message: str | None = None
    ) -> str:
        """Upload a fitted model to the Hub, as ``owner/name``, made where it is not there; returns its address.

        private: of a new repository. token: without it, the one that ``hf auth login`` keeps.
        Raises SettingError without the extra ``hub``, RunError where the Hub refuses.
        """
        hub = _hub()
        with tempfile.TemporaryDirectory() as parent:
            folder = self.save_pretrained(Path(parent) / "model")
            try:
                api = hub.HfApi(token=token)
                address = str(api.create_repo(repo_id, private=private, exist_ok=True))
                api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message or f"A {LIBRARY} model")
            except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
                raise RunError(f"{repo_id} could not be uploaded: {_first_line(error)}") from error
        return address

    # What these need of a recommender.

    @classmethod
    def load(cls, path: str | Path, *, output: str = "polars") -> "Recommender":
        """Open a folder."""
        raise NotImplementedError

    def _settings(self) -> dict[str, Any]:
        """As run.json has them."""
        raise NotImplementedError

    def _new_record(self) -> dict[str, Any]:
        facts = {"versions": versions(), "revision": code_revision()}
        return {"settings": self._settings(), "corpus": corpus_facts(self.corpus), "split": self._split, **facts}


def _download(repo_id: str, revision: str | None) -> Path:
    hub = _hub()
    try:
        return Path(hub.snapshot_download(repo_id, revision=revision, allow_patterns=FILES, library_name=LIBRARY))
    except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
        raise RunError(
            f"{repo_id} is no folder here, and could not be had from the Hub: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _hub() -> Any:
    try:
        import huggingface_hub

        importlib.import_module("huggingface_hub.errors")
    except ImportError as error:
        raise SettingError("the Hugging Face Hub needs a package: pip install 'seqdiffrec[hub]'") from error
    return cast(Any, huggingface_hub)


def card(kind: type[SequenceModel], record: dict[str, Any], items: list[Any]) -> str:
    """The model card: metadata as YAML (of which JSON is a part), then what it is and how these items are asked for."""
    data, paper = record["corpus"], f" ({kind.paper})" if kind.paper else ""
    tags = ["recommendation", "sequential-recommendation", kind.name]
    metadata: dict[str, Any] = {"library_name": LIBRARY, "tags": tags}
    best = record["best"] if record["best"] and record["best"]["validation"] else None  # a whole log has none
    if best is not None:
        metadata["metrics"] = sorted({name.partition("@")[0].lower() for name in best["validation"]["seen_kept"]})
        metadata["model-index"] = [{"name": kind.__name__, "results": [_result(data["name"], best)]}]
    front = "".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in metadata.items())
    rows = [] if best is None else ["| | " + " | ".join(best["validation"]["seen_kept"]) + " |"]
    if best is not None:
        rows.append("| --- " * (len(best["validation"]["seen_kept"]) + 1) + "|")
        for protocol, metrics in best["validation"].items():
            figures = " | ".join(f"{value:.4f}" for value in metrics.values())
            rows.append(f"| {protocol.replace('_', ' ')} | {figures} |")
    return f"""---
{front}---

# {kind.__name__}: {data["name"]}

{kind.summary[:1].upper()}{kind.summary[1:]}{paper}.
It gives each of {data["items"]:,} items the probability to come next after a history of items.
Trained with SeqDiffRec on {data["actions"]:,} actions of {data["users"]:,} users.

```python
import seqdiffrec

model = seqdiffrec.Recommender.from_pretrained("this folder, or owner/name")
model.recommend_sequences([{items!r}], k=10)
```

## Validation

All items ranked, each user's last item but one, best epoch by NDCG@10 with seen items kept; ties against the model.

{chr(10).join(rows) or "Not measured."}

## Limits

It knows the items of its log and no others, and says what people took, not what is good for them. It holds no user's
history. The figures are those by which its best epoch was chosen, so they are somewhat high.
"""


def _result(name: str, best: dict[str, Any]) -> dict[str, Any]:
    metrics = [
        {"type": metric.partition("@")[0].lower(), "name": f"{metric}, validation, seen kept", "value": round(value, 6)}
        for metric, value in best["validation"]["seen_kept"].items()
    ]
    task = {"type": "sequential-recommendation", "name": "Sequential recommendation"}
    return {"task": task, "dataset": {"name": name, "type": name}, "metrics": metrics}
