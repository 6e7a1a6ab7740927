"""Records of runs, and curves drawn from them."""

import json

import polars as pl
import pytest

import seqdiffrec as sdr
from seqdiffrec.models.settings import SettingError
from seqdiffrec.reports import chosen_metric, draw_curves, make_record, read_record, write_record
from seqdiffrec.training import Reporter


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[sdr.Recommender, sdr.Dataset]:
    rows = [(user, (user * step + step) % 13) for user in range(1, 21) for step in range(1, 6)]
    data = sdr.Dataset.from_interactions(pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row"))
    model = sdr.SASRec(hidden_size=8, num_layers=1, epochs=3, max_length=5)
    folder = tmp_path_factory.mktemp("runs") / "run"
    model.fit(data, out=folder, reporter=Reporter(), facts={"command": "seqdiffrec train"})
    return sdr.load(folder), data


@pytest.fixture
def record(run):
    return make_record(*run, note="a note")


def course_of(values: list[float], best: int) -> dict[str, object]:
    curve = [
        {"epoch": epoch, "validation": {"seen_kept": {"NDCG@10": value, "NDCG@5": -1.0}}}
        for epoch, value in enumerate(values, start=1)
    ]
    return {"corpus": {"items": 100}, "best_epoch": best, "curve": curve}


def test_a_record_holds_figures_and_all_that_made_them(run, record):
    model, data = run
    kept = model.run.record
    assert {name: record[name] for name in ("settings", "corpus", "versions", "revision", "machine", "command")} == {
        name: kept[name] for name in ("settings", "corpus", "versions", "revision", "machine", "command")
    }
    assert record["test"] == model.evaluate(data)
    assert record["validation"] == model.evaluate(data, part="validation")
    assert [row["epoch"] for row in record["curve"]] == [1, 2, 3]
    values = [row["validation"]["seen_kept"]["NDCG@10"] for row in record["curve"]]
    assert values[record["best_epoch"] - 1] == max(values)
    # SASRec draws no noise, so the figures of the best epoch come out again.
    assert record["validation"]["seen_kept"]["NDCG@10"] == pytest.approx(max(values))
    assert (record["note"], record["ended"]) == ("a note", {"epochs": 3, "reason": "all epochs done"})


def test_written_and_read_and_never_overwritten(record, tmp_path):
    path = tmp_path / "record.json"
    write_record(record, path)
    assert read_record(path) == json.loads(json.dumps(record))
    before = path.read_bytes()
    with pytest.raises(sdr.RunError, match="exists already"):
        write_record({}, path)
    assert path.read_bytes() == before
    with pytest.raises(sdr.RunError, match="nowhere does not exist"):
        write_record(record, tmp_path / "nowhere" / "record.json")


@pytest.mark.parametrize("change", [{"curve": [{}]}, {"curve": None}, {"best_epoch": 9}, {"corpus": {}}])
def test_what_is_no_record(record, tmp_path, change):
    path = tmp_path / "record.json"
    path.write_text(json.dumps({**record, **change}))
    with pytest.raises(SettingError, match=r"record\.json is not the record of a run"):
        read_record(path)


@pytest.mark.parametrize(("items", "name"), [(1349, "NDCG@10"), (10, "NDCG@10"), (7, "NDCG@7")])
def test_the_metric_of_a_small_catalogue(items, name):
    assert chosen_metric({"corpus": {"items": items}}) == name


# Curves.


def test_a_line_a_record_with_its_best_epoch_marked(tmp_path, monkeypatch):
    lines: list[tuple[list[float], list[float]]] = []
    from matplotlib.axes import Axes

    real = Axes.plot

    def plot(self, x, y, **kwargs):
        lines.append((list(x), list(y)))
        return real(self, x, y, **kwargs)

    monkeypatch.setattr(Axes, "plot", plot)
    records = {"one": course_of([0.1, 0.3, 0.2], 2), "two": course_of([0.2, 0.4], 2)}
    draw_curves(records, tmp_path / "curves.svg")
    assert lines == [([1, 2, 3], [0.1, 0.3, 0.2]), ([2], [0.3]), ([1, 2], [0.2, 0.4]), ([2], [0.4])]


def test_formats_and_repeatability(tmp_path):
    records = {"one": course_of([0.1, 0.3], 2)}
    for name, begins in (("a.svg", b"<?xml"), ("a.png", b"\x89PNG")):
        draw_curves(records, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(begins)
    draw_curves(records, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    with pytest.raises(SettingError, match=r"must end in \.svg or \.png"):
        draw_curves(records, tmp_path / "a.jpg")
    assert not (tmp_path / "a.jpg").exists()


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(SettingError, match=r"pip install 'seqdiffrec\[plots\]'"):
        draw_curves({"one": course_of([0.1], 1)}, tmp_path / "a.svg")
