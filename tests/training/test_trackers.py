"""Trackers: TensorBoard's file read back, one that does not start, one that fails in the middle."""

import sys
from types import ModuleType

import pytest
from accelerate import PartialState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import seqdiffrec as sdr
from seqdiffrec.training import Reporter
from seqdiffrec.training.trackers import Tracking, figures, flat
from tests.inference.conftest import make, make_frame


@pytest.fixture(scope="module")
def data() -> sdr.Dataset:
    return sdr.Dataset.from_interactions(make_frame())


def test_tensorboard_has_the_figures_of_each_epoch_and_the_settings(data, tmp_path):
    model = make("sasrec", epochs=3, tracker="tensorboard").fit(data, out=tmp_path / "run", reporter=Reporter())
    read = EventAccumulator(str(tmp_path / "run/tensorboard"))
    read.Reload()
    assert len(model.state.history) == 3
    for name, of_row in {
        "train/loss": lambda row: row["train"]["loss"],
        "train/embedding_norm": lambda row: row["embedding_norm"],
        "validation/seen_kept/NDCG_at_10": lambda row: row["validation"]["seen_kept"]["NDCG@10"],
        "validation/seen_removed/HR_at_5": lambda row: row["validation"]["seen_removed"]["HR@5"],
    }.items():
        expected = [(row["epoch"], pytest.approx(of_row(row))) for row in model.state.history]
        assert [(event.step, event.value) for event in read.Scalars(name)] == expected
    (settings,) = tmp_path.glob("run/tensorboard/*/hparams.yml")
    assert "model_settings.hidden_size: 8\n" in settings.read_text() and "model: sasrec\n" in settings.read_text()


def test_a_run_that_is_tracked_is_loaded_and_told_of_as_any_other(data, tmp_path):
    model = make("sasrec", tracker="tensorboard").fit(data, out=tmp_path / "run", reporter=Reporter())
    loaded = sdr.load(tmp_path / "run")
    assert loaded.training.tracker == "tensorboard"
    assert loaded.recommend([100], k=3).equals(model.recommend([100], k=3))


@pytest.mark.parametrize("name", ["mlflow", "wandb", "trackio"])
def test_one_that_is_not_installed_is_told_before_the_training(name: str, data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not there
    with pytest.raises(sdr.SettingError, match=f"training.tracker = {name} needs more packages .* {name}$"):
        make("sasrec", tracker=name).fit(data, out=tmp_path / "run", reporter=Reporter())
    assert not (tmp_path / "run").exists()


def test_weights_and_biases_is_told_all(data, tmp_path, monkeypatch):
    class Run:
        def __init__(self):
            self.logged, self.ended = [], False

        def log(self, values: dict[str, float], step: int, **_: object) -> None:
            self.logged.append((step, values))

        def finish(self) -> None:
            self.ended = True

    run, wandb = Run(), ModuleType("wandb")
    wandb.init = lambda **_: run
    wandb.config = {}
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    PartialState._reset_state()  # as in a process that knows nothing of accelerate
    model = make("sasrec", epochs=2, tracker="wandb").fit(data, out=tmp_path / "run", reporter=Reporter())
    assert [step for step, _ in run.logged] == [1, 2] and run.ended
    assert run.logged[1][1]["train/loss"] == model.state.history[1]["train"]["loss"]
    assert wandb.config["model_settings.hidden_size"] == 8


def test_one_that_does_not_start_is_told_before_the_training(data, tmp_path, monkeypatch):
    wandb = ModuleType("wandb")

    def init(**_: object) -> None:
        raise PermissionError("no API key")

    wandb.init = init
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with pytest.raises(sdr.SettingError, match=r"wandb does not start \(PermissionError: no API key\)"):
        make("sasrec", tracker="wandb").fit(data, out=tmp_path / "run", reporter=Reporter())
    assert not (tmp_path / "run").exists()


class Board:
    """A stand-in for wandb that fails from its second log on."""

    def __init__(self, **how: object):
        self.how, self.told, self.settings, self.finished = how, [], {}, 0

    def log(self, values: dict, step: int) -> None:
        if self.told:
            raise ConnectionError("gone")
        self.told.append((step, values))

    def finish(self) -> None:
        self.finished += 1


def test_one_that_fails_in_the_middle_is_a_warning_and_the_training_goes_on(data, tmp_path, monkeypatch, caplog):
    board, wandb = Board(), ModuleType("wandb")

    def init(**how: object) -> Board:
        board.how = how
        return board

    wandb.init = init
    wandb.config = type("Config", (), {"update": lambda self, values, **_: board.settings.update(values)})()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    plain = make("sasrec", epochs=3).fit(data, reporter=Reporter())
    model = make("sasrec", epochs=3, tracker="wandb").fit(data, out=tmp_path / "mine", reporter=Reporter())
    assert board.how == {"project": "seqdiffrec", "name": "mine"}
    assert board.settings["model_settings.hidden_size"] == 8
    assert board.told == [(1, figures(model.state.history[0]))]
    assert [record.message for record in caplog.records] == [
        "wandb failed (ConnectionError: gone) and gets nothing more; training goes on"
    ]
    values = [row["value"] for row in model.state.history]
    assert len(values) == 3 and values == [row["value"] for row in plain.state.history]


def test_all_is_handed_on_to_the_reporter_within(tmp_path):
    told: list[str] = []

    class Inner(Reporter):
        def __getattribute__(self, name: str):
            if name in HOOKS:
                told.append(name)
            return super().__getattribute__(name)

    hooks = [name for name in vars(Reporter) if not name.startswith("_")]
    HOOKS = {*hooks}
    assert hooks == [name for name in vars(Tracking) if name in hooks]
    tracking = Tracking(Inner(), "tensorboard", tmp_path, {})
    for name, arguments in {
        "start": ("here",),
        "start_epoch": (None, 3),
        "step": (None,),
        "validation": (1, 2),
        "stopping": (),
    }.items():
        getattr(tracking, name)(*arguments)
    assert told == ["start", "start_epoch", "step", "validation", "stopping"]


def test_settings_are_flat_and_plain():
    assert flat({"model": "x", "training": {"epochs": 2, "tracker": None, "sizes": [1, 2]}}) == {
        "model": "x",
        "training.epochs": 2,
        "training.tracker": "None",
        "training.sizes": "[1, 2]",
    }
