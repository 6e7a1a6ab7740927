import polars as pl
import pytest
from hypothesis import given, strategies as st

from seqdiffrec.serving.search import TextSearch

TITLES = pl.Series(
    [
        "Matrix, The (1999)",
        "The Thing",
        None,
        "Reloading the Matrix",
        "Amélie",
        "STRASSE",
        "matrix",
        "Two  blanks\there",
    ]
)


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("matrix", [0, 6, 3]),  # those that begin with it first, in their order
        ("the matrix", [3, 0]),  # as it is written, then in other places
        ("AMELIE", [4]),
        ("amélie", [4]),
        ("blanks here", [7]),
        (" thing ", [1]),
        ("matr.x", []),  # no pattern
        ("(1999)", [0]),
        ("", list(range(8))),
        ("  ", list(range(8))),
    ],
)
def test_what_is_found(query, rows) -> None:
    assert TextSearch(TITLES).find(query, 10) == rows


def test_equally_good_ones_come_in_the_order_given() -> None:
    order = pl.Series([7, 6, 5, 4, 3, 2, 1, 0])
    assert TextSearch(TITLES, order).find("matrix", 10) == [6, 0, 3]
    assert TextSearch(TITLES, order).find("matrix", 2) == [6, 0]


@given(st.lists(st.text("aB é", max_size=6), max_size=20), st.text("aB é", max_size=3), st.integers(1, 20))
def test_it_finds_what_a_loop_finds(titles, query, limit) -> None:
    plain = [" ".join(title.lower().replace("é", "e").split()) for title in titles]
    words = query.lower().replace("é", "e").split()
    if not words:
        expected = list(range(len(titles)))
    else:
        whole = " ".join(words)
        found = [row for row, title in enumerate(plain) if all(word in title for word in words)]
        expected = sorted(found, key=lambda row: 2 - (whole in plain[row]) - plain[row].startswith(whole))
    assert TextSearch(pl.Series(titles, dtype=pl.String)).find(query, limit) == expected[:limit]
