"""Searches: the ranges read, trials that go on, pruning, and that the test set stays untouched."""

import dataclasses
import json
import signal
import sys
import tomllib
from pathlib import Path

import optuna
import pytest

import seqdiffrec as sdr
from seqdiffrec.config import RunConfig
from seqdiffrec.models.settings import SettingError
from seqdiffrec.show import toml
from seqdiffrec.studies import Found, read_search, run_search, tune as module
from seqdiffrec.studies.lock import held
from seqdiffrec.studies.trials import best_of, draw_trials
from seqdiffrec.studies.tune import Judge
from seqdiffrec.training import EpochRow, RunError, TrainingInterrupted, TrainingState

SEARCH = """
dataset = "log.csv"

[base.data]
user = "who"
item = "what"

[base.model]
name = "sasrec"
num_layers = 1
max_length = 6

[base.training]
epochs = 2
batch_size = 64
device = "cpu"
precision = "float32"

[search]
"model.dropout" = { low = 0.1, high = 0.6 }
"training.learning_rate" = { low = 1e-4, high = 3e-2, log = true }
"model.hidden_size" = { choices = [4, 8] }
"training.batch_size" = { low = 32, high = 64 }
"""


@pytest.fixture
def search() -> Path:
    Path("search.toml").write_text(SEARCH)
    return Path("search.toml")


