"""The queue of a study: its order, its states, and what is refused before anything is trained."""

import json
from pathlib import Path

import pytest

from seqdiffrec.models.settings import SettingError
from seqdiffrec.reports.study import read_study
from seqdiffrec.studies import make_queue
from seqdiffrec.studies.runs import changed_settings, source_of


def queue_of(text: str, only: list[str] | None = None, datasets: list[str] | None = None) -> list[tuple[str, str, int]]:
    Path("plan.toml").write_text(text)
    queue = make_queue(read_study(Path("plan.toml")), Path("runs"), Path("results"), only, datasets)
    return [(job.row.name, job.dataset, job.seed) for job in queue]


def test_the_first_seed_of_all_comes_before_the_second_of_any(text):
    text = text.replace('["log"]', '["log", "beauty"]').replace("seeds = [0, 1]", "seeds = [0, 5]")
    text += '\n[[rows]]\nname = "other"\ngroup = "x"\ntitle = "x"\nseeds = [7, 8, 9]\ndatasets = ["beauty"]\n'
    expected = [
        ("default", "log", 0),
        ("default", "beauty", 0),
        ("sasrec", "log", 0),
        ("sasrec", "beauty", 0),
        ("other", "beauty", 7),
        ("default", "log", 5),
        ("default", "beauty", 5),
        ("sasrec", "log", 5),
        ("sasrec", "beauty", 5),
        ("other", "beauty", 8),
        ("other", "beauty", 9),
    ]
    assert queue_of(text) == expected
    assert queue_of(text, ["other", "sasrec"]) == [one for one in expected if one[0] != "default"]
    assert queue_of(text, ["other", "sasrec"], ["log"]) == [("sasrec", "log", 0), ("sasrec", "log", 5)]


def test_settings_and_places_of_a_job(text):
    Path("plan.toml").write_text(text)
    jobs = make_queue(read_study(Path("plan.toml")), Path("runs"), Path("results"))
    sasrec = next(job for job in jobs if (job.row.name, job.seed) == ("sasrec", 1))
    tables = sasrec.config.tables()
    assert (tables["model"]["name"], tables["training"]["learning_rate"]) == ("sasrec", 0.01)
    assert (tables["training"]["seed"], tables["training"]["epochs"], tables["data"]["file"]) == (1, 2, "log.csv")
    assert sasrec.run == Path("runs/plan/log/sasrec-seed1")
    assert sasrec.record == Path("results/plan/log/sasrec-seed1.json")
    assert sasrec.ranks == Path("results/plan/log/sasrec-seed1-ranks.parquet")
    assert sasrec.inference == ()
    default = jobs[0]
    assert default.ranks is None
    [(row, config)] = default.inference
    assert (row.name, config.model["num_seeds"], default.config.model["num_seeds"]) == ("draws-1", 1, 3)
    assert default.record_of(row) == Path("results/plan/log/draws-1-seed0.json")


def test_a_named_dataset_needs_no_file(text):
    Path("plan.toml").write_text(text.replace('["log"]', '["log", "toys"]'))
    jobs = make_queue(read_study(Path("plan.toml")), Path("runs"), Path("results"))
    sources = {job.dataset: (job.config.data.dataset, job.config.data.file) for job in jobs}
    assert sources == {"log": (None, "log.csv"), "toys": ("toys", None)}


