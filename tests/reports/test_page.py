"""A study's page from made-up records, with means, spreads and differences worked out by hand."""

import re

import pytest
from matplotlib.figure import Figure

from seqdiffrec.data import DataError
from seqdiffrec.models.settings import SettingError
from seqdiffrec.reports.outcomes import VALIDATION, Difference, difference, load_outcomes, noise_of
from seqdiffrec.reports.page import build_page
from seqdiffrec.reports.plots import _draw_dots, draw, make_plots
from seqdiffrec.reports.study import read_study

from .conftest import EMPTY, build, make_record, rows_of


def test_a_row_links_to_the_recipe_that_it_has_on_each_dataset(project):
    text = project.study.read_text().replace('set = ["model.num_layers=4"]', 'recipe = "{dataset}-deep.toml"')
    project.study.write_text(text)
    assert rows_of(build(project), "## Amazon Toys")["deeper"][0] == "[toys-deep.toml](../../studies/toys-deep.toml)"


def test_figures_are_means_and_spreads_over_the_recorded_seeds(full):
    rows = rows_of(build(full), "## Amazon Beauty")
    default = rows["the default"]
    # HR@10 is 2 NDCG@10; with seen items removed, NDCG@10 is .02 higher.
    assert default[:4] == ["–", ".0410 ± .0010", "–", ".0620 ± .0020"]
    assert default[4:8] == [".0310 ± .0010", "–", ".1020 ± .0020", ".0510 ± .0010"]
    assert default[8:10] == ["2, 2, 2", "3.0"]
    # 0.042 and 0.046: mean .044, deviation .004 / sqrt(2) = .0028
    assert rows[r"wider \| d 128"][:2] == ["`model.hidden_size=128`", ".0440 ± .0028"]
    assert rows["deeper"][1] == ".0438"
    assert list(rows)[1:4] == ["**The default**", "the default", "**Size**"]


def test_differences_are_of_the_seeds_that_both_rows_have(two):
    two.add("deep", 1, make_record(0.0451, 0.0310))
    two.study.write_text(two.study.read_text().replace("seeds = [0]\n", "seeds = [1]\n"))
    rows = rows_of(build(two), "## Amazon Beauty")
    head = rows["row"]
    validation, test = head.index("validation against default"), head.index("test against default")
    # .0451 / .0410 is +10.0 %, all within seed 1: against the default's mean it would be +11.4 %. One seed: x is 1.8 %.
    assert rows["deeper"][validation] == "**+10.0 % (+8.0 to +12.0)**"
    assert rows["deeper"][test] == "0.0 % (−1.8 to +1.8)"
    # Two seeds: +25.1 %, and x = t 0.001 is 1.3 %.
    assert rows[r"wider \| d 128"][validation] == "**+25.1 % (+23.5 to +26.7)**"


def test_what_learned_next_to_nothing_does_not_widen_the_others(two):
    before = rows_of(build(two), "## Amazon Beauty")[r"wider \| d 128"]
    two.add_seeds("sasrec", [0.020, 0.030], [0.020, 0.024], model="sasrec")
    rows = rows_of(build(two), "## Amazon Beauty")
    assert rows[r"wider \| d 128"] == before
    # .050 of .081 in validation: far below, so without an interval of what moves the others.
    assert rows["SASRec"][2] == "**−38.3 %**"


def test_without_two_rows_of_two_seeds_the_spread_is_unknown(project):
    project.add("default", 0, make_record(0.04, 0.03))
    project.add("deep", 0, make_record(0.05, 0.03))
    rows = rows_of(build(project), "## Amazon Beauty")
    assert rows["deeper"][2] == "+25.0 % (spread unknown)"
    assert rows["deeper"][5] == "0.0 % (spread unknown)"
    assert rows["the default"][1] == ".0400"
    assert "(n = 1 of 3)" in rows["the default"][-1]


def test_no_seed_in_common_no_difference(project):
    project.add("default", 1, make_record(0.04, 0.03))
    project.add("deep", 0, make_record(0.05, 0.03))
    rows = rows_of(build(project), "## Amazon Beauty")
    assert (rows["deeper"][2], rows["deeper"][5]) == ("", "")


def test_a_study_without_a_default_has_no_columns_against_it(beside):
    text = build(beside)
    assert "against default" not in text and "Against default" not in text
    assert "test NDCG@10, seen removed" in rows_of(text, "## Amazon Beauty")["row"]


