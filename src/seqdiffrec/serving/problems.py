"""Errors as problem details (RFC 9457): one form for all of them, without traces of the code or the input."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from seqdiffrec.data.errors import DataError
from seqdiffrec.models.settings import SettingError
from seqdiffrec.serving.batching import Overloaded
from seqdiffrec.serving.database import StoreUnavailable
from seqdiffrec.serving.model_process import ModelUnavailable
from seqdiffrec.training import RunError

MEDIA_TYPE = "application/problem+json"
# No more wrong fields than this are listed.
MOST_ERRORS = 20


class ProblemError(Exception):
    """A refusal of a request: its status, and what to tell the caller."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None):
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


def problem(
    status: int, detail: str, headers: dict[str, str] | None = None, errors: list[dict[str, Any]] | None = None
) -> Response:
    """An answer that says what went wrong."""
    content: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    content["detail"] = detail
    if errors is not None:
        content["errors"] = errors
    return JSONResponse(content, status, headers, media_type=MEDIA_TYPE)


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What an OpenAPI operation says of the problems that it may answer with."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in sorted(statuses)}


def add_problem_handlers(app: FastAPI) -> None:
    """Answer every error of the application as a problem."""

    @app.exception_handler(ProblemError)
    def _refused(request: Request, error: ProblemError) -> Response:
        return problem(error.status, error.detail, error.headers)

    @app.exception_handler(Overloaded)
    def _overloaded(request: Request, error: Overloaded) -> Response:
        return problem(503, str(error), {"Retry-After": str(error.retry_after)})

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> Response:
        return problem(error.status_code, _said(error, request), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> Response:
        found = error.errors()
        if found and found[0]["type"] == "json_invalid":
            why = found[0].get("ctx", {}).get("error", "it cannot be read")
            return problem(400, f"the body is not JSON: {why}")
        errors = [
            {"where": [str(part) for part in one["loc"]], "what": one["msg"].removeprefix("Value error, ")}
            for one in found[:MOST_ERRORS]
        ]
        first = f"{'.'.join(errors[0]['where'])}: {errors[0]['what']}"
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return problem(422, first + more, errors=errors)

    def _mistake(request: Request, error: Exception) -> Response:
        return problem(422, str(error))

    for kind in (DataError, SettingError, RunError):
        app.add_exception_handler(kind, _mistake)

    @app.exception_handler(ModelUnavailable)
    def _no_model(request: Request, error: ModelUnavailable) -> Response:
        return problem(503, str(error), {"Retry-After": "5"})

    @app.exception_handler(StoreUnavailable)
    def _no_store(request: Request, error: StoreUnavailable) -> Response:
        return problem(503, f"the store of histories cannot be used now: {error}", {"Retry-After": "5"})


def _said(error: HTTPException, request: Request) -> str:
    if error.status_code == 404:
        return "there is nothing at this address; /docs lists what there is"
    if error.status_code == 405:
        return f"{request.method} is not for this address"
    return str(error.detail)
