"""What a look at a log tells: each oddity alone, figures by hand, and that nothing is found where nothing is odd."""

import itertools
import re
from collections import Counter
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings, strategies as st

from seqdiffrec.data import DataError, Interactions
from seqdiffrec.data.sources import open_frame, open_path
from seqdiffrec.data.survey import survey

COLUMNS = {"user": "user", "item": "item", "time": "time"}
START = 1_600_000_000


def plain(users: int = 8, actions: int = 5) -> pl.DataFrame:
    """A log in which nothing is odd: each item twice at least, times in order."""
    rows = [
        (f"u{user}", f"i{place}", START + 1000 * (user * actions + place))
        for user in range(users)
        for place in range(actions)
    ]
    return pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")


def found(frame: pl.DataFrame, **columns: str):
    return survey(open_frame("the log", frame), columns or COLUMNS)


def odd(frame: pl.DataFrame, **columns: str) -> dict[str, int]:
    return {one.name: one.count for one in found(frame, **columns).oddities}


def test_figures_by_hand():
    frame = pl.concat([plain(), pl.DataFrame({"user": ["u0"], "item": ["new"], "time": [START + 10**6]})])
    seen = found(frame)
    assert (seen.rows, seen.users, seen.items, seen.actions) == (41, 8, 6, 41)
    assert seen.times == {"from": "2020-09-13T12:26:40", "to": "2020-09-25T02:13:20", "unit": "seconds"}
    lengths = {name: seen.lengths[name] for name in ("least", "median", "mean", "p90", "most")}
    assert lengths == {"least": 5, "median": 5.0, "mean": 5.12, "p90": pytest.approx(5.3), "most": 6}
    assert seen.popularity["bins"] == [
        {"from": 1, "to": 1, "count": 1},
        {"from": 2, "to": 2, "count": 0},
        {"from": 3, "to": 4, "count": 0},
        {"from": 5, "to": 8, "count": 5},
    ]
    assert {one.name: one.count for one in seen.oddities} == {"items_once": 1}


def test_nothing_odd():
    assert odd(plain()) == {}
    assert odd(plain().drop("time"), user="user", item="item") == {}


def with_rows(*rows: tuple[object, object, object]) -> pl.DataFrame:
    frame = plain()
    return pl.concat([frame, pl.DataFrame(list(rows), schema=frame.schema, orient="row")])


