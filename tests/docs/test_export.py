"""The program of docs/export.md, taken from the page, asks an exported model in a process that has no torch."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import seqdiffrec as sdr
from seqdiffrec.training import Reporter
from tests.cli.conftest import call
from tests.inference.conftest import make, make_frame
from tests.shapes import unchecked

PAGE = (Path(__file__).parents[2] / "docs/export.md").read_text()
(PROGRAM,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
WITHOUT_TORCH = """
import runpy, sys
sys.modules |= dict.fromkeys(["torch", "seqdiffrec"])
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


def ask(folder: Path, *words: str, lines: str = "") -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, input=lines, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_program_is_short():
    assert len(PROGRAM.splitlines()) <= 45


@pytest.mark.slow
def test_the_program_says_what_the_model_says(tmp_path: Path, monkeypatch, capsys):
    model = make("shared").fit(sdr.Dataset.from_interactions(make_frame()), reporter=Reporter())
    model.save(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    with unchecked():  # jaxtyping would take the numbers that stand for any batch and length for wrong types
        assert call("export", "run", "--onnx", "mine.onnx", "-k", "4") == 0
    told = capsys.readouterr()
    assert "mine.onnx: " in told.out and "the first 4; on 16 histories 100.00% of the items" in told.out
    assert told.err.endswith("export run --onnx mine-int8.onnx --int8\n")
    (tmp_path / "next_items.py").write_text(PROGRAM)
    histories = [["10", "20", "30"], [], ["10", "no such item"], ["50"] * 9]
    lines = "".join(" ".join(history) + "\n" for history in histories).replace("no such item", "nothing")
    done = ask(tmp_path, "-c", WITHOUT_TORCH, "next_items.py", "mine.onnx", lines=lines)
    expected = model.recommend_sequences(histories, k=4)
    for number, line in enumerate(done.stdout.splitlines()):
        rows = expected.filter(history=number)
        items, probabilities = zip(*json.loads(line), strict=True)
        assert probabilities == pytest.approx(rows["score"].to_list(), abs=1e-4)
        if number != 1:  # many are as popular as each other
            assert list(items) == rows["item_id"].to_list()
    assert number == len(histories) - 1
