"""A lock on a run's folder, so that two sweeps side by side never train the same run."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def held(path: Path) -> Generator[bool]:
    """Hold the lock of what stands, or will stand, at ``path``; gives False where another process has it.

    It is a lock of the operating system on the file ``.NAME.lock`` beside it. It ends with the process, however that
    ends, so that none is ever stale. While it is held the file holds the process's number.
    """
    file = _file(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        try:
            yield True
        finally:
            os.truncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder(path: Path) -> int | None:
    """The number of the process that holds the lock of ``path``, None where none does. Looks only, takes nothing."""
    file = _file(path)
    text = file.read_text() if file.exists() else ""
    return int(text) if text.isdecimal() and _is_alive(int(text)) else None


def _file(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _is_alive(number: int) -> bool:
    """Whether there is a process of that number; one that was killed left its number behind."""
    try:
        os.kill(number, 0)  # signal 0 asks, and does nothing
    except ProcessLookupError:
        return False
    except PermissionError:  # there is one, of another user
        return True
    return True
