"""A model in a process of its own, which answers over two pipes.

In one process its hundreds of small steps and those of the event loop would wait for each other's turn at Python's
lock: each was half as fast. A message is its length, eight bytes, and JSON; nothing is ever unpickled.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from seqdiffrec.inference import Recommender, load
from seqdiffrec.serving.answering import Found, How, find
from seqdiffrec.training import RunError

LENGTH = 8
LAST_SECONDS = 5.0  # for it to end by itself


class ModelProcess:
    """The model of a run, in a process that is started now, and ends with this object or this process.

    Raises RunError, at the first question, where it could not load the run. A process that was killed is started again.
    """

    def __init__(self, run: Path, threads: int):
        start = "from seqdiffrec.serving.model_process import main; main()"
        self._command = [sys.executable, "-P", "-c", start, str(run), str(threads)]
        self._one_at_a_time = threading.Lock()
        self._start()

    def find(self, histories: Sequence[NDArray[np.int32]], how: How, weights: str) -> list[Found]:
        """As `answering.find`, by a model of this hash. What went wrong there is raised as RunError."""
        asked = {"hash": weights, "histories": [history.tolist() for history in histories], "how": asdict(how)}
        question = json.dumps(asked).encode()
        with self._one_at_a_time:
            try:
                answer = self._ask(question)
            except (OSError, EOFError):
                self._end()
                self._start()
                answer = self._ask(question)
        if "failed" in answer:
            raise RunError(answer["failed"])
        return [Found(*one) for one in answer["found"]]

    def _ask(self, question: bytes) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        write(self._process.stdin, question)
        return json.loads(read(self._process.stdout))

    def _start(self) -> None:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._end = weakref.finalize(self, end, self._process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Let a process end by itself, as it does when nobody can ask any more; without waiting for it."""
    assert process.stdin is not None and process.stdout is not None
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):  # it is gone, with what it had not read
            pipe.close()
    with suppress(RuntimeError):  # this process ends too, and starts no more threads
        threading.Thread(target=_reap, args=(process,), daemon=True).start()


def _reap(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(LAST_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def write(pipe: IO[bytes], message: bytes) -> None:
    """Send a message."""
    pipe.write(len(message).to_bytes(LENGTH, "big") + message)
    pipe.flush()


def read(pipe: IO[bytes]) -> bytes:
    """The next message. Raises EOFError where there will be none."""
    head = pipe.read(LENGTH)
    message = pipe.read(int.from_bytes(head, "big")) if len(head) == LENGTH else b""
    if not message:
        raise EOFError("the process is gone")
    return message


def answer(questions: IO[bytes], answers: IO[bytes], run: Path) -> None:
    """Load a run and answer until nobody asks any more."""
    try:
        loaded: Recommender | str = load(run)
    except Exception as error:  # told to the one who asks
        loaded = f"{type(error).__name__}: {error}"
    gc.freeze()  # a full collection would walk over all that was imported, and a round would wait for it
    with suppress(EOFError, BrokenPipeError):
        while True:
            told = _answer(loaded, json.loads(read(questions)))
            write(answers, json.dumps(told).encode())


def _answer(loaded: Recommender | str, asked: Any) -> dict[str, Any]:
    if isinstance(loaded, str):
        return {"failed": loaded}
    if weights_hash(loaded) != asked["hash"]:
        return {"failed": "the run's folder has other weights by now; POST /v1/models/reload takes them"}
    how = asked["how"]
    only = None if how["only"] is None else tuple(how["only"])
    how = How(**how | {"excluded": tuple(how["excluded"]), "only": only})
    try:
        return {"found": find(loaded.model, [np.array(one, dtype=np.int32) for one in asked["histories"]], how)}
    except Exception as error:  # of this round; the process goes on
        return {"failed": f"{type(error).__name__}: {error}"}


def weights_hash(recommender: Recommender) -> str:
    """SHA-256 of the weights that a recommender was loaded with."""
    folder = recommender.run
    assert folder is not None
    return folder.record["files"][folder.record["weights"]]["sha256"]


def main() -> None:
    """The other process: the run and the number of threads are its arguments."""
    # Ctrl-C reaches both processes: the service ends this one, when all is answered.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints does not get among the answers
    run, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    threadpool_limits(int(threads))
    answer(questions, answers, Path(run))
