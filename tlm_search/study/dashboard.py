"""Serve Optuna Dashboard on a study's storage, for this machine only.

Any page in the user's browser can send requests to 127.0.0.1. ``Door`` passes only requests that address this machine
by one of its own names, and without ``writable`` only requests that read.
"""

from __future__ import annotations

import json
import socketserver
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from tlm_search.errors import StudyError
from tlm_search.study.location import StudyLocation
from tlm_search.study.showcase import Draw, Showcase

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HOST = "127.0.0.1"
_OWN_NAMES = {HOST, "localhost", "::1"}
_READING = {"GET", "HEAD"}


def serve(
    location: StudyLocation,
    *,
    port: int,
    draw: Draw,
    writable: bool,
    ready: Callable[[str], None],
    problem: Callable[[str], None],
) -> None:
    """Serve the dashboard until Ctrl-C. Port 0 takes a free port; ``ready`` is called with the study's address.

    ``draw`` returns the figures and the report that the dashboard shows in addition to its own pages. If that fails,
    ``problem`` is called with the reason, and everything else is served. With ``writable`` users of the page can change
    and delete trials and studies.

    Raises:
        StudyError: the port is in use, or the study cannot be opened.
    """
    from optuna_dashboard import wsgi

    study = location.open()
    showcase = Showcase(study, location.folder, draw)
    application = Door(wsgi(showcase, artifact_store=showcase.artifacts), writable=writable)
    try:
        server = make_server(HOST, port, application, server_class=_Server, handler_class=_SilentHandler)
    except OSError as error:
        raise StudyError(
            f"port {port} on {HOST} cannot be used: {error.strerror or error}",
            hint="choose another with --port; --port 0 takes a free one",
        ) from error
    with server, showcase.kept_up(problem):
        ready(f"http://{HOST}:{server.server_port}/dashboard/studies/{study._study_id}")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


class Door:
    """WSGI middleware that refuses other host names, other origins and, unless it is ``writable``, changes.

    A foreign page reaches 127.0.0.1 under the page's name (DNS rebinding) or as another origin. Any port is allowed,
    because a tunnel uses a port of its own.
    """

    def __init__(self, app: WSGIApplication, *, writable: bool) -> None:
        self._app = app
        self._writable = writable

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass the request on, or answer 403 with a reason."""
        reason = self._reason_against(environ)
        if reason is not None:
            body = json.dumps({"reason": reason}).encode()
            headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
            start_response("403 Forbidden", headers)
            return [body]

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            # Optuna Dashboard allows every origin to read artifacts; do not.
            own = [header for header in headers if header[0].lower() != "access-control-allow-origin"]
            return start_response(status, own, *error)

        return self._app(environ, start)

    def _reason_against(self, environ: WSGIEnvironment) -> str | None:
        host, origin = environ.get("HTTP_HOST", ""), environ.get("HTTP_ORIGIN")
        if _name_of(host) not in _OWN_NAMES:
            return f"this dashboard answers only at {HOST} and localhost"
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return "this dashboard does not answer pages of another origin"
        if not self._writable and environ["REQUEST_METHOD"] not in _READING:
            return "this dashboard is read-only; tlm-search dashboard --writable allows changes"
        return None


def _name_of(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """A server that answers several requests at once, because a page sends several."""

    daemon_threads = True


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Ignore a log line, because the terminal should not show every request."""
