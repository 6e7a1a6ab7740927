"""Whatever is wrong with what a user gave: exit code 2, one clear line, nothing lost or half written."""

import gzip
import json
import math
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch

from seqdiffrec.training import RunFolder

HEAD = "who,what,when\n"
GOOD = HEAD + "".join(f"{user},{item},{item}\n" for user in (1, 2, 3) for item in range(6))
SOURCE = ["--dataset", "ml-100k"]


def parquet() -> bytes:
    pl.DataFrame({"who": [1], "what": [1]}).write_parquet("whole.parquet")
    return Path("whole.parquet").read_bytes()


FILES = {
    "missing": ("log.csv", None, ["log.csv does not exist", "check the path"]),
    "empty": ("log.csv", b"", ["log.csv is empty", "at least one action"]),
    "only a header": ("log.csv", HEAD, ["log.csv has columns but no rows"]),
    "binary": ("log.csv", b"\x89PNG\r\n\x1a\n\0\0\0", ["log.csv, line 3", "binary"]),
    "another encoding": ("log.csv", (HEAD + "é,1,1\n").encode("latin-1"), ["log.csv, line 2", "convert it to UTF-8"]),
    "cut off": ("log.csv", GOOD[:-4], ["log.csv, line 19", "cut off"]),
    "cut-off gzip": ("log.csv.gz", gzip.compress(GOOD.encode())[:-9], ["log.csv.gz", "cut-off gzip"]),
    "cut-off Parquet": ("log.parquet", lambda: parquet()[:-20], ["log.parquet", "cut off"]),
    "unknown ending": ("log.xlsx", GOOD, ["'.xlsx' is not known", ".csv"]),
    "missing column": ("log.csv", GOOD.replace("what", "item"), ["no column 'what'", "'who', 'item', 'when'"]),
    "missing time": ("log.csv", GOOD.replace("when", "t"), ["no column 'when'", "'who', 'what', 't'"]),
    "null user": ("log.csv", HEAD + "1,1,1\n,2,2\n1,3,3\n", ["log.csv, line 3", "no id in column 'who'"]),
    "null item": ("log.csv", HEAD + "1,1,1\n1,,2\n1,3,3\n", ["log.csv, line 3", "no id in column 'what'"]),
    "bad timestamp": ("log.csv", GOOD.replace("2,4,4", "2,4,noon"), ["log.csv, line 12", "'noon'"]),
    "one user": ("log.csv", HEAD + "1,1,1\n1,2,2\n1,3,3\n", ["log.csv: one user only", "at least two"]),
    "short users": ("log.csv", HEAD + "1,1,1\n1,2,2\n2,1,1\n", ["fewer than 3 actions", "give a longer log"]),
}


@pytest.mark.parametrize(("name", "content", "needles"), FILES.values(), ids=FILES.keys())
def test_a_log_that_cannot_be_used(train, refused, tmp_path, name, content, needles):
    content = content() if callable(content) else content
    if content is not None:
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(train(name), *needles)
    assert not [path for path in tmp_path.iterdir() if "run" in path.name], "no RUN is left behind"


def test_a_k_core_that_leaves_nothing(train, csv, refused):
    refused(train(csv, "--set", "data.min_user=50"), "log.csv: nothing is left", "lower min_user and min_item")
    assert not Path("run").exists()


SETTINGS = {
    "setting": (
        ["--set", "model.hiden_size=8"],
        ["model.hiden_size is not a setting", "did you mean model.hidden_size?"],
    ),
    "of training": (["--set", "training.epoch=8"], ["training.epoch is not a setting", "training.epochs?"]),
    "of data": (["--set", "data.min_users=8"], ["data.min_users is not a setting", "data.min_user?"]),
    "of another model": (["--model", "sasrec", "--set", "model.num_steps=5"], ["model.num_steps is not a setting"]),
    "section": (["--set", "modle.hidden_size=8"], ["modle is not a setting", "did you mean model?"]),
    "form": (["--set", "model.hidden_size"], ["--set model.hidden_size: write table.name=value"]),
    "form without table": (["--set", "hidden_size=8"], ["--set hidden_size=8: write table.name=value"]),
    "model": (["--model", "difrec"], ["difrec is not a model", "did you mean diffrec?"]),
    "model by --set": (["--set", "model.name=sasrek"], ["sasrek is not a model", "sasrec?"]),
    "model in capitals": (["--model", "SASREC"], ["SASREC is not a model", "did you mean sasrec?"]),
    "model that is no name": (["--set", "model.name=[1]"], ["is not a model"]),
    "N = 0": (["--set", "model.num_steps=0"], ["model.num_steps is 0", "greater than or equal to 1"]),
    "N = -1": (["--set", "model.num_steps=-1"], ["model.num_steps is -1", "greater than or equal to 1"]),
    "N above 10,000": (["--set", "model.num_steps=10001"], ["model.num_steps is 10001", "equal to 10000"]),
    "dropout": (["--set", "model.dropout=1.5"], ["model.dropout is 1.5", "less than 1"]),
    "heads": (["--set", "model.hidden_size=10", "--set", "model.num_heads=4"], ["hidden_size, 10", "num_heads, 4"]),
    "a word for a number": (["--set", "model.num_layers=two"], ["model.num_layers is 'two'", "valid integer"]),
    "half a split": (["--set", "data.test_time=3"], ["needs both data.validation_time and data.test_time"]),
    "a time": (["--set", "data.test_time=x", "--set", "data.validation_time=1"], ["data.test_time is 'x'", "ISO time"]),
}


