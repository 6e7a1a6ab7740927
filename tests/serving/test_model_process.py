"""A model in a process of its own: it says what the model says, survives a kill, and ends with those who ask."""

import io
import json
from typing import Any

import numpy as np
import pytest

import seqdiffrec as sdr
from seqdiffrec.serving.answering import How, find
from seqdiffrec.serving.model_process import ModelProcess, answer, read, weights_hash, write
from seqdiffrec.training import RunError
from tests.serving.conftest import ask, serving

HISTORIES = [np.array([1, 2, 3], np.int32), np.array([], np.int32), np.array([5], np.int32)]
HOWS = [How(4), How(3, seeds=2, picks=True), How(20, filter_viewed=False, excluded=(2, 3), only=(1, 2, 5))]


def hash_of(run) -> str:
    return weights_hash(sdr.load(run))


def test_a_process_says_what_the_model_says_and_is_started_again_after_a_kill(trained) -> None:
    process, weights, model = ModelProcess(trained, 1), hash_of(trained), sdr.load(trained).model
    for how in HOWS:
        found = process.find(HISTORIES, how, weights)
        expected = find(model, HISTORIES, how)
        for one, other in zip(found, expected, strict=True):
            for row, wanted in zip([one.best, *(one.picks or [])], [other.best, *(other.picks or [])], strict=True):
                assert [item for item, _ in row] == [item for item, _ in wanted]
                assert [score for _, score in row] == pytest.approx([score for _, score in wanted])
    first = process._process
    first.kill()
    first.wait()
    assert process.find(HISTORIES, How(1), weights)[0].best[0][0] == find(model, HISTORIES, How(1))[0].best[0][0]
    second = process._process
    assert second.pid != first.pid and second.poll() is None
    with pytest.raises(RunError, match="other weights"):
        process.find(HISTORIES, How(1), "x")
    del process
    assert second.wait(10) == 0  # it ended by itself


def test_a_service_with_it_answers_as_one_without(trained, tmp_path) -> None:
    answers = list[dict[str, Any]]()
    for threads in (None, 1):
        with serving(trained, store=tmp_path / "events.sqlite", threads=threads) as client:
            answers.append(ask(client, user_id=103, k=5, picks=True).json())
    here, there = ([(one["item_id"], one["score"]) for one in answer["recommendations"]] for answer in answers)
    assert [item for item, _ in here] == [item for item, _ in there]
    assert [score for _, score in here] == pytest.approx([score for _, score in there])
    assert len(answers[1]["picks"]) == 3


def told(run, *asked: object) -> list[dict[str, object]]:
    """What is said to these questions, without another process."""
    questions, answers = io.BytesIO(), io.BytesIO()
    for one in asked:
        write(questions, json.dumps(one).encode())
    questions.seek(0)
    answer(questions, answers, run)
    answers.seek(0)
    return [json.loads(read(answers)) for _ in asked]


def question(weights: str, **how: object) -> dict[str, object]:
    return {"hash": weights, "histories": [[1]], "how": {"k": 2, "excluded": [], "only": None, **how}}


def test_what_goes_wrong_is_told_and_the_next_question_answered(trained, retrained, tmp_path) -> None:
    wrong, good, other = told(
        trained, question(hash_of(trained), only=[99]), question(hash_of(trained)), question(hash_of(retrained))
    )
    assert "IndexError" in str(wrong["failed"])
    assert len(good["found"][0][0]) == 2
    assert "other weights" in str(other["failed"])
    for failed in told(tmp_path / "nothing", question("x"), question("x")):  # a run that could not be loaded
        assert "does not exist" in str(failed["failed"])


def test_a_message_that_is_cut_off_is_none() -> None:
    pipe = io.BytesIO()
    write(pipe, b"whole")
    pipe.seek(0)
    assert read(pipe) == b"whole"
    for rest in (b"", b"\0\0\0"):
        with pytest.raises(EOFError):
            read(io.BytesIO(rest))
