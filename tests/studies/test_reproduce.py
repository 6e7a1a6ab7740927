"""A recorded run made again: the same figures, the spread that is stated, and what is warned of or refused."""

import json
import math
import shutil
import signal
from pathlib import Path

import pytest

from seqdiffrec.data import DataError
from seqdiffrec.models.settings import SettingError
from seqdiffrec.studies import make_again
from seqdiffrec.studies.reproduce import Comparison
from seqdiffrec.training import RunError, TrainingInterrupted

RESULTS = Path("results/tiny/log")
KEYS = [(protocol, metric) for protocol in ("seen_kept", "seen_removed") for metric in ("HR@10", "NDCG@10")]


def edit(name: str, **changes: object) -> None:
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def set_figures(name: str, hr: float, ndcg: float) -> None:
    record = json.loads((RESULTS / f"{name}.json").read_text())
    for protocol in ("seen_kept", "seen_removed"):
        record["test"][protocol] |= {"HR@10": hr, "NDCG@10": ndcg}
    edit(name, test=record["test"])


def make(model: str = "sasrec", seed: int = 0, out: str = "made", **options):
    lines: list[str] = []
    found = make_again("tiny", model, "log", seed, Path(out), results=Path("results"), notify=lines.append, **options)
    return found, lines


@pytest.mark.usefixtures("again")
def test_the_same_machine_makes_the_same_figures():
    found, lines = make("diffrec", 1)
    assert found.record == RESULTS / "default-seed1.json"
    assert [(one.protocol, one.metric) for one in found.comparisons] == KEYS
    recorded = json.loads(found.record.read_text())["test"]
    assert [one.recorded for one in found.comparisons] == [recorded[protocol][metric] for protocol, metric in KEYS]
    assert all(one.here == one.recorded and one.within for one in found.comparisons)
    assert found.within
    assert lines == ["the only row with a diffrec that has records is default"]
    rows = found.rows()
    assert rows[0] == {**rows[0], "protocol": "seen_kept", "metric": "HR@10", "difference": 0, "within": True}


@pytest.mark.usefixtures("again")
def test_with_two_seeds_the_spread_is_the_stated_one():
    for seed in (0, 1):
        set_figures(f"sasrec-seed{seed}", 0.09, 0.06)
    found, _ = make()
    stated = "0.0045 for HR@10 and 0.003 for NDCG@10, absolute, or 5% of their mean if more"
    assert found.rule == f"{stated}, since only 2 of the 3 seeds that it takes are recorded"
    assert [one.spread for one in found.comparisons] == pytest.approx([0.0045, 0.003, 0.0045, 0.003])
    for seed in (0, 1):
        set_figures(f"sasrec-seed{seed}", 0.2, 0.1)
    assert [one.spread for one in make(out="other")[0].comparisons] == pytest.approx([0.01, 0.005, 0.01, 0.005])


@pytest.mark.usefixtures("again")
def test_with_three_seeds_it_is_three_standard_deviations():
    shutil.copy(RESULTS / "sasrec-seed0.json", RESULTS / "sasrec-seed7.json")
    edit("sasrec-seed7", study={"name": "tiny", "row": "sasrec", "seed": 7, "dataset": "log"})
    for seed, hr, ndcg in ((0, 0.5, 0.30), (1, 0.6, 0.31), (7, 0.7, 0.35)):
        set_figures(f"sasrec-seed{seed}", hr, ndcg)
    found, _ = make()
    assert found.rule == "3 standard deviations over the 3 recorded seeds, or 5% of their mean if more"
    # HR: the deviations from 0.6 are -0.1, 0, 0.1; NDCG: from 0.32 they are -0.02, -0.01, 0.03.
    hr, ndcg = 3 * math.sqrt(0.02 / 2), 3 * math.sqrt(0.0014 / 2)
    assert [one.spread for one in found.comparisons] == pytest.approx([hr, ndcg, hr, ndcg])


@pytest.mark.usefixtures("again")
def test_seeds_that_happen_to_lie_close_together_leave_a_twentieth():
    shutil.copy(RESULTS / "sasrec-seed0.json", RESULTS / "sasrec-seed7.json")
    edit("sasrec-seed7", study={"name": "tiny", "row": "sasrec", "seed": 7, "dataset": "log"})
    for seed in (0, 1, 7):
        set_figures(f"sasrec-seed{seed}", 0.6, 0.3)
    found, _ = make()
    assert [one.spread for one in found.comparisons] == pytest.approx([0.03, 0.015, 0.03, 0.015])


