"""The first lines of a study's page, from made-up records: what came out, worked out by hand."""

import math

from .conftest import EMPTY, build, head_of, make_record

# Student's t of 0.975 with one degree of freedom, from a table.
T1 = 12.7062


def test_the_first_line_says_where_the_controls_stand(two):
    two.add("deep", 0, make_record(0.040, 0.0200))
    two.add("sasrec", 0, make_record(0.060, 0.0450, model="sasrec"))
    head = head_of(two)
    # .0450 is 50 % above .0300, both of seed 0: between 1.5 / e^x and 1.5 e^x for x = t 0.001 root 2.
    low, high = (100 * (1.5 * math.exp(sign * T1 * 0.001 * math.sqrt(2)) - 1) for sign in (-1, 1))
    assert (
        f'# What decides **Beside "the default".** Above it over seeds: SASRec (Amazon Beauty +50.0 %, +{low:.1f} to '
        f"+{high:.1f})." in head
    )
    assert "Below it over seeds: deeper (Amazon Beauty −33.3 %)." in head, "far below: no interval"


def test_what_seeds_may_explain_is_not_told_apart(two):
    two.add("sasrec", 0, make_record(0.040, 0.0299, model="sasrec"))
    head = head_of(two)
    summary = '**Beside "the default": none of 1 control is below it over seeds; no interval reaches below −2.1 %.**'
    expected = f"{summary} Not told apart from it over seeds: SASRec (Amazon Beauty −0.3 %, −2.1 to +1.5). In percent"
    assert f"# What decides {expected}" in head
    # Nearer than the interval is wide, but worse: .0292 is 2.7 % below .0300.
    two.add("sasrec", 0, make_record(0.040, 0.0292, model="sasrec"))
    assert '**Beside "the default".** Below it over seeds: SASRec (Amazon Beauty −2.7 %,' in head_of(two)


def test_controls_are_held_against_each_row_that_the_study_names(two):
    two.add("sasrec", 0, make_record(0.040, 0.0299, model="sasrec"))
    text = two.study.read_text().replace("[base.model]", 'controls_beside = ["default", "wide"]\n[base.model]')
    two.study.write_text(text)
    head = head_of(two)
    assert '**Beside "the default": none of 1 control is' in head
    # .0299 is 9.4 % below .0330, both of seed 0.
    assert '**Beside "wider | d 128".** Below it over seeds: SASRec (Amazon Beauty −9.4 %,' in head
    assert head.count("In percent of that row's test NDCG@10") == 1


def test_a_control_is_not_judged_where_nothing_says_how_far_seeds_move(project):
    project.add_seeds("default", [0.040], [0.0400])
    project.add_seeds("sasrec", [0.040], [0.0360], model="sasrec")
    head = head_of(project)
    assert 'Beside "the default".** Not judged, since nothing says yet how far seeds move a figure: SASRec' in head
    assert "SASRec (Amazon Beauty −10.0 %)." in head


def test_a_control_that_diverged_is_named(two):
    two.add("deep", 0, EMPTY)
    assert "Diverged: deeper (Amazon Beauty)." in head_of(two)


def test_the_test_over_users_stands_beside_a_control(two):
    two.add("sasrec", 0, make_record(0.040, 0.0299, model="sasrec"))
    two.add_ranks("default", 0, [1, 1, 50, 50] * 25)
    two.add_ranks("sasrec", 0, [1, 1, 50, 50] * 25)
    assert "SASRec (Amazon Beauty −0.3 %, −2.1 to +1.5, p = 1.0000)." in head_of(two)


def test_no_first_line_without_controls_or_their_records(project):
    project.add_seeds("default", [0.040, 0.041], [0.030, 0.031])
    assert head_of(project).endswith("# What decides")
    project.add_seeds("sasrec", [0.060], [0.050], model="sasrec")
    assert not head_of(project).endswith("# What decides")
    project.study.write_text(project.study.read_text().replace('controls = ["sasrec", "deep"]', ""))
    assert head_of(project).endswith("# What decides")


def test_the_first_lines_say_which_cells_of_the_paper_are_reached(beside):
    beside.add("deep", 0, make_record(0.020, 0.010))
    head = head_of(beside)
    assert "**Amazon Beauty.** At or above DiffRec's column of the paper: the default in 4 of 6 figures," in head
    assert "deeper in 0 of 6 figures. Recorded: 0 of the nine systems." in head
    assert "Amazon Toys" not in head, "which has no record"


