"""Requests made up from the OpenAPI document: no 5xx, and no answer outside it."""

import os
import threading

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from seqdiffrec.serving import create_app
from seqdiffrec.serving.server import listen

# Cases of each operation and kind. For 36,000 in all (18 kinds that take something):
# SEQDIFFREC_API_CASES=2000 python -m pytest tests/serving/test_openapi.py
CASES = int(os.environ.get("SEQDIFFREC_API_CASES", "10"))
load_all_checks()
CHECKS = [
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
]


# Loading a model takes long, and has tests of its own; what it takes and answers is checked there.
OPERATIONS = {
    "POST /v1/recommendations",
    "POST /v1/events",
    "GET /v1/items/{item_id}/similar",
    "GET /v1/users/{user_id}/history",
    "DELETE /v1/users/{user_id}/history",
    "GET /health/live",
    "GET /health/ready",
    "GET /metrics",
    "GET /v1/page/run",
    "GET /v1/page/items",
    "POST /v1/page/items",
    "GET /v1/page/users",
    "GET /v1/page/map",
    "POST /v1/page/denoising",
}


@pytest.fixture(scope="module")
def url(trained, tmp_path_factory):
    """The service behind a real port, in a thread."""
    socket = listen("127.0.0.1", 0)
    app = create_app(trained, store=tmp_path_factory.mktemp("openapi") / "events.sqlite")
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def operations(url):
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    found = [result.ok() for result in schema.get_all_operations()]
    return {operation.label: operation for operation in found}


def test_all_operations_are_known(operations) -> None:
    assert set(operations) == OPERATIONS | {"POST /v1/models/reload"}


@pytest.mark.parametrize("label", sorted(OPERATIONS))
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_no_answer_outside_the_schema(operations, url, label, mode) -> None:
    """With what the schema allows, and with what it does not."""
    operation = operations[label]
    if mode is schemathesis.GenerationMode.NEGATIVE and not any(
        (operation.body, operation.query, operation.path_parameters)
    ):
        pytest.skip("takes nothing that could be wrong")
    statuses = set()

    @settings(max_examples=CASES, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def check(case) -> None:
        answer = case.call(base_url=url)
        statuses.add(answer.status_code)
        assert answer.status_code < 500, answer.text
        case.validate_response(answer, checks=CHECKS)

    check()
    assert statuses
