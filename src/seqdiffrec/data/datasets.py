"""Named datasets and a user's own files as prepared corpora, made once and kept in the cache folder.

A named dataset is looked for in the folder that the caller or the environment variable SEQDIFFREC_DATA_ROOT names,
then at its official address; `registry.py` has the addresses and checksums.
"""

import difflib
import os
import zipfile
from pathlib import Path

import polars as pl

from seqdiffrec.data import fetch
from seqdiffrec.data.cache import cache_folder, cached_corpus
from seqdiffrec.data.corpus import Corpus, statistics
from seqdiffrec.data.errors import DataError
from seqdiffrec.data.fetch import Notify, Shelf, to_stderr
from seqdiffrec.data.interactions import Interactions
from seqdiffrec.data.items import read_items
from seqdiffrec.data.prepare import prepare
from seqdiffrec.data.readers import SourceFile, read_source
from seqdiffrec.data.registry import DATASETS, Layout, NamedDataset
from seqdiffrec.data.storage import cannot_write, replace_file

DATA_ROOT_VARIABLE = "SEQDIFFREC_DATA_ROOT"


def load_corpus(
    name: str,
    data_root: str | Path | None = None,
    *,
    items: str | Path | None = None,
    notify: Notify = to_stderr,
) -> Corpus:
    """The prepared corpus of a named dataset, made once in the user's cache folder and memory-mapped from there.

    name: one of `DATASETS`.
    data_root: folder to look in first, in the original layout or with the sequences files (`beauty.txt`); None takes
        the environment variable SEQDIFFREC_DATA_ROOT. What is not there is fetched.
    items: a table of titles and categories (`read_items`), in place of the dataset's own.
    notify: takes the lines that say where the data came from and, once a dataset, its licence.
    Raises DataError for an unknown name (with the nearest one), files that are broken or not the known ones, and
    when the data are neither there nor to be fetched.
    """
    dataset = _named(name)
    cache = cache_folder()
    files = _from_data_root(dataset, data_root, notify)
    fetched = files is None
    layout, log, known = files or _fetch(dataset, cache, notify)
    given = None if items is None else read_source(Path(items))
    _show_licence_once(dataset, cache, notify)

    def described() -> pl.DataFrame | None:
        if items is not None:
            return read_items(items)
        return layout.parse_items(known) if layout.parse_items and known else None

    def make() -> Corpus:
        corpus = prepare(
            layout.parse_log(log),
            name=dataset.name,
            min_user=dataset.min_user,
            min_item=dataset.min_item,
            items=described(),
            provenance={"source": layout.log},
        )
        _check_counts(dataset, corpus, log.label, must_hold=fetched and dataset.checksum is None, notify=notify)
        return corpus

    settings = {"layout": layout.log, "min_user": dataset.min_user, "min_item": dataset.min_item}
    files_read = [file for file in (log, given or known) if file is not None]
    return cached_corpus(dataset.name, files_read, settings, make, cache)


def prepare_file(
    path: str | Path,
    *,
    user: str = "user_id",
    item: str = "item_id",
    time: str | None = None,
    min_user: int = 1,
    min_item: int = 1,
    drop_repeats: bool = False,
    items: str | Path | None = None,
    name: str | None = None,
    cache: str | Path | None = None,
) -> Corpus:
    """The prepared corpus of a user's own file, memory-mapped from the cache; a changed file is prepared again.

    path, user, item, time: as in `Interactions.read`; min_user, min_item, drop_repeats: as in `prepare`.
    items: a file with a table of items (`read_items`).
    name: what to call the corpus; None takes the file's name without its ending.
    cache: folder for prepared corpora; None takes the user's cache folder.
    Raises DataError as those two do.
    """
    path = Path(path)
    file = read_source(path)
    columns = {"user": user, "item": item, "time": time}
    called = name or path.name.split(".")[0]
    settings = {
        "name": called,
        "ending": path.suffixes,
        "columns": columns,
        "min_user": min_user,
        "min_item": min_item,
        "drop_repeats": drop_repeats,
    }

    def make() -> Corpus:
        return prepare(
            Interactions.read(path, user=user, item=item, time=time),
            name=called,
            min_user=min_user,
            min_item=min_item,
            drop_repeats=drop_repeats,
            items=None if items is None else read_items(items),
            provenance={"source": path.name, "columns": columns},
        )

    files = [file] if items is None else [file, read_source(Path(items))]
    return cached_corpus(called, files, settings, make, cache_folder() if cache is None else Path(cache))


