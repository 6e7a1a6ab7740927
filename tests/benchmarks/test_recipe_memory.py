"""A recipe's worker trains and validates as the recipe says, and its peaks become a row; nothing here is timed."""

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from benchmarks import recipe_memory
from benchmarks.__main__ import make_parser
from benchmarks.model_speed import trained
from benchmarks.recipe_worker import RecipeSystem, read
from benchmarks.workers import BenchmarkError
from benchmarks.workload import Workload, generated
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


class FakeWorker:
    """Holds 3 MiB after the steps, and 5 after validation."""

    def __init__(self, name: str, module: str, spec: dict[str, Any], **more: Any):
        assert Path(spec["recipe"]).is_file()
        self.facts = {"hidden_size": 8, "max_length": 50, "batch": "20 targets"}
        FakeWorker.asked.append(("start", spec))

    def ask(self, order: str, **arguments: Any) -> dict[str, Any]:
        FakeWorker.asked.append((order, arguments))
        return {"peak": {"train": 3, "validate": 5}[order] * 2**20}

    def end(self) -> None:
        FakeWorker.asked.append(("end", {}))

    asked: list[tuple[str, dict[str, Any]]]


def test_memory_is_that_of_steps_and_then_of_validation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    FakeWorker.asked = []
    monkeypatch.setattr(recipe_memory, "Worker", FakeWorker)
    monkeypatch.setattr(recipe_memory, "load", lambda root, name: Workload(generated(9, 9), f"{name} made up"))
    words = ["memory", "--systems", "stosa", "vsan", "--data-root", str(tmp_path)]
    record = recipe_memory.run(make_parser().parse_args(words))
    row = {"hidden_size": 8, "max_length": 50, "batch": "20 targets"}
    row |= {"training_peak_memory_mib": 3, "peak_memory_mib": 5}
    assert record["rows"] == {"ml-1m-stosa": row, "ml-1m-vsan": row} and record["data"] == "ml-1m made up"
    assert [order for order, _ in FakeWorker.asked] == ["start", "train", "validate", "end"] * 2
    assert FakeWorker.asked[0][1]["data_root"] == str(tmp_path) and FakeWorker.asked[1][1] == {"steps": 20}
    with pytest.raises(BenchmarkError, match="--steps 0 trains nothing"):
        recipe_memory.run(make_parser().parse_args([*words, "--steps", "0"]))


def test_memory_needs_a_folder_with_the_dataset() -> None:
    parsed = make_parser().parse_args(["memory"])
    parsed.data_root = None
    with pytest.raises(BenchmarkError, match="name a folder that has it with --data-root"):
        recipe_memory.run(parsed)


def test_every_system_of_the_paper_has_its_memory_measured() -> None:
    assert {system.partition("-")[0] for system in recipe_memory.SYSTEMS} == set(trained())
    assert all((recipe_memory.RECIPES / f"ml-1m-{system}.toml").is_file() for system in recipe_memory.SYSTEMS)