@pytest.mark.parametrize(("words", "needles"), SETTINGS.values(), ids=SETTINGS.keys())
def test_a_setting_that_cannot_be(cli, csv, refused, words, needles):
    columns = ["--user", "who", "--item", "what"]
    refused(cli("train", "--data", csv, *columns, "--out", "run", *words), *needles)
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("words", "needles"),
    [
        ([], ["name the data", "--dataset", "--data"]),
        ([*SOURCE, "--data", "log.csv"], ["name the data"]),
        (["--dataset", "ml100k"], ["unknown dataset 'ml100k'", "did you mean 'ml-100k'?"]),
        ([*SOURCE, "--data-root", "nowhere"], ["nowhere is not a folder", "--data-root"]),
        (SOURCE, ["ml-100k could not be fetched", "cannot be reached", "--data-root"]),
        (["--recipe", "none.toml"], ["recipe none.toml cannot be read"]),
        (["--recipe", "broken.toml"], ["recipe broken.toml is not valid TOML", "line 2"]),
        (["--recipe", "flat.toml"], ["model must be a table of settings, not 'sasrec'"]),
        (["--recipe", "flat.toml", "--set", "model.dropout=0.1"], ["model must be a table of settings"]),
        (["--recipe", "odd.toml"], ["epochs is not a setting", "data, model, training"]),
    ],
)
def test_no_data_and_bad_recipes(cli, words, needles):
    Path("broken.toml").write_text("[model]\nhidden_size = = 8\n")
    Path("flat.toml").write_text('model = "sasrec"\n')
    Path("odd.toml").write_text("[epochs]\nmany = true\n")
    result = cli("train", "--out", "run", *words)
    assert (result.code, result.out) == (2, "")
    error = result.err.splitlines()[-1]  # a data set may show its licence first
    assert error.startswith("error: ") and all(needle in error for needle in needles), error
    assert not Path("run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
def test_a_device_that_is_not_there(train, csv, refused):
    refused(train(csv, device="cuda"), "training.device is 'cuda'", "auto or cpu")
    assert not Path("run").exists()


def test_options_that_a_prepared_source_does_not_use(cli, csv, refused):
    assert cli("data", "prepare", csv, "--user", "who", "--item", "what", "--out", "corpus").code == 0
    words = ["train", "--out", "run", "--data", "corpus"]
    refused(cli(*words, "--item", "what"), "data.item has no effect on corpus", "leave it out")
    refused(cli(*words, "--set", "data.min_user=5"), "data.min_user has no effect on corpus")
    refused(cli(*words[:3], "--dataset", "beauty", "--time", "when"), "data.time has no effect on beauty")
    assert not Path("run").exists()


def test_an_out_that_exists(train, csv, refused, run):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    refused(train(csv, out=run), f"{run} exists already", "choose another --out", "--resume")
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    Path("file").write_text("mine")
    refused(train(csv, out="file"), "file exists already")
    refused(train(csv, out="file/run"), "file/run could not be written")
    refused(train(csv, out="long" * 100), "File name too long")
    assert Path("file").read_text() == "mine"


def test_an_out_that_is_an_empty_folder(cli, train, csv, finished):
    for name in ("run", "corpus", "more"):
        Path(name).mkdir()
    assert train(csv, model="popularity").code == 0
    assert cli("data", "prepare", csv, "--user", "who", "--item", "what", "--out", "corpus").code == 0
    assert cli("add-items", finished["sasrec"], "--new", 7000, "--like", 10, "--out", "more").code == 0
    assert Path("run/run.json").exists() and Path("corpus/corpus.json").exists() and Path("more/run.json").exists()


# k, users, items.


@pytest.mark.parametrize(
    ("k", "needles"),
    [
        ("0", ["at least 1"]),
        ("-1", ["whole numbers", "-1"]),
        ("15", ["K = 15", "catalogue of 14 items"]),
        ("5,ten", ["whole numbers", "ten"]),
        ("²", ["whole numbers"]),
    ],
)
def test_k_of_evaluate(cli, finished, refused, k, needles):
    refused(cli("evaluate", finished["diffrec"], f"--k={k}", "--ranks", "ranks.csv"), *needles)
    assert not Path("ranks.csv").exists()


@pytest.mark.parametrize(("k", "needles"), [(0, ["at least 1"]), (-1, ["at least 1"]), (15, ["catalogue of 14 items"])])
def test_k_of_recommend(cli, finished, refused, k, needles):
    refused(cli("recommend", finished["diffrec"], "--user", 101, f"-k{k}"), *needles)
    refused(cli("recommend", finished["diffrec"], "--history", 10, f"-k{k}"), *needles)


@pytest.mark.parametrize(
    ("words", "needles"),
    [
        (["--user", "7"], ["user '7' is not among the 30 users of 'log'", "for example 101"]),
        (["--user", "0101"], ["user '0101' is not among"]),
        (["--user", ":100:[b]"], ["user ':100:[b]' is not among"]),
        ([], ["say for whom", "--user", "--history"]),
        (["--user", "101", "--history", "10"], ["give one of --user and --history", "--recent"]),
        (["10", "20"], ["say for whom"]),
    ],
)
def test_whom_to_recommend_to(cli, finished, refused, words, needles):
    refused(cli("recommend", finished["diffrec"], *words), *needles)


def test_another_part(cli, finished, refused):
    refused(cli("evaluate", finished["diffrec"], "--part", "train"), "part is 'train'", "test or validation")


@pytest.mark.parametrize(
    ("path", "needle"), [("ranks.xlsx", ".csv or .parquet"), ("no/ranks.csv", "no does not exist")]
)
def test_where_ranks_cannot_go(cli, finished, refused, path, needle):
    refused(cli("evaluate", finished["diffrec"], "--ranks", path), needle)


# Runs.


def edit(run: Path, **changes: object) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, **changes}))


