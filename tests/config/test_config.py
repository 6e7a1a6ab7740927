"""Settings: tables in, checked settings out, and back; `--set`; what is refused and how."""

import tomllib
from datetime import UTC, datetime
from typing import Annotated

import polars as pl
import pytest
from hypothesis import given, strategies as st
from pydantic import Field, model_validator

from seqdiffrec.config import DataConfig, RunConfig, read_recipe, with_changes
from seqdiffrec.data import DataError
from seqdiffrec.inference import recommender_class
from seqdiffrec.models import MODELS
from seqdiffrec.models.settings import SettingError, Settings, refuse_unknown
from seqdiffrec.show import toml


class Oven(Settings):
    """Settings of an oven."""

    degrees: Annotated[int, Field(ge=50, le=250)] = 180
    fan: bool = False
    rack: str = "middle"

    @model_validator(mode="after")
    def _check_together(self):
        if self.fan and self.degrees > 200:
            raise ValueError("the fan needs degrees of at most 200")
        return self


# seqdiffrec/models/settings.py


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"degrees": 300}, "oven.degrees is 300: input should be less than or equal to 250"),
        ({"degrees": "hot"}, "oven.degrees is 'hot': input should be a valid integer"),
        ({"degres": 100}, "oven.degres is not a setting; did you mean oven.degrees?"),
        ({"xyzzy": 1}, "oven.xyzzy is not a setting; known are degrees, fan, rack"),
        ({"degrees": 210, "fan": True}, "oven: the fan needs degrees of at most 200"),
    ],
)
def test_what_is_wrong_with_a_setting(values, message):
    with pytest.raises(SettingError) as refused:
        Oven.checked(values, "oven.")
    assert str(refused.value).startswith(message)


def test_two_mistakes_are_both_named_and_settings_are_frozen():
    with pytest.raises(SettingError, match=r"degrees is 1: .*; fan is 'maybe': "):
        Oven.checked({"degrees": 1, "fan": "maybe"})
    with pytest.raises(ValueError, match="frozen"):
        Oven().degrees = 100


def test_the_nearest_of_the_known_names():
    assert "did you mean b.learning_rate?" in str(refuse_unknown("leaning_rate", ["rate", "learning_rate"], "b."))


# with_changes


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("64", 64),
        ("1e-3", 1e-3),
        ("true", True),
        ("bidirectional", "bidirectional"),
        ('"64"', "64"),
        (" 64 ", 64),
        ("a=b", "a=b"),
        ("", ""),
        ("[1, 2]", [1, 2]),
        ("None", "None"),
    ],
)
def test_values_are_toml_or_else_text(text, value):
    found = with_changes({}, [f"model.x={text}"])["model"]["x"]
    assert found == value and type(found) is type(value)


def test_the_last_change_wins_and_the_given_tables_stay_as_they_were():
    given = {"model": {"a": 1, "b": 2}}
    assert with_changes(given, ["model.b=3", "training.c=4", "model.b=5"]) == {
        "model": {"a": 1, "b": 5},
        "training": {"c": 4},
    }
    assert given == {"model": {"a": 1, "b": 2}}


@pytest.mark.parametrize("change", ["model.x", "x=1", ".x=1", "=", "model.=1"])
def test_a_change_of_another_form(change):
    with pytest.raises(SettingError, match=r"write table\.name=value|is not a setting"):
        with_changes({}, [change])


# RunConfig


@pytest.mark.parametrize("name", MODELS)
def test_tables_and_settings_are_the_same_thing(name):
    config = RunConfig.of({"model": {"name": name, "max_length": 7}, "training": {"epochs": 3}, "data": {"file": "x"}})
    tables = config.tables()
    assert tables["model"] == {"name": name, **MODELS[name].config_class(max_length=7).model_dump(exclude_none=True)}
    assert tables["data"].keys() >= {"file", "user", "item"} and "dataset" not in tables["data"]
    assert RunConfig.of(tables) == config
    recommender = config.recommender()
    assert type(recommender) is recommender_class(name)
    assert (recommender.config.max_length, recommender.training.epochs) == (7, 3)


