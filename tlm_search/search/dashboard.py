"""Optuna Dashboard on a study's storage."""

from __future__ import annotations

import socketserver
from collections.abc import Callable
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from tlm_search.errors import StudyError
from tlm_search.search.storages import open_storage

HOST = "127.0.0.1"


def serve(folder: Path, storage: str | None, *, port: int, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; ``ready`` is told the address. Port 0 takes a free one.

    Raises:
        StudyError: the port is in use, or the storage cannot be opened.
    """
    from optuna_dashboard import wsgi

    application = wsgi(open_storage(folder, storage))
    try:
        server = make_server(HOST, port, application, server_class=_Server, handler_class=_SilentHandler)
    except OSError as error:
        raise StudyError(
            f"port {port} on {HOST} cannot be used: {error.strerror or error}",
            hint="choose another with --port; --port 0 takes a free one",
        ) from error
    with server:
        ready(f"http://{HOST}:{server.server_port}/dashboard")
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
