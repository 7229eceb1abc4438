"""What systemd hears, over real sockets of both kinds."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.notify import Notifier


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address: str, bind_to: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(bind_to)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = f"reliable-write-{uuid.uuid4().hex}"
    path = str(tmp_path / "notify")
    listening = Manager(path, path) if request.param == "path" else Manager(f"@{name}", f"\0{name}")
    yield listening
    listening.close()


def notifier(address: str | None, **more: str) -> Notifier:
    return Notifier.from_environment({**({"NOTIFY_SOCKET": address} if address else {}), **more})


def test_each_message_reaches_the_manager_as_sd_notify_has_it(manager: Manager) -> None:
    told = notifier(manager.address)
    told.ready("started")
    told.watchdog()
    told.status("pending 3")
    told.stopping("draining")
    assert manager.heard() == [
        "READY=1\nSTATUS=started",
        "WATCHDOG=1",
        "STATUS=pending 3",
        "STOPPING=1\nSTATUS=draining",
    ]


def test_a_status_is_one_short_line_whatever_is_in_it(manager: Manager) -> None:
    """A line break would begin another assignment, and so let an error's text say READY=1 or MAINPID."""
    notifier(manager.address).status("no table\nMAINPID=1\n" + "x" * 1000)
    (message,) = manager.heard()
    assert message.startswith("STATUS=no table MAINPID=1 x")
    assert "\n" not in message
    assert len(message) <= 210


def test_without_a_socket_nothing_is_sent_and_nothing_is_waited_for() -> None:
    silent = notifier(None, WATCHDOG_USEC="30000000")
    silent.ready("started")
    assert not silent.enabled
    assert silent.beat_seconds is None


@pytest.mark.parametrize("address", ["relative/path", "vsock:2:1234"])
def test_addresses_of_other_kinds_are_passed_over(address: str) -> None:
    assert not notifier(address).enabled


def test_a_manager_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    notifier(str(tmp_path / "nobody")).ready("started")


def test_a_manager_that_does_not_read_holds_nothing_up(manager: Manager) -> None:
    told = notifier(manager.address)
    for _ in range(5000):
        told.watchdog()
    assert 0 < len(manager.heard()) < 5000


def test_the_watchdog_is_fed_three_times_an_interval(manager: Manager) -> None:
    assert notifier(manager.address, WATCHDOG_USEC="30000000").beat_seconds == 10
    assert notifier(manager.address, WATCHDOG_USEC="30000000", WATCHDOG_PID=str(os.getpid())).beat_seconds == 10


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}],
)
def test_no_watchdog_and_one_meant_for_another_process_are_not_fed(
    environment: dict[str, str], manager: Manager
) -> None:
    assert notifier(manager.address, **environment).beat_seconds is None