@pytest.mark.parametrize(
    ("percent", "low", "high", "text"),
    [
        (4.1, 1.0, 7.2, "**+4.1 % (+1.0 to +7.2)**"),
        (3.9, -0.5, 8.3, "+3.9 % (−0.5 to +8.3)"),
        (-4.1, -7.0, -1.2, "**−4.1 % (−7.0 to −1.2)**"),
        (-0.04, -2.0, 2.0, "0.0 % (−2.0 to +2.0)"),
        (4.1, None, None, "+4.1 % (spread unknown)"),
    ],
)
def test_a_difference_in_words(percent, low, high, text):
    assert str(Difference(percent, low, high)) == text


def test_a_difference_far_below_has_no_interval():
    assert str(Difference(-20.1, is_far_below=True)) == "**−20.1 %**"


def test_every_row_links_to_its_records(full):
    text = build(full)
    rows = rows_of(text, "## Amazon Beauty")
    assert rows[r"wider \| d 128"][-1] == (
        "[0](../../results/what-decides/beauty/wide-seed0.json) "
        "[1](../../results/what-decides/beauty/wide-seed1.json) "
        "[2 diverged](../../results/what-decides/beauty/wide-seed2.json) (n = 2 of 3)"
    )
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert len(targets) > 10
    assert [target for target in targets if not (full.out / target).exists()] == []


def test_rows_that_did_not_run_and_that_diverged(full):
    for seed in range(3):
        full.add("default", seed, EMPTY, dataset="toys")
    rows = rows_of(build(full), "## Amazon Toys")
    assert rows["the default"][1] == "diverged"
    assert rows["the default"][-1].count("diverged](") == 3
    assert rows["deeper"][1:] == ["not run", *[""] * 9]


def test_the_setting_stands_first(full):
    first = build(full).split("## How to read")[0].replace("\n", " ")
    for part in (
        "Amazon Beauty, 4 users, 100 items, 1,234 actions",
        "The default is DiffRec, shared history: d 64, layers 2, T 50, batches of 256 targets, at most 40 epochs.",
        "All items of the catalogue are ranked, none is sampled; ties count against the model.",
        "Seeds 0, 1, 2.",
        "chosen by validation NDCG@10",
        "Precision: float32. Machine: Z80, 2 cores, Linux. Code revision: `0123456789`.",
    ):
        assert part in first


@pytest.mark.parametrize(
    ("revision", "shown"),
    [(None, "`0123456789` or unknown"), ("ab" * 20 + "+changes", "`0123456789` or `ababababab+changes`")],
)
def test_code_that_differs_from_its_commit_shows(full, revision, shown):
    full.add("wide", 2, make_record(0.042, 0.031) | {"revision": revision})
    assert f"Code revision: {shown}." in build(full).split("## How to read")[0].replace("\n", " ")


def test_inference_rows_are_paired_seed_by_seed(full):
    for seed, test in enumerate((0.027, 0.031)):
        more = {"inference_of": "default", "ranking_seconds": 10 + seed, "precision": "bfloat16"}
        full.add("draws-1", seed, make_record((0.040, 0.041)[seed], test) | more)
    text = build(full)
    rows = rows_of(text, "### Inference settings")
    # -10 % and 0 %: mean -5 %, deviation 10 / sqrt(2) = 7.1 %
    assert rows["one noise draw"][6:8] == ["−5.0 % ± 7.1 %", "10.5"]
    assert rows["one noise draw"][:2] == ["`model.num_seeds=1`", "10"]
    assert list(rows)[1:] == ["**the default**", "one noise draw"]
    assert "Precision: float32 or bfloat16." in " ".join(text.split())


def test_pairwise_tests_for_rows_with_ranks(full):
    full.add_ranks("default", 0, [1, 1, 50, 50] * 25)
    full.add_ranks("wide", 0, [1, 1, 1, 50] * 25)
    full.add_ranks("wide", 1, [50] * 100)  # the default has no ranks of seed 1
    full.add_ranks("sasrec", 0, [1, 1, 50, 50] * 25)
    rows = re.findall(r"^\| ([^|]+|wider \\\| d 128) \| (.*) \|$", build(full).partition("### Pairwise")[2], re.M)
    cells = {(name, rest.split(" | ")[0]): rest.split(" | ")[1:] for name, rest in rows if "parquet" in rest}
    assert set(cells) == {("the default", "SASRec"), (r"wider \| d 128", "the default"), (r"wider \| d 128", "SASRec")}
    assert cells["the default", "SASRec"][:3] == [".00000", ".00000 to .00000", "1.0000"]
    difference, interval, p, link, other = cells[r"wider \| d 128", "the default"]
    # 25 of 100 users gain 1: the deviation of the mean is sqrt(.25 * .75 / 100) = .043.
    low, high = (float(bound) for bound in interval.split(" to "))
    assert (difference, p) == ("+.25000", "≤ .0001")
    assert (low, high) == pytest.approx((0.165, 0.335), abs=0.02)
    assert link == "[0](../../results/what-decides/beauty/wide-seed0-ranks.parquet)"
    assert other == "[0](../../results/what-decides/beauty/default-seed0-ranks.parquet)"


