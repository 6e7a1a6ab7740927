"""Whether the service lives, whether it can answer, and its figures."""

from typing import Any

from fastapi import APIRouter, Response

from seqdiffrec.serving.problems import ProblemError, declared
from seqdiffrec.serving.schemas import Alive, Ready
from seqdiffrec.serving.service import ServiceDep

router = APIRouter()


@router.get("/health/live", responses=declared(500))
async def live() -> Alive:
    """The process runs and answers."""
    return Alive()


@router.get("/health/ready", responses=declared(500, 503))
async def ready(service: ServiceDep) -> Ready:
    """A model is loaded and the store answers; a balancer sends requests only then."""
    if service.closing:
        raise ProblemError(503, "the service is shutting down")
    await service.ping()
    return Ready(model=service.model.identity)


_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"description": "Figures in the text format of Prometheus", "content": {"text/plain": {}}}
}


@router.get("/metrics", response_class=Response, responses=_TEXT | declared(401, 500))
async def metrics(service: ServiceDep) -> Response:
    """Figures for Prometheus."""
    content, kind = service.figures()
    return Response(content, media_type=kind)