@pytest.mark.usefixtures("again")
def test_a_figure_out_of_the_spread():
    record = json.loads((RESULTS / "sasrec-seed0.json").read_text())
    record["test"]["seen_removed"]["NDCG@10"] += 0.05
    edit("sasrec-seed0", test=record["test"])
    found, _ = make()
    assert [one.within for one in found.comparisons] == [True, True, True, False]
    assert not found.within
    assert found.comparisons[3].difference == pytest.approx(-0.05)


@pytest.mark.parametrize(("here", "within"), [(0.12, True), (0.08, True), (0.121, False), (0.079, False)])
def test_within_counts_both_ways(here, within):
    assert Comparison("seen_kept", "HR@10", 0.1, here, 0.0200001).within == within


@pytest.mark.usefixtures("again")
def test_other_versions_and_another_precision_are_told():
    versions = json.loads((RESULTS / "sasrec-seed0.json").read_text())["versions"]
    edit("sasrec-seed0", versions={**versions, "torch": "1.0"}, precision="bfloat16", revision="ab" * 20 + "+changes")
    _, lines = make()
    assert lines[0].startswith("the record was made by revision ababababab+changes of the code, here it is ")
    assert lines[1:] == [
        f"the record was made with torch 1.0, here {versions['torch']}",
        "the record was trained in bfloat16, here it is float32: the figures will differ a little",
    ]
    edit("sasrec-seed1", precision=None)
    _, lines = make(seed=1, out="other")
    assert lines == ["the record does not say in which precision it was trained; here it is float32"]


@pytest.mark.usefixtures("again")
def test_it_goes_on_after_ctrl_c(at_step):
    at_step(2, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(TrainingInterrupted):
        make()
    with pytest.raises(RunError, match="made exists already"):
        make()
    assert make(resume=True)[0].within
    assert make(resume=True)[0].within, "and only compares where the run has ended"


# Which record is meant.


def second_row(name: str, model: str = "sasrec") -> None:
    record = json.loads((RESULTS / "sasrec-seed0.json").read_text())
    record["study"]["row"] = name
    record["settings"]["model"] = model
    (RESULTS / f"{name}-seed0.json").write_text(json.dumps(record))


@pytest.mark.usefixtures("again")
def test_the_row_named_as_the_model_is_meant_or_the_one_given():
    second_row("wide")
    assert make()[0].record == RESULTS / "sasrec-seed0.json"
    assert make(row="wide", out="other")[0].record == RESULTS / "wide-seed0.json"


@pytest.mark.usefixtures("again", "untrainable")
@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (None, {"model": "popularity"}, r"no record of a popularity; it has: diffrec, sasrec"),
        (None, {"model": "sasrek"}, r"sasrek is not a model; did you mean sasrec\?"),
        (None, {"seed": 4}, r"no record of row sasrec with seed 4; it has the seeds 0, 1"),
        (None, {"row": "wid"}, r"wid is not a row with a sasrec"),
        (None, {"row": "default"}, r"default is not a row with a sasrec"),
        ("wide", {"model": "diffrec"}, r"choose one with --row: default, wide"),
    ],
)
def test_a_record_that_is_not_there(change, options, message):
    if change is not None:
        second_row(change, model="diffrec")
    with pytest.raises(SettingError, match=message):
        make(**options)


@pytest.mark.usefixtures("again", "untrainable")
def test_inference_rows_and_failed_runs_are_no_candidates():
    edit("sasrec-seed0", failed="the loss is nan")
    with pytest.raises(SettingError, match="row sasrec with seed 0; it has the seeds 1"):
        make()
    with pytest.raises(SettingError, match="draws-1 is not a row with a diffrec"):
        make("diffrec", row="draws-1")


@pytest.mark.usefixtures("again", "untrainable")
@pytest.mark.parametrize(
    ("name", "dataset", "message"),
    [
        ("tyny", "log", r"there are no records in results/tyny/log; studies there: tiny"),
        ("tiny", "toys", r"there are no records in results/tiny/toys; datasets there: log"),
    ],
)
def test_a_study_that_is_not_there(name, dataset, message):
    with pytest.raises(SettingError, match=message):
        make_again(name, "sasrec", dataset, 0, Path("made"), results=Path("results"))


@pytest.mark.usefixtures("again", "untrainable")
def test_another_log_than_the_records():
    Path("log.csv").write_text("".join(Path("log.csv").read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(SettingError, match=r"sasrec-seed0\.json was made from another log"):
        make()
    Path("log.csv").unlink()
    with pytest.raises(DataError, match=r"log\.csv"):
        make()


@pytest.mark.usefixtures("again")
def test_a_file_that_is_no_record():
    (RESULTS / "other.json").write_text("{}")
    with pytest.raises(SettingError, match=r"other\.json is not a record of a sweep"):
        make()
