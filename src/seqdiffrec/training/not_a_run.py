"""What a path is that was given for a run and is none, and what to do with it."""

import shlex
from pathlib import Path

from seqdiffrec.data.corpus import is_corpus
from seqdiffrec.data.sources import ARROW, PARQUET, SEPARATORS, SEQUENCES, ending

_LOGS = (*SEPARATORS, *PARQUET, *ARROW, *SEQUENCES)


def what_it_is(path: Path) -> str:
    """A sentence for people: the path, what it is instead of a run's folder, and the command that helps."""
    typed = shlex.quote(str(path))
    if not path.exists():
        return f"{path} does not exist; check the path, or train one with: seqdiffrec train --dataset ml-100k --out RUN"
    if path.is_dir():
        if is_corpus(path):
            return (
                f"{path} is a prepared corpus, not a run; train on it with: seqdiffrec train --data {typed} --out RUN"
            )
        return (
            f"{path} has no run.json, so it is not a run; name the folder that train or fit made as --out, or train "
            "one with: seqdiffrec train --dataset ml-100k --out RUN"
        )
    if path.name in ("run.json", "config.json"):
        return f"{path} is a file, and a run is the folder around it: name {path.parent}"
    if ending(path) in _LOGS:
        return (
            f"{path} is a file of data, not a run; a run is the folder that train or fit makes of such: "
            f"seqdiffrec fit {typed} --out RUN"
        )
    return f"{path} is a file, not a run; a run is a folder, which train or fit makes and which holds run.json"
