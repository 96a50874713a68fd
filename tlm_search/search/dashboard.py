"""Optuna Dashboard on a study's storage."""

from __future__ import annotations

import socketserver
from collections.abc import Callable
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from tlm_search.errors import StudyError
from tlm_search.search.folder import study_name
from tlm_search.search.showcase import Draw, Showcase
from tlm_search.search.studies import open_study

HOST = "127.0.0.1"


def serve(
    folder: Path,
    storage: str | None,
    *,
    port: int,
    draw: Draw,
    ready: Callable[[str], None],
    problem: Callable[[str], None],
) -> None:
    """Serve until Ctrl-C; ``ready`` is told the study's address. Port 0 takes a free one.

    ``draw`` makes the figures and the report that are shown beside what Optuna Dashboard knows itself; ``problem`` is
    told when that does not work, and the rest is served all the same.

    Raises:
        StudyError: the port is in use, or the study cannot be opened.
    """
    from optuna_dashboard import wsgi

    study = open_study(folder, storage, name=study_name(folder))
    showcase = Showcase(study, folder, draw)
    application = wsgi(showcase, artifact_store=showcase.artifacts)
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


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """Answers several requests at once, as a page makes them."""

    daemon_threads = True


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log no request."""
