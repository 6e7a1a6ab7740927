"""Study files: what a right one gives, and what is said about a wrong one."""

from pathlib import Path

import pytest

from seqdiffrec.models.settings import SettingError
from seqdiffrec.reports.study import InferenceRow, Row, read_study

STUDY = """
title = "What decides"
datasets = ["beauty", "toys"]
seeds = [0, 1, 2]

[base.model]
name = "diffrec"
hidden_size = 64
[base.training]
epochs = 40

[[rows]]
name = "default"
group = "The default"
title = "the default"
set = []

[[rows]]
name = "sasrec"
group = "Others"
title = "SASRec"
model = { name = "sasrec" }
set = ["model.dropout=0.1"]
seeds = [0]
datasets = ["toys"]
ranks = true

[[inference]]
name = "seeds-1"
of = "default"
title = "one draw"
set = ["model.num_seeds=1"]
"""


def write(folder: Path, text: str, name: str = "what-decides.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_all_parts_of_a_study(tmp_path):
    study = read_study(write(tmp_path, STUDY))
    assert (study.name, study.title) == ("what-decides", "What decides")
    assert (study.datasets, study.seeds) == (("beauty", "toys"), (0, 1, 2))
    assert study.base == {"model": {"name": "diffrec", "hidden_size": 64}, "training": {"epochs": 40}}
    assert study.rows == (
        Row("default", "The default", "the default", (), None, None, (0, 1, 2), ("beauty", "toys"), False),
        Row("sasrec", "Others", "SASRec", ("model.dropout=0.1",), {"name": "sasrec"}, None, (0,), ("toys",), True),
    )
    assert study.inference == (InferenceRow("seeds-1", "default", "one draw", ("model.num_seeds=1",)),)
    assert study.row("sasrec") is study.rows[1]
    assert study.row("seeds-1") is None


def test_places_of_records(tmp_path):
    study = read_study(write(tmp_path, STUDY))
    results = Path("results")
    assert study.record_path(results, "toys", "sasrec", 0) == Path("results/what-decides/toys/sasrec-seed0.json")
    assert study.ranks_path(results, "toys", "sasrec", 0) == Path(
        "results/what-decides/toys/sasrec-seed0-ranks.parquet"
    )


def test_a_row_with_a_recipe_needs_no_base(tmp_path):
    text = """
title = "Recipes"
datasets = ["beauty"]
seeds = [1]
[[rows]]
name = "mine"
group = "Mine"
title = "mine"
recipe = "../recipes/{dataset}-mine.toml"
"""
    path = write(tmp_path, text)
    study = read_study(path)
    assert study.base == {}
    assert study.rows[0].recipe_for("beauty") == tmp_path / "../recipes/beauty-mine.toml"
    path.write_text(text + 'model = { name = "popularity" }\n')
    with pytest.raises(SettingError, match=r"rows\[1\]\.recipe and rows\[1\]\.model are both given"):
        read_study(path)
    path.write_text(text.replace("recipe = ", "# recipe = "))
    with pytest.raises(SettingError, match="base is missing"):
        read_study(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = [0, 1, 2]", "seed = [0]", r"seed is not a setting; did you mean seeds\?"),
        ("ranks = true", "rank = true", r"rows\[2\]\.rank is not a setting; did you mean rows\[2\]\.ranks\?"),
        ("ranks = true", 'system = "sasrek"', r"rows\[2\]\.system: sasrek is not a model; did you mean sasrec\?"),
        ("ranks = true", "ranks = 1", r"rows\[2\]\.ranks is 1, which is no true or false"),
        ('of = "default"', 'of = "defualt"', r"inference\[1\]\.of: defualt is not a row; did you mean default\?"),
        ('of = "default"', "", r"inference\[1\]\.of is missing"),
        ('of = "default"', 'of = "default"\nseeds = [0]', r"inference\[1\]\.seeds is not a setting"),
        ('name = "sasrec"\n', 'name = "default"\n', "two rows have the name 'default'"),
        ('name = "seeds-1"', 'name = "sasrec"', "two rows have the name 'sasrec'"),
        ('name = "seeds-1"', 'name = "../up"', r"inference\[1\]\.name is '\.\./up'"),
        ('name = "sasrec"\n', 'name = "SASRec"\n', r"rows\[2\]\.name is 'SASRec'"),
        ('title = "What decides"', "", "title is missing"),
        (
            'title = "What decides"',
            'title = "x"\ncontrols = ["sasrek"]',
            "sasrek cannot be one; did you mean sasrec",
        ),
        ('title = "What decides"', 'title = "x"\ncontrols = ["default"]', "default cannot be one; known are"),
        (
            'title = "What decides"',
            'title = "x"\ncontrols = ["sasrec"]\ncontrols_beside = ["defualt"]',
            "controls_beside: defualt is not a row; did you mean default",
        ),
        (
            'title = "What decides"',
            'title = "x"\ncontrols = ["sasrec"]\ncontrols_beside = ["sasrec"]',
            "sasrec cannot be one; known are",
        ),
        ('title = "What decides"', 'title = "x"\ncontrols_beside = ["default"]', "there are no controls"),
        ("ranks = true", 'against = ["defualt"]', "row sasrec, against: defualt is not a row; did you mean default"),
        ("ranks = true", 'against = ["sasrec"]', "row sasrec: it names itself in against"),
        ('datasets = ["beauty", "toys"]', "datasets = []", "datasets is empty"),
        ('datasets = ["beauty", "toys"]', 'datasets = ["../x"]', r"datasets is '\.\./x'"),
        ('datasets = ["toys"]', 'datasets = ["ml-1m"]', r"rows\[2\]\.datasets names 'ml-1m'"),
        ("seeds = [0, 1, 2]", "seeds = [0, 0]", "seeds names 0 twice"),
        ("seeds = [0, 1, 2]", "seeds = [true]", "seeds holds True, which is no whole number"),
        ("seeds = [0, 1, 2]", "seeds = [-1]", "seeds holds -1"),
        ("seeds = [0, 1, 2]", "seeds = 3", "seeds is 3, which is no list"),
        ("[base.training]", "[base.trainings]", r"base\.trainings is not a setting; did you mean base\.training\?"),
        ("epochs = 40", "seed = 4", r"base sets training\.seed, which differs from run to run; use seeds"),
        ("model.dropout=0.1", "data.dataset=x", r"rows\[2\]\.set sets data\.dataset"),
        ("model.dropout=0.1", "model.dropout", r"rows\[2\]\.set: 'model\.dropout' is not of the form"),
        ('model = { name = "sasrec" }', 'model = "sasrec"', r"rows\[2\]\.model is 'sasrec', which is no table"),
        ("[[inference]]", "[inference]", r"inference must be tables, each under \[\[inference\]\]"),
        ("title =", "title", "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, old, new, message):
    assert old in STUDY
    with pytest.raises(SettingError, match=rf"study .*what-decides\.toml.*{message}"):
        read_study(write(tmp_path, STUDY.replace(old, new, 1)))


def test_a_study_needs_rows_a_readable_file_and_a_plain_name(tmp_path):
    with pytest.raises(SettingError, match="there are no rows"):
        read_study(write(tmp_path, STUDY.split("[[rows]]")[0]))
    with pytest.raises(SettingError, match=r"rows must be tables, each under \[\[rows\]\]"):
        read_study(write(tmp_path, "rows = [1]\n" + STUDY.split("[[rows]]")[0]))
    with pytest.raises(SettingError, match="cannot be read: No such file"):
        read_study(tmp_path / "none.toml")
    with pytest.raises(SettingError, match="the file's name is 'What Decides'"):
        read_study(write(tmp_path, STUDY, "What Decides.toml"))
