"""MiniStack behind `ReliableWriter.local()` and `reliable-write demo`: transactions, Regions, no durability.

It runs in a process of its own because importing it reads the environment and adds a handler to the root
logger.
"""

import importlib.util
import sys
from pathlib import Path
from typing import Any, Self

from reliable_write.embedded.server import HOST, Command, LoopbackServer, dynamodb_client
from reliable_write.errors import ConfigurationError

INSTALL_COMMAND = "pip install 'reliable-write[local]'"


def ministack_missing() -> str | None:
    """Return why MiniStack cannot be started here, or None."""
    if importlib.util.find_spec("ministack") is None:
        return f"the package ministack is not installed; run: {INSTALL_COMMAND}"
    return None


def ministack_command(port: int, directory: Path) -> Command:
    """Return how to run MiniStack on loopback with all its files below `directory`.

    Left to itself it listens on every interface, and opens two more ports for protocols nobody asked for.
    """
    return Command(
        argv=(sys.executable, "-m", "ministack"),
        environment={
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(port),
            "MINISTACK_HOST": HOST,
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "S3_DATA_DIR": str(directory / "s3"),
            "LOG_LEVEL": "WARNING",
            "PYTHONWARNINGS": "ignore",
        },
    )


class EmbeddedEngine:
    """A throw-away DynamoDB on loopback: `EmbeddedEngine.start()`, then `stop()`, or use `with`.

    Everything in it is lost at `stop()` and when this process ends.
    """

    def __init__(self) -> None:
        self._server = LoopbackServer("the embedded engine (ministack)", ministack_command)

    @classmethod
    def start(cls) -> Self:
        """Start an engine and wait until it answers (about half a second).

        Raises `ConfigurationError` if the package behind it is missing, with the command that installs it.
        """
        missing = ministack_missing()
        if missing is not None:
            raise ConfigurationError(f"The embedded engine cannot be started: {missing}")
        engine = cls()
        engine._server.start()
        return engine

    @property
    def endpoint_url(self) -> str:
        """Where it answers, for `boto3.client("dynamodb", endpoint_url=...)`."""
        return self._server.endpoint_url

    @property
    def pid(self) -> int:
        """The engine's own process id."""
        return self._server.pid

    def client(self, **config: Any) -> Any:
        """Return a boto3 low-level client for it with invented credentials; the caller closes it."""
        return dynamodb_client(self.endpoint_url, **config)

    def stop(self) -> None:
        """End the engine and forget its data; a second call does nothing."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