def weights(run: Path) -> Path:
    return run / RunFolder.open(run).record["weights"]


def no_numbers(run: Path) -> None:
    """Written through the folder itself, so that size and hash are right."""
    folder = RunFolder.open(run)
    tensors = folder.load_weights()
    tensors["table.embedding.weight"][2, 3] = math.nan
    folder.save_epoch(folder.state(), tensors)


def other_settings(run: Path) -> None:
    settings = RunFolder.open(run).record["settings"]
    edit(run, settings={**settings, "model_settings": {**settings["model_settings"], "hidden_size": 16}})


def remove_training(run: Path) -> None:
    settings = RunFolder.open(run).record["settings"]
    edit(run, settings={name: settings[name] for name in ("model", "model_settings")})


def remove_settings(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({key: record[key] for key in record if key != "settings"}))


RUNS = {
    "missing": (shutil.rmtree, ["copy does not exist", "seqdiffrec train"]),
    "no run": (lambda run: (run / "run.json").unlink(), ["copy has no run.json", "not a run"]),
    "broken JSON": (lambda run: (run / "run.json").write_text('{"format": 1, '), ["run.json cannot be read"]),
    "not an object": (lambda run: (run / "run.json").write_text("[]"), ["run.json is not a run's record"]),
    "a part is gone": (remove_settings, ["run.json lacks settings"]),
    "a table is gone": (remove_training, ["run.json lacks training"]),
    "other version": (lambda run: edit(run, format=2), ["format 2", "reads format 1", "0.1.0"]),
    "other settings": (other_settings, ["the weights do not fit the settings"]),
    "no weights": (lambda run: weights(run).unlink(), ["weights-001.safetensors cannot be read"]),
    "truncated weights": (
        lambda run: weights(run).write_bytes(weights(run).read_bytes()[:-100]),
        ["weights-001.safetensors", "cut off"],
    ),
    "swapped weights": (
        lambda run: weights(run).write_bytes(weights(run).read_bytes()[:-4] + b"\0\0\0\1"),
        ["weights-001.safetensors", "swapped"],
    ),
    "NaN weights": (no_numbers, ["weights-001.safetensors", "table.embedding.weight", "not numbers"]),
    "swapped items": (
        lambda run: (run / "items.arrow").write_bytes((run / "corpus" / "items.arrow").read_bytes()),
        ["items.arrow", "swapped"],
    ),
    "broken corpus": (lambda run: (run / "corpus" / "items.npy").write_bytes(b"x"), ["items.npy could not be read"]),
}


