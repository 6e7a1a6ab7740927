"""What made a figure besides its settings: versions, code revision, machine."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a figure depends on."""
    packages = {name: metadata.version(name) for name in ("seqdiffrec", "torch", "numpy", "polars")}
    return {"python": platform.python_version(), **packages}


def code_revision(*beside: Path, records: Path | None = None) -> str | None:
    """Commit of the checkout that this package runs from, with "+changes" where its files differ; None outside of git.

    beside: folders of the checkout whose files count besides the package's. records: a folder in these that does not.
    """
    here = Path(__file__)
    folder = here.parents[1]  # the whole package: a figure depends on all of it
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        counted = [".", *map(str, beside), *([] if records is None else [f":(exclude){records}"])]
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", *counted)
        # An installed copy may lie inside some other project's checkout, whose commit says nothing about it.
        tracked = _git(folder, "ls-files", str(here))
    except (OSError, subprocess.CalledProcessError):
        return None
    return (commit + ("+changes" if changed else "")) if tracked else None


def machine() -> dict[str, str | int | None]:
    """Processor, number of cores and system."""
    return {"processor": _processor(), "cores": os.cpu_count(), "system": platform.system()}


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
