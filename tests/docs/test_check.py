"""docs/check.py finds what is wrong in a small project made for it, and nothing in one that is right."""

import json
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


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("p = .6307", []),
        ("+.00018 (p ≤ .0001)", []),
        ("p = .63", [".63"]),
        ("p = .0001", [".0001"]),
        ("p = .6308", [".6308"]),
        ("−.00018", ["−.00018"]),
        (".6307", [".6307 is in no record"]),
    ],
)
def test_tests_over_users_stand_on_a_linked_page_of_a_study(project: Path, text: str, wrong: list[str]) -> None:
    (project / "docs/study").mkdir()
    (project / "studies").mkdir()
    (project / "studies/mine.toml").write_text("")
    (project / "docs/study/mine.md").write_text("| a | b | +.00018 | .6307 |\n| a | c | +.01000 | ≤ .0001 |\n")
    page = project / "docs/guide.md"
    page.write_text(f"It is so: {text} ([page](study/mine.md)).\n")
    found = problems(project)
    assert len(found) == len(wrong) and all(one in line for one, line in zip(wrong, found, strict=True))
    page.write_text(f"It is so: {text}.\n")
    assert problems(project), "no page is linked"


def test_missing_map_is_a_problem(project: Path) -> None:
    (project / "docs/paper-to-code.md").unlink()
    assert "docs/paper-to-code.md: missing" in problems(project)


# Figures.

RECORDS = {
    "results/a.json": {"test": {"seen_kept": {"NDCG@10": 0.03857354}}, "curve": [0.0999]},
    "results/b.json": {
        "test": {"seen_kept": {"NDCG@10": 0.04057354}},
        "validation": {"seen_kept": {"NDCG@10": 0.0511}},
    },
    "benchmarks/results/speed.json": {"rows": [{"share": 0.1234}]},
}


@pytest.fixture
def with_records(project: Path) -> Path:
    for name, content in RECORDS.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(json.dumps(content))
    return project


def figures(root: Path, text: str, page: str = "docs/guide.md") -> list[str]:
    """The figures of a page that are in no record."""
    (root / page).parent.mkdir(parents=True, exist_ok=True)
    (root / page).write_text(text)
    found = problems(root)
    assert all(line.endswith("is in no record linked beside it") for line in found)
    return [line.removeprefix(f"{page}:").replace(": the figure", "").split(" is in")[0] for line in found]


TABLE = "| | NDCG@10 |\n| --- | --- |\n"
A, B, SPEED = (f"[x](../{name})" for name in RECORDS)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (f"{TABLE}| {A} | .0386 |", []),
        (f"{TABLE}| {A} | 0.0386 |\n| {A} | .039 |", []),
        (f"{TABLE}| {A} | .0385 |", ["3 .0385"]),
        (f"{TABLE}| {A} | .0999 |", ["3 .0999"]),  # in the record, but not a metric of its best epoch
        (f"{TABLE}| no link | .0386 |", ["3 .0386"]),
        (f"{TABLE}| {A} | .0406 |\n| {B} | .0406, .0511 |", ["3 .0406"]),
        # over both: mean .03957, deviation .002 / sqrt(2) = .0014
        (f"{TABLE}| {A} {B} | .0396 ± .0014 |", []),
        (f"{TABLE}| {A} {B} | .0396 ± .0010 |", ["3 .0010"]),
        (f"{TABLE}| {A} {A} | .0386 ± .0010 |", ["3 .0010"]),
        # links before the table, and only right before
        (f"See\n{A}.\n\n{TABLE}| x | .0386 |\n| y | .0387 |", ["7 .0387"]),
        (f"See {A}.\n\n{TABLE}| {B} | .0386 |", ["5 .0386"]),  # a row's own link goes first
        (f"See {A}.\n\nElse.\n\n{TABLE}| x | .0386 |", ["7 .0386"]),
        (f"See {A}.\n\n# Else\n\n{TABLE}| x | .0386 |", ["7 .0386"]),
        # a table in a code block
        (f"See {A}:\n\n```\n│ x │ 0.0386 │\n\n│ y │ 0.0387 │\nrate 0.001\n```", ["6 0.0387"]),
        # prose
        (f"It reaches .0386\n({A}), and .0388 once.", ["1 .0388"]),
        ("It reaches 0.0386.", ["1 0.0386"]),
        ("- It reaches\n  .0386.", ["1 .0386"]),
        # somebody else's
        (f"{TABLE}| the paper | .0518 |\n| ours {A} | .0518 |", ["4 .0518"]),
        (f"| | ours | Paper |\n| - | - | - |\n| {A} | .0386 | .0518 |\n| {A} | .0518 | .0386 |", ["4 .0518"]),
        (f"{TABLE}| as published by X | .1234 |", []),
        ("The paper has .0518. We have .0618.", ["1 .0618"]),
        # benchmarks
        (f"{TABLE}| {SPEED} | 0.123 | .1234 |\n| {A} | .1234 |", ["4 .1234"]),
        # no figures
        ("A rate of `0.001`, 0.125 %, 0.125%, .05, 1.0738, 2304.04541, v.0738 and 0.07381.", []),
        (f"{TABLE}| `--floor 0.001` | [1](https://example.org/0.0738) |", []),
        ("```\nlr = 0.001\n```", []),
    ],
)
def test_a_figure_needs_a_record_beside_it(with_records: Path, text: str, wrong: list[str]) -> None:
    assert figures(with_records, text) == wrong


def test_pages_built_from_a_study_are_left_to_its_own_check(with_records: Path) -> None:
    page = "docs/study/mine.md"
    assert figures(with_records, "It has .0386.", page) == ["1 .0386"]
    (with_records / "studies").mkdir()
    (with_records / "studies/mine.toml").touch()
    assert figures(with_records, "It has .0386.", page) == []
