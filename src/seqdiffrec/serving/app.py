"""The application: routes, errors and the page, put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

from seqdiffrec.serving.history import HistoryStore
from seqdiffrec.serving.page_api import router as page_router
from seqdiffrec.serving.problems import add_problem_handlers
from seqdiffrec.serving.routes import router
from seqdiffrec.serving.schemas import MOST_ITEMS
from seqdiffrec.serving.service import Service

PAGE = Path(__file__).parent / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def create_app(run: str | Path, *, store: str) -> FastAPI:
    """The service of a run. Raises RunError where the run is broken.

    store: where events go, an SQLAlchemy URL.
    """
    service = Service(Path(run), HistoryStore(store, MOST_ITEMS))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(title="SeqDiffRec", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = service
    app.add_middleware(BaseHTTPMiddleware, dispatch=_with_policy)
    add_problem_handlers(app)
    app.include_router(router)
    app.include_router(page_router)
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


async def _with_policy(request: Request, call_next: RequestResponseEndpoint) -> Response:
    response = await call_next(request)
    response.headers["Content-Security-Policy"] = POLICY
    return response
