"""sweep, tune, reproduce, report and curves --json, as they are typed."""

import json
import shlex
import signal
import sys
import tomllib
from pathlib import Path

import pytest

from seqdiffrec.models import SASRec
from seqdiffrec.reports.study import read_study
from seqdiffrec.studies import make_queue
from seqdiffrec.studies.runs import one_command

STUDY = """
title = "A tiny study"
datasets = ["log"]
seeds = [0, 1]

[base.data]
file = "{dataset}.csv"
user = "who"
item = "what"
time = "when"

[base.model]
name = "sasrec"
hidden_size = 8
num_layers = 1
max_length = 6

[base.training]
epochs = 1
batch_size = 64
device = "cpu"
precision = "float32"

[[rows]]
name = "default"
group = "The default"
title = "the default"
ranks = true

[[rows]]
name = "relu"
group = "Size"
title = "with relu"
set = ["model.activation=relu", "training.epochs=2"]
seeds = [0]
"""
SEARCH = """
dataset = "log.csv"
[base.data]
user = "who"
item = "what"
[base.model]
name = "sasrec"
hidden_size = 8
num_layers = 1
[base.training]
epochs = 1
[search]
"model.dropout" = { low = 0.1, high = 0.6 }
"""
RECORD = "results/tiny/log/default-seed0.json"


@pytest.fixture
def study(csv) -> Path:
    Path("tiny.toml").write_text(STUDY)
    return Path("tiny.toml")


@pytest.fixture
def swept(study, cli) -> Path:
    assert cli("sweep", study).code == 0
    return study


def states(result) -> list[tuple[str, int, str]]:
    return [(run["row"], run["seed"], run["state"]) for run in result.json["runs"]]


# sweep


def test_a_dry_run_lists_and_trains_nothing(study, cli):
    result = cli("sweep", study, "--dry-run", "--json")
    assert states(result) == [("default", 0, "to do"), ("relu", 0, "to do"), ("default", 1, "to do")]
    assert result.json["study"] == "tiny" and result.json["runs"][0]["record"] == RECORD
    assert result.next_step == ["seqdiffrec", "sweep", "tiny.toml", "--json"]
    shown = cli("sweep", study, "--dry-run", "--only", "relu")
    assert "to do" in shown.out and "default" not in shown.out and "0 of 1 done, 0 failed" in shown.out
    assert not Path("runs").exists() and not Path("results").exists()


def test_a_sweep_and_what_it_says(study, cli):
    result = cli("sweep", study)
    assert result.code == 0 and "3 of 3 done, 0 failed" in result.out
    assert "run 1 of 3: default on log, seed 0\n" in result.err
    assert "run 3 of 3: default on log, seed 1, about 1 min left\n" in result.err
    assert result.next_step == ["seqdiffrec", "report", "tiny.toml"]
    record = json.loads(Path(RECORD).read_text())
    assert record["command"] == "seqdiffrec sweep tiny.toml"
    once_more = cli("sweep", study, "--json")
    assert {state for _, _, state in states(once_more)} == {"recorded"} and "run 1" not in once_more.err


def test_other_folders(study, cli):
    words = ["sweep", study, "--runs", "a", "--results", "b", "--only", "relu", "--dataset", "log"]
    result = cli(*words)
    assert result.code == 0 and result.next_step[-2:] == ["--results", "b"]
    assert Path("a/tiny/log/relu-seed0/run.json").exists()
    record = json.loads(Path("b/tiny/log/relu-seed0.json").read_text())
    assert (
        record["command"] == "seqdiffrec sweep tiny.toml --only relu --dataset log"
    )  # folders are places on one machine


def test_the_command_for_one_run_alone_has_its_settings_and_brings_its_figures(swept, cli):
    record = json.loads(Path("results/tiny/log/relu-seed0.json").read_text())
    words = shlex.split(record["one_command"])
    assert words[:2] == ["seqdiffrec", "train"] and "model.activation=relu" in words
    tables = cli(*words[1:], "--dry-run", "--json").json
    name = tables["model"].pop("name")
    settings = record["settings"]
    told = {key: value for key, value in settings["model_settings"].items() if value is not None}  # TOML has no null
    assert (name, tables["model"]) == (settings["model"], told)
    assert tables["training"] == {k: v for k, v in settings["training"].items() if v is not None}
    assert cli(*words[1:]).code == 0
    out = words[words.index("--out") + 1]
    assert cli("evaluate", out, "--json").json["seen_kept"] == record["test"]["seen_kept"]


