"""The user's cache folder, and corpora in it that are made once."""

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pooch

from seqdiffrec.data.corpus import CORPUS_FORMAT, Corpus
from seqdiffrec.data.errors import DataError
from seqdiffrec.data.readers import SourceFile

CACHE_VARIABLE = "SEQDIFFREC_CACHE"
PREPARATION = 2
"""Raised when parsing or preparation changes what a corpus holds, so that older cached ones are not taken."""


def cache_folder() -> Path:
    """The folder that the environment variable SEQDIFFREC_CACHE names, else the operating system's cache folder."""
    return Path(os.environ.get(CACHE_VARIABLE) or pooch.os_cache("seqdiffrec"))


def cached_corpus(
    name: str, files: list[SourceFile], settings: dict[str, Any], make: Callable[[], Corpus], cache: Path
) -> Corpus:
    """The corpus for these files and settings, memory-mapped from the cache; `make` makes it when it is not there.

    Two processes may make the same corpus at once: the one that comes second drops its own.
    """
    folder = cache / "corpora" / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}-{_key(files, settings)}"
    if not folder.exists():
        corpus = make()
        try:
            corpus.save(folder)
        except DataError:
            if not folder.exists():
                raise
    return Corpus.load(folder)


def _key(files: list[SourceFile], settings: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps([CORPUS_FORMAT, PREPARATION, settings], sort_keys=True).encode())
    for file in files:
        digest.update(hashlib.sha256(file.data).digest())
    return digest.hexdigest()[:16]
