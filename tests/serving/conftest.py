"""A small run to serve, in memory or by a process of its own."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import polars as pl
import pytest
from fastapi.testclient import TestClient

import seqdiffrec as sdr
from seqdiffrec.serving import create_app
from seqdiffrec.training import Reporter

SETTINGS = {"epochs": 1, "batch_size": 64, "max_length": 6, "hidden_size": 8, "num_layers": 1, "num_steps": 10}
SETTINGS |= {"num_seeds": 3, "attention": "shared_history", "embedding_std": 0.5, "weight_std": 0.5}
LOCAL = "http://127.0.0.1"


def log(texts: bool = False) -> pl.DataFrame:
    """Sixteen users, from 100 on, and fourteen items, 10 to 140, with titles; as numbers or as texts."""
    rows = [(100 + user, 10 * (1 + (user * step + step) % 14)) for user in range(16) for step in range(1, 4 + user % 5)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    return frame.cast(pl.String) if texts else frame


def fitted(out: Path, seed: int = 3, **changes: Any) -> Path:
    sdr.DiffRec(**{**SETTINGS, "seed": seed, **changes}).fit(
        sdr.Dataset.from_interactions(log()), out=out, reporter=Reporter()
    )
    return out


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    return fitted(tmp_path_factory.mktemp("runs") / "trained")


@pytest.fixture(scope="session")
def retrained(tmp_path_factory) -> Path:
    return fitted(tmp_path_factory.mktemp("runs") / "retrained", seed=4)


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture(scope="session")
def client(trained, tmp_path_factory) -> Iterator[TestClient]:
    """One service for all tests that do not break it; each takes users and keys of its own."""
    with serving(trained, store=tmp_path_factory.mktemp("store") / "events.sqlite") as one:
        yield one


@contextmanager
def serving(run: Path, **how: Any) -> Iterator[TestClient]:
    """A service in this process."""
    with TestClient(create_app(run, **how), base_url=LOCAL, raise_server_exceptions=False) as one:
        yield one


@contextmanager
def process(run: Path, store: object, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`seqdiffrec serve` in a process of its own, and its address."""
    command = [sys.executable, "-m", "seqdiffrec", "serve", str(run), "--port", "0", "--store", str(store), *words]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env) as started:
        assert started.stderr is not None
        try:
            said = started.stderr.readline()
            assert " at http://" in said, said + started.stderr.read()
            url = said.split(" at ")[1].split()[0]
            deadline = time.monotonic() + 30
            while True:
                try:
                    httpx.get(f"{url}/health/live", timeout=5)
                    break
                except httpx.TransportError:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            yield started, url
        finally:
            started.kill()


@pytest.fixture(scope="module")
def postgres(postgres_server) -> str:
    """The URL of a PostgreSQL to throw away."""
    return postgres_server.url


def ask(client: TestClient, **body: Any) -> Any:
    return client.post("/v1/recommendations", json=body)


def take(client: TestClient, user: int | str, item: int | str, key: str) -> Any:
    return client.post("/v1/events", json={"user_id": user, "item_id": item, "key": key})


def items_of(answer: Any) -> list[Any]:
    assert answer.status_code == 200, answer.text
    return [one["item_id"] for one in answer.json()["recommendations"]]
