"""docs/benchmarks.md is made from records, and what is out of date is found."""

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import make_parser, record_name, save
from benchmarks.page import build, growth_plots, quality_plots
from benchmarks.plots import draw
from benchmarks.workers import BenchmarkError

BLOCK = "<!-- made: {} -->\n<!-- end -->\n"
PROSE = f"# Benchmarks\n\nBy hand.\n\n{BLOCK.format('training')}\nMore.\n\n{BLOCK.format('quality')}"
COMMON = {
    "command": "python -m benchmarks training --save",
    "machine": {"processor": "A", "cores": 2, "torch_threads": 2, "device": "cpu", "load_before": 0.1, "system": "L"},
    "versions": {"python": "3.11", "torch": "2"},
    "revision": "0123456789abcdef",
    "data": "made up",
    "settings": {"figure": 0.03},
}


def record(speed: float) -> dict:
    spread = {"median": speed, "least": speed / 2, "greatest": 2 * speed}
    rows = {
        "ours": {"targets_per_second": spread, "mflop_per_target": 28.2, "peak_memory_mib": 1234},
        "theirs": {"targets_per_second": spread, "mflop_per_target": None, "peak_memory_mib": 2000},
    }
    return {**COMMON, "rows": rows, "peer_versions": {"lib": {"lib": "1.2"}}, "notes": ["A note."]}


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, Path]:
    page, results = tmp_path / "docs" / "benchmarks.md", tmp_path / "results"
    results.mkdir()
    page.parent.mkdir()
    page.write_text(PROSE)
    (results / "training.json").write_text(json.dumps(record(200)))
    return page, results


def test_tables_and_plots_stand_between_the_prose(place: tuple[Path, Path]) -> None:
    page, results = place
    assert sorted(build(page, results)) == ["benchmarks.md", "training.svg"]
    text = page.read_text()
    assert "By hand." in text and "More." in text
    assert "|  | targets a second | mflop per target | peak memory, MiB |" in text
    assert "| ours | 200 (100 to 400) | 28.2 | 1,234 |" in text and "| theirs | 200 (100 to 400) | – | 2,000 |" in text
    assert "`python -m benchmarks training --save`" in text and "`0123456789`" in text and "Peers: lib 1.2." in text
    assert "Not recorded yet: `python -m benchmarks quality --peers --save`." in text and "\nA note.\n" in text
    assert build(page, results, check=True) == []
    build(page, results)
    assert page.read_text() == text


def test_code_that_differs_from_its_commit_shows(place: tuple[Path, Path]) -> None:
    page, results = place
    (results / "training.json").write_text(json.dumps(record(200) | {"revision": f"{'ab' * 20}+changes"}))
    build(page, results)
    assert "revision `ababababab+changes`." in page.read_text()


def test_what_is_out_of_date_is_named(place: tuple[Path, Path]) -> None:
    page, results = place
    assert [line.split()[0] for line in build(page, results, check=True)] == ["benchmarks.md", "training.svg"]
    build(page, results)
    (results / "training.json").write_text(json.dumps(record(300)))
    assert [line.split()[0] for line in build(page, results, check=True)] == ["benchmarks.md", "training.svg"]
    build(page, results)
    (page.parent / "images/benchmarks/old.svg").write_text("")
    page.write_text(page.read_text().replace("300", "400"))
    assert [line.split()[0] for line in build(page, results, check=True)] == ["benchmarks.md", "old.svg"]
    build(page, results)
    assert build(page, results, check=True) == [] and not (page.parent / "images/benchmarks/old.svg").exists()


def test_a_record_without_a_place_is_refused(place: tuple[Path, Path]) -> None:
    page, results = place
    (results / "growth.json").write_text(json.dumps(record(1)))
    with pytest.raises(BenchmarkError, match="do not go together: growth"):
        build(page, results)


def test_a_record_of_some_parts_has_a_place_of_its_own(place: tuple[Path, Path]) -> None:
    page, results = place
    page.write_text(PROSE + BLOCK.format("serving-reload-overload") + BLOCK.format("serving-load"))
    (results / "serving-load.json").write_text(json.dumps(record(7)))
    build(page, results)
    text = page.read_text()
    assert "[Record](../benchmarks/results/serving-load.json)" in text
    assert "Not recorded yet: `python -m benchmarks serving --parts reload overload --save`." in text


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("training", "training"),
        ("serving", "serving"),
        ("serving --parts overload load reload", "serving"),
        ("serving --parts overload load", "serving-load-overload"),
    ],
)
def test_a_record_is_named_by_what_was_run(words: str, name: str) -> None:
    assert record_name(make_parser().parse_args(words.split())) == name


def test_plots_show_what_is_recorded() -> None:
    curve = [{"seconds": 10, "ndcg": 0.01}, {"seconds": 20, "ndcg": 0.04}]
    (plot,) = quality_plots({"rows": {"ours": {"curve": curve}}, "settings": {"figure": 0.035}})
    assert plot.panels[0].lines == {"ours": [(10, 0.01), (20, 0.04)]} and plot.panels[0].level == 0.035
    rows = {
        str(value): {
            "axis": "users",
            "value": value,
            "system": "ours",
            "loss": loss,
            "targets_per_second": {"median": 5 * value},
            "peak_memory_mib": 7,
        }
        for value, loss in ((10, "full"), (20, "full"), (30, "sampled"))
    }
    rows["40"] = {"axis": "users", "value": 40, "system": "ours", "loss": "full", "peak_memory_mib": "more than 1 GiB"}
    (plot,) = growth_plots({"rows": rows})
    speed, memory = plot.panels
    assert plot.name == "growth-users"
    assert speed.lines == {"ours": [(10, 50), (20, 100)], "ours, sampled loss": [(30, 150)]}
    assert memory.lines == {"ours": [(10, 7), (20, 7)], "ours, sampled loss": [(30, 7)]}
    drawn = draw(plot)
    assert plot.fingerprint().encode() in drawn and draw(plot) == drawn


def test_a_run_of_a_part_does_not_take_the_place_of_the_whole(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("benchmarks.__main__.RESULTS", tmp_path)
    whole = {"settings": {"hidden_size": 256}, "rows": {"a": {"x": 1}, "b": {"x": 2}}}
    save(whole, "ranking")
    for part, lacks in (
        ({**whole, "rows": {"a": {"x": 3}}}, "1 of its rows, such as 'b'"),
        ({**whole, "settings": {"hidden_size": 8}}, "d 256 (it has 8)"),
    ):
        save(part, "ranking")
        assert json.loads((tmp_path / "ranking.json").read_text()) == whole
        assert json.loads((tmp_path / "ranking-part.json").read_text()) == part
        assert (
            capsys.readouterr().err == f"ranking.json stays, since this run lacks {lacks}: it is in ranking-part.json\n"
        )
    more = {**whole, "rows": {**whole["rows"], "c": {"x": 4}}}
    save(more, "ranking")
    assert json.loads((tmp_path / "ranking.json").read_text()) == more
