"""The base of all settings: typed, frozen, unknown names refused, errors in plain words."""

import difflib
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from seqdiffrec.models.peer_names import peer_hint


class SettingError(ValueError):
    """A setting that does not exist, or a value that it cannot have."""


class Settings(BaseModel):
    """Settings of one component, as a frozen pydantic model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def checked(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """Build from plain values. Raises SettingError that names setting, value and remedy.

        where: what to write before a setting's name, such as "model.".
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise SettingError("; ".join(_explain(dict(one), cls, where) for one in error.errors())) from error


def refuse_unknown(name: str, known: list[str], where: str = "", what: str = "setting") -> SettingError:
    """The error for a name that is not a setting, or whatever it should be, with the nearest one that is.

    Another library's name of a setting is told what it is called here.
    """
    elsewhere = peer_hint(name, known, where) if what == "setting" else None
    if elsewhere is not None:
        return SettingError(f"{where}{name} is not a setting; {elsewhere}")
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {where}{near[0]}?" if near else f"known are {', '.join(sorted(known))}"
    return SettingError(f"{where}{name} is not a {what}; {hint}")


def _explain(error: dict[str, Any], settings: type[Settings], where: str) -> str:
    path = [str(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden":
        return str(refuse_unknown(path[0], list(settings.model_fields), where))
    problem = error["msg"].removeprefix("Value error, ")
    if not path:
        return f"{where.rstrip('.')}: {problem}" if where else problem
    return f"{where}{path[0]} is {error['input']!r}: {problem[:1].lower()}{problem[1:]}"
