"""Which columns of a log hold the user, the item and the time, by the names that people give them."""

import re
from collections.abc import Collection, Mapping, Sequence

from seqdiffrec.data.errors import DataError

_NAMES = {
    "user": "user uid userid usr customer customerid client clientid visitor visitorid member memberid session "
    "sessionid person reviewerid author buyer account accountid",
    "item": "item iid itemid product productid movie movieid sku asin article articleid track trackid song songid book "
    "bookid video videoid business businessid content contentid parentasin",
    "time": "timestamp time datetime date ts eventtime createdat unixtime unixreviewtime reviewtime eventtimestamp t",
}
KINDS = tuple(_NAMES)
_KNOWN = {kind: names.split() for kind, names in _NAMES.items()}


def guess_columns(label: str, names: Sequence[str], kinds: Collection[str] = KINDS) -> dict[str, str]:
    """The columns `user`, `item` and, where there is one, `time`, of a log with columns of these names.

    kinds: which of the three are wanted.

    A column is known by its name without case and separators: `User_ID`, `userId` and `user id` are one. Where several
    would do, the one that stands first in our list is taken, such as user before session.
    Raises DataError, with the columns that there are, where no user or item is found or one name is there twice.
    """
    plain = [re.sub(r"[\W_]", "", name).lower() for name in names]
    found: dict[str, str] = {}
    unknown: list[str] = []
    for kind in kinds:
        known = _KNOWN[kind]
        wanted = next((one for one in (*known, *(f"{one}id" for one in known)) if one in plain), None)
        if wanted is not None:
            if plain.count(wanted) > 1:
                twice = [name for name, one in zip(names, plain, strict=True) if one == wanted]
                raise DataError(
                    f"{label}: {' and '.join(map(repr, twice))} may both be the {kind}; say which: --{kind} COL"
                )
            found[kind] = names[plain.index(wanted)]
        elif kind != "time":
            unknown.append(kind)
    if unknown:
        asked = [*unknown, *(["time"] if "time" in kinds and "time" not in found else [])]
        called = {"user": "a user", "item": "an item"}
        raise DataError(
            f"{label}: none of the columns {', '.join(map(repr, names))} is called as "
            f"{' or '.join(called[kind] for kind in unknown)} usually is; say which holds what: {_options(asked)}"
        )
    return found


def check_columns(label: str, present: Collection[str], uneven: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Raise DataError, with all that are missing and all that are there, unless a log has the columns it is asked for.

    uneven: columns that not all parts of a folder have in one type, and why each cannot be read.
    wanted: what is to be held (user, item, time, split) to the column that is to hold it.
    """
    for column in wanted.values():
        if column in uneven:
            raise DataError(f"{label}: column {column!r} differs between its parts: {uneven[column]}")
    missing = [kind for kind, column in wanted.items() if column not in present]
    if missing:
        named = " and ".join(f"no column {wanted[kind]!r} (wanted as the {kind})" for kind in missing)
        asked = [*missing, *([] if "time" in wanted else ["time"])]
        raise DataError(
            f"{label}: {named}; the columns are {', '.join(map(repr, present))}. Say which holds what: "
            f"{_options(asked)} (in Python {', '.join(f'{kind}=' for kind in asked)})"
        )


def _options(kinds: Sequence[str]) -> str:
    return " ".join(f"--{kind} COL" for kind in kinds)
