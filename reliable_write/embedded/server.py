"""A server process on a loopback port, tied to this process by `tether.py`.

The port is kept from `start()` to `stop()`, also over `kill()` and `restart()`, and so is the directory the
server may keep files in: that is what lets a durable engine be killed and found again by clients that know
only its address.
"""

import atexit
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import boto3.session
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from reliable_write.errors import ConfigurationError

HOST = "127.0.0.1"
READY_ATTEMPTS_MAX = 1200
"""Looks at a starting server, 25 ms apart: 30 s, for a JVM on a machine that is busy with other tests."""
STOP_ATTEMPTS_MAX = 120
"""Looks at a server that was asked to end, 25 ms apart, before it is killed: 3 s."""
LOOK_INTERVAL_SECONDS = 0.025
START_ATTEMPTS_MAX = 3
"""Another process may take the port between our look at it and the server's bind."""
OUTPUT_LINES_MAX = 20

_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "LD_LIBRARY_PATH", "JAVA_HOME", "SYSTEMROOT")
"""All a server gets of our environment: settings for other engines, proxies and credentials stay here."""
_TETHER = Path(__file__).with_name("tether.py")


@dataclass(frozen=True, slots=True)
class Command:
    """What to run: the arguments, and what the environment needs besides the path."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def dynamodb_client(
    endpoint_url: str,
    *,
    region_name: str = "us-east-1",
    access_key_id: str = "testing",
    session: boto3.session.Session | None = None,
    **config: Any,
) -> Any:
    """Return a boto3 low-level client with invented credentials and no retries; `config` is botocore's.

    A `session` that made clients before makes the next one in 2 ms instead of 50, sharing what it read of the
    API's model, 10 MB; it must not be used from several threads at once, and nor must boto3's default session, so
    the default is a session of its own. Engines may keep the tables of each access key apart; `testing` is what
    moto's own documentation tells everybody to use.
    """
    # No proxies: a proxy of the environment cannot reach our loopback.
    settings: dict[str, Any] = {"retries": {"total_max_attempts": 1}, "proxies": {}, **config}
    session = session or local_session(region_name=region_name, access_key_id=access_key_id)
    return session.client("dynamodb", endpoint_url=endpoint_url, config=Config(**settings))


def local_session(*, region_name: str = "us-east-1", access_key_id: str = "testing") -> boto3.session.Session:
    """Return a session whose credentials an engine takes and AWS never would, whatever `AWS_PROFILE` says here."""
    no_profile = {"profile": (None, None, None, None)}
    return boto3.session.Session(
        aws_access_key_id=access_key_id,
        aws_secret_access_key="local",  # noqa: S106 - no engine looks at it
        region_name=region_name,
        botocore_session=botocore.session.Session(session_vars=no_profile),
    )


class LoopbackServer:
    """A server that speaks DynamoDB's API, as a child process. `command(port, directory)` says how to run it.

    Not for use from several threads at once. The child ends with this process, however that ends.
    """

    def __init__(self, name: str, command: Callable[[int, Path], Command]) -> None:
        self.name = name
        self._command = command
        self._port: int | None = None
        self._directory: Path | None = None
        self._tether: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None

    @property
    def endpoint_url(self) -> str:
        """Where it answers; known from the first `start()` until `stop()`."""
        if self._port is None:
            raise ConfigurationError(f"{self.name} is not started; call start() first")
        return f"http://{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """The server's own process id (not the tether's), so that a test may send it any signal."""
        if self._pid is None:
            raise ConfigurationError(f"{self.name} is not running; call start() first")
        return self._pid

    @property
    def running(self) -> bool:
        """Whether the process lives. A process that lives may still not answer."""
        return self._tether is not None and self._tether.poll() is None

    def start(self) -> Self:
        """Start the server on a free port and wait until it answers a ListTables.

        Raises `ConfigurationError` with the server's last words if it ends or keeps silent for 30 s.
        """
        if self.running:
            return self
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="reliable-write-engine-"))
            atexit.register(self._stop_at_exit_of, os.getpid())
        return self._launch_on_a_free_port() if self._port is None else self._launch()

    def stop(self) -> None:
        """End the server, gently first, and remove its directory. The next `start()` takes a new port."""
        atexit.unregister(self._stop_at_exit_of)
        self._signal(signal.SIGTERM)
        self._await_end()
        self.kill()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._directory = self._port = None

    def kill(self) -> None:
        """End the server as a power cut would (SIGKILL); its port and files are kept for `restart()`."""
        tether = self._tether
        if tether is None:
            return
        _say_goodbye(tether)
        self._signal(signal.SIGKILL)
        _close_pipes(tether)
        tether.wait()
        self._tether = self._pid = None

    def restart(self) -> Self:
        """Start again on the same port with the same files, killing what still runs."""
        self.kill()
        return self.start()

    def last_output(self) -> str:
        """Return the last lines the server printed."""
        if self._directory is None:
            return ""
        lines = self._log(self._directory).read_text(errors="replace").splitlines()
        return "\n".join(lines[-OUTPUT_LINES_MAX:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _stop_at_exit_of(self, owner: int) -> None:
        if os.getpid() == owner:  # a forked child runs this too, and the engine is not its own
            self.stop()

    @staticmethod
    def _log(directory: Path) -> Path:
        return directory / "output.log"

    def _launch_on_a_free_port(self) -> Self:
        for attempt in range(1, START_ATTEMPTS_MAX + 1):
            self._port = free_port()
            try:
                return self._launch()
            except _PortTakenError:
                if attempt == START_ATTEMPTS_MAX:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _launch(self) -> Self:
        assert self._port is not None
        assert self._directory is not None
        command = self._command(self._port, self._directory)
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        with self._log(self._directory).open("wb") as log:
            self._tether = subprocess.Popen(  # noqa: S603 - the command comes from this package
                [sys.executable, "-I", "-S", str(_TETHER), str(self._directory), *command.argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._directory,
                env=environment | {"TMPDIR": str(self._directory)} | dict(command.environment),
            )
        self._pid = self._read_pid(self._tether)
        self._await_ready()
        return self

    def _read_pid(self, tether: "subprocess.Popen[bytes]") -> int:
        assert tether.stdout is not None
        line = tether.stdout.readline()
        if not line:
            raise self._not_started("could not be executed")
        return int(line)

    def _await_ready(self) -> None:
        client = dynamodb_client(self.endpoint_url, connect_timeout=1, read_timeout=5)
        pause = threading.Event()
        try:
            for _ in range(READY_ATTEMPTS_MAX):
                answered = _answers(client)
                if not self.running:
                    raise self._not_started("ended at once")
                if answered:
                    return
                pause.wait(LOOK_INTERVAL_SECONDS)  # a kernel timer: a frozen clock does not stop it
        finally:
            client.close()
        raise self._not_started("does not answer")

    def _not_started(self, what: str) -> ConfigurationError:
        output = self.last_output()
        self.kill()
        kind = _PortTakenError if _says_port_taken(output) else ConfigurationError
        return kind(f"{self.name} {what} on {self.endpoint_url}. Its last output:\n{output or '(none)'}")

    def _await_end(self) -> None:
        pause = threading.Event()
        for _ in range(STOP_ATTEMPTS_MAX):
            if not self.running:
                return
            pause.wait(LOOK_INTERVAL_SECONDS)

    def _signal(self, number: signal.Signals) -> None:
        if self._pid is not None and self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)


class _PortTakenError(ConfigurationError):
    pass


def free_port() -> int:
    """Return a loopback port nobody listens on, below the range the kernel takes client ports from.

    A port from that range could become some client's own while the server is down between `kill()` and
    `restart()`.
    """
    while True:
        port = 18_000 + secrets.randbelow(14_000)
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind((HOST, port))
            except OSError:
                continue
            return port


def _answers(client: Any) -> bool:
    try:
        client.list_tables(Limit=1)
    except (BotoCoreError, ClientError):
        return False
    return True


def _says_port_taken(output: str) -> bool:
    lowered = output.lower()
    return any(words in lowered for words in ("already in use", "eaddrinuse", "failed to bind"))


def _say_goodbye(tether: "subprocess.Popen[bytes]") -> None:
    """Tell the tether that the directory is still ours."""
    assert tether.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        os.write(tether.stdin.fileno(), b".")  # past the buffer, whose rest would be written again at close


def _close_pipes(process: "subprocess.Popen[bytes]") -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
