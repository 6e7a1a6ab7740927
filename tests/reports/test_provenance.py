"""What made a figure: the code revision in and out of a checkout, versions, machine."""

import subprocess
from importlib import metadata

import pytest

from seqdiffrec.training import provenance


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with a package of two committed files, one of which stands for provenance.py."""

    def git(*words: str) -> str:
        settings = ["-c", "user.name=N", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *settings, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    for name in ("package/part/code.py", "package/other/model.py", "beside/more.py", "beside/results/a.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1\n")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "package" / "part" / "code.py"))
    return git


def test_the_commit_and_whether_any_file_of_the_package_differs(checkout, tmp_path):
    commit = checkout("rev-parse", "HEAD")
    assert provenance.code_revision() == commit
    (tmp_path / "package" / "untracked.txt").write_text("x")
    (tmp_path / "beside" / "more.py").write_text("2\n")
    assert provenance.code_revision() == commit
    assert provenance.code_revision(tmp_path / "beside") == f"{commit}+changes"
    (tmp_path / "package" / "other" / "model.py").write_text("2\n")
    assert provenance.code_revision() == f"{commit}+changes"


def test_records_beside_the_code_are_no_change_of_it(checkout, tmp_path):
    commit, beside = checkout("rev-parse", "HEAD"), tmp_path / "beside"
    (beside / "results" / "a.json").write_text("2\n")
    assert provenance.code_revision(beside) == f"{commit}+changes"
    assert provenance.code_revision(beside, records=beside / "results") == commit
    (beside / "more.py").write_text("2\n")
    assert provenance.code_revision(beside, records=beside / "results") == f"{commit}+changes"


def test_a_copy_inside_another_projects_checkout_has_none(checkout, tmp_path, monkeypatch):
    (tmp_path / "package" / "part" / "installed.py").write_text("1\n")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "package" / "part" / "installed.py"))
    assert provenance.code_revision() is None


def test_outside_of_git_there_is_none(tmp_path, monkeypatch):
    (tmp_path / "package" / "part").mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "package" / "part" / "code.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.code_revision() is None
    monkeypatch.setenv("PATH", "")
    assert provenance.code_revision() is None


def test_versions_and_machine():
    versions = provenance.versions()
    assert versions["torch"] == metadata.version("torch") and versions.keys() >= {"python", "seqdiffrec", "polars"}
    machine = provenance.machine()
    assert machine["processor"] and machine["cores"] >= 1