@pytest.mark.parametrize("change", ["user=a b", 'user="1"', "user=x=y", "user='a \"b\"'", "min_user=2"])
def test_the_command_for_one_run_takes_any_value(study, cli, change):
    row = f'set = [{json.dumps(f"data.{change}")}, "training.learning_rate=0.00001", '
    study.write_text(STUDY.replace("set = [", row))
    job = make_queue(read_study(study), Path("runs"), Path("results"), ["relu"])[0]
    words = shlex.split(one_command(job.config, "out"))
    assert cli(*words[1:], "--dry-run", "--json").json == job.config.tables()


def test_ctrl_c_says_the_same_command_and_that_goes_on(study, cli, at_step):
    at_step(1, lambda: signal.raise_signal(signal.SIGINT))
    stopped = cli("sweep", study)
    assert (stopped.code, stopped.out) == (130, "")
    assert "stopped in epoch 1 after 1 steps; what was reached is kept." in stopped.err
    assert stopped.next_step == ["seqdiffrec", "sweep", "tiny.toml"]
    assert states(cli("sweep", study, "--dry-run", "--json"))[0] == ("default", 0, "to resume")
    going_on = cli(*stopped.next_step[1:])
    assert going_on.code == 0 and "3 of 3 done" in going_on.out


def test_ctrl_c_while_a_run_is_ranked(study, cli, monkeypatch):
    def ranked(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("seqdiffrec.studies.sweep.make_record", ranked)
        stopped = cli("sweep", study)
    assert stopped.code == 130 and "Traceback" not in stopped.err
    assert stopped.next_step == ["seqdiffrec", "sweep", "tiny.toml"]
    assert states(cli("sweep", study, "--dry-run", "--json"))[0] == ("default", 0, "to record")


def test_a_failed_run_is_counted(study, cli, monkeypatch):
    real = SASRec.loss

    def not_a_number(self, batch):
        loss = real(self, batch)
        return type(loss)(loss.total * float("nan"), loss.parts)

    monkeypatch.setattr(SASRec, "loss", not_a_number)
    result = cli("sweep", study, "--only", "relu")
    assert result.code == 0 and "1 of 1 done, 1 failed" in result.out
    assert states(cli("sweep", study, "--only", "relu", "--json")) == [("relu", 0, "failed")]


def test_what_sweep_refuses(swept, cli, refused):
    refused(cli("sweep", "nowhere.toml"), "study nowhere.toml cannot be read")
    refused(cli("sweep", swept, "--only", "rely"), "did you mean relu?")
    swept.write_text(STUDY.replace("epochs=2", "epochs=3"))
    refused(cli("sweep", swept), "results/tiny/log/relu-seed0.json", "training.epochs = 2 there, 3 now")
    swept.write_text(STUDY.replace('["log"]', '["lag"]'))
    refused(cli("sweep", swept), "lag.csv")


# reproduce


WORDS = ["reproduce", "tiny", "--model", "sasrec", "--dataset", "log", "--row", "default"]


def test_a_recorded_figure_is_made_again(swept, cli):
    result = cli(*WORDS, "--seed", 1, "--out", "made")
    assert result.code == 0, result.err
    assert "results/tiny/log/default-seed1.json is made again." in result.out
    assert "only 2 of the 3 seeds" in result.out and result.out.count("yes") == 4
    assert result.next_step == ["seqdiffrec", "evaluate", "made"]
    found = cli(*WORDS, "--seed", 1, "--out", "again", "--json").json
    assert found["within"] and len(found["test"]) == 4 and found["record"].endswith("default-seed1.json")


def test_a_figure_that_is_not_made_again_is_said_plainly(swept, cli):
    record = json.loads(Path(RECORD).read_text())
    record["test"]["seen_kept"]["HR@10"] += 0.1
    Path(RECORD).write_text(json.dumps(record))
    result = cli(*WORDS, "--out", "made")
    assert result.code == 1 and "is NOT made again: a figure is off by more than the spread" in result.out
    assert result.out.count("yes") == 3 and "-0.1000" in result.out
    again = cli(*WORDS, "--out", "made", "--resume", "--json")
    assert again.code == 1 and not json.loads(again.out)["within"]


def test_what_reproduce_refuses(swept, cli, refused):
    refused(cli(*WORDS[:-2], "--out", "made"), "choose one with --row: default, relu")
    refused(cli(*WORDS, "--out", "made", "--results", "elsewhere"), "no records in elsewhere/tiny/log")
    refused(cli(*WORDS, "--out", "runs/tiny/log/default-seed0"), "exists already")


def test_ctrl_c_while_a_figure_is_made_again(swept, cli, at_step):
    at_step(1, lambda: signal.raise_signal(signal.SIGINT))
    stopped = cli(*WORDS, "--out", "made")
    assert stopped.code == 130 and stopped.next_step == ["seqdiffrec", *WORDS, "--out", "made", "--resume"]
    assert cli(*stopped.next_step[1:]).code == 0


# tune


@pytest.fixture
def search(csv) -> Path:
    Path("search.toml").write_text(SEARCH)
    return Path("search.toml")


def test_a_search_and_its_next_step(search, cli):
    result = cli("tune", search, "--out", "tuned", "--trials", 1)
    assert result.code == 0, result.err
    assert "tuned: best validation NDCG@10 0." in result.out and "model.dropout" in result.out
    assert "trial 1 of 1" in result.err
    assert result.next_step == ["seqdiffrec", "train", "--recipe", "tuned/best.toml", "--out", "runs/best"]
    recipe = tomllib.loads(Path("tuned/best.toml").read_text())
    assert Path("tuned/best.toml").read_text().startswith("# seqdiffrec tune search.toml --out tuned --trials 1\n")
    assert cli(*result.next_step[1:], "--dry-run", "--json").json == recipe
    found = cli("tune", search, "--out", "tuned", "--trials", 2, "--json").json
    assert len(found["trials"]) == 2 and found["recipe"] == "tuned/best.toml"
    assert found["best"]["value"] == max(trial["value"] for trial in found["trials"])


def test_ctrl_c_in_a_search(search, cli, at_step):
    at_step(1, lambda: signal.raise_signal(signal.SIGINT))
    stopped = cli("tune", search, "--out", "tuned", "--trials", 1)
    assert stopped.code == 130
    assert stopped.next_step == ["seqdiffrec", "tune", "search.toml", "--out", "tuned", "--trials", "1"]
    assert cli(*stopped.next_step[1:]).code == 0


def test_a_search_without_optuna(search, cli, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    refused(cli("tune", search, "--out", "tuned", "--trials", 1), "pip install 'seqdiffrec[tune]'")


# report and curves


def test_report(study, cli, monkeypatch):
    asked = []

    def build_page(path: Path, results: Path, out: Path, check: bool = False) -> list[str]:
        asked.append((path, results, out, check))
        return [f"{out}/tiny.md"]

    monkeypatch.setattr("seqdiffrec.reports.page.build_page", build_page)
    result = cli("report", study, "--out", "docs")
    assert (result.code, result.out) == (0, "docs/tiny.md\n")
    assert result.next_step == shlex.split("seqdiffrec report tiny.toml --results results --out docs --check")
    stale = cli(*result.next_step[1:])
    assert (stale.code, stale.out) == (1, "docs/tiny.md\n")
    assert "error: 1 files are not what the records give now" in stale.err
    assert stale.next_step == shlex.split("seqdiffrec report tiny.toml --results results --out docs")
    monkeypatch.setattr("seqdiffrec.reports.page.build_page", lambda *args: [])
    fresh = cli("report", study, "--check", "--json")
    assert fresh.json == {"stale": []}
    assert fresh.next_step == ["seqdiffrec", "sweep", "tiny.toml", "--dry-run"]
    assert asked == [(study, Path("results"), Path("docs"), False), (study, Path("results"), Path("docs"), True)]


def test_a_page_of_a_sweep(swept, cli):
    written = cli("report", swept, "--out", "docs", "--json").json["written"]
    assert "docs/tiny.md" in written
    figure = json.loads(Path("results/tiny/log/relu-seed0.json").read_text())["test"]["seen_kept"]["NDCG@10"]
    assert f"{figure:.4f}".removeprefix("0") in Path("docs/tiny.md").read_text()
    assert cli("report", swept, "--out", "docs", "--check").code == 0


def test_curves_as_json(swept, cli):
    names = ["default-seed0", "default-seed1"]
    result = cli("curves", *[f"results/tiny/log/{name}.json" for name in names], "--out", "a.svg", "--json")
    assert result.json == {"picture": "a.svg", "curves": names} and Path("a.svg").exists()
