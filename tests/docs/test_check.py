"""docs/check.py finds what is wrong in a small project made for it, and nothing in one that is right."""

import runpy
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[2] / "docs" / "check.py"
LABELS = [f"Eq. {number}" for number in range(1, 19)] + [f"Algorithm {number}" for number in range(1, 4)]
ROW = "| {} | `src/p.py` | `Process.mean`, `SCALE` | `tests/test_p.py::test_mean` |"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose documentation is right."""
    for folder in ("src", "tests", "docs"):
        (tmp_path / folder).mkdir()
    (tmp_path / "src/p.py").write_text("SCALE = 1\n\nclass Process:\n    def mean(self): ...\n\ndef start(): ...\n")
    (tmp_path / "tests/test_p.py").write_text("def test_mean(): ...\n")
    (tmp_path / "README.md").write_text("[map](docs/paper-to-code.md#top) [site](https://example.org)\n")
    write_map(tmp_path, [ROW.format(label) for label in LABELS])
    return tmp_path


def write_map(root: Path, rows: list[str]) -> None:
    lines = ["# Map", "", "| paper | file | name | test |", "| --- | --- | --- | --- |", *rows]
    (root / "docs/paper-to-code.md").write_text("\n".join(lines) + "\n")


def problems(root: Path) -> list[str]:
    return runpy.run_path(str(CHECK))["problems"](root)


def test_right_project_has_no_problems(project: Path) -> None:
    assert problems(project) == []


def test_broken_link_is_named_with_its_line(project: Path) -> None:
    (project / "docs/guide.md").write_text(
        "ok\n\n[gone](gone.md)\n![up](../README.md)\n```\n[in code](no.md)\n```\n`[code](no.md)`\n"
    )
    assert problems(project) == ["docs/guide.md:3: the link gone.md leads to no file"]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("src/p.py", "src/q.py", "there is no file src/q.py"),
        ("Process.mean", "Process.median", "src/p.py has no Process.median"),
        ("Process.mean", "Process.start", "src/p.py has no Process.start"),
        ("::test_mean", "::test_median", "tests/test_p.py has no test_median"),
        ("tests/test_p.py", "tests/test_q.py", "there is no file tests/test_q.py"),
        ("::test_mean", "", "tests/test_p.py has no test named here (file::test)"),
        ("`tests/test_p.py::test_mean`", "", "names no test"),
    ],
)
def test_row_that_names_what_is_not_there(project: Path, old: str, new: str, text: str) -> None:
    rows = [ROW.format(label) for label in LABELS]
    rows[2] = rows[2].replace(old, new)
    write_map(project, rows)
    assert f"docs/paper-to-code.md:7: {text}" in problems(project)


def test_every_equation_and_algorithm_needs_a_row(project: Path) -> None:
    write_map(project, [ROW.format(label) for label in LABELS if label not in ("Eq. 1", "Algorithm 3")])
    assert problems(project) == [
        "docs/paper-to-code.md: no row for Eq. 1",
        "docs/paper-to-code.md: no row for Algorithm 3",
    ]


def test_missing_map_is_a_problem(project: Path) -> None:
    (project / "docs/paper-to-code.md").unlink()
    assert "docs/paper-to-code.md: missing" in problems(project)