LATE = START + 10**6
NOW = int(datetime.now(UTC).timestamp())
ODD = {
    "copies": (with_rows(("u7", "i4", START + 39_000), ("u7", "i4", START + 39_000)), {"copies": 2, "ties": 3}),
    "ties": (with_rows(("u7", "i0", START + 39_000)), {"ties": 2}),
    "order": (with_rows(("u7", "i0", START + 500)), {"out_of_order": 1}),
    "white space": (
        with_rows(("u 1", "i0", LATE), ("u1\t", "i1", LATE), ("u5", " I4", LATE)),
        {"alike_users": 1, "alike_items": 1, "short_users": 2, "items_once": 1},
    ),
    "two kinds": (with_rows(("17", "i0", LATE), ("17", "i1", LATE + 1), ("17", "i2", LATE + 2)), {"mixed_users": 1}),
    "short": (with_rows(("new", "i0", LATE)), {"short_users": 1}),
    "milliseconds": (with_rows(("u3", "i0", 1000 * LATE)), {"mixed_units": 1}),
    "nanoseconds": (
        with_rows(("u3", "i0", 10**9 * LATE), ("u3", "i1", 10**6 * LATE)),
        {"mixed_units": 2, "out_of_order": 1},
    ),
    "future": (with_rows(("u3", "i0", NOW + 10 * 86_400)), {"in_future": 1}),
    "early": (with_rows(("u3", "i0", 1000)), {"before_1990": 1, "out_of_order": 1}),
    "no user": (with_rows((None, "i0", LATE)), {"no_user": 1}),
    "no item": (with_rows(("u0", None, LATE)), {"no_item": 1}),
    "no time": (with_rows(("u0", "i0", None)), {"no_time": 1}),
    "infinite": (
        with_rows(("u0", "i0", LATE))
        .with_columns(pl.col("time").cast(pl.Float64))
        .with_columns(pl.when(pl.col("time") == LATE).then(float("inf")).otherwise("time").alias("time")),
        {"no_time": 1},
    ),
    "one user": (plain().with_columns(user=pl.lit("u")), {"no_user_column": 1}),
    "one item": (plain().with_columns(item=pl.lit("i")), {"no_item_column": 1}),
    "row numbers": (plain().with_columns(user=pl.int_range(pl.len())), {"no_user_column": 40}),
    "decimals": (plain().with_columns(user=pl.int_range(pl.len()) // 5 * 1.0), {"decimal_users": 8}),
    "no times": (plain().with_columns(time=pl.lit("noon")), {"times_not_read": 1}),
}


@pytest.mark.parametrize(("frame", "expected"), ODD.values(), ids=ODD.keys())
def test_each_oddity(frame, expected):
    assert odd(frame) == expected


def test_users_with_many_events():
    robot = pl.DataFrame({"user": ["robot"] * 10_000, "item": ["i0", "i1"] * 5000, "time": range(LATE, LATE + 10_000)})
    (one,) = found(pl.concat([plain(), robot])).oddities
    assert (one.name, one.count, one.examples) == ("many_events", 1, ["robot with 10,000"])


def test_what_training_refuses_is_marked_and_comes_first():
    seen = found(with_rows((None, "i0", LATE), ("new", "once", LATE)))
    assert [(one.name, one.refused) for one in seen.oddities] == [
        ("no_user", True),
        ("short_users", False),
        ("items_once", False),
    ]
    assert seen.oddities[0].says == "the log, row 41 (counted from 1): no id in column 'user'"
    assert seen.rows == 42 and seen.actions == 41


MISSING = {
    "ids": ("a,1,1\na,,2\na,,3\nb,,4\n", "no_item", "line 3: no id in column 'item_id'", " (and 2 more rows)"),
    "after an id of two lines": ('a,"x\ny",1\nb,3,2\n,4,3\n', "no_user", "line 5: no id in column 'user_id'", ""),
    "no time": ("a,1,inf\na,2,2\nb,3,\n", "no_time", "line 4: no timestamp", " in column 'timestamp' (and 1 more row)"),
    "infinite": ("a,1,1\na,2,inf\nb,3,3\n", "no_time", "line 3: timestamp inf is not a finite number", ""),
}


@pytest.mark.parametrize(("text", "name", "says", "also"), MISSING.values(), ids=MISSING.keys())
def test_a_missing_value_is_said_with_the_line_as_training_says_it(text, name, says, also, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,timestamp\n" + text)
    log = open_path(path)
    told = survey(log, {"user": "user_id", "item": "item_id", "time": "timestamp"}).oddities
    assert [one.says for one in told if one.name == name] == [f"{path}, {says}{also}"]
    with pytest.raises(DataError, match=re.escape(f"{path}, {says}")):
        Interactions.from_log(log)


def test_copies_of_the_whole_row_are_told_from_a_second_action():
    frame = with_rows(("u7", "i4", START + 39_000), ("u7", "i4", START + 39_000)).with_columns(stars=pl.lit(5))
    assert "another: 2, of which in all columns 2" in next(o.says for o in found(frame).oddities if o.name == "copies")
    frame = frame.with_columns(stars=pl.int_range(pl.len()) // 41)  # of the last three rows 0, 0 and 1
    assert "another: 2, of which in all columns 1" in next(o.says for o in found(frame).oddities if o.name == "copies")


@pytest.mark.parametrize("kind", ["dates", "texts", "milliseconds", "small"])
def test_units(kind):
    day = datetime(2024, 5, 31, 12)
    frame = plain().with_columns(time=pl.Series([day + timedelta(hours=hour) for hour in range(40)]))
    if kind == "texts":
        frame = frame.with_columns(pl.col("time").dt.to_string("iso"))
    elif kind == "milliseconds":
        frame = frame.with_columns(pl.col("time").dt.epoch("ms"))
    elif kind == "small":
        frame = frame.with_columns(time=pl.int_range(40))
    seen = found(frame)
    assert seen.oddities == []
    if kind == "small":
        assert seen.times == {"from": 0, "to": 39, "unit": None}
    else:
        unit = "milliseconds" if kind == "milliseconds" else "dates"
        assert seen.times == {"from": "2024-05-31T12:00:00", "to": "2024-06-02T03:00:00", "unit": unit}


ids = st.sampled_from(["a", "b", " a", "B", None])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(ids, ids, st.one_of(st.none(), st.integers(0, 3))), min_size=1, max_size=12))
def test_counts_against_loops(rows):
    frame = pl.DataFrame(rows, schema={"user": pl.String, "item": pl.String, "time": pl.Int64}, orient="row")
    usable = (
        [row for row in rows if None not in row]
        if any(row[2] is not None for row in rows)
        else [row for row in rows if None not in row[:2]]
    )
    if not usable:
        with pytest.raises(DataError):
            found(frame)
        return
    seen = found(frame)
    counts = {one.name: one.count for one in seen.oddities}
    assert counts.get("no_user", 0) == sum(row[0] is None for row in rows)
    assert seen.rows == len(rows) and seen.actions == len(usable)
    assert seen.users == len({row[0] for row in usable}) and seen.items == len({row[1] for row in usable})
    lengths = Counter(row[0] for row in usable)
    assert sum(one["count"] for one in seen.lengths["bins"]) == len(lengths)
    if usable[0][2] is not None:
        assert counts.get("copies", 0) == len(usable) - len(set(usable))
        moments = Counter((row[0], row[2]) for row in usable)
        assert counts.get("ties", 0) == sum(count for count in moments.values() if count > 1)
        times = [row[2] for row in usable]
        assert counts.get("out_of_order", 0) == sum(b < a for a, b in itertools.pairwise(times))


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"the log: no column 'who' .*; the columns are 'user', 'item', 'time'"):
        found(plain(), user="who", item="item")
    with pytest.raises(DataError, match="has columns but no rows"):
        found(plain().clear())
    with pytest.raises(DataError, match=r"ids of type List\(String\) in column 'item'; make them texts"):
        found(plain().with_columns(pl.concat_list("item")))
    (tmp_path / "log.csv").write_text("user,item\n1,2\n1,2,3\n")
    with pytest.raises(DataError, match=r"log.csv, line 3: not 2 fields"):
        survey(open_path(tmp_path / "log.csv"), {"user": "user", "item": "item"})
