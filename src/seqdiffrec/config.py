"""`RunConfig`: what a training run is made from; composed of the components' settings, read from TOML recipes."""

import tomllib
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import Field, field_validator

from seqdiffrec.data import DATASETS, Corpus, Dataset, load_corpus
from seqdiffrec.inference import Recommender, recommender_class
from seqdiffrec.models import find_model
from seqdiffrec.models.settings import SettingError, Settings, refuse_unknown
from seqdiffrec.training import TrainingConfig

SECTIONS = ("data", "model", "training")


class DataConfig(Settings):
    """Which log, and how it is prepared and split.

    dataset: a named one; file: a log of one's own, with its column names and preparation, or a folder that ``data
        prepare`` wrote. Give one of the two.
    data_root: where to look for a named dataset first.
    min_user, min_item, drop_repeats: preparation of ``file``; a named dataset has its own.
    items: a table of the items' titles and categories (`read_items`); one that a named dataset has gives way to it.
    validation_time, test_time: split all users at these times; without them the split is leave-one-out.
    """

    dataset: str | None = None
    data_root: str | None = None
    file: str | None = None
    user: str = "user_id"
    item: str = "item_id"
    time: str | None = None
    min_user: Annotated[int, Field(ge=1)] = 1
    min_item: Annotated[int, Field(ge=1)] = 1
    drop_repeats: bool = False
    items: str | None = None
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
        if self.dataset is not None:
            return Dataset.of(load_corpus(self.dataset, self.data_root, items=self.items), times)
        assert self.file is not None
        if Path(self.file).is_dir():
            return Dataset.of(Corpus.load(self.file), times)
        return Dataset.from_file(
            self.file,
            user=self.user,
            item=self.item,
            time=self.time,
            min_user=self.min_user,
            min_item=self.min_item,
            drop_repeats=self.drop_repeats,
            items=self.items,
            times=times,
        )

    def _refuse_unused(self) -> None:
        """Raise SettingError for a setting that this source does not use, rather than leave it out silently."""
        is_prepared = self.file is None or Path(self.file).is_dir()
        unused = ["user", "item", "time", "min_user", "min_item", "drop_repeats"] if is_prepared else ["data_root"]
        if self.dataset is None and is_prepared:
            unused.append("items")
        for name in unused:
            if getattr(self, name) != DataConfig.model_fields[name].default:
                source = self.dataset or self.file
                raise SettingError(
                    f"data.{name} has no effect on {source}, which has its own preparation; leave it out"
                )

    def times(self) -> tuple[Any, Any] | None:
        """Validation and test time of a split in time; None for leave-one-out. Raises SettingError for half of it."""
        if self.validation_time is None and self.test_time is None:
            return None
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
        """All settings as plain tables; `of` takes them back. Unset ones are left out, since TOML has no null."""
        tables = {
            "data": self.data.model_dump(mode="json"),
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
