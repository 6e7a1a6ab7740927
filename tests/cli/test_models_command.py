"""seqdiffrec models: a line each."""

from seqdiffrec.models import MODELS


def test_a_line_for_each_model_with_the_oldest_paper_first(cli):
    result = cli("models")
    head, *lines = result.out.splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(MODELS)
    for line in lines:
        model = MODELS[line.split()[0]]
        assert line[head.index("what") :].startswith(model.summary)
        assert line[head.index("paper") :].startswith(f"{model.paper or '-'}  ")
        assert line.endswith(f"  {model.cost}")
    names = [line.split()[0] for line in lines]
    assert names.index("popularity") < names.index("markov") < names.index("sasrec") < names.index("diffrec")


def test_the_next_step_trains_one_of_them(cli):
    words = cli("models").next_step
    assert words[:3] == ["seqdiffrec", "train", "--model"] and words[3] in MODELS


def test_as_json(cli):
    found = cli("models", "--json").json["models"]
    assert {row["name"] for row in found} == MODELS.keys()
    for row in found:
        model = MODELS[row["name"]]
        assert row == {"name": model.name, "summary": model.summary, "paper": model.paper, "cost": model.cost}