def test_a_recipe_takes_the_place_of_the_base():
    """All but the dataset and the seed, which are the study's; what the row sets comes on top."""
    recipe = Path("mine-beauty.toml")
    recipe.write_text(
        '[data]\ndataset = "toys"\n[model]\nname = "sasrec"\nnum_layers = 1\n[training]\nepochs = 7\nseed = 5\n'
    )
    text = """
title = "Recipes"
datasets = ["beauty"]
seeds = [1]
[[rows]]
name = "mine"
group = "Mine"
title = "mine"
recipe = "mine-{dataset}.toml"
set = ["model.dropout=0.4"]
"""
    Path("plan.toml").write_text(text)
    [job] = make_queue(read_study(Path("plan.toml")), Path("runs"), Path("results"))
    config = job.config
    assert (config.data.dataset, config.training.seed, config.training.epochs) == ("beauty", 1, 7)
    assert (config.model_name, config.model["num_layers"], config.model["dropout"]) == ("sasrec", 1, 0.4)
    recipe.write_text("epochs = 7\n")
    with pytest.raises(SettingError, match=r"row mine: epochs must be a table .*mine-beauty\.toml"):
        queue_of(text)
    recipe.unlink()
    with pytest.raises(SettingError, match=r"recipe mine-beauty\.toml cannot be read"):
        queue_of(text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("learning_rate=0.01", "leaning_rate=0.01", r"row sasrec: training\.leaning_rate .* did you mean"),
        ("epochs = 2", "epochs = 0", r"row default: training\.epochs is 0"),
        ("model.num_seeds=1", "model.num_seeds=-1", r"row draws-1: model\.num_seeds is -1"),
        ("model.num_seeds=1", "model.num_seeds=3", "inference row draws-1 changes nothing against default"),
        ("model.num_seeds=1", "training.epochs=3", "inference row draws-1 changes more than how"),
        ("model.num_seeds=1", "model.hidden_size=16", r"\(model\.num_seeds, .*make it one of \[\[rows\]\]"),
        ('of = "default"', 'of = "sasrec"', r"row draws-1: model\.num_seeds is not a setting"),
    ],
)
def test_settings_that_cannot_be(text, old, new, message):
    assert old in text
    with pytest.raises(SettingError, match=message):
        queue_of(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sasrek", r"--only sasrek is not a row of plan; did you mean sasrec\?"),
        ("draws-1", "say --only default"),
    ],
)
def test_only_names_rows(text, name, message):
    with pytest.raises(SettingError, match=message):
        queue_of(text, [name])


def test_a_dataset_that_the_rows_do_not_have(text):
    """Nor one that other rows have: there would be nothing to do, without a word."""
    text = text.replace('["log"]', '["log", "beauty"]', 1)
    text += '\n[[rows]]\nname = "other"\ngroup = "x"\ntitle = "x"\nseeds = [7]\ndatasets = ["beauty"]\n'
    with pytest.raises(SettingError, match=r"--dataset logs is not a dataset of these rows; did you mean log\?"):
        queue_of(text, None, ["logs"])
    with pytest.raises(SettingError, match=r"--dataset log is not a dataset of these rows"):
        queue_of(text, ["other"], ["log"])


# What is there already.


def states(study) -> dict[str, str]:
    queue = make_queue(study, Path("runs"), Path("results"))
    return {f"{job.row.name}-{job.seed}": job.state() for job in queue}


def test_states(again):
    assert set(states(again).values()) == {"recorded"}
    results, runs = Path("results/tiny/log"), Path("runs/tiny/log")
    (results / "default-seed0.json").unlink()
    (results / "sasrec-seed0-ranks.parquet").unlink()
    (results / "default-seed1.json").write_text(json.dumps(failed(results / "default-seed1.json")))
    (results / "draws-1-seed1.json").unlink()
    (results / "sasrec-seed1.json").unlink()
    (runs / "sasrec-seed1").rename("elsewhere")
    assert states(again) == {
        "default-0": "to record",
        "sasrec-0": "to record",
        "default-1": "failed",
        "sasrec-1": "to do",
    }


def failed(path: Path) -> dict:
    record = json.loads(path.read_text())
    return {name: record[name] for name in ("settings", "data", "corpus", "study")} | {"failed": "the loss is nan"}


def change(again, old: str, new: str):
    text = Path("tiny.toml").read_text()
    assert old in text
    Path("tiny.toml").write_text(text.replace(old, new))
    return read_study(Path("tiny.toml"))