def test_a_row_is_compared_user_by_user_with_those_that_it_names(full):
    for row in ("default", "wide", "deep", "sasrec"):
        full.add_ranks(row, 0, [1, 50] * 50)
    full.study.write_text(full.study.read_text().replace('name = "deep"', 'name = "deep"\nagainst = ["wide"]'))
    assert "| deeper | wider \\| d 128 | .00000 |" in build(full)
    full.study.write_text(full.study.read_text().replace('against = ["wide"]', ""))
    assert "| deeper | wider" not in build(full)


def test_the_best_row_by_validation_beside_the_paper(full):
    text = build(full)
    rows = rows_of(text, "### Beside the paper")
    wide = rows[r"wider \| d 128 (DiffRec, shared history, d 64)"]
    assert wide[:2] == [".0313 ± .0004", ".0626 ± .0008"]
    # the default's ranks are kept, so it stands there too; deep is the best of seed 0: .0438, where wide has .0420.
    assert "the default (DiffRec, shared history, d 64)" in rows
    assert any("deeper" in row for row in rows)
    full.add("deep", 0, make_record(0.0419, 0.0200))
    assert not any("deeper" in row for row in rows_of(build(full), "### Beside the paper"))
    assert rows["DiffRec in the paper"][:6] == [".0629", ".0847", ".1125", ".0447", ".0518", ".0588"]
    assert rows["SASRec in the paper"][4] == ".0284"
    assert rows["difference"][4] == "+79.6 %"  # the last one is SASRec's: .0510 / .0284
    assert "### Beside" not in text.partition("## Amazon Toys")[2]


def test_the_same_records_give_the_same_bytes_and_nothing_is_stale(full):
    written = build_page(full.study, full.results, full.out)
    names = ["beauty-curves.svg", "beauty-differences.svg", "beauty-norms.svg"]
    assert sorted(path.name for path in (full.out / "what-decides").iterdir()) == names
    before = {path: path.read_bytes() for path in full.out.rglob("*") if path.is_file()}
    assert sorted(map(str, before)) == sorted(written)
    assert build_page(full.study, full.results, full.out, check=True) == []
    build_page(full.study, full.results, full.out)
    assert {path: path.read_bytes() for path in before} == before


def test_what_is_stale_is_named_and_not_written(full):
    page = full.out / "what-decides.md"
    assert len(build_page(full.study, full.results, full.out, check=True)) == 4
    assert not full.out.exists()
    before = build(full)
    page.write_text(before.replace(".0410", ".0411"))
    (line,) = build_page(full.study, full.results, full.out, check=True)
    assert line == f"{page} is not what its records give"
    assert ".0411" in page.read_text()
    page.write_text(before)
    full.add("deep", 0, make_record(0.0450, 0.0200))  # its curve is not among those shown
    stale = build_page(full.study, full.results, full.out, check=True)
    assert [line.split(" is not")[0].rpartition("/")[2] for line in stale] == [
        "what-decides.md",
        "beauty-differences.svg",
    ]


def test_without_any_record(project):
    text = build(project)
    assert "No run is recorded yet." in text
    assert rows_of(text, "## Amazon Beauty")["SASRec"][1] == "not run"
    assert "![" not in text
    assert not (project.out / "what-decides").exists()
    assert build_page(project.study, project.results, project.out, check=True) == []


