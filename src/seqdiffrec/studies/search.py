"""What a search for settings looks through, as a TOML file: a dataset, a recipe's tables, and a range a setting."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from seqdiffrec.config import RunConfig, read_recipe, with_changes
from seqdiffrec.models.settings import SettingError, refuse_unknown
from seqdiffrec.studies.runs import source_of

if TYPE_CHECKING:
    from optuna.trial import Trial

Value = bool | int | float | str
# What would change the question instead of the answer.
NOT_SEARCHED = ("data.", "training.seed", "training.device", "model.name")


@dataclass(frozen=True)
class Range:
    """The values of one setting: ``choices``, or from ``low`` to ``high``, evenly or evenly in the logarithm."""

    name: str
    choices: tuple[Value, ...] = ()
    low: int | float = 0
    high: int | float = 0
    log: bool = False

    def sample(self, trial: "Trial") -> Value:
        """The value of this trial: a whole number where both ends are."""
        if self.choices:
            return cast(Value, trial.suggest_categorical(self.name, self.choices))
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.name, self.low, self.high, log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def holds(self, value: object) -> bool:
        """Whether the value is one of these."""
        if self.choices:
            return value in self.choices
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        return _is_number(value) and self.low <= value <= self.high and (isinstance(value, int) or not whole)

    def ends(self) -> tuple[Value, ...]:
        """All choices, or the two ends."""
        return self.choices or (self.low, self.high)


@dataclass(frozen=True)
class Search:
    """A search: the recipe that it starts from and the ranges of what it changes."""

    dataset: str
    base: dict[str, dict[str, Any]]
    ranges: tuple[Range, ...]

    def config(self, values: Mapping[str, Value]) -> RunConfig:
        """The configuration of a trial. Raises SettingError where values do not go together."""
        data = {**self.base.get("data", {}), **source_of(self.dataset)}
        return RunConfig.of(
            with_changes({**self.base, "data": data}, [f"{name}={json.dumps(value)}" for name, value in values.items()])
        )

    def base_values(self) -> dict[str, Value]:
        """What the base has for the settings that are searched, where the search looks at that value."""
        tables = self.config({}).tables()
        values = {one.name: tables[(path := one.name.split("."))[0]].get(path[1]) for one in self.ranges}
        return {one.name: cast(Value, values[one.name]) for one in self.ranges if one.holds(values[one.name])}

    def plain(self) -> dict[str, Any]:
        """As plain values, to see whether two searches are the same."""
        return json.loads(json.dumps(asdict(self)))


def read_search(path: Path) -> Search:
    """Read a search from TOML: ``dataset``, ``[base.model]``, ``[base.training]`` and ``[search]``.

    Raises SettingError that names the file and what is wrong in it, also for ranges whose ends cannot be.
    """
    values = read_recipe(path)
    try:
        return _search(values)
    except SettingError as error:
        raise SettingError(f"search {path}: {error}") from error


def _search(values: dict[str, Any]) -> Search:
    for key in values:
        if key not in ("dataset", "base", "search"):
            raise refuse_unknown(key, ["dataset", "base", "search"])
    dataset, base, ranges = values.get("dataset"), values.get("base", {}), values.get("search")
    if not isinstance(dataset, str):
        raise SettingError('name the data: dataset = "beauty", or the path of a log')
    if not isinstance(base, dict):
        raise SettingError("base must be tables of settings, such as [base.model]")
    if not isinstance(ranges, dict) or not ranges:
        raise SettingError('give [search] at least one range, such as "model.dropout" = { low = 0.1, high = 0.6 }')
    named = cast(dict[str, object], ranges)
    search = Search(dataset, cast(dict[str, dict[str, Any]], base), tuple(_range(name, named[name]) for name in named))
    search.config({})
    for one in search.ranges:
        for value in one.ends():
            _check(search, one.name, value)
    return search


def _range(name: str, given: object) -> Range:
    if name.startswith(NOT_SEARCHED):
        raise SettingError(f"{name} is not for a search: trials would no longer be comparable; set it in base")
    where = f'search."{name}".'
    if not isinstance(given, dict):
        raise SettingError(f"{name} is {given!r}; write {{ low = ..., high = ... }} or {{ choices = [...] }}")
    table = cast(dict[str, Any], given)
    for key in table:
        if key not in ("choices", "low", "high", "log"):
            raise refuse_unknown(key, ["choices", "low", "high", "log"], where)
    if "choices" in table:
        return Range(name, choices=_choices(table, where))
    low, high, log = table.get("low"), table.get("high"), table.get("log", False)
    if not _is_number(low) or not _is_number(high) or not low < high:
        raise SettingError(f"{where}low and high must be numbers, low the smaller: not {low!r} and {high!r}")
    if not isinstance(log, bool) or (log and low <= 0):
        raise SettingError(f"{where}log must be true or false, and low above 0 where it is true")
    return Range(name, low=low, high=high, log=log)


def _choices(table: dict[str, Any], where: str) -> tuple[Value, ...]:
    choices = table["choices"]
    if len(table) > 1 or not isinstance(choices, list) or len(cast(list[Any], choices)) < 2:
        raise SettingError(f"{where}choices must be a list of two or more, with no other key beside it")
    for choice in cast(list[object], choices):
        if not isinstance(choice, bool | int | float | str):
            raise SettingError(f"{where}choices holds {choice!r}, which is no plain value")
    return tuple(cast(list[Value], choices))


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check(search: Search, name: str, value: Value) -> None:
    """Raise SettingError where a setting cannot have this value at all; where it only depends on another, it may."""
    try:
        search.config({name: value})
    except SettingError as error:
        if not str(error).startswith(f"{name.partition('.')[0]}: "):
            raise
