"""A new model while the old one serves."""

import json
import shutil
import threading
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

import seqdiffrec as sdr
from seqdiffrec.serving.service import SLOWER
from seqdiffrec.training.checkpoint import _fingerprint
from tests.serving.conftest import ask, items_of, serving, take


@pytest.fixture
def link(trained, tmp_path):
    """A link to the run that serves, as one turns it to a newer one."""
    made = tmp_path / "current"
    made.symlink_to(trained)
    return made


@pytest.fixture
def client(link, tmp_path):
    with serving(link, store=tmp_path / "events.sqlite") as one:
        yield one


def turn(link, to) -> None:
    fresh = link.with_name("fresh")
    fresh.symlink_to(to)
    fresh.replace(link)


def test_a_good_one(client, link, retrained) -> None:
    take(client, 103, 20, "a")
    before = ask(client, user_id=103).json()["model"]
    turn(link, retrained)
    assert ask(client, user_id=103).json()["model"] == before  # nothing changes by itself
    answer = client.post("/v1/models/reload").json()
    after = ask(client, user_id=103, k=5).json()
    assert (answer["before"], answer["model"]) == (before, after["model"])
    assert after["model"]["run"] == "retrained"
    history = [*sdr.load(retrained).corpus.sequences()[3].tolist()]
    ids = sdr.load(retrained).corpus.item_ids
    expected = sdr.load(retrained).recommend_sequences([[*(ids[index - 1] for index in history), 20]], 5)
    assert items_of(ask(client, user_id=103, k=5)) == expected["item_id"].to_list()


def break_hash(run) -> str:
    weights = next(run.glob("weights-*"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    return "SHA-256"


def cut_off(run) -> str:
    weights = next(run.glob("weights-*"))
    weights.write_bytes(weights.read_bytes()[:-100])
    return "cut off"


def not_finite(run) -> str:
    rewrite(run, lambda name, tensor: tensor * float("nan") if tensor.is_floating_point() else tensor)
    return "not numbers"


def wrong_shape(run) -> str:
    rewrite(run, lambda name, tensor: tensor[:-1] if tensor.ndim == 2 else tensor)
    return "do not fit"


def not_there(run) -> str:
    shutil.rmtree(run)
    return "does not exist"


def rewrite(run, change) -> None:
    """Change the weights, and the record so that the hash is right."""
    weights = next(run.glob("weights-*"))
    save_file({name: change(name, tensor).contiguous() for name, tensor in load_file(weights).items()}, weights)
    record = json.loads((run / "run.json").read_bytes())
    record["files"][weights.name] = _fingerprint(weights)
    (run / "run.json").write_text(json.dumps(record))


@pytest.mark.parametrize("harm", [break_hash, cut_off, not_finite, wrong_shape, not_there])
def test_a_bad_one_is_refused(client, link, retrained, tmp_path, harm) -> None:
    before = ask(client, user_id=103).json()
    said = harm(shutil.copytree(retrained, tmp_path / "bad"))
    turn(link, tmp_path / "bad")
    answer = client.post("/v1/models/reload")
    assert answer.status_code == 409 and said in answer.json()["detail"], answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert ask(client, user_id=103).json() == before
    assert 'seqdiffrec_reloads_total{outcome="refused"} 1.0' in client.get("/metrics").text


def test_one_that_fails_its_test_request(client, link, retrained, monkeypatch) -> None:
    before = ask(client, user_id=103).json()
    turn(link, retrained)
    kind = type(client.app.state.service.model.recommender.model)
    real = kind.top

    def wrong(self, *of, **how):
        found = real(self, *of, **how)
        return found._replace(probabilities=torch.full_like(found.probabilities, 7.0))

    with monkeypatch.context() as patch:
        patch.setattr(kind, "top", wrong)
        answer = client.post("/v1/models/reload")
    assert answer.status_code == 409 and "test request" in answer.json()["detail"]
    assert ask(client, user_id=103).json() == before


def test_answers_may_take_longer_until_a_load_is_over(client, monkeypatch) -> None:
    """What a load takes from the model's rounds must not look like an overload."""
    service, loaded = client.app.state.service, list[float]()
    load, usual = service._load, service._asked.longest_answer

    def look():
        loaded.append(service._asked.longest_answer)
        return load()

    monkeypatch.setattr(service, "_load", look)
    monkeypatch.setitem(type(service).reload.__globals__, "SETTLED", 0.05)
    assert client.post("/v1/models/reload").status_code == 200
    assert loaded == [SLOWER * usual]
    until = time.monotonic() + 5
    while service._asked.longest_answer != usual and time.monotonic() < until:
        time.sleep(0.01)
    assert service._asked.longest_answer == usual


def test_no_request_fails_while_models_change(client, link, trained, retrained) -> None:
    stop, answers = threading.Event(), []

    def keep_asking() -> None:
        while not stop.is_set():
            answers.append(ask(client, user_id=103, k=3))

    callers = [threading.Thread(target=keep_asking) for _ in range(3)]
    for caller in callers:
        caller.start()
    expected = {}
    for number in range(6):
        run = (retrained, trained)[number % 2]
        turn(link, run)
        told = client.post("/v1/models/reload")
        assert told.status_code == 200
        expected[told.json()["model"]["hash"]] = sdr.load(run).recommend([103], 3)["item_id"].to_list()
    stop.set()
    for caller in callers:
        caller.join()
    assert {answer.status_code for answer in answers} == {200}
    # Each answer is that of the model that it names, wholly.
    assert all(items_of(answer) == expected[answer.json()["model"]["hash"]] for answer in answers)
    assert len({answer.json()["model"]["hash"] for answer in answers}) == 2
