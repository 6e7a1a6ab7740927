"""The application: routes, errors, the page and what stands before them, put together."""

from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles

from seqdiffrec.serving.docs import describe, router as docs_router
from seqdiffrec.serving.gate import LOOPBACK, Door, Watch
from seqdiffrec.serving.health import router as health_router
from seqdiffrec.serving.keys import Keys
from seqdiffrec.serving.page_api import router as page_router
from seqdiffrec.serving.problems import add_problem_handlers
from seqdiffrec.serving.routes import router
from seqdiffrec.serving.service import Limits, Service

PAGE = Path(__file__).parent / "page"
DESCRIPTION = "What a user takes next, as probabilities. Errors are problem details (RFC 9457)."


def create_app(
    run: str | Path,
    *,
    store: str | Path,
    keys: Keys | None = None,
    hosts: Collection[str] = LOOPBACK,
    limits: Limits | None = None,
    threads: int | None = None,
    approximate: bool = False,
) -> FastAPI:
    """The service of a run, as an ASGI application. Its lifespan ends what it began.

    run: its folder, read again by ``POST /v1/models/reload``; a link to one will do.
    store: where events are kept: a path for SQLite, or a URL of PostgreSQL.
    keys: without them anyone who reaches the service may use it, by one of the names ``hosts`` only.
    threads: cores of a process of its own for the model, which serves twice as many as one that shares this process;
        None lets it share.
    approximate: look only at the items that the run's index names (`Recommender.build_index`).
    Raises RunError for a run that cannot serve or has no index, DataError for a store that cannot be opened.
    """
    service = Service(Path(run), store, limits or Limits(), threads, approximate=approximate)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        service.lateness.start()
        yield
        service.lateness.stop()
        service.close()

    app = FastAPI(
        title="SeqDiffRec",
        version=metadata.version("seqdiffrec"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    add_problem_handlers(app)
    page = _page()
    open_paths = {"/openapi.json"} | {str(getattr(one, "path", "")) for one in [*page.routes, *docs_router.routes]}
    for part in (router, health_router, page_router, docs_router, page):
        app.include_router(part)
    describe(app, needs_key=keys is not None)

    def open_to_all(path: str) -> bool:
        return path in open_paths or path.startswith("/health/")

    # The one added last is the outermost.
    app.add_middleware(Door, keys=keys, open_to_all=open_to_all, hosts=tuple(hosts), full=service.full)
    app.add_middleware(Watch, metrics=service.metrics)
    return app


def _page() -> APIRouter:
    """An address for each file of the page, and `/` for its index.

    One by one: what stands for all other addresses would answer in the place of the API, with a 404 for a 405.
    """
    files, found = StaticFiles(directory=PAGE), APIRouter(include_in_schema=False)

    def add(address: str, name: str) -> None:
        async def file(request: Request) -> Response:
            answer = await files.get_response(name, request.scope)
            answer.headers["Cache-Control"] = "no-cache"
            return answer

        found.add_api_route(address, file, methods=["GET", "HEAD"], response_model=None)

    add("/", "index.html")
    for path in sorted(PAGE.rglob("*")):
        if path.is_file():
            name = path.relative_to(PAGE).as_posix()
            add(f"/{name}", name)
    return found
