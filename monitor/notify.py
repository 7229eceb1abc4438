"""Talks to systemd over the datagram socket named in NOTIFY_SOCKET; silent where there is none.

The protocol is a handful of lines (sd_notify(3)), so no library is needed. Nothing that goes wrong here may stop the
monitor: a message that cannot be sent is dropped, and systemd's own watchdog notices what follows.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Final

_CHARACTERS_MAX: Final = 200
_MICROSECONDS: Final = 1_000_000
_CREDIBLE_BEATS: Final = 3
"""Signs of life within one watchdog interval: systemd asks for two; a third absorbs a slow machine."""


class Notifier:
    """READY, STATUS, WATCHDOG and STOPPING to a service manager."""

    def __init__(self, address: str | None = None, watchdog_seconds: float | None = None) -> None:
        self._address = _socket_address(address)
        self._watchdog_seconds = watchdog_seconds

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Notifier:
        """What the service manager asked for; a watchdog meant for another process is not ours to feed."""
        found = os.environ if environment is None else environment
        return cls(found.get("NOTIFY_SOCKET"), _watchdog_seconds(found))

    @property
    def enabled(self) -> bool:
        """Whether anybody listens."""
        return self._address is not None

    @property
    def beat_seconds(self) -> float | None:
        """How often `watchdog` must be called at least; None where nobody waits for it."""
        if self._address is None or self._watchdog_seconds is None:
            return None
        return self._watchdog_seconds / _CREDIBLE_BEATS

    def ready(self, status: str) -> None:
        """The service is up."""
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={_line(status)}")

    def watchdog(self) -> None:
        """A sign of life."""
        self._send("WATCHDOG=1")

    def stopping(self, status: str) -> None:
        """The service drains."""
        self._send(f"STOPPING=1\nSTATUS={_line(status)}")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.setblocking(False)  # a manager that does not read must not hold us up
                channel.sendto(message.encode(), self._address)
        except OSError:
            return


def _socket_address(address: str | None) -> str | None:
    """A path, or a name in Linux's abstract namespace, which is written with @ and begins with a zero byte."""
    if not address:
        return None
    if address.startswith("@"):
        return "\0" + address[1:]
    return address if address.startswith("/") else None


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    meant_for = environment.get("WATCHDOG_PID")
    if meant_for and meant_for != str(os.getpid()):
        return None
    try:
        microseconds = int(environment.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return microseconds / _MICROSECONDS if microseconds > 0 else None


def _line(text: str) -> str:
    return " ".join(text.split())[:_CHARACTERS_MAX]
