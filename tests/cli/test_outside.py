"""As a process of its own: `python -m seqdiffrec`, exit codes, what goes to which stream; and the help."""

import json
import os
import subprocess
import sys

import pytest
import typer

import seqdiffrec
from seqdiffrec import cli as command_line, show


def run(*words: object, code: str | None = None) -> subprocess.CompletedProcess[str]:
    start = ["-m", "seqdiffrec"] if code is None else ["-c", code]
    command = [sys.executable, *start, *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def test_streams_and_exit_code_0(finished):
    good = run("recommend", finished["diffrec"], "--history", 10, 999, "-k", 3, "--json")
    assert good.returncode == 0
    assert len(json.loads(good.stdout)["recommendations"]) == 3
    assert good.stderr == "seqdiffrec: history 0: 1 of 2 items are unknown and skipped: '999'\n"


def test_version(cli):
    said = cli("--version")
    assert (said.code, said.out) == (0, f"seqdiffrec {seqdiffrec.__version__}\n")


def test_our_own_fault_is_exit_code_1_with_a_traceback(finished):
    code = (
        "import seqdiffrec.cli as cli\nfrom seqdiffrec import cli_evaluate\n"
        "def load(run): raise RuntimeError('our fault')\ncli_evaluate.load = load\ncli.main()"
    )
    broken = run("evaluate", finished["diffrec"], code=code)
    assert (broken.returncode, broken.stdout) == (1, "")
    assert "Traceback" in broken.stderr and broken.stderr.endswith("RuntimeError: our fault\n")


@pytest.mark.parametrize(
    ("started", "expected"),
    [(".venv/bin/seqdiffrec", ".venv/bin/seqdiffrec"), ("x/__main__.py", f"{sys.executable} -m seqdiffrec")],
)
def test_the_next_step_can_be_typed_where_seqdiffrec_is_not_on_the_path(started, expected, monkeypatch, capsys):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("sys.argv", [started])
    show.next_step("seqdiffrec info runs/mine")
    assert capsys.readouterr().err == f"Next: {expected} info runs/mine\n"


def commands(command, words=("seqdiffrec",)):
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))
    if not hasattr(command, "commands"):
        yield " ".join(words), command


COMMANDS = dict(commands(typer.main.get_command(command_line.app)))


def test_all_commands_are_there():
    expected = {"data fetch", "data stats", "data prepare", "train", "evaluate", "recommend", "info"}
    assert {f"seqdiffrec {name}" for name in expected} <= COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_that_parses(name, cli):
    result = cli(*name.split()[1:], "--help")
    text = " ".join(result.out.split())
    assert result.code == 0 and "Example: seqdiffrec" in text
    example = text.partition("Example: ")[2].partition(" Arguments:")[0].partition(" Options:")[0].split()
    command, rest = COMMANDS[name], example[len(name.split()) :]
    assert " ".join(example).startswith(name)
    command.make_context(name, rest)


@pytest.mark.parametrize("name", ["train", "fit", "update", "add-items", "reproduce", "data prepare"])
def test_help_says_of_each_folder_that_is_made_that_it_may_be_empty(name, cli):
    shown = " ".join(cli(*name.split(), "--help").out.split())
    assert "new or empty." in shown and "must not exist" not in shown


def test_help_of_all(cli):
    result = cli("--help")
    assert result.code == 0 and "Start with: seqdiffrec demo" in result.out
    for name in ("train", "evaluate", "recommend", "info", "data"):
        assert name in result.out
    assert cli("data", "--help").code == 0
