"""Other libraries' names of settings are understood in the hint of an error."""

import re

import pytest

import seqdiffrec as sdr
from seqdiffrec.config import DataConfig, RunConfig
from seqdiffrec.models import MODELS
from seqdiffrec.models.peer_names import NOT_HERE, PEER_NAMES
from seqdiffrec.training import TrainingConfig

OURS = {
    "data": set(DataConfig.model_fields),
    "training": set(TrainingConfig.model_fields),
    "model": {name for model in MODELS.values() for name in model.config_class.model_fields},
}


@pytest.mark.parametrize(("theirs", "ours"), [(theirs, ours) for theirs, (_, ours) in PEER_NAMES.items()])
def test_what_is_named_is_a_setting_here_and_the_name_is_not(theirs: str, ours: str):
    for section, setting in re.findall(r"\b(model|training|data)\.(\w+)", ours):
        assert setting in OURS[section]
    assert theirs == theirs.lower() and all(theirs not in known for known in OURS.values())


def test_a_name_stands_in_one_table():
    assert not PEER_NAMES.keys() & NOT_HERE.keys()


@pytest.mark.parametrize(
    ("table", "theirs", "hint"),
    [
        ("model", "MAX_ITEM_LIST_LENGTH", "RecBole's MAX_ITEM_LIST_LENGTH is model.max_length here"),
        ("model", "hidden_dropout_prob", "RecBole's hidden_dropout_prob is model.dropout here"),
        ("model", "train_batch_size", "RecBole's train_batch_size is training.batch_size here"),
        ("model", "n_factors", "RecTools's n_factors is model.hidden_size here"),
        ("training", "stopping_step", "RecBole's stopping_step is training.patience here"),
        ("training", "learner", "RecBole's learner has no counterpart: the optimiser is Adam"),
        ("data", "USER_ID_FIELD", "RecBole's USER_ID_FIELD is data.user here"),
    ],
)
def test_a_recipe_with_their_name_says_ours(table: str, theirs: str, hint: str):
    with pytest.raises(sdr.SettingError) as error:
        RunConfig.of(
            {"model": {"name": "sasrec"}, table: {theirs: 1} | ({"name": "sasrec"} if table == "model" else {})}
        )
    assert str(error.value).startswith(f"{table}.{theirs} is not a setting; {hint}")


def test_keywords_have_no_tables():
    with pytest.raises(sdr.SettingError, match=r"^n_heads is not a setting; RecBole's n_heads is num_heads here$"):
        sdr.SASRec(n_heads=2)


def test_a_model_without_the_setting_gets_the_nearest_that_it_has():
    with pytest.raises(sdr.SettingError, match="n_heads is not a setting") as error:
        sdr.GRU4Rec(n_heads=2)
    assert "num_heads" not in str(error.value)


def test_a_misspelt_setting_of_ours_still_gets_the_nearest():
    with pytest.raises(sdr.SettingError, match="did you mean hidden_size"):
        sdr.SASRec(hiden_size=8)
