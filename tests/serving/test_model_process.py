"""A model in a process of its own: it says what the model says, survives a kill, and ends with those who ask."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqdiffrec as sdr
from seqdiffrec.serving.answering import How, find
from seqdiffrec.serving.model_process import (
    GONE,
    Answering,
    Channel,
    ModelProcess,
    ModelUnavailable,
    answer,
    read,
    weights_hash,
    write,
)
from seqdiffrec.training import RunError
from tests.serving.conftest import ask, serving

HISTORIES = [np.array([1, 2, 3], np.int32), np.array([], np.int32), np.array([5], np.int32)]
HOWS = [How(4), How(3, seeds=2, picks=True), How(20, filter_viewed=False, excluded=(2, 3), only=(1, 2, 5))]


def hash_of(run) -> str:
    return weights_hash(sdr.load(run))


def same(found, expected) -> None:
    for one, other in zip(found, expected, strict=True):
        for row, wanted in zip([one.best, *(one.picks or [])], [other.best, *(other.picks or [])], strict=True):
            assert [item for item, _ in row] == [item for item, _ in wanted]
            assert [score for _, score in row] == pytest.approx([score for _, score in wanted])


def test_a_process_says_what_the_model_says_and_is_started_again_after_a_kill(trained) -> None:
    process, model = ModelProcess(1), sdr.load(trained).model
    number, _ = process.load(trained, hash_of(trained))
    for how in HOWS:
        same(process.find(number, HISTORIES, how), find(model, HISTORIES, how))
    first = process._process.popen
    first.kill()
    first.wait()
    same(process.find(number, HISTORIES, How(1)), find(model, HISTORIES, How(1)))
    second = process._process.popen
    assert second.pid != first.pid and second.poll() is None
    del process
    assert second.wait(10) == 0  # it ended by itself


def test_models_are_loaded_beside_each_other_and_forgotten(trained, retrained, tmp_path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    process = ModelProcess(1)
    old, _ = process.load(folder, hash_of(trained))
    shutil.rmtree(folder)
    shutil.copytree(retrained, folder)
    with pytest.raises(RunError, match="replaced while it was loaded"):
        process.load(folder, hash_of(trained))
    new, _ = process.load(folder, hash_of(retrained))
    for number, run in ((old, trained), (new, retrained)):
        same(process.find(number, HISTORIES, How(3)), find(sdr.load(run).model, HISTORIES, How(3)))
    process._process.popen.kill()  # the one of the old model's weights cannot be had again
    same(process.find(new, HISTORIES, How(3)), find(sdr.load(retrained).model, HISTORIES, How(3)))
    with pytest.raises(ModelUnavailable, match="no longer has"):
        process.find(old, HISTORIES, How(3))
    process.forget(new)
    with pytest.raises(ModelUnavailable, match="no longer has"):
        process.find(new, HISTORIES, How(3))
    process.close()


def test_a_process_that_cannot_stay_up(trained, monkeypatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/true")
    with pytest.raises(ModelUnavailable, match="twice"):
        ModelProcess(1).load(trained, "x")
    process = ModelProcess(1)
    process._models[0] = trained, "x", False  # as if it had been up before
    with pytest.raises(ModelUnavailable, match="twice"):
        process.find(0, HISTORIES, How(1))


def test_a_fault_of_the_code_there_is_no_error_of_a_run(trained) -> None:
    process = ModelProcess(1)
    number, _ = process.load(trained, hash_of(trained))
    with pytest.raises(RuntimeError, match="IndexError"):
        process.find(number, HISTORIES, How(2, only=(99,)))
    same(process.find(number, HISTORIES, How(2)), find(sdr.load(trained).model, HISTORIES, How(2)))


def test_a_service_without_its_model_says_503(trained, retrained, tmp_path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    with serving(folder, store=tmp_path / "events.sqlite", threads=1) as client:
        assert ask(client, history=[10], k=2).status_code == 200
        shutil.rmtree(folder)
        shutil.copytree(retrained, folder)
        client.app.state.service._process._process.popen.kill()  # the one that starts cannot have its model again
        for _ in range(20):  # it may take longer to start than a request waits
            answer = ask(client, history=[10], k=2)
            assert answer.status_code == 503 and "Retry-After" in answer.headers
            if "no answer within" not in answer.json()["detail"]:
                break
        assert "/v1/models/reload" in answer.json()["detail"]


def test_a_channel_that_was_closed_is_no_other_error_than_a_process_that_is_gone() -> None:
    channel = Channel()
    channel.close()
    with pytest.raises((OSError, EOFError)):
        channel.ask({})


def test_a_service_with_it_answers_as_one_without(trained, tmp_path) -> None:
    answers = list[dict[str, Any]]()
    for threads in (None, 1):
        with serving(trained, store=tmp_path / "events.sqlite", threads=threads) as client:
            answers.append(ask(client, user_id=103, k=5, picks=True).json())
    here, there = ([(one["item_id"], one["score"]) for one in answer["recommendations"]] for answer in answers)
    assert [item for item, _ in here] == [item for item, _ in there]
    assert [score for _, score in here] == pytest.approx([score for _, score in there])
    assert len(answers[1]["picks"]) == 3


def told(work, *asked: object) -> list[dict[str, Any]]:
    """What is said to these questions, without another process."""
    pipe = io.BytesIO()
    for one in asked:
        write(pipe, json.dumps(one).encode())
    end = pipe.tell()
    pipe.seek(0)
    answer(TwoWay(pipe, end), work)
    pipe.seek(end)
    return [json.loads(read(pipe)) for _ in asked]


class TwoWay:
    """Reads up to an end, and writes from there."""

    def __init__(self, pipe: io.BytesIO, end: int) -> None:
        self._pipe, self._end, self._read = pipe, end, 0

    def read(self, size: int) -> bytes:
        self._pipe.seek(self._read)
        found = self._pipe.read(min(size, self._end - self._read))
        self._read += len(found)
        self._pipe.seek(0, io.SEEK_END)
        return found

    def write(self, message: bytes) -> None:
        self._pipe.write(message)

    def flush(self) -> None: ...


def question(model: int, **how: object) -> dict[str, object]:
    return {
        "model": model, "histories": [[1]], "forget": [], "how": {"k": 2, "excluded": [], "only": None, **how},
    }  # fmt: skip


def test_what_goes_wrong_is_told_and_the_next_question_answered(trained, retrained, tmp_path) -> None:
    answering = Answering()
    loaded, missing, other = told(
        answering.load,
        {"model": 0, "run": str(trained), "hash": hash_of(trained), "with_index": False},
        {"model": 1, "run": str(tmp_path / "nothing"), "hash": "x", "with_index": False},
        {"model": 2, "run": str(trained), "hash": hash_of(retrained), "with_index": False},
    )
    assert loaded == {"index": None}
    assert "does not exist" in missing["failed"] and "replaced" in other["failed"]
    wrong, good, unknown = told(answering.find, question(0, only=[99]), question(0), question(1))
    assert "IndexError" in wrong["fault"]
    assert len(good["found"][0][0]) == 2
    assert unknown == {"failed": GONE}


def test_a_message_that_is_cut_off_is_none() -> None:
    pipe = io.BytesIO()
    write(pipe, b"whole")
    pipe.seek(0)
    assert read(pipe) == b"whole"
    for rest in (b"", b"\0\0\0"):
        with pytest.raises(EOFError):
            read(io.BytesIO(rest))
