"""The addresses below /v1."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from seqdiffrec.serving.addresses import ITEM, USER
from seqdiffrec.serving.answering import NO_ITEMS
from seqdiffrec.serving.history import Event, Forget, KeyTaken
from seqdiffrec.serving.problems import ProblemError, declared
from seqdiffrec.serving.schemas import (
    MOST_K,
    EventAnswer,
    EventRequest,
    History,
    PathId,
    RecommendationRequest,
    Recommendations,
    ReloadAnswer,
    Similar,
    Taken,
    text_of,
)
from seqdiffrec.serving.served import ServedModel
from seqdiffrec.serving.service import ServiceDep

router = APIRouter(prefix="/v1", responses=declared(401, 422, 500, 503))


@router.post("/recommendations", responses=declared(400, 413, 415))
async def recommend(asked: RecommendationRequest, service: ServiceDep) -> Recommendations:
    """What comes next after a user's or a given history."""
    model, length, skipped, lists = await service.recommend(asked)
    return Recommendations(
        model=model.identity,
        history_length=length,
        skipped=skipped,
        approximate=model.index is not None and length > 0,
        recommendations=lists.best,
        picks=lists.picks,
    )


@router.post("/events", status_code=201, responses=declared(400, 409, 413, 415) | {200: {"model": EventAnswer}})
async def record(event: EventRequest, service: ServiceDep, response: Response) -> EventAnswer:
    """A user took an item: the next request knows it. 201 where it is new, 200 where its key was there already."""
    try:
        new = await service.change(Event(text_of(event.user_id), text_of(event.item_id), event.key))
    except KeyTaken as error:
        raise ProblemError(409, str(error)) from error
    if not new:
        response.status_code = 200
    known = service.model.item_index(event.item_id) is not None
    return EventAnswer(**event.model_dump(), recorded=new, known_item=known)


@router.get(f"/items/{ITEM}/similar", responses=declared(404))
async def similar(item_id: PathId, service: ServiceDep, k: Annotated[int, Query(ge=1, le=MOST_K)] = 10) -> Similar:
    """The items that the model sees as most alike."""
    model = service.model
    item = model.item_index(item_id)
    if item is None:
        raise ProblemError(404, f"item {item_id!r} is not in the catalogue of {model.num_items} items")
    found = await service.compute(lambda: model.similar(item, k))
    return Similar(model=model.identity, item_id=model.ids[item - 1], title=model.titles[item - 1], similar=found)


@router.get(f"/users/{USER}/history")
async def history(user_id: PathId, service: ServiceDep, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> History:
    """What a user has taken: in the log of training, then by events; oldest first, the newest `limit` of it."""
    model = service.model
    stored = await service.stored(user_id)
    logged = NO_ITEMS if stored.log_forgotten else model.logged(user_id)
    items = [_taken(model, model.ids[index - 1], "log") for index in logged[-limit:].tolist()]
    items += [_taken(model, item, "event") for item in stored.items[-limit:]]
    return History(user_id=user_id, length=len(logged) + len(stored.items), items=items[-limit:])


@router.delete(f"/users/{USER}/history", status_code=204)
async def forget(user_id: PathId, service: ServiceDep) -> None:
    """Forget a user: their events are deleted, and what the log has of them no longer counts."""
    await service.change(Forget(user_id))


@router.post("/models/reload", responses=declared(409))
async def reload(service: ServiceDep) -> ReloadAnswer:
    """Read the run's folder again: what lies there now is checked, then serves. Refused (409), the old model stays."""
    before, now = await service.reload()
    return ReloadAnswer(model=now, before=before)


def _taken(model: ServedModel, item: int | str, source: Literal["log", "event"]) -> Taken:
    index = model.item_index(item)
    if index is None:
        return Taken(item_id=item, title=None, source=source, known=False)
    return Taken(item_id=model.ids[index - 1], title=model.titles[index - 1], source=source, known=True)
