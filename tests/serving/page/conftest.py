"""A tiny model of a catalogue with awkward titles, served on this machine, and a browser to look at it with."""

import random
from collections.abc import Iterator
from pathlib import Path

import axe_playwright_python
import polars as pl
import pytest
from playwright.sync_api import BrowserContext, Page, sync_playwright

import seqdiffrec as sdr
from docs.screenshots import Served, chromium, find_chromium
from seqdiffrec.serving import create_app
from seqdiffrec.training import Reporter

MARKUP = '<img src="x" onerror="document.title = \'broken into\'"><b>Bold</b>'
LONG = "A very long title " * 100
ITEMS = 40
SETTINGS = {"epochs": 2, "batch_size": 64, "max_length": 6, "hidden_size": 8, "num_layers": 1, "embedding_std": 0.5}


def make_data(titles: bool = True) -> sdr.Dataset:
    rng = random.Random(0)
    log = [(100 + user, 10 + rng.randrange(ITEMS)) for user in range(30) for _ in range(rng.randint(3, 9))]
    log += [(200, 10 + item) for item in range(ITEMS)]
    names = {10: "Amélie", 11: "Matrix, The (1999)", 12: "The Thing", 13: MARKUP, 14: LONG, 15: None}
    items = pl.DataFrame(
        {"item_id": range(10, 10 + ITEMS), "title": [names.get(item, f"Film {item}") for item in range(10, 10 + ITEMS)]}
    )
    frame = pl.DataFrame(log, schema=["user_id", "item_id"], orient="row")
    return sdr.Dataset.from_interactions(frame, items=items if titles else None, name="films")


def fit(folder: Path, name: str = "DiffRec", titles: bool = True, **settings: object) -> Path:
    changed = {"num_steps": 40, "num_seeds": 3, **SETTINGS} if name == "DiffRec" else settings
    getattr(sdr, name)(**(changed | settings)).fit(make_data(titles), out=folder, reporter=Reporter())
    return folder


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    return fit(tmp_path_factory.mktemp("runs") / "films")


@pytest.fixture(scope="session")
def app(run, tmp_path_factory):
    return create_app(run, store=tmp_path_factory.mktemp("store") / "events.sqlite")


@pytest.fixture(scope="session")
def served(app) -> Iterator[Served]:
    served = Served(app)
    yield served
    served.stop()


# Of the module, since an event loop runs in this thread as long as the browser does, and other tests have their own.
@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[BrowserContext]:
    if find_chromium() is None:
        pytest.skip("there is no Chromium here: apt-get install chromium, or set CHROMIUM to where it is")
    with sync_playwright() as playwright, chromium(playwright, tmp_path_factory.mktemp("profile")) as context:
        yield context


@pytest.fixture
def page(browser, served) -> Iterator[Page]:
    """A fresh tab. Whatever asks another address than the service's, or fails on the page, fails the test."""
    page = browser.new_page()
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    page.set_viewport_size({"width": 1200, "height": 900})
    wrong: list[str] = []
    page.on("request", lambda request: None if request.url.startswith(served.url) else wrong.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    page.close()
    assert wrong == []


@pytest.fixture(scope="session")
def axe():
    """axe(page): what axe-core finds wrong on the page, a line each."""
    source = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")

    def run(page: Page) -> list[str]:
        # By the debugger, which the page's policy on scripts does not bind.
        if page.evaluate("typeof axe") == "undefined":
            page.evaluate(f"{source};0")
        found = page.evaluate("axe.run().then((found) => found.violations)")
        return [f"{one['id']}: {node['html']} {node['failureSummary']}" for one in found for node in one["nodes"]]

    return run
