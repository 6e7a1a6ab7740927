"""What only the page asks for, and what it is answered."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictInt

from seqdiffrec.serving.schemas import Items, Listed, Strict

MOST_FOUND, MOST_STAGES, MAP_ITEMS, LONGEST_QUERY = 50, 50, 2000, 200

AnId = int | float | str
Protocol = Literal["seen_kept", "seen_removed"]


class Item(BaseModel):
    """An item by its id; no title where none is known."""

    item_id: AnId
    title: str | None
    known: Annotated[bool, Field(description="Whether the model knows it.")] = True


class NamedItems(BaseModel):
    """Items, in the order of the question or the best match first."""

    items: list[Item]


class User(BaseModel):
    """A user of the log, and how many items it has of them."""

    user_id: AnId
    length: int


class Users(BaseModel):
    """Users whose id matches; none where the run no longer has its log."""

    users: list[User]
    in_log: Annotated[int, Field(description="How many users the log has.")]


class ItemsRequest(Strict):
    """Ids of items to be named."""

    items: Items


class Epoch(BaseModel):
    """An epoch of training: the parts of its loss, and the validation metrics by protocol."""

    epoch: int
    train: dict[str, float]
    validation: dict[str, dict[str, float]]


class Figure(BaseModel):
    """A metric over some cases; low and high are the ends of its 95 % interval, where the run has one."""

    metric: str
    part: Literal["validation", "test"]
    protocol: Protocol
    value: float
    low: float | None = None
    high: float | None = None


class System(BaseModel):
    """A model that `fit` compared, and its figures."""

    model: str
    chosen: bool
    settings: str
    figures: list[Figure]


class Segment(BaseModel):
    """A part of the test cases, what it is in words, and its figures."""

    name: str
    told: str
    cases: int
    figures: list[Figure]


class Run(BaseModel):
    """The run that serves: what it is, how it was trained, how good it is.

    draws_noise: whether the number of seeds makes a difference. num_steps: of its diffusion, null without one.
    figures: of the best epoch. compared: what `fit` compared it with, itself first. facts: name and value, for people.
    """

    run: str
    hash: str
    model: str
    summary: str
    paper: str | None
    draws_noise: bool
    default_seeds: int
    num_steps: int | None
    max_length: int
    num_items: int
    has_titles: bool
    data: str
    best_epoch: int | None
    curves: list[Epoch]
    figures: list[Figure]
    compared: list[System]
    segments: list[Segment]
    facts: dict[str, str]
    settings: dict[str, Any]


class Point(BaseModel):
    """An item on the map."""

    item_id: AnId
    title: str | None
    x: float
    y: float


class Map(BaseModel):
    """The most popular items on two axes. note: why there is no map, where there is none.

    shares: of the items' variance that each axis shows.
    """

    note: str | None
    shares: list[float]
    points: list[Point]


class DenoisingRequest(Strict):
    """A history, oldest first, the seed of the noise, and how many of the diffusion's steps are taken."""

    history: Items
    seed: Annotated[StrictInt, Field(ge=0, le=2**31 - 1)] = 0
    steps: Annotated[StrictInt, Field(ge=1, le=MOST_STAGES)] = 30
    filter_viewed: bool = True


class Stage(BaseModel):
    """What stands at the target's place at diffusion step n.

    x, y: where h_n lies on the map; predicted_x, predicted_y: the h_0 that the denoiser predicts from it.
    nearest: items in whose direction h_n points. said: what the predicted h_0 stands for, with probabilities.
    """

    step: int
    x: float
    y: float
    predicted_x: float
    predicted_y: float
    nearest: list[Point]
    said: list[Listed]


class Denoising(BaseModel):
    """From step N to 0 (Algorithm 2); a single stage, the model's state, for a model without a diffusion.

    note: what is to be said about it, and why there is nothing where there is nothing.
    """

    kind: Literal["diffusion", "state", "none"]
    note: str | None
    stages: list[Stage]
