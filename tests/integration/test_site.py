"""The built docs: every link leads somewhere, and every page fits a phone and loads nothing from elsewhere."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(page.stem for page in (ROOT / "docs").glob("*.md"))


class Links(HTMLParser):
    """The ids of a page, and its links and images."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.names: set[str] = {""}
        self.links: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id" and value:
                self.names.add(value)
            elif name in ("href", "src") and value and "://" not in value and not value.startswith("data:"):
                self.links.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return out


def test_every_link_leads_somewhere(site: Path) -> None:
    pages = {name: Links(site / f"{name}.html") for name in PAGES}
    lost = [f"{name}: {link}" for name, page in pages.items() for link in lost_links(site, name, page.links, pages)]
    assert lost == []
    assert sum(len(page.links) for page in pages.values()) > 100


def lost_links(site: Path, name: str, links: list[str], pages: dict[str, Links]) -> Iterator[str]:
    for link in links:
        path, _, part = unquote(link).partition("#")
        target = (site / path).resolve() if path else site / f"{name}.html"
        target = target / "index.html" if target.is_dir() else target
        if not target.is_file() or (target.stem in pages and part not in pages[target.stem].names):
            yield link


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """The address at which the site is served. A page that is opened as a file could not read the search index."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_pages_fit_and_load_nothing_from_elsewhere(address: str, open_page: Any) -> None:
    opened = open_page(f"{address}/index.html", width=390)
    too_wide = []
    for name in PAGES:
        opened.page.goto(f"{address}/{name}.html")
        for width in (390, 1440):
            opened.page.set_viewport_size({"width": width, "height": 900})
            if opened.page.evaluate("document.documentElement.scrollWidth") > width:
                too_wide.append((name, width))
    assert (too_wide, opened.problems, opened.requests_outside) == ([], [], [])