def test_the_first_lines_name_the_best_opponent_and_who_is_below_the_paper(beside):
    # HR@5 .027 under .0371, HR@10 .054 under .0592 and NDCG@5 .0135 under .0233; NDCG@10 .0270 is within 5 % of .0284.
    beside.add("sasrec", 0, make_record(0.030, 0.027, model="sasrec"))
    head = head_of(beside)
    assert "The best of all others by validation is SASRec, NDCG@10 .0270 in the test; the default has .0600." in head
    assert "Rows with a figure more than 5 % below their system's column: SASRec (3 of 6, at most −42.1 %)." in head
    assert "Of these, rows whose system has no row with a better validation figure: SASRec." in head
    # A better row of the same system: the first is still told.
    beside.add("deep", 0, make_record(0.040, 0.070, model="sasrec"))
    head = head_of(beside)
    assert "SASRec (3 of 6, at most −42.1 %). Of these, rows whose system has no row with a better" in head
    assert "validation figure: none." in head


def test_rows_are_chosen_as_if_all_had_all_seeds(beside):
    beside.add_seeds("sasrec", [0.060, 0.030, 0.030], [0.027, 0.027, 0.027], model="sasrec")
    beside.add_seeds("wide", [0.050], [0.050], model="gru4rec")
    assert "The best of all others by validation is SASRec" in head_of(beside), "at seed 0, though not by the means"
    beside.add_seeds("wide", [0.050, 0.045], [0.050, 0.050], model="gru4rec")
    # SASRec is .010 above at seed 0 and .015 below at seed 1.
    assert "The best of all others by validation is wider" in head_of(beside)


def test_a_row_may_count_as_another_system_than_its_model(beside):
    beside.add("sasrec", 0, make_record(0.030, 0.027, model="duorec"))
    assert "DuoRec in the paper" in build(beside)
    text = beside.study.read_text().replace('title = "SASRec"', 'title = "SASRec"\nsystem = "sasrec"')
    beside.study.write_text(text)
    text = build(beside)
    assert "DuoRec in the paper" not in text
    paper, difference = text.partition("SASRec in the paper")[2].splitlines()[:2]
    assert paper.split("|")[2].strip() == ".0592"
    assert difference.split("|")[3].strip() == "−8.8 %", "2 x .027 below .0592"


def test_a_row_may_count_as_no_system_of_the_paper(beside):
    beside.add("deep", 0, make_record(0.080, 0.065))
    beside.study.write_text(beside.study.read_text().replace('name = "deep"', 'name = "deep"\nsystem = "deep"'))
    text = build(beside)
    head, _, tables = text.partition("**Setting.**")
    assert "deeper in" not in head, "it is no row of DiffRec"
    beside.add("sasrec", 0, make_record(0.030, 0.027, model="sasrec"))
    head = head_of(beside)
    assert "The best of all others by validation is deeper" in head
    assert "The best of the nine systems by validation is SASRec, NDCG@10 .0270" in head
    assert tables.count("DiffRec in the paper") == 1, "of the default"


def test_the_first_lines_tell_the_comparison_over_users(beside):
    beside.add("sasrec", 0, make_record(0.030, 0.050, model="sasrec"))
    beside.add_ranks("plus", 0, [1, 1, 1, 1])
    beside.add_ranks("sasrec", 0, [20, 20, 20, 20])
    # All of one row's targets are first, none of the other's among ten: NDCG@10 is 1 and 0.
    assert "is SASRec; the default beside it: +1.00000 in test NDCG@10, p ≤ .0001 over users, 1 seed." in head_of(
        beside
    )


def test_a_part_of_a_log_is_not_held_against_the_paper(beside):
    whole = make_record(0.070, 0.060)
    for data in ({"user_share": 0.1}, {"test_time": "2014-01-01"}, {"split": "part"}):
        beside.add("plus", 0, whole | {"data": {"dataset": "beauty"} | data})
        text = build(beside)
        assert "Beside the paper" not in text and "column of the paper" not in text
    beside.add("plus", 0, whole | {"data": {"dataset": "beauty", "user_share": 1.0, "split": None}})
    assert "Beside the paper" in build(beside)


def test_a_note_stands_below_what_came_out(beside):
    beside.study.write_text(beside.study.read_text().replace("datasets =", 'note = "Tuned alike."\ndatasets =', 1))
    assert "nine systems." in head_of(beside).partition("Tuned alike.")[0]
    assert head_of(beside).endswith("Tuned alike.")
