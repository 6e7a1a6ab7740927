"""A study: many runs that differ from one default, each by what its row says, as a TOML file.

`studies/NAME.toml` names datasets, seeds, the tables of a recipe (`base`) and the rows. Every row is trained on every
dataset with every seed. An inference row takes the trained weights of another row and ranks once more.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from seqdiffrec.models import MODELS
from seqdiffrec.models.settings import SettingError, refuse_unknown

_STUDY_KEYS = ("title", "note", "datasets", "seeds", "base", "rows", "inference", "controls", "controls_beside")
_ROW_KEYS = ("name", "group", "title", "set", "model", "recipe", "seeds", "datasets", "ranks", "system", "against")
_INFERENCE_KEYS = ("name", "of", "title", "set")
_TABLES = ("data", "model", "training")
_PER_RUN = {"data.dataset": "datasets", "training.seed": "seeds"}  # these the study sets itself
DEFAULT = "default"  # the row that the others are held against
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Row:
    """One way to train.

    Attributes:
        name: unique in the study, and part of file names.
        group: the heading it stands under.
        title: what a reader sees.
        changes: what it changes against the base, each ``table.name=value``.
        model: takes the place of the base's table ``model``; None keeps that.
        recipe: path of a recipe whose tables take the place of the whole base, ``{dataset}`` standing for each
            dataset's name; None keeps the base.
        seeds, datasets: what it is trained with.
        ranks: whether the rank of each test case is kept.
        system: what it counts as: a model's name, or its own where it is none of them; None for the model it is
            trained as.
        against: names of rows that it is compared with user by user, besides those that every row is.
    """

    name: str
    group: str
    title: str
    changes: tuple[str, ...]
    model: dict[str, Any] | None
    recipe: str | None
    seeds: tuple[int, ...]
    datasets: tuple[str, ...]
    ranks: bool
    system: str | None = None
    against: tuple[str, ...] = ()

    def recipe_for(self, dataset: str) -> Path | None:
        """The recipe that it has on a dataset."""
        return None if self.recipe is None else Path(self.recipe.replace("{dataset}", dataset))


@dataclass(frozen=True)
class InferenceRow:
    """The weights of the row `of`, ranked again with `changes`; it has that row's seeds and datasets."""

    name: str
    of: str
    title: str
    changes: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """Rows to train and to rank; `name` is that of the file, without ``.toml``.

    base: the tables of a recipe, not yet checked as settings; without ``data.dataset`` and ``training.seed``. Empty
        where every row has a recipe of its own.
    controls: names of rows that lack what the study is about; the page begins with whether one does as well.
    controls_beside: names of the rows that the controls are held against, one after another.
    note: what a reader of the page has to know besides, in a few sentences; may be empty.
    """

    name: str
    title: str
    note: str
    base: dict[str, dict[str, Any]]
    datasets: tuple[str, ...]
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    inference: tuple[InferenceRow, ...]
    controls: tuple[str, ...]
    controls_beside: tuple[str, ...] = (DEFAULT,)

    def record_path(self, results: Path, dataset: str, row_name: str, seed: int) -> Path:
        """Where the record of a row (or of an inference row) stands below the folder of results."""
        return results / self.name / dataset / f"{row_name}-seed{seed}.json"

    def ranks_path(self, results: Path, dataset: str, row_name: str, seed: int) -> Path:
        """Where the ranks of its test cases stand, where they are kept."""
        return results / self.name / dataset / f"{row_name}-seed{seed}-ranks.parquet"

    def row(self, name: str) -> Row | None:
        """The row to train of that name, or None."""
        return next((row for row in self.rows if row.name == name), None)


