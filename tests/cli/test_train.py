"""train: every source of data, settings, Ctrl-C and --resume, and what a failed start leaves."""

import json
import signal
import tomllib
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from seqdiffrec.models import DiffRec
from seqdiffrec.training import RunFolder

COLUMNS = ["--user", "who", "--item", "what", "--time", "when"]


def weights_of(path: str | Path) -> str:
    """SHA-256 of a run's best weights."""
    record = RunFolder.open(Path(path)).record
    return record["files"][record["weights"]]["sha256"]


def files_in(folder: Path) -> list[str]:
    """All that a run could have left in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir() if path.name not in ("cache", "log.csv"))


def test_every_source_of_the_same_log_gives_the_same_run(cli, train, csv, log, tmp_path):
    """CSV and Parquet with columns of any name, a sequences file, a folder that `data prepare` wrote."""
    pl.read_csv(csv).write_parquet("log.parquet")
    lines = [" ".join(map(str, [user, *items])) for user, items in log.items()]
    Path("log.txt").write_text("\n".join(lines) + "\n")
    assert cli("data", "prepare", csv, *COLUMNS, "--out", "corpus").code == 0
    made = []
    for source in (csv, "log.parquet", "log.txt", "corpus"):
        out = f"run-{Path(source).name}"
        result = train(source, out=out)
        assert result.code == 0, result.err
        made.append(weights_of(out))
    assert len(set(made)) == 1
    hashes = {
        name: RunFolder.open(Path(f"run-{name}")).record["corpus"]["content_hash"] for name in ("log.csv", "corpus")
    }
    assert hashes["log.csv"] == hashes["corpus"]


@pytest.mark.parametrize("model", ["diffrec", "shared", "sasrec", "popularity"])
def test_a_run_records_how_it_was_made(finished, model):
    run = finished[model]
    record = RunFolder.open(run).record
    assert record["status"] == "finished"
    assert record["command"].startswith("seqdiffrec train --data ")
    assert record["data"]["user"] == "who"


def test_what_train_prints(train, csv):
    result = train(csv)
    assert (result.code, result.out.splitlines()[0]) == (0, "run: best epoch 1 of 1, on validation:")
    assert "NDCG@10" in result.out and "epoch   1" in result.err
    assert result.next_step == ["seqdiffrec", "evaluate", "run"]
    found = train(csv, "--json", out="second").json
    assert found["run"] == "second" and found["best"]["epoch"] == 1
    assert found["best"]["validation"]["seen_kept"].keys() >= {"HR@10", "NDCG@10"}


def test_a_split_in_time(train, csv, cli):
    """Times are 1000, 1001, ...: users with seven actions or more are tested on the seventh."""
    times = ["--set", "data.validation_time=1005", "--set", "data.test_time=1006"]
    assert train(csv, *times).code == 0
    assert cli("evaluate", "run", "--ranks", "ranks.csv").code == 0
    rows = pl.read_csv(csv).filter(pl.col("when") == 1006)
    assert pl.read_csv("ranks.csv").select("user_id", "item_id").rows() == rows.select("who", "what").rows()


# Settings.


def test_dry_run_prints_a_recipe_that_gives_the_same_settings(cli, tmp_path):
    odd = 'a "quoted" \\ path, ünï 😀.csv'
    words = ["--data", odd, "--time", "when", "--model", "diffrec", "--set", "training.learning_rate=0.00001"]
    words += ["--set", "model.norm_first=true", "--set", "model.noised_items=all", "--set", "training.epochs=7"]
    words += ["--set", "data.validation_time=2024-05-31", "--set", "data.test_time=2024-06-30T12:00:00"]
    first = cli("train", "--dry-run", *words)
    assert first.code == 0
    tables = tomllib.loads(first.out)
    assert tables["data"]["file"] == odd
    assert (tables["model"]["noised_items"], tables["model"]["norm_first"]) == ("all", True)
    assert (tables["training"]["epochs"], tables["training"]["learning_rate"]) == (7, 1e-5)
    assert tables["data"]["validation_time"] == "2024-05-31"
    Path("recipe.toml").write_text(first.out, encoding="utf-8")
    assert cli("train", "--dry-run", "--recipe", "recipe.toml").out == first.out
    assert cli("train", "--dry-run", "--json", "--recipe", "recipe.toml").json == tables
    assert not (tmp_path / "run").exists()


def test_the_command_line_goes_before_the_recipe(cli):
    Path("recipe.toml").write_text('[data]\ndataset = "beauty"\n[model]\nname = "sasrec"\nhidden_size = 16\n')
    words = ["train", "--dry-run", "--json", "--recipe", "recipe.toml"]
    tables = cli(*words, "--data", "my.csv", "--set", "model.hidden_size=32").json
    assert tables["data"]["file"] == "my.csv" and "dataset" not in tables["data"]
    assert (tables["model"]["name"], tables["model"]["hidden_size"]) == ("sasrec", 32)
    Path("recipe.toml").write_text('[data]\nfile = "my.csv"\n')
    tables = cli(*words, "--dataset", "toys", "--model", "popularity").json
    assert tables["data"]["dataset"] == "toys" and "file" not in tables["data"]
    assert tables["model"]["name"] == "popularity"


@pytest.mark.parametrize(
    "recipe", sorted((Path(__file__).parents[2] / "recipes").glob("*.toml")), ids=lambda path: path.name
)
def test_the_recipes_are_complete_and_known(recipe, cli):
    given = tomllib.loads(recipe.read_text())
    tables = cli("train", "--dry-run", "--json", "--recipe", recipe).json
    for name, values in given.items():
        assert tables[name].items() >= values.items()
    assert tables["data"]["dataset"] in recipe.name


# Ctrl-C and --resume.


@pytest.mark.parametrize("model", ["diffrec", "sasrec"])
def test_ctrl_c_saves_and_the_resumed_run_equals_an_uninterrupted_one(train, csv, at_step, model, cli):
    assert train(csv, model=model, out="whole", epochs=2, batch_size=32).code == 0
    at_step(3, lambda: signal.raise_signal(signal.SIGINT))
    stopped = train(csv, model=model, out="cut", epochs=2, batch_size=32)
    assert stopped.code == 130 and stopped.out == ""
    assert "stopping after this step" in stopped.err
    assert "stopped in epoch 1 after 3 steps; the checkpoint is written." in stopped.err
    assert "Traceback" not in stopped.err
    command = stopped.next_step
    assert command[-1] == "--resume"
    going_on = cli(*command[1:])
    assert going_on.code == 0, going_on.err
    assert weights_of("cut") == weights_of("whole")
    assert [found["command"] for found in RunFolder.open(Path("cut")).record["resumed"]] == [" ".join(command)]
    curves = []
    for name in ("whole", "cut"):
        rows = [json.loads(line) for line in (Path(name) / "metrics.jsonl").read_text().splitlines()]
        curves.append([(row["train"], row["validation"]) for row in rows])
    assert curves[0] == curves[1] and len(curves[0]) == 2


def test_ctrl_c_twice_stops_at_once_and_leaves_no_run(train, csv, at_step, tmp_path):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    at_step(1, twice)
    assert train(csv, epochs=2).code == 130
    assert files_in(tmp_path) == []


def test_ctrl_c_while_resuming_prints_resume_once(train, csv, at_step, cli):
    at_step(2, lambda: signal.raise_signal(signal.SIGINT))
    command = train(csv, epochs=3, batch_size=32).next_step
    at_step(1, lambda: signal.raise_signal(signal.SIGINT))
    stopped = cli(*command[1:])
    assert stopped.code == 130 and stopped.next_step == command


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_over(train, csv, monkeypatch):
    with monkeypatch.context() as patch:  # as after a kill: nothing is cleaned up
        patch.setattr("shutil.rmtree", lambda *args, **kwargs: None)
        patch.setattr(DiffRec, "loss", None)
        with pytest.raises(TypeError):
            train(csv)
    assert RunFolder.open(Path("run")).record["checkpoint"] is None
    assert train(csv, "--resume").code == 0
    assert train(csv, out="whole").code == 0
    assert weights_of("run") == weights_of("whole")


@pytest.mark.parametrize(
    ("data", "changes", "needles"),
    [
        ("log.csv", {"batch_size": 16}, ("started with batch_size = 32, not 16", "own settings")),
        ("log.csv", {"model": "sasrec"}, ("holds a run of diffrec, not of sasrec",)),
        ("other.csv", {}, ("the corpus 'other'", "is not the one")),
    ],
)
def test_resume_refuses_another_run(train, csv, at_step, refused, data, changes, needles):
    Path("other.csv").write_text("".join(csv.read_text().splitlines(keepends=True)[:-1]))
    at_step(1, lambda: signal.raise_signal(signal.SIGINT))
    assert train(csv, batch_size=32, epochs=2).code == 130
    before = files_in(Path("run"))
    refused(train(data, "--resume", **{"batch_size": 32, "epochs": 2, **changes}), "run", *needles)
    assert files_in(Path("run")) == before


def test_a_run_that_is_older_than_a_setting_had_its_default(train, csv, at_step, refused):
    at_step(1, lambda: signal.raise_signal(signal.SIGINT))
    assert train(csv, epochs=2).code == 130
    path = Path("run/run.json")
    record = json.loads(path.read_text())
    del record["settings"]["model_settings"]["label_smoothing"], record["settings"]["training"]["weight_decay"]
    path.write_text(json.dumps(record))
    refused(train(csv, "--resume", "--set", "model.label_smoothing=0.1", epochs=2), "label_smoothing = 0.0, not 0.1")
    assert train(csv, "--resume", epochs=2).code == 0


@pytest.mark.parametrize("model", ["diffrec", "popularity"])
def test_resume_of_a_finished_run_is_refused(train, csv, refused, model, finished):
    assert train(csv, model=model).code == 0
    refused(train(csv, "--resume", model=model), "run")
    assert RunFolder.open(Path("run")).record["status"] == "finished"


def test_resume_without_a_run_is_refused(train, csv, refused, cli):
    refused(train(csv, "--resume"), "run does not exist", "train one with")
    refused(cli("train", "--data", csv, *COLUMNS, "--resume"), "--out runs/NAME")


# A failed start.


def boom(*args: object) -> None:
    raise RuntimeError("our fault")


@pytest.mark.parametrize("place", ["seqdiffrec.models.DiffRec.loss", "seqdiffrec.models.DiffRec.count_items"])
def test_an_error_in_the_first_step_leaves_no_run(train, csv, monkeypatch, tmp_path, place):
    monkeypatch.setattr(place, boom)
    with pytest.raises(RuntimeError, match="our fault"):  # a traceback and exit code 1, see test_outside.py
        train(csv)
    assert files_in(tmp_path) == []


def test_an_error_after_the_first_epoch_keeps_the_run(train, csv, monkeypatch, at_step):
    at_step(3, lambda: monkeypatch.setattr(DiffRec, "loss", boom))
    with pytest.raises(RuntimeError, match="our fault"):
        train(csv, epochs=2)
    record = RunFolder.open(Path("run")).record
    assert record["best"]["epoch"] == 1 and record["checkpoint"] is not None


def test_a_loss_that_is_no_number_in_the_first_step(train, csv, monkeypatch, tmp_path):
    real = DiffRec.loss

    def not_a_number(self, batch):
        loss = real(self, batch)
        return type(loss)(loss.total * float("nan"), loss.parts)

    monkeypatch.setattr(DiffRec, "loss", not_a_number)
    result = train(csv)
    assert result.code == 2 and "the loss is nan in epoch 1, step 1" in result.err
    assert files_in(tmp_path) == []


def test_a_full_disk_at_the_start(train, csv, cli, disk, refused, tmp_path):
    assert cli("data", "stats", csv, *COLUMNS).code == 0  # the cache has the corpus
    disk.full = True
    refused(train(csv), "run could not be written: No space left on device", "free some space")
    assert files_in(tmp_path) == []


def test_a_full_disk_while_the_log_is_prepared(train, csv, disk, refused, tmp_path):
    disk.full = True
    refused(train(csv), "No space left on device")
    assert files_in(tmp_path) == []
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_full_disk_in_the_first_epoch(train, csv, disk, at_step, refused, tmp_path):
    at_step(1, lambda: setattr(disk, "full", True))
    result = train(csv)
    first, error = (line for line in result.err.splitlines(keepends=True) if line.strip())  # old rich adds an empty one
    assert first.startswith("training on cpu")
    refused(replace(result, err=error), "No space left on device", "free some space")
    assert files_in(tmp_path) == []


def test_a_full_disk_in_the_second_epoch_keeps_the_first(train, csv, disk, at_step, cli):
    assert train(csv, out="whole", epochs=2).code == 0
    at_step(3, lambda: setattr(disk, "full", True))
    result = train(csv, epochs=2)
    assert result.code == 2 and "No space left on device" in result.err and "Traceback" not in result.err
    assert not [path for path in Path("run").rglob("*") if "partial" in path.name]
    disk.full = False
    assert train(csv, "--resume", epochs=2).code == 0
    assert weights_of("run") == weights_of("whole")


def test_a_catalogue_of_seven_items(cli, train):
    """Smaller than the cutoff 10: everything is measured at the catalogue's size instead."""
    Path("small.csv").write_text(
        "who,what,when\n" + "".join(f"{u},{(u * k) % 7},{k}\n" for u in range(1, 9) for k in range(1, 6))
    )
    assert train("small.csv").code == 0
    assert "NDCG@7" in cli("info", "run").out
    assert set(cli("evaluate", "run", "--json").json["seen_kept"]) >= {"HR@5", "HR@7"}
    assert "NDCG@7" in cli("record", "run", "--out", "small.json").out
    assert cli("curves", "small.json", "--out", "small.svg").code == 0
