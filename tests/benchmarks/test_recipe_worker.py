"""A recipe's worker trains and validates as the recipe says; nothing here is timed."""

from pathlib import Path

import pytest
from torch import Tensor

from benchmarks.recipe_worker import RecipeSystem, read
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models import MFGAN

LOG = "".join(f"{user},{(3 * user + place) % 11},{place}\n" for user in range(30) for place in range(8))


def spec(folder: Path, name: str) -> dict[str, str]:
    (folder / "log.csv").write_text("user_id,item_id,timestamp\n" + LOG)
    lines = ["[data]", f'file = "{folder / "log.csv"}"', "[model]", f'name = "{name}"', "hidden_size = 4"]
    lines += ["max_length = 6", "[training]", "batch_size = 20", "seed = 3"]
    (folder / "recipe.toml").write_text("\n".join(lines))
    return {"recipe": str(folder / "recipe.toml"), "data_root": str(folder), "precision": "float32"}


def test_the_recipes_batches_are_trained_and_all_of_validation_is_ranked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, data = read(spec(tmp_path, "sasrec"))
    system = RecipeSystem(config, data)
    assert (config.training.precision, config.training.seed) == ("float32", 3)
    weight = system.model.table.embedding.weight
    before = weight.detach().clone()
    count = system.step()
    assert 20 <= count < 20 + 6 and not weight.equal(before)  # whole windows
    predict, ranked = system.model.predict_histories, []

    def watched(histories: Sequences, *more: int) -> Tensor:
        ranked.append(len(histories))
        return predict(histories, *more)

    monkeypatch.setattr(system.model, "predict_histories", watched)
    assert system.validate() == {"cases": 30} and system.model.training
    assert sum(ranked) == 30


def test_the_sides_of_mfgan_take_turns_from_the_first_step_on(tmp_path: Path) -> None:
    system = RecipeSystem(*read(spec(tmp_path, "mfgan")))
    assert isinstance(system.model, MFGAN)
    seen = []
    for _ in range(4):
        seen.append(system.model.phase())
        system.step()
    assert {"generator", "discriminators"} == set(seen)
