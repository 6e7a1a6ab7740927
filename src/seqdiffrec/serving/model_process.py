"""Models in a process of their own, which answers over two sockets.

In one process their hundreds of small steps and those of the event loop would wait for each other's turn at Python's
lock: each was half as fast. A message is its length, eight bytes, and JSON; nothing is ever unpickled. One socket is
for questions, the other for loading, which goes on beside them: to start one more process for a new model, and import
all that it needs, would take two cores for seconds.
"""

import gc
import itertools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from seqdiffrec.inference import Recommender, load
from seqdiffrec.inference.index import ItemIndex
from seqdiffrec.models import SequenceModel
from seqdiffrec.serving.answering import Found, How, find, index_of
from seqdiffrec.training import RunError

log = logging.getLogger("seqdiffrec.serving")

LENGTH = 8
LAST_SECONDS = 5.0  # for it to end by itself
GONE = (
    "the run's folder no longer has the model that serves, or not its index; "
    "POST /v1/models/reload takes what lies there now"
)


class ModelUnavailable(RunError):
    """Nobody can answer by the model now. The text says why, and what to do."""


class Channel:
    """This process's end of a socket: one question at a time, each answered before the next."""

    def __init__(self) -> None:
        self._here, self.there = socket.socketpair()
        self._file = self._here.makefile("rwb")
        self._one_at_a_time = threading.Lock()

    def ask(self, question: dict[str, Any]) -> Any:
        """The answer.

        Raises RunError for what is wrong with a run, OSError or EOFError where nobody is there, RuntimeError for a
        fault of the code there.
        """
        message = json.dumps(question).encode()
        with self._one_at_a_time:
            write(self._file, message)
            answer = json.loads(read(self._file))
        if "failed" in answer:
            raise RunError(answer["failed"])
        if "fault" in answer:
            raise RuntimeError(answer["fault"])
        return answer

    def close(self) -> None:
        """The other end is told that there is nothing more, and whoever waits here that nothing will come."""
        with suppress(OSError):  # it is gone already
            self._here.shutdown(socket.SHUT_RDWR)  # the file stays: another thread may just be about to use it
        self._here.close()


