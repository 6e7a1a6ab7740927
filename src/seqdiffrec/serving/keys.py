"""Keys that callers show: made at random, kept as hashes, compared without telling how near a guess was."""

import hashlib
import hmac
import json
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from seqdiffrec.data.errors import DataError
from seqdiffrec.data.storage import read_json, replace_file

PREFIX = "sdr_"


class _Key(BaseModel):
    name: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    created: str


class _KeysFile(BaseModel):
    format: Literal[1]
    keys: list[_Key]


class Keys:
    """The keys of a file. Raises DataError where it holds none or is broken."""

    def __init__(self, path: Path):
        self._hashes: dict[str, bytes] = {}
        for one in _read(path):
            self._hashes[one["name"]] = bytes.fromhex(one["sha256"])
        if not self._hashes:
            raise DataError(f"{path} holds no key; make one with: seqdiffrec key {path}")

    def name_of(self, shown: str) -> str | None:
        """Whose key this is; None where it is nobody's. Takes as long for a wrong one as for a right one."""
        hashed, found = _hash(shown), None
        for name, known in self._hashes.items():
            if hmac.compare_digest(hashed, known):
                found = name
        return found


def add_key(path: Path, name: str) -> str:
    """Make a key, add its hash to a file and return it: it stands nowhere else.

    Raises DataError where the file is broken or has a key of that name already.
    """
    there = _read(path) if path.exists() else []
    if any(one["name"] == name for one in there):
        raise DataError(f"{path} has a key {name!r} already; choose another --name, or delete its entry to replace it")
    key = PREFIX + secrets.token_urlsafe(32)
    there.append({"name": name, "sha256": _hash(key).hex(), "created": datetime.now(UTC).isoformat(timespec="seconds")})
    replace_file(path, json.dumps({"format": 1, "keys": there}, indent=2).encode() + b"\n")
    path.chmod(0o600)
    return key


def _hash(key: str) -> bytes:
    # A plain hash will do: with 256 random bits there is nothing to guess, and each request has to be quick.
    return hashlib.sha256(key.encode(errors="replace")).digest()


def _read(path: Path) -> list[dict[str, Any]]:
    record = read_json(path)
    try:
        return _KeysFile.model_validate(record).model_dump()["keys"]
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise DataError(f"{path} is not a file of keys ({where}); make one with: seqdiffrec key FILE") from error
