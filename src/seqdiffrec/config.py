"""`RunConfig`: what a training run is made from; composed of the components' settings, read from TOML recipes."""

import tomllib
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import Field, field_validator

from seqdiffrec.data import DATASETS, Corpus, Dataset, load_corpus
from seqdiffrec.data.corpus import is_corpus
from seqdiffrec.data.share import share_of_users
from seqdiffrec.data.sql import is_url, without_password
from seqdiffrec.inference import Recommender, recommender_class
from seqdiffrec.models import find_model
from seqdiffrec.models.settings import SettingError, Settings, refuse_unknown
from seqdiffrec.training import TrainingConfig

SECTIONS = ("data", "model", "training")


class DataConfig(Settings):
    """Which log, and how it is prepared and split.

    dataset: a named one; file: a log of one's own, with its column names and preparation: a file, a folder of Parquet
        files, the URL of a database with ``query``, or a folder that ``data prepare`` wrote. Give one of the two.
    data_root: where to look for a named dataset first.
    min_user, min_item, drop_repeats: preparation of ``file``; a named dataset has its own.
    items: a table of the items' titles and categories (`read_items`); one that a named dataset has gives way to it.
    user_share: below 1 only so many of the users are there at all (`share_of_users`): for what takes too long on all.
    split: a column of ``file`` that says train, validation or test. validation_time, test_time: split all users at
        these times. Without either the split is leave-one-out.
    """

    dataset: str | None = None
    data_root: str | None = None
    file: str | None = None
    query: str | None = None
    user: str = "user_id"
    item: str = "item_id"
    time: str | None = None
    split: str | None = None
    min_user: Annotated[int, Field(ge=1)] = 1
    min_item: Annotated[int, Field(ge=1)] = 1
    drop_repeats: bool = False
    items: str | None = None
    user_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    validation_time: float | str | None = None
    test_time: float | str | None = None

    @field_validator("validation_time", "test_time", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        """TOML reads 2024-05-31 as a date; settings hold plain values."""
        return value.isoformat() if isinstance(value, date) else value

    def load(self) -> Dataset:
        """Read and prepare the data. Raises DataError, or SettingError where not exactly one source is named."""
        if (self.dataset is None) == (self.file is None):
            raise SettingError(
                f"name the data: either a dataset ({', '.join(DATASETS)}) with --dataset, or a file with --data"
            )
        times = self.times()
        self._refuse_unused()
        whole = self._load_whole(times)
        return whole if self.user_share == 1 else Dataset.of(share_of_users(whole.corpus, self.user_share), times)

    def _load_whole(self, times: tuple[Any, Any] | None) -> Dataset:
        if self.dataset is not None:
            return Dataset.of(load_corpus(self.dataset, self.data_root, items=self.items), times)
        assert self.file is not None
        if is_corpus(self.file):
            return Dataset.of(Corpus.load(self.file), times)
        columns = {"user", "item", "time", "split"}
        how = self.model_dump(include=columns | {"min_user", "min_item", "drop_repeats", "items"})
        if not is_url(self.file):
            return Dataset.from_file(self.file, **how, times=times)
        if self.query is None:
            raise SettingError("a database needs a query that says which rows to take: --query 'SELECT ...'")
        return Dataset.from_sql(self.query, self.file, **how, times=times)

    def _refuse_unused(self) -> None:
        """Raise SettingError for a setting that this source does not use, rather than leave it out silently."""
        source = self.dataset or self.file or ""
        unused = ["data_root"] if self.dataset is None else []
        if self.dataset is not None or is_corpus(source):
            unused += ["user", "item", "time", "split", "min_user", "min_item", "drop_repeats"]
        if self.dataset is None and is_corpus(source):
            unused.append("items")
        if self.dataset is not None or not is_url(source):
            unused.append("query")
        for name in unused:
            if getattr(self, name) != DataConfig.model_fields[name].default:
                why = "which is no database" if name == "query" else "which has its own preparation"
                raise SettingError(f"data.{name} has no effect on {source}, {why}; leave it out")

    def times(self) -> tuple[Any, Any] | None:
        """Validation and test time of a split in time; None for leave-one-out. Raises SettingError for half of it."""
        if self.validation_time is None and self.test_time is None:
            return None
        if self.split is not None:
            raise SettingError("data.split and a split in time exclude each other; leave one of the two out")
        if self.validation_time is None or self.test_time is None:
            raise SettingError("a split in time needs both data.validation_time and data.test_time")
        return _moment(self.validation_time, "validation_time"), _moment(self.test_time, "test_time")


class RunConfig(Settings):
    """A whole run: data, a model by name with its settings, training."""

    data: DataConfig = DataConfig()
    model_name: str = "diffrec"
    model: dict[str, Any] = Field(default_factory=dict[str, Any])
    training: TrainingConfig = TrainingConfig()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "RunConfig":
        """Check plain values: the tables ``data``, ``model`` (with its ``name``) and ``training``.

        Raises SettingError for an unknown table or name (with the nearest known one), or a value out of range.
        """
        for section in values:
            if section not in SECTIONS:
                raise refuse_unknown(section, list(SECTIONS))
            if not isinstance(values[section], Mapping):
                raise SettingError(f"{section} must be a table of settings, not {values[section]!r}")
        model = dict(values.get("model", {}))
        found = find_model(model.pop("name", "diffrec"))
        return cls(
            data=DataConfig.checked(values.get("data", {}), "data."),
            model_name=found.name,
            model=found.config_class.checked(model, "model.").model_dump(mode="json"),
            training=TrainingConfig.checked(values.get("training", {}), "training."),
        )

    def tables(self) -> dict[str, dict[str, Any]]:
        """All settings as plain tables; `of` takes them back. Unset ones are left out, since TOML has no null.

        The password of a database's URL is hidden: these tables are printed and recorded.
        """
        data = self.data.model_dump(mode="json")
        tables = {
            "data": data | {"file": without_password(self.data.file)} if self.data.file else data,
            "model": {"name": self.model_name, **self.model},
            "training": self.training.model_dump(mode="json"),
        }
        return {
            name: {key: value for key, value in table.items() if value is not None} for name, table in tables.items()
        }

    def recommender(self) -> Recommender:
        """The model to be fitted."""
        return recommender_class(self.model_name)(**self.model, **self.training.model_dump())


def read_recipe(path: Path) -> dict[str, Any]:
    """The tables of a TOML recipe, not yet checked. Raises SettingError where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"recipe {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"recipe {path} is not valid TOML: {error}") from error


def with_changes(values: Mapping[str, Any], changes: Iterable[str]) -> dict[str, Any]:
    """The tables with each ``table.name=value`` set. Raises SettingError where one is not of that form.

    A value is read as TOML; what is no TOML value is taken as text, so that ``model.attention=bidirectional`` works.
    """
    result: dict[str, dict[str, Any]] = {}
    for name, table in values.items():
        if not isinstance(table, Mapping):
            raise SettingError(f"{name} must be a table of settings, not {table!r}")
        result[name] = dict(cast(Mapping[str, Any], table))
    for change in changes:
        path, equals, text = change.partition("=")
        section, dot, name = path.strip().partition(".")
        if not (equals and dot and name):
            raise SettingError(f"--set {change}: write table.name=value, for example model.hidden_size=64")
        if section not in SECTIONS:
            raise refuse_unknown(section, list(SECTIONS))
        result.setdefault(section, {})[name] = _value(text.strip())
    return result


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _moment(value: float | str, name: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return datetime.fromisoformat(value)
    except ValueError as error:
        raise SettingError(f"data.{name} is {value!r}: give a number, as in the log, or an ISO time") from error
