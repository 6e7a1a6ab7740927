"""The service at an address: uvicorn, its limits, and logs as lines of JSON."""

import gc
import logging
import signal
import socket
import sys

import uvicorn
from fastapi import FastAPI

from seqdiffrec.models.settings import SettingError
from seqdiffrec.serving.gate import JsonLines
from seqdiffrec.serving.http import BoundedHttp

# Seconds that an idle connection is kept, and that requests under way have to end when the service is told to stop.
KEEP_ALIVE, LAST_SECONDS = 15, 15
# Connections that may wait to be taken.
BACKLOG = 1024


def listen(host: str, port: int) -> socket.socket:
    """A socket at an address; port 0 takes a free one. Raises SettingError where the address cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(BACKLOG)
    except OSError as error:
        free = "choose another --port (0 takes a free one)" if port else "choose another --host"
        raise SettingError(f"cannot listen at {host}:{port}: {error.strerror or error}; {free}") from error
    return found


def serve(app: FastAPI, at: socket.socket) -> None:
    """Serve until told to stop (SIGINT, SIGTERM); requests under way are answered first.

    Must be called from the main thread.
    """
    config = uvicorn.Config(
        app,
        http=BoundedHttp,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=LAST_SECONDS,
    )
    for stop in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal again when all is done, for the handler that was there before it; being told to stop
        # is no failure.
        signal.signal(stop, lambda number, frame: None)
    gc.freeze()  # a full collection would walk over all that was imported and loaded, and requests would wait for it
    uvicorn.Server(config).run(sockets=[at])


def log_as_json(level: int = logging.INFO) -> None:
    """Log to standard output from now on, a JSON object a line."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)