@pytest.mark.parametrize(("damage", "needles"), RUNS.values(), ids=RUNS.keys())
def test_a_run_that_is_broken(cli, run, refused, damage, needles):
    damage(run)
    refused(cli("evaluate", run, "--ranks", "ranks.csv"), *needles)
    refused(cli("recommend", run, "--history", 10), *needles)
    refused(cli("record", run, "--out", "record.json"), *needles)
    assert not Path("ranks.csv").exists() and not Path("record.json").exists()


@pytest.mark.parametrize("name", ["missing", "no run", "broken JSON", "not an object", "other version"])
def test_info_of_a_run_that_is_broken(cli, run, refused, name):
    damage, needles = RUNS[name]
    damage(run)
    refused(cli("info", run), *needles)


@pytest.mark.parametrize(
    ("name", "content", "needles"),
    [
        ("log.csv", GOOD, ["log.csv is a file of data, not a run", "seqdiffrec fit log.csv --out RUN"]),
        ("log.csv.gz", "x", ["log.csv.gz is a file of data, not a run"]),
        ("record.json", "{}", ["record.json is a file, not a run; a run is a folder"]),
        ("copy/run.json", None, ["copy/run.json is a file", "name copy"]),
        ("copy/corpus", None, ["copy/corpus is a prepared corpus", "seqdiffrec train --data copy/corpus"]),
        ("runs/gone", None, ["runs/gone does not exist; check the path"]),
        (".", None, [". has no run.json, so it is not a run"]),
    ],
)
@pytest.mark.usefixtures("run")
def test_what_is_no_run_is_called_what_it_is(cli, refused, name, content, needles):
    if content is not None:
        Path(name).write_text(content)
    for words in (["info", name], ["info", name, "--json"], ["recommend", name, "--user", "1"]):
        result = cli(*words)
        refused(result, *needles)
        assert "Errno" not in result.err and "JSON" not in result.err


def test_another_log_than_the_run_was_trained_on(cli, run, refused):
    Path("other.csv").write_text(GOOD)
    words = ["evaluate", run, "--data", "other.csv", "--ranks", "ranks.csv"]
    refused(cli(*words), "'other'", "trained on")
    shutil.rmtree(run / "corpus")
    refused(cli(*words), "'other'", "trained on", "'log'")
    assert not Path("ranks.csv").exists()


def test_a_corpus_of_another_log_in_the_run(cli, run, refused):
    Path("other.csv").write_text(GOOD)
    shutil.rmtree(run / "corpus")
    assert cli("data", "prepare", "other.csv", "--user", "who", "--item", "what", "--out", run / "corpus").code == 0
    refused(cli("recommend", run, "--history", 10), "the corpus 'other'", "trained on")


def test_a_full_disk_while_ranks_are_written(cli, finished, disk, refused, tmp_path):
    Path("ranks.csv").write_text("of yesterday\n")
    disk.full = True
    refused(cli("evaluate", finished["diffrec"], "--ranks", "ranks.csv"), "ranks.csv", "No space left on device")
    refused(cli("record", finished["diffrec"], "--out", "record.json"), "record.json", "No space left on device")
    assert Path("ranks.csv").read_text() == "of yesterday\n"
    assert [path.name for path in tmp_path.iterdir()] == ["ranks.csv"]


@pytest.mark.parametrize(
    ("content", "needle"),
    [(None, "No such file"), ("{", "not the record of a run"), ("{}", "curve"), ("[]", "not the record of a run")],
)
def test_curves_of_what_is_no_record(cli, refused, content, needle):
    if content is not None:
        Path("record.json").write_text(content)
    refused(cli("curves", "record.json", "--out", "curves.svg"), "record.json", needle)
    assert not Path("curves.svg").exists()


# The shell's own mistakes.


@pytest.mark.parametrize(
    ("words", "needle"),
    [
        (["train", "--epochs", "3"], "--epochs"),
        (["recommend", "run", "--user", "1", "-k", "ten"], "valid integer"),
        (["evaluate"], "Missing argument"),
        (["trian"], "trian"),
        (["data", "prepare", "log.csv"], "--out"),
    ],
)
def test_usage(cli, words, needle):
    result = cli(*words)
    assert (result.code, result.out) == (2, "")
    assert "Usage: " in result.err and needle in result.err and "Traceback" not in result.err
