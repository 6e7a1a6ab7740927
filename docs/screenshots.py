"""Takes the pictures of the page that stand in the docs: `python docs/screenshots.py RUN`.

RUN is the folder of a run on data with titles, such as that of `make demo`. Needs playwright (extra `test`) and a
Chromium (`apt-get install chromium`, or CHROMIUM=/path/to/it). The pictures are written to docs/images/.
"""

import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from PIL import Image
from playwright.sync_api import BrowserContext, Page, Playwright, sync_playwright

from seqdiffrec.serving import create_app

IMAGES = Path(__file__).parent / "images"
# Without its own traffic: it asks for updates, lists and fonts that the pictures and tests do not need.
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("desktop", "dark", "run", "phone")
DESKTOP, PHONE = {"width": 1240, "height": 1000}, {"width": 360, "height": 760}


def find_chromium() -> str | None:
    """Where a Chromium is; None where there is none."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@contextmanager
def chromium(playwright: Playwright, profile: Path, **options: object) -> Iterator[BrowserContext]:
    """A browser with a profile of its own."""
    context = playwright.chromium.launch_persistent_context(
        str(profile), executable_path=find_chromium(), headless=True, args=ARGUMENTS, **options
    )
    context.set_default_timeout(10_000)
    try:
        yield context
    finally:
        context.close()


class Served:
    """An application on a free port of this machine, which can be stopped and started again at the same place."""

    def __init__(self, app: object):
        self.app = app
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.start()

    def start(self) -> None:
        config = uvicorn.Config(self.app, port=self.port, log_level="warning", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the service did not start"
            time.sleep(0.02)

    def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()

    @contextmanager
    def elsewhere(self, app: object) -> Iterator[None]:
        """Another application at the same place for a while."""
        self.stop()
        own, self.app = self.app, app
        self.start()
        try:
            yield
        finally:
            self.stop()
            self.app = own
            self.start()


def settled(page: Page) -> None:
    """Wait until the list is there and nothing is being asked."""
    page.wait_for_selector("#next:not([aria-busy]) li")
    page.wait_for_timeout(400)  # for what moves


def take_pictures(run: Path, images: Path) -> None:
    """All pictures, each of the same user and items."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        served = Served(create_app(run, store=Path(folder) / "events.sqlite"))
        with chromium(playwright, Path(folder) / "profile", viewport=DESKTOP) as browser:
            page = browser.pages[0]
            page.goto(f"{served.url}#user=196&picks=shown")
            settled(page)
            page.screenshot(path=images / "page-desktop.png", full_page=True)

            page.emulate_media(color_scheme="dark")
            page.locator("#next .take").nth(2).click()
            settled(page)
            page.screenshot(path=images / "page-dark.png")

            page.emulate_media(color_scheme="light")
            page.goto("about:blank")
            page.goto(f"{served.url}#tab=run&user=196")
            page.wait_for_selector("#map .state")
            page.locator("#stage").fill("22")
            page.wait_for_timeout(300)
            page.screenshot(path=images / "page-run.png", full_page=True)

            page.set_viewport_size(PHONE)
            page.goto("about:blank")
            page.goto(f"{served.url}#user=196&k=5")
            settled(page)
            page.screenshot(path=images / "page-phone.png", full_page=True)
        served.stop()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("give the folder of a run: python docs/screenshots.py runs/demo/diffrec")
    if find_chromium() is None:
        sys.exit("there is no Chromium here: apt-get install chromium, or set CHROMIUM to where it is")
    IMAGES.mkdir(exist_ok=True)
    take_pictures(Path(sys.argv[1]), IMAGES)
    for name in NAMES:  # a screen has few colours: a quarter of the bytes
        picture = IMAGES / f"page-{name}.png"
        Image.open(picture).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(picture, optimize=True)
    print(f"page-{{{','.join(NAMES)}}}.png are in {IMAGES}")
