"""pandas in gives pandas out, Polars Polars, Arrow Arrow; what is asked with decides before what was trained on."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import seqdiffrec as sdr
from seqdiffrec.training import Reporter
from tests.inference.conftest import make, make_frame

KINDS = {"polars": pl.DataFrame, "pandas": pd.DataFrame, "pyarrow": pa.Table}
MAKE: dict[str, Callable[[pl.DataFrame], Any]] = {
    "polars": lambda frame: frame,
    "pandas": lambda frame: pd.DataFrame(frame.to_dict(as_series=False)),
    "pyarrow": lambda frame: frame.to_arrow(),
}


def fitted(kind: str, frame: pl.DataFrame) -> sdr.Recommender:
    return make("popularity").fit(sdr.Dataset.from_interactions(MAKE[kind](frame)), reporter=Reporter())


@pytest.fixture(scope="module")
def models() -> dict[str, sdr.Recommender]:
    return {kind: fitted(kind, make_frame()) for kind in KINDS}


def content(frame: Any) -> list[dict[str, Any]]:
    if isinstance(frame, pd.DataFrame):
        return frame.to_dict("records")
    return frame.to_pylist() if isinstance(frame, pa.Table) else frame.to_dicts()


@pytest.mark.parametrize("kind", KINDS)
def test_the_log_decides_the_kind_and_not_the_content(kind: str, models: dict[str, sdr.Recommender]):
    def answers(model: sdr.Recommender) -> list[Any]:
        return [model.recommend([100, 103], k=3), model.recommend_sequences([[10, 20], [30]], k=3)]

    for found, expected in zip(answers(models[kind]), answers(models["polars"]), strict=True):
        assert type(found) is KINDS[kind]
        assert content(found) == expected.to_dicts() and len(found) == 6


def test_similar_items_are_of_the_logs_kind_too():
    model = make("sasrec").fit(sdr.Dataset.from_interactions(MAKE["pandas"](make_frame())), reporter=Reporter())
    assert isinstance(model.similar_items([10], k=2), pd.DataFrame)


@pytest.mark.parametrize(
    ("users", "kind"),
    [
        (pd.Series([100, 103], index=[7, 3]), "pandas"),
        (pd.Index([100, 103]), "pandas"),
        (pl.Series([100, 103]), "polars"),
        (pa.chunked_array([[100], [103]]), "pyarrow"),
        (pa.array([100, 103]), "pyarrow"),
    ],
    ids=lambda value: type(value).__module__ + type(value).__name__ if not isinstance(value, str) else value,
)
def test_users_of_a_kind_get_an_answer_of_that_kind(users: Any, kind: str, models: dict[str, sdr.Recommender]):
    expected = models["polars"].recommend([100, 103], k=2).to_dicts()
    for model in models.values():
        found = model.recommend(users, k=2)
        assert type(found) is KINDS[kind] and content(found) == expected


def test_text_ids_of_pandas_come_back_as_texts():
    frame = MAKE["pandas"](make_frame()).astype({"user_id": str, "item_id": str})
    model = make("popularity").fit(sdr.Dataset.from_interactions(frame), reporter=Reporter())
    found = model.recommend(frame["user_id"].head(1), k=1)
    assert found["user_id"].tolist() == [frame["user_id"][0]] and isinstance(found["item_id"][0], str)


def test_a_run_from_disk_answers_as_it_is_told(tmp_path, models: dict[str, sdr.Recommender]):
    models["pandas"].save(tmp_path / "run")
    assert type(sdr.load(tmp_path / "run").recommend([100], k=1)) is pl.DataFrame
    assert type(sdr.load(tmp_path / "run", output="pandas").recommend([100], k=1)) is pd.DataFrame
    with pytest.raises(sdr.DataError, match="output is 'excel'; give one of polars, pandas, pyarrow"):
        sdr.load(tmp_path / "run", output="excel")
