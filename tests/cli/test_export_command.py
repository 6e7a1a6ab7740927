"""`export` and `train --track`: what they refuse, and what they leave."""

import sys

import pytest


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--onnx", "mine.txt"), ("mine.txt", "ends in .onnx")),
        (("--onnx", "there.onnx"), ("there.onnx exists already", "delete it")),
        (("--onnx", "mine.onnx", "-k", "0"), ("0",)),
        (("--onnx", "mine.onnx", "-k", "99"), ("99", "14")),
    ],
)
def test_wrong_words_are_refused(words, said, cli, finished, refused, tmp_path):
    (tmp_path / "there.onnx").write_text("mine")
    refused(cli("export", finished["sasrec"], *words), *said)
    assert (tmp_path / "there.onnx").read_text() == "mine"


def test_a_model_without_a_graph_and_a_run_that_is_not_there(cli, finished, refused):
    refused(cli("export", finished["popularity"], "--onnx", "mine.onnx"), "popularity cannot be exported; these can")
    refused(cli("export", "nowhere", "--onnx", "mine.onnx"), "nowhere does not exist")


def test_without_the_package_it_says_which_extra(cli, finished, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    refused(cli("export", finished["sasrec"], "--onnx", "mine.onnx"), "pip install 'seqdiffrec[onnx]'")


def test_training_is_tracked_in_the_runs_folder(train, csv, tmp_path):
    assert train(csv, "--track", "tensorboard", "--json", model="sasrec").json["best"]["epoch"] == 1
    assert list((tmp_path / "run/tensorboard").glob("events.out.tfevents.*"))


@pytest.mark.parametrize("name", ["tensorbored", "wandb"])
def test_a_tracker_that_cannot_be_used_leaves_no_folder(name, train, csv, refused, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    found = train(csv, "--track", name, model="sasrec")
    assert found.code == 2 and "training.tracker" in found.err and name in found.err
    assert not (tmp_path / "run").exists()
