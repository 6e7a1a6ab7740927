"""What each request passes before the application sees it, and each answer after it.

Outside in: a number for the request, the log line and the counters; then who asks and from where; then the body, whole
and bounded. Whatever fails in here or further in is answered as a problem.
"""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from fastapi import Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seqdiffrec.serving.keys import Keys
from seqdiffrec.serving.metrics import Metrics
from seqdiffrec.serving.problems import ProblemError, problem

log = logging.getLogger("seqdiffrec.serving")

LARGEST_BODY, BODY_SECONDS = 2**20, 10.0
# Requests under way at a time; more are refused before anything is done for them.
MOST_AT_ONCE = 512
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Watch:
    """The outermost layer: gives each request a number, logs and counts it, and answers what nobody has caught."""

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, as ASGI has it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started, status = time.perf_counter(), 0
        scope.setdefault("state", {})["request"] = secrets.token_hex(8)

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = scope["state"]["request"]
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, send_on)
        except Exception:
            log.exception("request %s failed", scope["state"]["request"])
            if not status:
                answer = problem(500, "the service failed at this request; its log says why")
                await answer(scope, receive, send_on)
        finally:
            self._metrics.in_flight.dec()
            self._note(scope, status, time.perf_counter() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        # The route's pattern, never the path itself, which names people.
        found = getattr(scope.get("route"), "path_format", None) or "other"
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.requests.labels(method, found, str(status)).inc()
        self._metrics.seconds.labels(found).observe(seconds)
        facts = {"method": method, "route": found, "status": status, "ms": round(1e3 * seconds, 1)}
        caller = scope["state"].get("caller")
        log.info("answered", extra={"facts": {**facts, "request": scope["state"]["request"], "caller": caller}})


class Door:
    """Lets in who may come in, with a body that is no larger than it may be.

    keys: without them anyone on this machine may ask, by a name of this machine and from no other site's page.
    open_to_all: whether a path needs no key.
    full: why a path takes no more requests now, or None.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Keys | None,
        open_to_all: Callable[[str], bool],
        hosts: Collection[str],
        full: Callable[[str], str | None],
    ):
        self._app, self._keys, self._open = app, keys, open_to_all
        self._hosts, self._full = hosts, full
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, as ASGI has it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        self._under_way += 1
        try:
            refusal = self._refusal(scope, Headers(scope=scope))
            if refusal is None:
                receive = await _whole(scope, receive)
            await (refusal or self._app)(scope, receive, send)
        except ProblemError as error:
            await problem(error.status, error.detail, error.headers)(scope, receive, send)
        finally:
            self._under_way -= 1

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        path, changes = scope["path"], scope["method"] not in ("GET", "HEAD")
        host = headers.get("host", "")
        if self._keys is None and _name(host) not in self._hosts:
            return problem(421, f"without keys the service answers to {', '.join(self._hosts)} only, not to this Host")
        origin = headers.get("origin")
        if changes and origin is not None and urlsplit(origin).netloc != host:
            return problem(403, "pages of other sites may not change anything here")
        if self._keys is not None and not self._open(path):
            scheme, _, key = headers.get("authorization", "").partition(" ")
            caller = self._keys.name_of(key.strip()) if scheme.lower() == "bearer" else None
            if caller is None:
                how = "send a key of the service's file as `Authorization: Bearer KEY`"
                return problem(401, how, {"WWW-Authenticate": "Bearer"})
            scope["state"]["caller"] = caller
        why = self._full(path)
        if self._under_way > MOST_AT_ONCE or why is not None:
            return problem(503, why or "too many requests are under way", {"Retry-After": "1"})
        return None


async def _whole(scope: Scope, receive: Receive) -> Receive:
    """Read the body to its end, and hand it on. Raises ProblemError where it is too large, too slow or no JSON."""
    headers = Headers(scope=scope)
    told = headers.get("content-length", "")
    if told.isdecimal() and int(told) > LARGEST_BODY:
        raise _too_large()
    parts, size, more = list[bytes](), 0, True
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ProblemError(400, "the body was cut off")
                parts.append(message.get("body", b""))
                size, more = size + len(parts[-1]), message.get("more_body", False)
                if size > LARGEST_BODY:
                    raise _too_large()
    except TimeoutError:
        raise ProblemError(408, f"the body took more than {BODY_SECONDS:g} seconds", {"Connection": "close"}) from None
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if size and kind != "application/json":
        raise ProblemError(415, "send the body as JSON, with Content-Type: application/json")
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": b"".join(parts), "more_body": False}

    return again


def _too_large() -> ProblemError:
    return ProblemError(413, f"a body may have {LARGEST_BODY:,} bytes at most", {"Connection": "close"})


def _name(host: str) -> str:
    """A Host header without its port; the brackets of an IPv6 address are left out."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


class JsonLines(logging.Formatter):
    """A log record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z"
        line = {"time": when, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        line |= getattr(record, "facts", {})
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
