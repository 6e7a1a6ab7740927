"""Lists that are looked up in the run's index."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import seqdiffrec as sdr
from seqdiffrec.serving import create_app
from seqdiffrec.serving.answering import How
from seqdiffrec.serving.model_process import ModelProcess, ModelUnavailable, weights_hash
from seqdiffrec.training import RunError
from tests.cli.conftest import call
from tests.serving.conftest import ask, fitted, process as serve_process, serving
from tests.serving.test_reload import turn

HISTORY = [20, 60, 120]


class OnlyThree:
    """An index that finds three items and no other, so that an answer tells whether it was asked."""

    def __call__(self, draws, count):
        return draws.new_tensor([[1, 2, 3]]).long().expand(draws.shape[1], -1)

    def facts(self):
        return {"kind": "three"}


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    run = fitted(tmp_path_factory.mktemp("indexed") / "run", seed=5)
    sdr.load(run).build_index()
    return run


def listed(answer) -> list[tuple[int, float]]:
    assert answer.status_code == 200, answer.text
    return [(one["item_id"], one["score"]) for one in answer.json()["recommendations"]]


@pytest.mark.parametrize("threads", [None, 1])
def test_the_index_is_asked_for_lists_and_the_picks_stay_exact(indexed, tmp_path, threads) -> None:
    model = sdr.load(indexed)
    expected = model.recommend_sequences([HISTORY], 4, approximate=True)
    picks = model.picks(histories=[HISTORY], k=4)
    with serving(indexed, store=tmp_path / "events.sqlite", threads=threads, approximate=True) as client:
        found = ask(client, history=HISTORY, k=4, picks=True)
        popular = ask(client, history=[], k=4)
    assert found.json()["approximate"] is True and popular.json()["approximate"] is False
    assert [item for item, _ in listed(found)] == expected["item_id"].to_list()
    assert [score for _, score in listed(found)] == pytest.approx(expected["score"].to_list(), rel=1e-5)
    assert [one["item_id"] for draw in found.json()["picks"] for one in draw] == picks["item_id"].to_list()


def test_without_it_all_items_are_looked_at(indexed, tmp_path) -> None:
    with serving(indexed, store=tmp_path / "events.sqlite") as client:
        found = ask(client, history=HISTORY, k=4)
    assert found.json()["approximate"] is False
    assert [item for item, _ in listed(found)] == sdr.load(indexed).recommend_sequences([HISTORY], 4)[
        "item_id"
    ].to_list()


def test_nothing_but_what_the_index_names_is_listed(indexed, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("seqdiffrec.inference.answers.ItemIndex.restore", lambda *saved: OnlyThree())
    first = set(sdr.load(indexed).vocabulary["item_id"].head(3))
    with serving(indexed, store=tmp_path / "events.sqlite", approximate=True) as client:
        found = ask(client, history=HISTORY, k=3, filter_viewed=False)
        assert {item for item, _ in listed(found)} == first
        # Where too few of them are left, the list comes from the whole catalogue.
        assert len(listed(ask(client, history=HISTORY, k=5, filter_viewed=False))) == 5


@pytest.mark.parametrize("threads", [None, 1])
def test_a_run_without_an_index_is_refused(indexed, trained, tmp_path, threads) -> None:
    with pytest.raises(RunError, match=r"no index yet.*seqdiffrec index"):
        create_app(trained, store=tmp_path / "events.sqlite", threads=threads, approximate=True)
    link = tmp_path / "current"
    link.symlink_to(indexed)
    with serving(link, store=tmp_path / "more.sqlite", threads=threads, approximate=True) as client:
        before = ask(client, history=HISTORY).json()
        turn(link, trained)
        refused = client.post("/v1/models/reload")
        assert refused.status_code == 409 and "no index yet" in refused.json()["detail"]
        assert ask(client, history=HISTORY).json() == before


def test_a_process_has_the_index_if_it_is_asked_to_load_it(indexed, trained, tmp_path) -> None:
    run = Path(shutil.copytree(indexed, tmp_path / "run"))
    process, history = ModelProcess(1), [np.array([2, 6, 12], np.int32)]
    digest = weights_hash(sdr.load(run))
    number, facts = process.load(run, digest, with_index=True)
    assert facts == sdr.load(run).index.facts() and process.load(run, digest)[1] is None
    before = process.find(number, history, How(4))
    kill(process)
    assert process.find(number, history, How(4)) == before
    next(run.glob("index-*")).unlink()
    kill(process)
    with pytest.raises(ModelUnavailable, match="or not its index"):
        process.find(number, history, How(4))
    process.close()


def kill(process: ModelProcess) -> None:
    process._process.popen.kill()
    process._process.popen.wait()


def test_the_command_says_what_the_index_finds(indexed, tmp_path) -> None:
    with serve_process(indexed, tmp_path / "events.sqlite", "--approximate") as (started, _):
        said = started.stderr.readline()
    assert said.startswith("approximate: ") and "of the exact first ten are found, by 16 histories" in said


def test_the_command_refuses_a_run_without_one(trained, tmp_path, capsys) -> None:
    assert call("serve", trained, "--port", "0", "--store", tmp_path / "events.sqlite", "--approximate") == 2
    assert "seqdiffrec index" in capsys.readouterr().err
