"""The application on a thread of its own. Uvicorn takes over signals only in the main thread, so here it never does."""

from __future__ import annotations

import socket
import threading
from typing import Final, Self

import uvicorn
from starlette.types import ASGIApp

from reliable_write.errors import ConfigurationError

_START_SECONDS_MAX: Final = 10.0
_STOP_SECONDS_MAX: Final = 3.0
_BACKLOG: Final = 64


class WebServer:
    """Serves one application until it is stopped.

    The address is taken here and not by uvicorn, which would end its thread with `sys.exit` where it is in use.
    Raises `ConfigurationError` there.
    """

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        self._socket = _listen(host, port)
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
            limit_concurrency=64,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="reliable-write-web", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._socket.getsockname()[1])

    def start(self) -> Self:
        """Answer from now on; connections are taken from before, and wait."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Answer what is asked now, and no more."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS_MAX)
        self._socket.close()

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        listening = socket.socket(family, kind)
    except OSError as error:
        raise _unusable(host, port, error) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise _unusable(host, port, error) from error
    return listening


def _unusable(host: str, port: int, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"The monitor cannot listen on {host} port {port}: {error.strerror or error}. Set monitor.http_host and "
        "monitor.http_port to a free address, or the port to 0 for none."
    )
