"""A real browser for tests of pages: Chromium, driven by Playwright; skipped, with the reason, without them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ARGUMENTS = (
    "--no-sandbox",  # Chromium needs it as root
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",  # containers have little shared memory
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
TIMEOUT_MS = 100_000  # a busy machine is slow; on a healthy one nothing waits this long
HERE = ("127.0.0.1", "localhost", "")


@dataclass
class Opened:
    """A page, and what happened in it: errors of its console and scripts, and the URL of every request that it made.

    Requests to other machines are refused and listed, so that a test can check that the page made none.
    """

    page: Page
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def requests_outside(self) -> list[str]:
        """Requests that would have left this machine."""
        return [url for url in self.requests if not stays_here(url)]


OpenPage = Callable[..., Opened]


def stays_here(url: str) -> bool:
    """Tell whether ``url`` is a file, data in the page itself, or on this machine."""
    parts = urlsplit(url)
    return parts.scheme in ("file", "data", "blob", "about") or parts.hostname in HERE


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Start Chromium. Only for one module, because Playwright runs an event loop until it is closed."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright (pip install playwright)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(ARGUMENTS), timeout=TIMEOUT_MS)
        yield browser
        browser.close()


def open_in(
    browser: Browser,
    target: Path | str,
    *,
    width: int = 1440,
    height: int = 900,
    dark: bool = False,
    touch: bool = False,
) -> Opened:
    """Open a file or URL in its own window, or on a touch screen without a mouse.

    Close it with ``opened.page.context.close()``.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        has_touch=touch,
        is_mobile=touch,
    )
    context.set_default_timeout(TIMEOUT_MS)
    context.route(lambda url: not stays_here(url), lambda route: route.abort())
    opened = Opened(context.new_page())
    opened.page.on("request", lambda request: opened.requests.append(request.url))
    opened.page.on("pageerror", lambda error: opened.problems.append(str(error)))
    opened.page.on("console", lambda message: opened.problems.append(message.text) if message.type == "error" else None)
    opened.page.goto(target.resolve().as_uri() if isinstance(target, Path) else target)
    return opened


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[OpenPage]:
    """Open a page: ``open_page(path_or_url, width=1440, dark=False, touch=False)``; it is closed after the test."""
    contexts = []

    def open_(target: Path | str, **how: Any) -> Opened:
        opened = open_in(chromium, target, **how)
        contexts.append(opened.page.context)
        return opened

    yield open_
    for context in contexts:
        context.close()
