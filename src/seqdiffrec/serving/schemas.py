"""What goes in and out of the service, with the bounds of each field."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    WithJsonSchema,
    model_validator,
)
from typing_extensions import TypedDict

# A request is refused beyond these, so that none takes much longer than another.
MOST_K, MOST_SEEDS, MOST_PICKS, MOST_ITEMS, LONGEST_ID = 1000, 100, 10_000, 10_000, 256


def text_of(item_or_user: int | str) -> str:
    """The text of an id, by which it is kept and looked up: 4711 and "4711" are the same."""
    return str(item_or_user)


def checked_text(value: str) -> str:
    """A text that every database can hold. Raises ValueError."""
    if not 1 <= len(value) <= LONGEST_ID:
        raise ValueError(f"has {len(value):,} characters; give 1 to {LONGEST_ID}")
    if "\0" in value:
        raise ValueError("has the character NUL in it")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON can spell half of a character, a lone surrogate
        raise ValueError("has half of a character in it, which is no Unicode text") from error
    return value


def _checked_id(value: object) -> int | str:
    if isinstance(value, str):
        return checked_text(value)
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    raise ValueError("an id is a whole number of 64 bits, or a text")


_TEXT = {"type": "string", "minLength": 1, "maxLength": LONGEST_ID, "pattern": r"^[^\u0000\ud800-\udfff]*$"}
_NUMBER = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}

Id = Annotated[int | str, BeforeValidator(_checked_id), WithJsonSchema({"anyOf": [_NUMBER, _TEXT]})]
"""A user's or an item's id as the log had it: a number, or a text."""

PathId = Annotated[str, AfterValidator(checked_text), WithJsonSchema(_TEXT)]
"""An id in an address, where all are texts."""

Items = Annotated[list[Id], Field(max_length=MOST_ITEMS)]


class Strict(BaseModel):
    """Refuses a field that it does not know: a misspelt one would silently have no effect."""

    model_config = ConfigDict(extra="forbid")


class RecommendationRequest(Strict):
    """For whom, and what kind of list. Either a user, whose history the service knows, or a history, oldest first."""

    user_id: Id | None = None
    history: Items | None = None
    k: Annotated[StrictInt, Field(ge=1, le=MOST_K, description="Length of the list.")] = 10
    filter_viewed: Annotated[bool, Field(description="Leave out what the history has.")] = True
    exclude_items: Annotated[Items, Field(description="Items to leave out.")] = []
    items_to_recommend: Annotated[Items | None, Field(description="Recommend only of these.")] = None
    seeds: Annotated[
        StrictInt | None,
        Field(ge=0, le=MOST_SEEDS, description="Noise draws that are averaged; without it the model's own number."),
    ] = None
    picks: Annotated[bool, Field(description="Also the list of each single noise draw.")] = False

    @model_validator(mode="after")
    def _for_one(self) -> "RecommendationRequest":
        if (self.user_id is None) == (self.history is None):
            raise ValueError("say for whom: either user_id or history")
        return self


class Model(BaseModel):
    """Which model answered."""

    run: str
    model: str
    hash: Annotated[str, Field(description="SHA-256 of the weights.")]


class Listed(TypedDict):
    """An item of a list. score: a probability, or how alike two items are."""

    item_id: int | float | str
    title: str | None
    score: float
    rank: int


class Skipped(BaseModel):
    """Items of the request or of the history that the model does not know, and has left out."""

    count: int
    first: Annotated[list[int | str], Field(description="The first ten of them.")]


class Recommendations(BaseModel):
    """The list, best first; it is shorter than k where fewer items are left."""

    model: Model
    history_length: Annotated[int, Field(description="Known items that the answer rests on; 0: the most popular.")]
    skipped: Skipped
    approximate: Annotated[
        bool, Field(description="Whether the index named the items that were looked at; then scores are estimates.")
    ]
    recommendations: list[Listed]
    picks: Annotated[list[list[Listed]] | None, Field(description="One list for each noise draw, if asked for.")]


class Similar(BaseModel):
    """The items that the model sees as most alike, best first."""

    model: Model
    item_id: int | float | str
    title: str | None
    similar: list[Listed]


class EventRequest(Strict):
    """A user took an item. Sent again with the same key, it counts once."""

    user_id: Id
    item_id: Id
    key: Annotated[str, AfterValidator(checked_text), WithJsonSchema(_TEXT), Field(description="Of your choice.")]


class EventAnswer(BaseModel):
    """The event is on the disk."""

    user_id: int | str
    item_id: int | str
    key: str
    recorded: Annotated[bool, Field(description="False where an event with this key was there already.")]
    known_item: Annotated[
        bool, Field(description="Whether the model knows the item; if not, it waits for one that does.")
    ]


class Taken(BaseModel):
    """An item of a history. source: the log of training, or an event."""

    item_id: int | float | str
    title: str | None
    source: Literal["log", "event"]
    known: bool


class History(BaseModel):
    """What a user has taken, oldest first; the newest `limit` items. Empty for a user that nobody has heard of."""

    user_id: int | float | str
    length: Annotated[int, Field(description="Of the whole history, as far as the service looks back.")]
    items: list[Taken]


class ReloadAnswer(BaseModel):
    """The model that serves from now on, and the one before."""

    model: Model
    before: Model


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: Annotated[list[dict[str, Any]] | None, Field(description="Each field that is wrong.")] = None


class Alive(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(BaseModel):
    """The service answers, with this model."""

    status: Literal["ready"] = "ready"
    model: Model
