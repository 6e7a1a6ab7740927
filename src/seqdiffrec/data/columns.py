"""Which columns of a log hold the user, the item and the time, by the names that people give them."""

import re
from collections.abc import Collection, Sequence

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
    for kind in kinds:
        known = _KNOWN[kind]
        wanted = next((one for one in (*known, *(f"{one}id" for one in known)) if one in plain), None)
        if wanted is not None:
            if plain.count(wanted) > 1:
                twice = [name for name, one in zip(names, plain, strict=True) if one == wanted]
                raise DataError(f"{label}: {' and '.join(map(repr, twice))} may both be the {kind}; say which")
            found[kind] = names[plain.index(wanted)]
        elif kind != "time":
            raise DataError(
                f"{label}: none of the columns {', '.join(map(repr, names))} is called as a {kind} usually is; say "
                f"which it is: --{kind} NAME"
            )
    return found