def _named(name: str) -> NamedDataset:
    if name in DATASETS:
        return DATASETS[name]
    near = difflib.get_close_matches(name.lower(), DATASETS, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise DataError(f"unknown dataset {name!r}; {hint}The named ones are {', '.join(DATASETS)}")


Found = tuple[Layout, SourceFile, SourceFile | None]
"""The layout that was there, its log, and the table of its items if it was there too."""


def _find(dataset: NamedDataset, shelf: Shelf) -> Found | None:
    for layout in dataset.layouts:
        log = shelf(layout.log)
        if log is not None:
            return layout, log, shelf(layout.items) if layout.items else None
    return None


def _from_data_root(dataset: NamedDataset, data_root: str | Path | None, notify: Notify) -> Found | None:
    named = data_root or os.environ.get(DATA_ROOT_VARIABLE)
    if not named:
        return None
    root = Path(named)
    if not root.is_dir():
        raise DataError(f"the data root {root} is not a folder; check --data-root and {DATA_ROOT_VARIABLE}")
    found = _find(dataset, fetch.folder_shelf(root))
    if found is None:
        wanted = ", ".join(layout.log for layout in dataset.layouts)
        notify(f"{dataset.name}: none of {wanted} in {root}; looking in the cache and at {dataset.url}")
    return found


def _fetch(dataset: NamedDataset, cache: Path, notify: Notify) -> Found:
    folder = cache / "downloads"
    file = fetch.fetched_before(dataset.url, folder)
    if file is None and dataset.in_recbole:
        file = fetch.fetched_before(fetch.RECBOLE_WHEEL, folder)
    if file is None:
        file, came_from = _fetch_anew(dataset, folder)
        notify(f"{dataset.name}: from {came_from}")
    found = _find(dataset, fetch.zip_shelf(file) if zipfile.is_zipfile(file) else fetch.folder_shelf(folder))
    if found is None:
        raise DataError(f"{file} holds none of the files of {dataset.name}; delete it and try again")
    return found


def _fetch_anew(dataset: NamedDataset, folder: Path) -> tuple[Path, str]:
    """Fetch the official file, or else the wheel that has it too; returns it and, in words, where it came from."""
    try:
        return fetch.download(dataset.url, dataset.checksum, folder), dataset.url
    except fetch.FetchError as error:
        reason = str(error)
        if dataset.in_recbole:
            try:
                wheel = fetch.recbole_wheel(folder)
                return wheel, f"the wheel of {fetch.RECBOLE}, from the package index, because {reason}"
            except fetch.FetchError as second:
                reason = f"{reason}; {second}"
        raise DataError(
            f"{dataset.name} could not be fetched: {reason}. Get {dataset.url} on a machine that can, put it "
            f"(an archive unpacked) into a folder, and name that folder with --data-root or {DATA_ROOT_VARIABLE}"
        ) from error


def _show_licence_once(dataset: NamedDataset, cache: Path, notify: Notify) -> None:
    marker = cache / "licences" / f"{dataset.name}.txt"
    if marker.exists():
        return
    notify(dataset.licence)
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(marker, error) from error
    replace_file(marker, f"{dataset.licence}\n".encode())


def _check_counts(dataset: NamedDataset, corpus: Corpus, label: str, *, must_hold: bool, notify: Notify) -> None:
    figures = statistics(corpus)
    found = (figures["users"], figures["items"], figures["actions"])
    if found == dataset.expected:
        return
    message = (
        f"{label}: {found[0]} users, {found[1]} items and {found[2]} actions after preparation, but {dataset.name} has "
        f"{dataset.expected[0]}, {dataset.expected[1]} and {dataset.expected[2]}"
    )
    if must_hold:
        raise DataError(f"{message}; the file is not the known one, delete it and fetch it again")
    notify(f"{message}; figures from it cannot be held against published ones")