@pytest.mark.parametrize(
    ("old", "new", "needles"),
    [
        (
            "learning_rate=0.01",
            "learning_rate=0.02",
            ["sasrec-seed0.json", "learning_rate = 0.01 there, 0.02"],
        ),
        ("num_steps = 10", "num_steps = 20", ["default-seed0.json", "model.num_steps = 10 there, 20 now"]),
        ("model.num_seeds=1", "model.num_seeds=2", ["draws-1-seed0.json", "model.num_seeds = 1 there, 2 now"]),
        ('user = "who"', 'user = "who"\nmin_user = 5', ["data.min_user = 1 there, 5 now"]),
        (
            '{ name = "sasrec", hidden',
            '{ name = "diffrec", hidden',
            ["sasrec-seed0.json", "model = sasrec there, diffrec"],
        ),
    ],
)
def test_a_record_made_with_other_settings_is_refused(again, old, new, needles):
    with pytest.raises(SettingError) as refused:
        states(change(again, old, new))
    for needle in [*needles, "Give the row another name, or remove"]:
        assert needle in str(refused.value)


def test_a_run_made_with_other_settings_is_refused_before_it_is_recorded(again):
    for path in Path("results/tiny/log").iterdir():
        path.unlink()
    with pytest.raises(SettingError, match=r"log/default-seed0 was made with other .*epochs = 2 there, 3 now"):
        states(change(again, "epochs = 2", "epochs = 3"))


def test_a_setting_younger_than_the_record_counts_as_its_default(again):
    path = Path("results/tiny/log/default-seed0.json")
    record = json.loads(path.read_text())
    del record["settings"]["model_settings"]["eta"], record["settings"]["training"]["max_gradient_norm"]
    del record["data"]["drop_repeats"]
    path.write_text(json.dumps(record))
    assert states(again)["default-0"] == "recorded"
    record["settings"]["model_settings"]["gone"] = 1
    path.write_text(json.dumps(record))
    with pytest.raises(SettingError, match=r"model\.gone = 1 there, None now"):
        states(again)


def test_where_the_log_lies_makes_no_difference(again):
    job = make_queue(again, Path("runs"), Path("results"))[0]
    record = json.loads(job.record.read_text())
    record["data"]["file"] = "/elsewhere/log.csv"
    assert changed_settings(job.config, record) == []


@pytest.mark.parametrize("content", ["{}", '{"settings": 3}', '{"settings": {}}'])
def test_what_is_no_record(again, content):
    Path("results/tiny/log/default-seed0.json").write_text(content)
    with pytest.raises(SettingError, match=r"default-seed0\.json is not the record of a run"):
        states(again)


def test_an_inference_row_without_its_run_is_refused(again):
    Path("results/tiny/log/draws-1-seed1.json").unlink()
    Path("runs/tiny/log/default-seed1").rename("elsewhere")
    with pytest.raises(SettingError, match=r"draws-1-seed1\.json is to be made from the run runs/tiny/log/"):
        states(again)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("beauty", "dataset"),
        ("beuty", "dataset"),
        ("log.csv", "file"),
        ("logs/mine", "file"),
        ("folder", "file"),
    ],
)
def test_names_and_files(name, source):
    Path("folder").mkdir()
    assert source_of(name) == {source: name}


def test_an_inference_record_of_other_weights_is_refused(again):
    """A run that was made anew leaves what was ranked with the one before it."""
    study, results = read_study(Path("tiny.toml")), Path("results/tiny/log")
    before = json.loads((results / "default-seed1.json").read_text())
    (results / "default-seed1.json").write_text(json.dumps(before | {"curve": before["curve"][:1]}))
    with pytest.raises(SettingError, match=r"draws-1-seed1\.json was ranked with other weights than those of .*seed1"):
        make_queue(study, Path("runs"), Path("results"))
    (results / "default-seed1.json").unlink()
    Path("runs/tiny/log/default-seed1").rename("elsewhere")
    with pytest.raises(SettingError, match="which is still to be made: remove it to make it anew"):
        make_queue(study, Path("runs"), Path("results"))