def run(path: Path, trials: int, out: str = "tuned", **options):
    return run_search(read_search(path), Path(out), trials, as_toml=toml, command="seqdiffrec tune", **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, write_log) -> Found:
    """A search of three trials that was not cut."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SEQDIFFREC_CACHE", str(folder / "cache"))
        write_log(folder / "log.csv")
        Path("search.toml").write_text(SEARCH)
        found = run(Path("search.toml"), 3)
    return dataclasses.replace(found, recipe=folder / found.recipe)


def course(trials: list) -> list[dict]:
    return [{name: value for name, value in trial.items() if name != "seconds"} for trial in trials]


def test_the_value_of_a_trial_with_pretraining_is_of_the_game(search):
    text = SEARCH.replace('"sasrec"', '"mfgan"\npretraining_epochs = 2\ndiscriminator_pretraining_epochs = 0')
    search.write_text(text.replace("epochs = 2\nbatch", "epochs = 3\nbatch").replace("0.03", "0.3"))
    config = read_search(search).config({})
    values = {}

    class Keep(Judge):
        def __init__(self):
            super().__init__(3, None)

        def _tell(self, state):
            values.update({row["epoch"]: row["value"] for row in state.history})

    found = module._train(config, config.data.load(), Path("trial"), Keep())
    assert found == values[3] and found != max(values.values())


def test_what_a_search_leaves(whole):
    found, folder = whole, whole.recipe.parent
    assert len(found.trials) == 3
    assert sorted(path.name for path in folder.iterdir() if path.name[0] != ".") == [
        "best.toml",
        "trials",
        "trials.json",
        "tune.db",
        "tune.svg",
    ]
    assert list((folder / "trials").iterdir()) == [], "the runs of trials are gone"
    record = json.loads((folder / "trials.json").read_text())
    assert record["trials"] == found.trials
    assert record["command"] and record["versions"]["torch"] and record["machine"]["cores"] >= 1
    assert "revision" in record
    for trial in found.trials:
        values = trial["settings"]
        assert 0.1 <= values["model.dropout"] <= 0.6 and 1e-4 <= values["training.learning_rate"] <= 3e-2
        assert values["model.hidden_size"] in (4, 8) and values["training.batch_size"] in range(32, 65)
        assert (trial["state"], trial["epochs"], trial["failed"]) == ("complete", 2, None)
    assert len({trial["settings"]["model.dropout"] for trial in found.trials}) == 3
    first = found.trials[0]["settings"]  # the base; its hidden_size of 256 is none of the choices
    assert (first["model.dropout"], first["training.learning_rate"], first["training.batch_size"]) == (0.3, 0.001, 64)
    assert found.best["value"] == max(trial["value"] for trial in found.trials)


def test_the_recipe_is_that_of_the_best_trial_and_brings_its_value(whole):
    text = whole.recipe.read_text()
    assert text.startswith(f"# seqdiffrec tune\n# Trial {whole.best['trial']} of 3, validation NDCG@10 ")
    config = RunConfig.of(tomllib.loads(text))
    assert config.model["dropout"] == whole.best["settings"]["model.dropout"]
    assert config.training.epochs == 2 and config.data.file == "log.csv"
    model = config.recommender().fit(config.data.load())
    assert model.state.best_value == whole.best["value"]


def test_the_test_set_is_never_looked_at(search, monkeypatch):
    real = module.load_data

    def without_test(*args):
        data = real(*args)
        return dataclasses.replace(data, split=dataclasses.replace(data.split, test=None))

    monkeypatch.setattr(module, "load_data", without_test)
    assert run(search, 1).best["value"] > 0


@pytest.mark.parametrize("step", [1, 9])
def test_a_search_that_was_cut_goes_on_and_ends_as_an_uncut_one(search, at_step, whole, step):
    """Cut in the first trial, and in the second."""
    at_step(step, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(TrainingInterrupted):
        run(search, 3)
    assert not Path("tuned/best.toml").exists()
    assert len(list(Path("tuned/trials").iterdir())) == 1, "the run of the trial at hand is there to go on with"
    assert course(run(search, 3).trials) == course(whole.trials)


def test_a_search_of_one_and_then_three_is_one_of_three(search, whole):
    assert len(run(search, 1).trials) == 1
    assert course(run(search, 3).trials) == course(whole.trials)
    assert len(run(search, 2).trials) == 3, "it has more than that already"


def test_no_trial_is_started_after_the_minutes(search):
    with pytest.raises(SettingError, match="no trial of the search in tuned has come to an end; give it more"):
        run(search, 3, minutes=0)
    assert len(run(search, 1, minutes=60).trials) == 1


def test_a_search_with_other_ranges_or_data_is_refused(search):
    run(search, 1)
    search.write_text(SEARCH.replace("high = 0.6", "high = 0.7"))
    with pytest.raises(SettingError, match="tuned holds a search with other settings or ranges"):
        run(search, 2)
    search.write_text(SEARCH)
    Path("log.csv").write_text("".join(Path("log.csv").read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(SettingError, match="tuned holds a search with other data"):
        run(search, 2)


def test_one_process_at_a_time(search, untrainable):
    Path("tuned").mkdir()
    with held(Path("tuned/tune")), pytest.raises(SettingError, match="another process is at the search in tuned"):
        run(search, 1)


@pytest.mark.parametrize("module", ["optuna", "matplotlib"])
def test_without_the_extra(search, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingError, match=r"pip install 'seqdiffrec\[tune\]'"):
        run(search, 1)
    assert not Path("tuned").exists()


# Pruning.


def validated(monkeypatch, values: list[float]) -> None:
    """Each validation from now on gives the next of these values as NDCG@10."""
    left = iter(values)

    def evaluate(predict, cases, num_items, ks, **options):
        value = next(left)
        return {protocol: {f"NDCG@{k}": value for k in ks} for protocol in ("seen_kept", "seen_removed")}

    monkeypatch.setattr("seqdiffrec.training.loop.evaluate", evaluate)


def test_a_trial_below_the_median_is_cut_short(search, monkeypatch):
    monkeypatch.setattr(module, "JUDGED_FROM_TRIAL", 2)
    monkeypatch.setattr(module, "JUDGED_FROM_EPOCH", 2)
    # Three epochs, three epochs, then one that falls behind in its second, and one that does not.
    search.write_text(SEARCH.replace("epochs = 2", "epochs = 3"))
    validated(monkeypatch, [0.2, 0.3, 0.4, 0.2, 0.4, 0.5, 0.1, 0.3, 0.1, 0.6, 0.5])
    found = run(search, 4)
    assert [(trial["state"], trial["epochs"], trial["value"]) for trial in found.trials] == [
        ("complete", 3, 0.4),
        ("complete", 3, 0.5),
        ("pruned", 2, 0.3),
        ("complete", 3, 0.6),
    ]
    assert found.best["trial"] == 4


def told(judge: Judge, state: TrainingState, *values: float) -> None:
    for value in values:
        row = EpochRow(
            epoch=state.epoch + 1,
            chosen_by="NDCG@10",
            value=value,
            train={},
            embedding_norm=None,
            validation={},
            improved=True,
            targets=1,
            train_seconds=1.5,
            validation_seconds=0.5,
        )
        state.end_epoch(row)
        judge.end_epoch(row, state)


def test_nothing_is_judged_before_the_third_epoch_and_the_sixth_trial():
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(5, 3))
    assert (module.JUDGED_FROM_TRIAL, module.JUDGED_FROM_EPOCH) == (5, 3)
    for value in (0.5, 0.4, 0.3, 0.2, 0.1):  # each below all before it, but too early to be judged
        trial = study.ask()
        told(Judge(4, trial), TrainingState(), value, value, value, value)
        study.tell(trial, value)
    trial = study.ask()
    state = TrainingState()
    judge = Judge(4, trial)
    told(judge, state, 0.1, 0.29)
    with pytest.raises(optuna.TrialPruned):  # the median is 0.3
        told(judge, state, 0.29)
    assert trial.user_attrs["seconds"] == 6.0


def test_a_trial_that_goes_on_tells_what_it_had_reached_before_it_was_cut():
    study = optuna.create_study(direction="maximize")
    trial, state = study.ask(), TrainingState()
    told(Judge(4, trial), state, 0.1)
    state.history.append({**state.history[0], "epoch": 2, "value": 0.2})  # the checkpoint had it, the storage not
    Judge(4, trial, told=1).start_epoch(state, 10)
    study.tell(trial, 0.2)
    assert study.trials[0].intermediate_values == {1: 0.1, 2: 0.2}


# Trials that fail.


def test_a_trial_whose_values_do_not_go_together_fails_and_the_search_goes_on(search):
    search.write_text(SEARCH.replace("choices = [4, 8]", "choices = [4, 6, 8]").replace("epochs = 2", "epochs = 1"))
    search.write_text(search.read_text().replace("[base.model]", "[base.model]\nnum_heads = 4"))
    found = run(search, 6)
    for trial in found.trials:
        expected = "fail" if trial["settings"]["model.hidden_size"] == 6 else "complete"
        assert trial["state"] == expected
    failed = next(trial for trial in found.trials if trial["state"] == "fail")
    assert "must be a multiple of num_heads" in failed["failed"]
    assert failed["value"] is None


def test_a_search_where_all_trials_fail(search, monkeypatch):
    def diverge(*args, **kwargs):
        raise sdr.TrainingDiverged("the loss is nan")

    monkeypatch.setattr("seqdiffrec.inference.Recommender.fit", diverge)
    with pytest.raises(SettingError, match=r"no trial .* come to an end; the first to fail said: the loss is nan"):
        run(search, 2)


def test_an_error_of_the_machine_is_no_failed_trial(search, monkeypatch):
    def broken(*args, **kwargs):
        raise RunError("the disk is broken")

    with monkeypatch.context() as patch:
        patch.setattr("seqdiffrec.inference.Recommender.fit", broken)
        with pytest.raises(RunError, match="the disk is broken"):
            run(search, 2)
    assert [trial["state"] for trial in run(search, 1).trials] == ["complete"]


# The search's file.


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('dataset = "log.csv"', "", "name the data"),
        ("[search]", "[serch]", r"search search\.toml: serch is not a setting; did you mean search\?"),
        ("low = 0.1, high = 0.6", "low = 0.6, high = 0.1", r'search\."model\.dropout"\.low and high must be numbers'),
        ("low = 0.1, high = 0.6", "lo = 0.6, high = 0.1", r'search\."model\.dropout"\.lo is not a setting; did you'),
        ("low = 0.1, high = 0.6", "low = 0.1, high = 1.6", r"model\.dropout is 1\.6"),
        ("low = 0.1, high = 0.6", "low = 0, high = 0.6, log = true", "log must be true or false, and low above 0"),
        ("{ low = 0.1, high = 0.6 }", "0.3", r"model\.dropout is 0\.3; write \{ low"),
        ("model.dropout", "model.droput", r"model\.droput is not a setting; did you mean model\.dropout"),
        ("choices = [4, 8]", "choices = [4, 8], low = 3", "with no other key beside it"),
        ("choices = [4, 8]", "choices = [4]", "a list of two or more"),
        ("choices = [4, 8]", "choices = [4, [5]]", "which is no plain value"),
        ("choices = [4, 8]", 'choices = [4, "big"]', r"model\.hidden_size is 'big'"),
        ("training.batch_size", "training.seed", "training.seed is not for a search"),
        ("training.batch_size", "data.min_user", "data.min_user is not for a search"),
        ("training.batch_size", "batch_size", "write table.name=value"),
    ],
)
def test_what_is_wrong_with_a_search(search, old, new, message):
    assert old in SEARCH
    search.write_text(SEARCH.replace(old, new))
    with pytest.raises(SettingError, match=message):
        read_search(search)


# What is shown of the trials.


def row(trial: int, value: float | None, state: str = "complete") -> dict:
    return {"trial": trial, "state": state, "value": value, "epochs": 1, "seconds": 1.0, "settings": {}, "failed": None}


def test_the_best_is_the_first_of_equals_and_never_a_pruned_one():
    rows = [row(1, 0.1), row(2, 0.3), row(3, 0.3), row(4, 0.9, "pruned"), row(5, None, "fail")]
    assert best_of(rows, Path("x"))["trial"] == 2


def test_the_picture_has_values_and_the_running_best(monkeypatch):
    from matplotlib.axes import Axes

    drawn = {}

    def keep(self, x, y, *args, label, **kwargs):
        drawn[label] = list(zip(x, y, strict=True))

    monkeypatch.setattr(Axes, "plot", keep)
    monkeypatch.setattr(Axes, "step", keep)
    monkeypatch.setattr(Axes, "legend", lambda self: None)
    draw_trials([row(1, 0.2), row(2, 0.1, "pruned"), row(3, 0.1), row(4, 0.4), row(5, None, "fail")], Path("a.svg"))
    assert drawn == {
        "complete": [(1, 0.2), (3, 0.1), (4, 0.4)],
        "pruned: its last epoch": [(2, 0.1)],
        "best so far": [(1, 0.2), (3, 0.2), (4, 0.4), (5, 0.4)],
    }


def test_the_same_trials_give_the_same_picture():
    for name in ("a.svg", "b.svg"):
        draw_trials([row(1, 0.2), row(2, 0.1, "pruned"), row(3, 0.4)], Path(name))
    assert Path("a.svg").read_bytes() == Path("b.svg").read_bytes()
    assert Path("a.svg").read_text().startswith("<?xml")
