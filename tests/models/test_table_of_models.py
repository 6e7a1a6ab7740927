"""Models enter the table by being defined, each under a name of its own, and have a recommender called as they are."""

import pytest

import seqdiffrec as sdr
from seqdiffrec.inference import recommender_class
from seqdiffrec.models import MODELS, SASRec, find_model


@pytest.fixture(autouse=True)
def _table_as_it_was(monkeypatch):
    for name, model in MODELS.items():
        monkeypatch.setitem(MODELS, name, model)
    monkeypatch.setitem(MODELS, "mine", SASRec)  # so that it is taken out again
    del MODELS["mine"]


def define(module: str, base: type = SASRec, **attributes: object) -> type:
    return type("Mine", (base,), {"__module__": module, **attributes})


def test_a_class_with_a_name_is_there_and_again_when_its_cell_is_run_again():
    define("notebook")
    assert "mine" not in MODELS, "without a name of its own it is no model of its own"
    first, second = (define("notebook", name="mine") for _ in range(2))
    assert find_model("mine") is second is not first
    assert sdr.Mine is recommender_class("mine") and sdr.Mine.model_name == "mine"


@pytest.mark.parametrize("name", ["mine", "sasrec"])
def test_two_models_of_one_name_are_refused(name):
    define("one", name="mine")
    with pytest.raises(sdr.SettingError, match=f"two models are called {name}: .* has one, two another"):
        define("two", name=name)
    assert find_model("sasrec") is SASRec


@pytest.mark.parametrize("name", MODELS)
def test_each_model_is_a_class_of_the_package(name):
    kind = recommender_class(name)
    assert issubclass(kind, sdr.Recommender) and kind.model_name == name
    assert getattr(sdr, MODELS[name].__name__) is kind is recommender_class(name)
    assert (kind.__module__, kind.__qualname__) == ("seqdiffrec", MODELS[name].__name__)
    assert kind.__name__ in sdr.__all__ and kind.__name__ in dir(sdr)
    assert MODELS[name].summary[1:] in kind.__doc__ and MODELS[name].config_class.__name__ in kind.__doc__


def test_what_is_no_model_is_no_attribute():
    with pytest.raises(AttributeError, match="module 'seqdiffrec' has no attribute 'SASRek'"):
        _ = sdr.SASRek
    with pytest.raises(sdr.SettingError, match=r"SASRek is not a model; did you mean sasrec\?"):
        find_model("SASRek")


def test_each_model_says_itself_what_it_is():
    said = [(vars(model)["summary"], vars(model)["paper"], vars(model)["cost"]) for model in MODELS.values()]
    assert len({summary for summary, *_ in said}) == len(MODELS)
