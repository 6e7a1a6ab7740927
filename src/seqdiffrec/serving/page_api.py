"""What only the page asks for: finding items and users, the run's facts, the map of the items, and denoising on it.

It has a worker of its own, so that people who look around do not stand in the way of recommendations.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar, cast

from fastapi import APIRouter, Depends, Query, Request

from seqdiffrec.serving.batching import Worker
from seqdiffrec.serving.page_data import PageData
from seqdiffrec.serving.page_schemas import (
    LONGEST_QUERY,
    MOST_FOUND,
    Denoising,
    DenoisingRequest,
    ItemsRequest,
    Map,
    NamedItems,
    Run,
    Users,
)
from seqdiffrec.serving.problems import declared
from seqdiffrec.serving.service import ServiceDep

router = APIRouter(prefix="/v1/page", responses=declared(401, 422, 500, 503), tags=["page"])

# Seconds that a look may be expected to take, and after which it is given up: the first at a large catalogue is long.
LONGEST_ANSWER, TIME_LIMIT = 2.0, 30.0

Text = Annotated[str, Query(max_length=LONGEST_QUERY, description="What to look for; nothing for all.")]
Limit = Annotated[int, Query(ge=1, le=MOST_FOUND)]
Returned = TypeVar("Returned")


class Page:
    """The page's worker, and what it keeps of the model that serves."""

    def __init__(self) -> None:
        self._worker: Worker[Callable[[], Any], Any] = Worker(
            "page", _work, most=8, longest_answer=LONGEST_ANSWER, time_limit=TIME_LIMIT
        )
        self._data: PageData | None = None

    async def ask(self, service: ServiceDep, work: Callable[[PageData], Returned]) -> Returned:
        """Let the worker look into the model that serves now. Raises Overloaded."""
        if self._data is None or self._data.served is not service.model:
            self._data = PageData(service.model)
        data = self._data
        return cast(Returned, await self._worker.ask(lambda: work(data)))


async def _page_of(request: Request) -> Page:
    state = request.app.state
    if not hasattr(state, "page"):
        state.page = Page()
    return state.page


PageDep = Annotated[Page, Depends(_page_of)]


@router.get("/run")
async def run(page: PageDep, service: ServiceDep) -> Run:
    """What the run is, how it was trained, how good it is."""
    return await page.ask(service, lambda data: data.run)


@router.get("/items")
async def items(page: PageDep, service: ServiceDep, q: Text = "", limit: Limit = 20) -> NamedItems:
    """Items whose title or id holds a text, in any case; those that begin with it first, then the most popular."""
    return await page.ask(service, lambda data: data.items(q, limit))


@router.post("/items", responses=declared(400, 413, 415))
async def named(asked: ItemsRequest, page: PageDep, service: ServiceDep) -> NamedItems:
    """The titles of items, in the order given."""
    return await page.ask(service, lambda data: data.named(asked.items))


@router.get("/users")
async def users(page: PageDep, service: ServiceDep, q: Text = "", limit: Limit = 20) -> Users:
    """Users of the log whose id holds a text."""
    return await page.ask(service, lambda data: data.users(q, limit))


@router.get("/map")
async def item_map(page: PageDep, service: ServiceDep) -> Map:
    """The most popular items on the two axes along which the items' vectors differ most."""
    return await page.ask(service, lambda data: data.map)


@router.post("/denoising", responses=declared(400, 413, 415))
async def denoising(asked: DenoisingRequest, page: PageDep, service: ServiceDep) -> Denoising:
    """The way from noise to an item, step by step, on the same axes."""
    return await page.ask(service, lambda data: data.denoising(asked))


def _work(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    return [_tried(task) for task in tasks]


def _tried(task: Callable[[], Any]) -> Any:
    try:
        return task()
    except Exception as error:  # told to the one who asked
        return error
