"""Making the environments of the peers; pip is a fake."""

import subprocess
from pathlib import Path

import pytest

from benchmarks import __main__ as commands
from benchmarks.peers import environments
from benchmarks.peers.environments import PEERS, find_python, fingerprint, make, python_of, requirements, set_up, state
from benchmarks.training_speed import chosen_peers
from benchmarks.workers import ROOT, BenchmarkError


class FakeRun:
    """Takes commands; those with `fails` in them fail. venv makes the folder."""

    def __init__(self, fails: str | None = None):
        self.fails, self.commands = fails, list[list[str]]()

    def __call__(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        if self.fails is not None and any(self.fails in word for word in command):
            return subprocess.CompletedProcess(command, 1, "", "many lines\nERROR: no matching distribution")
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True, exist_ok=True)
        return subprocess.CompletedProcess(command, 0, "", "")


def test_torch_goes_first_by_the_version_of_the_constraints(tmp_path: Path) -> None:
    run = FakeRun()
    assert make("recbole", tmp_path, "python3.11", run) is None
    venv, torch, packages, imported = run.commands
    assert venv == ["python3.11", "-m", "venv", "--clear", str(tmp_path / "recbole")]
    pinned = torch[-1]
    assert pinned in (ROOT / "constraints.txt").read_text().splitlines() and pinned.startswith("torch==")
    assert packages[-3:] == [pinned, "-r", str(requirements("recbole"))]
    assert imported[-1] == "import recbole"
    assert state("recbole", tmp_path) == "ready"
    assert python_of("recbole", tmp_path) == tmp_path / "recbole" / "bin" / "python"


@pytest.mark.parametrize("step", ["venv", "torch==", "-r", "import"])
def test_a_step_that_fails_is_told_with_what_pip_said_and_what_to_do(tmp_path: Path, step: str) -> None:
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environments, "make", lambda name, folder, python: make(name, folder, python, FakeRun(step)))
        patch.setattr(environments, "find_python", lambda wanted: "python3.11")
        assert not set_up(["replay"], tmp_path, None, said.append)
    told = "\n".join(said)
    assert "replay: could not" in told and "no matching distribution" in told
    assert "leave out RePlay SasRec, RePlay Bert4Rec" in told and "--python" in told
    assert state("replay", tmp_path) == "missing"


def test_what_is_there_stays_and_what_has_other_requirements_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("recbole", tmp_path, "python3.11", FakeRun())
    said: list[str] = []
    assert set_up(["recbole"], tmp_path, None, said.append)
    assert said == [f"recbole: there already, in {tmp_path / 'recbole'}"]
    monkeypatch.setattr(environments, "fingerprint", lambda name: fingerprint(name) + "1")
    with pytest.raises(BenchmarkError, match="made from other requirements"):
        python_of("recbole", tmp_path)


def test_each_peer_has_its_requirements_pinned_and_a_worker() -> None:
    for name, peer in PEERS.items():
        lines = [line for line in requirements(name).read_text().splitlines() if not line.startswith("#")]
        assert all("==" in line for line in lines)
        assert any(line.startswith(f"{peer.package}==") for line in lines)
        assert not any(line.startswith("torch==") for line in lines)  # the constraints have it
        assert (ROOT / f"{peer.module(name).replace('.', '/')}.py").is_file()


def test_the_first_python_that_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments.shutil, "which", lambda name: name)
    assert find_python(None, FakeRun("python3.11")) == "python3.12"  # found, but does not run
    assert find_python("/opt/python", FakeRun()) == "/opt/python"
    with pytest.raises(BenchmarkError, match=r"and python3[.]11-venv"):
        find_python(None, FakeRun("import"))


def test_missing_environments_are_told_with_their_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert chosen_peers(None, tmp_path) == []
    with pytest.raises(BenchmarkError, match="python -m benchmarks setup rectools --environments"):
        chosen_peers(["rectools"], tmp_path)
    with pytest.raises(BenchmarkError, match="Make all with: python -m benchmarks setup"):
        chosen_peers([], tmp_path)
    make("replay", tmp_path, "python3.11", FakeRun())
    capsys.readouterr()
    assert chosen_peers([], tmp_path) == ["replay"]
    assert "without recbole: make its environment" in capsys.readouterr().out


def test_the_commands_say_it_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["training", "--peers", "recbole", "--environments", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: recbole needs an environment of its own, and there is none.")
    assert commands.main(["setup", "recbowl"]) == 1
    assert "there is no peer recbowl" in capsys.readouterr().err
