"""``tlm-search serve``: an exported committee over HTTP."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from tlm_search.errors import UserError


def serve(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that tlm-search export wrote.")],
    host: Annotated[
        str,
        typer.Option(help="Address to listen on. On 0.0.0.0 other machines can connect; there is no authentication."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
) -> None:
    """Answer HTTP requests with an exported committee: /predict, /health, /metrics, and /docs, which describes them."""
    try:
        import uvicorn

        from tlm_search.serving.app import app_of
        from tlm_search.serving.connections import BoundedConnection
    except ImportError as error:
        raise UserError(
            f"serve needs a package that is not installed: {error.name}",
            hint="install it with pip install 'tlm-search[serve]'",
        ) from error
    import torch

    from tlm_search.export.committee import Committee

    torch.set_num_threads(1)  # requests are small, so threads would wait for each other
    committee = Committee.load(folder)
    committee.check()
    listener = _listener(host, port)
    app = app_of(committee, name=folder.resolve().name)
    config = uvicorn.Config(app, http=BoundedConnection, log_level="warning", timeout_graceful_shutdown=5)
    shown = f"[{host}]" if ":" in host else host
    print(
        f"serving {folder} at http://{shown}:{listener.getsockname()[1]} (Ctrl-C ends it)", file=sys.stderr, flush=True
    )
    with listener:
        uvicorn.Server(config).run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            # Listen before the address is printed, so that clients can connect at once.
            listener.listen(2048)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise UserError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="choose another address with --host and --port",
        ) from error
    return listener