class Process:
    """The other process, and what leads to it."""

    def __init__(self, threads: int):
        self.channels = {"questions": Channel(), "loads": Channel()}
        theirs = [channel.there for channel in self.channels.values()]
        descriptors = [one.fileno() for one in theirs]
        start = "from seqdiffrec.serving.model_process import main; main()"
        command = [sys.executable, "-P", "-c", start, str(threads), *map(str, descriptors)]
        self.popen = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=descriptors
        )
        for one in theirs:
            one.close()

    def end(self) -> None:
        """Let it end by itself, as it does when nobody can ask any more; without waiting for it."""
        for channel in self.channels.values():
            channel.close()
        with suppress(RuntimeError):  # this process ends too, and starts no more threads
            threading.Thread(target=self._reap, daemon=True).start()

    def _reap(self) -> None:
        try:
            self.popen.wait(LAST_SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


class ModelProcess:
    """A process for models, started now, that ends with this object or with the process that made it.

    threads: of its products. A process that was killed is started again, with the models that it had.
    """

    def __init__(self, threads: int):
        self._threads = threads
        self._numbers = itertools.count()
        self._models: dict[int, tuple[Path, str, bool]] = {}
        self._unwanted: list[int] = []
        self._restarting = threading.Lock()
        self._start()

    def load(self, run: Path, weights: str, *, with_index: bool = False) -> tuple[int, dict[str, Any] | None]:
        """Load a run that has weights of this hash; the number that names it from now on, and the facts of its index.

        Raises RunError, also where there is no index.
        """
        number = next(self._numbers)
        loaded = self._ask("loads", _to_load(number, run, weights, with_index))
        self._models[number] = run, weights, with_index
        return number, loaded["index"]

    def find(self, model: int, histories: Sequence[NDArray[np.int32]], how: How) -> list[Found]:
        """As `answering.find`, by a model that was loaded. Raises ModelUnavailable where it is there no more."""
        unwanted, self._unwanted = self._unwanted, []
        asked = [history.tolist() for history in histories]
        question = {"model": model, "histories": asked, "how": asdict(how), "forget": unwanted}
        try:
            return [Found(*one) for one in self._ask("questions", question)["found"]]
        except RunError as error:
            raise ModelUnavailable(str(error)) from error

    def forget(self, model: int) -> None:
        """Let go of a model, with the next question."""
        del self._models[model]
        self._unwanted.append(model)

    def close(self) -> None:
        """End the process."""
        self._end()

    def _ask(self, channel: str, question: dict[str, Any]) -> Any:
        process = self._process
        try:
            return process.channels[channel].ask(question)
        except (OSError, EOFError):
            pass  # it is gone: once more with a new one
        try:
            with self._restarting:
                if self._process is process:
                    self._end()
                    self._start()
            return self._process.channels[channel].ask(question)
        except (OSError, EOFError) as error:
            raise ModelUnavailable(
                "the model's process ended twice in a row; the log of the service says why"
            ) from error

    def _start(self) -> None:
        process = Process(self._threads)
        self._end = weakref.finalize(self, process.end)
        for number, model in list(self._models.items()):
            try:
                process.channels["loads"].ask(_to_load(number, *model))
            except RunError as error:  # its folder no longer has it, which each question to it is told
                log.warning("a model cannot be loaded again: %s", error)
        self._process = process


def _to_load(number: int, run: Path, weights: str, with_index: bool) -> dict[str, Any]:
    return {"model": number, "run": str(run), "hash": weights, "with_index": with_index}


def write(pipe: BufferedIOBase, message: bytes) -> None:
    """Send a message."""
    pipe.write(len(message).to_bytes(LENGTH, "big") + message)
    pipe.flush()


def read(pipe: BufferedIOBase) -> bytes:
    """The next message. Raises EOFError where there will be none."""
    head = pipe.read(LENGTH)
    message = pipe.read(int.from_bytes(head, "big")) if len(head) == LENGTH else b""
    if not message:
        raise EOFError("the process is gone")
    return message


class Answering:
    """What the other process does: it loads runs, and answers by them."""

    def __init__(self) -> None:
        self._models: dict[int, tuple[SequenceModel, ItemIndex | None]] = {}

    def load(self, asked: Any) -> dict[str, Any]:
        """Load a run where it has these weights, and its index where that is wanted."""
        loaded = load(Path(asked["run"]))
        if weights_hash(loaded) != asked["hash"]:
            raise RunError(f"{asked['run']}: its weights were replaced while it was loaded: try again")
        index = index_of(loaded) if asked["with_index"] else None
        self._models[asked["model"]] = loaded.model, index
        gc.freeze()  # a full collection would walk over all that was imported, and a round would wait for it
        return {"index": None if index is None else index.facts()}

    def find(self, asked: Any) -> dict[str, Any]:
        """Answer a round of questions."""
        for number in asked["forget"]:
            self._models.pop(number, None)
        if asked["model"] not in self._models:
            raise RunError(GONE)
        how = asked["how"]
        only = None if how["only"] is None else tuple(how["only"])
        how = How(**how | {"excluded": tuple(how["excluded"]), "only": only})
        histories = [np.array(one, dtype=np.int32) for one in asked["histories"]]
        model, index = self._models[asked["model"]]
        return {"found": find(model, histories, how, index)}


def answer(pipe: BufferedIOBase, work: Any) -> None:
    """Do what is asked until nobody asks any more."""
    with suppress(EOFError, OSError):
        while True:
            asked = json.loads(read(pipe))
            try:
                told = work(asked)
            except RunError as error:
                told = {"failed": str(error)}
            except Exception as error:  # told to the one who asks; the process goes on
                told = {"fault": f"{type(error).__name__}: {error}"}
            write(pipe, json.dumps(told).encode())


def weights_hash(recommender: Recommender) -> str:
    """SHA-256 of the weights that a recommender was loaded with."""
    folder = recommender.run
    assert folder is not None
    return folder.record["files"][folder.record["weights"]]["sha256"]


def main() -> None:
    """The other process: the number of threads and its two sockets are its arguments."""
    # Ctrl-C reaches both processes: the service ends this one, when all is answered.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)  # whatever a library prints goes where errors go
    threads, *descriptors = map(int, sys.argv[1:])
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    questions, loads = (socket.socket(fileno=one).makefile("rwb") for one in descriptors)
    answering = Answering()
    threading.Thread(target=answer, args=(loads, answering.load)).start()
    answer(questions, answering.find)