def read_study(path: Path) -> Study:
    """Read a study. Raises SettingError that names the file and the key at fault.

    The settings of `base`, `model` and `set` are not checked here but when a run's configuration is made of them.
    """
    try:
        return _study(path.stem, path.parent, tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingError(f"study {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"study {path} is not valid TOML: {error}") from error
    except SettingError as error:
        raise SettingError(f"study {path}: {error}") from error


def _study(name: str, folder: Path, values: dict[str, Any]) -> Study:
    _refuse_others(values, _STUDY_KEYS, "")
    _check_name(name, "the file's name")
    datasets = _several(values, "datasets", str, "")
    for dataset in datasets:
        _check_name(dataset, "datasets")
    seeds = _several(values, "seeds", int, "")
    rows = tuple(_row(table, where, folder, datasets, seeds) for where, table in _tables(values, "rows"))
    if not rows:
        raise SettingError("there are no rows; give at least one [[rows]]")
    inference = tuple(_inference_row(table, where, rows) for where, table in _tables(values, "inference"))
    names = [row.name for row in (*rows, *inference)]
    for row_name in names:
        if names.count(row_name) > 1:
            raise SettingError(f"two rows have the name {row_name!r}; records are named by it, so it must be unique")
    base = _base(values) if "base" in values or any(row.recipe is None for row in rows) else {}
    controls, beside = _controls(values, rows)
    for row in rows:
        _check_against(row, [other.name for other in rows])
    title, note = _one(values, "title", str, ""), _one(values, "note", str, "") if "note" in values else ""
    return Study(name, title, note, base, datasets, seeds, rows, inference, controls, beside)


def _controls(values: dict[str, Any], rows: tuple[Row, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The controls, and the rows that they are held against."""
    if "controls" not in values:
        if "controls_beside" in values:
            raise SettingError("controls_beside says what controls are held against, and there are no controls")
        return (), (DEFAULT,)
    names = [row.name for row in rows]
    beside = _several(values, "controls_beside", str, "") if "controls_beside" in values else (DEFAULT,)
    if DEFAULT not in names:
        raise SettingError(f"with controls a row must be named {DEFAULT!r}, which tells how far seeds move a figure")
    for name in beside:
        if name not in names:
            raise SettingError(f"controls_beside: {refuse_unknown(name, names, what='row')}")
    controls = _several(values, "controls", str, "")
    for control in controls:
        if control in beside or control not in names:
            known = [name for name in names if name not in beside]
            raise SettingError(
                f"controls: {refuse_unknown(control, known)}".replace("is not a setting", "cannot be one")
            )
    return controls, beside


def _base(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    base = _one(values, "base", dict[str, Any], "")
    _refuse_others(base, _TABLES, "base.")
    for name in base:
        for key in _one(base, name, dict[str, Any], "base."):
            _refuse_per_run(f"{name}.{key}", "base")
    return base


def _row(table: dict[str, Any], where: str, folder: Path, datasets: tuple[str, ...], seeds: tuple[int, ...]) -> Row:
    _refuse_others(table, _ROW_KEYS, where)
    if "recipe" in table and "model" in table:
        raise SettingError(f"{where}recipe and {where}model are both given; a recipe has a model already")
    own = _several(table, "datasets", str, where) if "datasets" in table else datasets
    for dataset in own:
        if dataset not in datasets:
            raise SettingError(f"{where}datasets names {dataset!r}, which the study's datasets do not")
    return Row(
        name=_check_name(_one(table, "name", str, where), f"{where}name"),
        group=_one(table, "group", str, where),
        title=_one(table, "title", str, where),
        changes=_changes(table, where),
        model=_one(table, "model", dict[str, Any], where) if "model" in table else None,
        recipe=str(folder / _one(table, "recipe", str, where)) if "recipe" in table else None,
        seeds=_several(table, "seeds", int, where) if "seeds" in table else seeds,
        datasets=own,
        ranks=_one(table, "ranks", bool, where) if "ranks" in table else False,
        system=_system(table, where),
        against=_several(table, "against", str, where) if "against" in table else (),
    )


def _check_against(row: Row, names: list[str]) -> None:
    if row.name in row.against:
        raise SettingError(f"row {row.name}: it names itself in against")
    for name in row.against:
        if name not in names:
            raise SettingError(f"row {row.name}, against: {refuse_unknown(name, names, what='row')}")


def _inference_row(table: dict[str, Any], where: str, rows: tuple[Row, ...]) -> InferenceRow:
    _refuse_others(table, _INFERENCE_KEYS, where)
    of = _one(table, "of", str, where)
    if of not in (known := [row.name for row in rows]):
        raise SettingError(f"{where}of: {refuse_unknown(of, known, what='row')}")
    return InferenceRow(
        name=_check_name(_one(table, "name", str, where), f"{where}name"),
        of=of,
        title=_one(table, "title", str, where),
        changes=_changes(table, where),
    )


def _system(table: dict[str, Any], where: str) -> str | None:
    if "system" not in table:
        return None
    system = _one(table, "system", str, where)
    if system not in MODELS and system != table.get("name"):
        raise SettingError(f"{where}system: {refuse_unknown(system, list(MODELS), what='model')}")
    return system


def _changes(table: dict[str, Any], where: str) -> tuple[str, ...]:
    changes = _several(table, "set", str, where, may_be_empty=True) if "set" in table else ()
    for change in changes:
        path, equals, _ = change.partition("=")
        if not equals:
            raise SettingError(f"{where}set: {change!r} is not of the form table.name=value")
        _refuse_per_run(path.strip(), f"{where}set")
    return changes


def _refuse_per_run(setting: str, where: str) -> None:
    if setting in _PER_RUN:
        raise SettingError(f"{where} sets {setting}, which differs from run to run; use {_PER_RUN[setting]}")


def _refuse_others(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            raise refuse_unknown(key, list(known), where)


def _check_name(name: str, where: str) -> str:
    if not _NAME.fullmatch(name):
        raise SettingError(f"{where} is {name!r}; files are named by it: use a to z, 0 to 9 and single hyphens")
    return name


def _tables(values: dict[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
    """The tables of [[key]], each with what to write before its keys in a message."""
    tables: object = values.get(key, [])
    if not isinstance(tables, list):
        raise SettingError(f"{key} must be tables, each under [[{key}]]")
    found: list[tuple[str, dict[str, Any]]] = []
    for number, table in enumerate(cast(list[object], tables), start=1):
        if not isinstance(table, dict):
            raise SettingError(f"{key} must be tables, each under [[{key}]]")
        found.append((f"{key}[{number}].", cast(dict[str, Any], table)))
    return found


def _one(table: Mapping[str, Any], key: str, kind: type[_T], where: str) -> _T:
    if key not in table:
        raise SettingError(f"{where}{key} is missing")
    value: object = table[key]
    if not _is(value, kind):
        raise SettingError(f"{where}{key} is {value!r}, which is no {_KINDS[kind]}")
    return cast(_T, value)


def _several(
    table: Mapping[str, Any], key: str, kind: type[_T], where: str, *, may_be_empty: bool = False
) -> tuple[_T, ...]:
    values = cast(list[_T], _one(table, key, list[Any], where))
    if not values and not may_be_empty:
        raise SettingError(f"{where}{key} is empty; name at least one")
    for value in values:
        if not _is(value, kind) or (isinstance(value, int) and value < 0):
            raise SettingError(f"{where}{key} holds {value!r}, which is no {_KINDS[kind]}")
        if values.count(value) > 1:
            raise SettingError(f"{where}{key} names {value!r} twice")
    return tuple(values)


_KINDS: dict[object, str] = {
    str: "text",
    int: "whole number of at least 0",
    bool: "true or false",
    dict[str, Any]: "table",
    list[Any]: "list",
}


def _is(value: object, kind: object) -> bool:
    """Whether a TOML value is of that kind; true is no number, as it is in Python."""
    plain = cast(type, getattr(kind, "__origin__", kind))
    return type(value) is plain
