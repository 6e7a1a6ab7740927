"""Numbers of things."""

import pytest

from seqdiffrec.data.words import counted


@pytest.mark.parametrize(
    ("count", "thing", "words"),
    [(0, "epoch", "0 epochs"), (1, "new item", "1 new item"), (1349, "item", "1,349 items")],
)
def test_one_thing_has_no_s(count, thing, words):
    assert counted(count, thing) == words