def test_nothing_given_is_diffrec_with_the_papers_settings():
    tables = RunConfig.of({}).tables()
    assert (
        tables["model"].items() >= {"name": "diffrec", "num_steps": 1000, "schedule": "sqrt", "max_length": 50}.items()
    )
    assert tables["training"]["learning_rate"] == 1e-3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modell": {}}, r"modell is not a setting; did you mean model\?"),
        ({"training": 3}, "training must be a table of settings, not 3"),
        ({"model": {"name": "popular"}}, r"popular is not a model; did you mean popularity\?"),
        ({"model": {"name": "DiffRek"}}, r"DiffRek is not a model; did you mean diffrec\?"),
        ({"model": {"name": "zzz"}}, "zzz is not a model; known are (.*, )?diffrec, (.*, )?popularity, (.*, )?sasrec"),
        ({"model": {"name": "popularity", "dropout": 0.1}}, r"model\.dropout is not a setting; known are max_length"),
        ({"data": {"fil": "x"}}, r"data\.fil is not a setting; did you mean data\.file\?"),
        ({"training": {"epochs": 0}}, r"training\.epochs is 0"),
    ],
)
def test_what_is_refused(values, message):
    with pytest.raises(SettingError, match=message):
        RunConfig.of(values)


text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@given(text, text, st.floats(1e-12, 1), st.integers(0, 2**32 - 1))
def test_printed_settings_are_toml_that_gives_the_same_settings(file, user, rate, seed):
    config = RunConfig.of({"data": {"file": file, "user": user}, "training": {"learning_rate": rate, "seed": seed}})
    recipe = toml(config.tables())
    assert RunConfig.of(tomllib.loads(recipe)) == config


def test_a_recipe_is_read_with_its_dates(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("[data]\nvalidation_time = 2024-05-31\ntest_time = 2024-06-30T12:00:00Z\n")
    data = RunConfig.of(read_recipe(path)).data
    assert data.times() == (datetime(2024, 5, 31), datetime(2024, 6, 30, 12, tzinfo=UTC))
    path.write_bytes(b"[data]\nfile = '\xff'\n")
    with pytest.raises(SettingError, match=r"recipe.toml is not valid TOML"):
        read_recipe(path)


# DataConfig


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQDIFFREC_CACHE", str(tmp_path / "cache"))
    rows = [(user, item, float(place)) for user in "abc" for place, item in enumerate("vwvxv")]
    path = tmp_path / "log.csv"
    pl.DataFrame(rows, schema=["who", "what", "when"], orient="row").write_csv(path)
    return path


def test_a_file_with_its_preparation(log):
    settings = {"file": str(log), "user": "who", "item": "what", "time": "when"}
    corpus = DataConfig(**settings, drop_repeats=True).load().corpus
    assert (corpus.num_users, corpus.num_actions) == (3, 9)
    assert DataConfig(**settings, min_item=4).load().corpus.item_ids.to_list() == ["v"]
    split = DataConfig(**settings, validation_time=3, test_time=4).load().split
    assert [len(history) for history in split.test.histories] == [4, 4, 4]
    with pytest.raises(DataError, match="no test cases"):
        DataConfig(**settings, validation_time=3, test_time=9).load()


def test_a_prepared_folder_is_taken_as_it_is(log, tmp_path):
    made = DataConfig(file=str(log), user="who", item="what").load().corpus
    made.save(tmp_path / "corpus")
    assert DataConfig(file=str(tmp_path / "corpus")).load().corpus.content_hash == made.content_hash


def test_one_source_and_whole_times():
    for settings in ({}, {"dataset": "beauty", "file": "x.csv"}):
        with pytest.raises(SettingError, match=r"name the data: either a dataset \(ml-100k, ml-1m, beauty, toys\)"):
            DataConfig(**settings).load()
    with pytest.raises(SettingError, match="needs both"):
        DataConfig(validation_time=3).times()
    with pytest.raises(SettingError, match=r"data\.test_time is 'soon'"):
        DataConfig(validation_time="2024-05-31", test_time="soon").times()
    assert DataConfig(dataset="beauty").times() is None