def test_plots_hold_the_records(full):
    found = load_outcomes(read_study(full.study), full.results, "beauty")
    curves, differences, norms = make_plots(found, "beauty")
    assert list(curves.lines) == ["the default", "wider | d 128", "SASRec"]
    assert curves.lines["the default"][0] == [(1, pytest.approx(0.02)), (2, 0.04), (3, pytest.approx(0.036))]
    assert norms.lines["SASRec"] == [[(1, 1.0), (2, 2.0), (3, 3.0)]] * 3
    assert list(differences.dots) == ["wider | d 128", "deeper", "SASRec"]
    default, sasrec = found[0], next(one for one in found if one.row.name == "sasrec")
    apart = difference(sasrec, default, VALIDATION, noise_of(VALIDATION, found, default))
    assert differences.dots["SASRec"][0] == (apart.percent, apart.low, apart.high)
    assert apart.percent == pytest.approx(100 * (0.061 / 0.041 - 1)) and apart.low < apart.percent < apart.high
    assert "the default" in curves.alt


def test_norms_are_of_the_rows_that_end_farthest_from_the_default(full, monkeypatch):
    record = make_record(0.0438, 0.0200)
    record["curve"][-1]["embedding_norm"] = 0.5  # further from 3 than 9, in the ratio
    full.add("deep", 0, record)
    record["curve"][-1]["embedding_norm"] = 9.0
    full.add("wide", 0, record)
    monkeypatch.setattr("seqdiffrec.reports.plots._MOST_LINES", 2)
    found = load_outcomes(read_study(full.study), full.results, "beauty")
    assert list(make_plots(found, "beauty")[2].lines) == ["the default", "deeper"]


def test_what_is_not_known_has_no_bar(project):
    project.add("default", 0, make_record(0.04, 0.03))
    project.add("deep", 0, make_record(0.05, 0.03))
    plots = make_plots(load_outcomes(read_study(project.study), project.results, "beauty"), "beauty")
    assert plots[1].dots["deeper"][0] == (pytest.approx(25.0), None, None)
    axes = Figure().subplots()
    _draw_dots(axes, {"deeper": [(25.0, 20.0, 32.0), (0.0, None, None)]})
    (known,), (unknown,) = (container.lines[2] for container in axes.containers)
    assert known.get_segments()[0][:, 0].tolist() == [20.0, 32.0]
    assert unknown.get_segments()[0].size == 0
    draw(plots[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corpus": {"name": "beauty", "content_hash": "b" * 64, "items": 100}}, "their corpus hashes differ"),
        ({"study": {"name": "x"}}, "stands where .*'row': 'deep'"),
        ({"curve": []}, "is not the record of a run"),
        ({"test": {"seen_kept": {}}}, r"deep-seed0\.json: no NDCG@10 of test, seen_kept"),
        ({"machine": None, "revision": None}, None),
    ],
)
def test_records_that_do_not_belong(full, change, message):
    record = make_record(0.04, 0.03) | change
    if message is None:
        record = {key: value for key, value in record.items() if key not in change}
        message = "has no machine, revision, so it is not a whole record"
    full.add("deep", 0, record)
    with pytest.raises(SettingError, match=message):
        build(full)


def test_a_broken_record_and_a_missing_matplotlib(full, monkeypatch):
    plot = make_plots(load_outcomes(read_study(full.study), full.results, "beauty"), "beauty")[0]
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(SettingError, match=r"pip install 'seqdiffrec\[plots\]'"):
        draw(plot)
    full.add("deep", 0, {}).write_text("{")
    with pytest.raises(DataError, match=r"deep-seed0\.json is not valid JSON"):
        build(full)


def test_an_inference_record_of_other_weights_is_refused(full):
    of_default = {"inference_of": "default", "ranking_seconds": 10}
    full.add("draws-1", 1, make_record(0.041, 0.0305) | of_default)
    build(full)
    full.add("draws-1", 1, make_record(0.0405, 0.0305) | of_default)  # the curve of another run
    with pytest.raises(SettingError, match=r"draws-1-seed1\.json was not ranked with the weights of default, seed 1"):
        build(full)


def test_a_setting_that_differs_between_datasets_is_told_for_each(project):
    project.add("default", 0, make_record(0.04, 0.03))
    other = make_record(0.04, 0.03)
    other["settings"]["training"]["epochs"] = 10
    project.add("default", 0, other | {"corpus": other["corpus"] | {"name": "toys"}}, dataset="toys")
    assert "at most 40 or 10 epochs." in " ".join(build(project).split())


def test_runs_that_ended_at_their_best_are_counted(project):
    project.add("default", 0, make_record(0.04, 0.03))  # best at 2 of 3
    ended = make_record(0.04, 0.03) | {"best_epoch": 3}
    project.add("default", 1, ended)
    assert "In 1 of 2 runs of more than one epoch the last epoch is the best." in " ".join(build(project).split())
