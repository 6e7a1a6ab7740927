"""Where the files of a named dataset come from: a folder, an archive, the official site, a package index."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pooch
import requests

from seqdiffrec.data.errors import DataError
from seqdiffrec.data.readers import SourceFile, read_source, unpacked
from seqdiffrec.data.storage import cannot_write

Notify = Callable[[str], None]
"""Takes one line, or a few, that a person should see."""

Shelf = Callable[[str], SourceFile | None]
"""Gives the file of a name such as "ml-100k/u.data", or None when it has none."""

CONNECT_SECONDS, READ_SECONDS = 5, 30
RECBOLE = "recbole==1.2.1"
RECBOLE_WHEEL = "recbole-1.2.1-py3-none-any.whl"
RECBOLE_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"


def to_stderr(message: str) -> None:
    """The notice that is given when the caller names no other way."""
    print(message, file=sys.stderr)


def folder_shelf(folder: Path) -> Shelf:
    """Files below a folder; one that is there only as `.gz`, or only without it, is found too."""

    def find(name: str) -> SourceFile | None:
        plain = name.removesuffix(".gz")
        for candidate in (folder / plain, folder / f"{plain}.gz"):
            if candidate.is_file():
                return read_source(candidate)
        return None

    return find


def zip_shelf(archive: Path) -> Shelf:
    """Members of a zip archive. Raises DataError when it is broken."""

    def find(name: str) -> SourceFile | None:
        try:
            with zipfile.ZipFile(archive) as opened:
                return unpacked(f"{archive}:{name}", opened.read(name)) if name in opened.namelist() else None
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{archive} is a broken or cut-off zip archive ({error}); get it again") from error

    return find


class FetchError(DataError):
    """A file that its source does not give: unreachable, or another one than is known."""


def fetched_before(url: str, folder: Path) -> Path | None:
    """The file of that address or name if it is in the folder of the cache already; checked when it came in."""
    file = folder / url.rsplit("/", 1)[-1]
    return file if file.is_file() else None


def download(url: str, checksum: str | None, folder: Path) -> Path:
    """Fetch one file into a folder of the cache; it appears whole or not at all.

    checksum: "md5:..." or "sha256:...", None where none is published.
    Raises FetchError when the site cannot be reached within seconds or the file is another one, DataError when the
    disk is full.
    """
    target = folder / url.rsplit("/", 1)[1]
    try:
        # Says only what went wrong, as an exception; its own log lines would come between ours.
        pooch.get_logger().setLevel("ERROR")
        downloader = pooch.HTTPDownloader(timeout=(CONNECT_SECONDS, READ_SECONDS))
        pooch.retrieve(
            url,
            known_hash=checksum,
            fname=target.name,
            path=folder,
            downloader=downloader,  # pyright: ignore[reportArgumentType] (pooch's own class, by its own protocol)
        )
    except requests.RequestException as error:
        raise FetchError(f"{url} cannot be reached ({type(error).__name__})") from error
    except OSError as error:
        raise cannot_write(target, error) from error
    except ValueError as error:
        raise FetchError(f"{url} gave another file than the known one ({error})") from error
    return target


def recbole_wheel(folder: Path) -> Path:
    """Fetch the wheel of RecBole 1.2.1 with pip into a folder of the cache; it is never installed.

    Raises FetchError when pip cannot get it or its SHA-256 is not the known one, DataError when the disk is full.
    """
    target = folder / RECBOLE_WHEEL
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as partial:
            _pip_download(RECBOLE, partial)
            wheel = Path(partial) / RECBOLE_WHEEL
            if not wheel.is_file() or _sha256(wheel) != RECBOLE_SHA256:
                raise FetchError(f"pip gave another file than the known {RECBOLE_WHEEL}")
            os.replace(wheel, target)
    except OSError as error:
        raise cannot_write(target, error) from error
    return target


def _pip_download(requirement: str, folder: str) -> None:
    command = [sys.executable, "-m", "pip", "download", requirement, "--no-deps", "--only-binary=:all:"]
    options = ["--dest", folder, "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "15"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise FetchError(f"pip could not fetch {requirement} ({''.join(reason)})")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
