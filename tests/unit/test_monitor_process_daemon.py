"""The main thread's part: when the watchdog is fed, and which code the process ends with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from monitor.exits import ExitCode
from monitor.notify import Notifier
from monitor.process import Daemon
from monitor.settings import Configuration, load
from monitor.signals import StopSignals
from reliable_write.clock import SystemTime
from reliable_write.errors import ConfigurationError

ENVIRONMENT = {"RELIABLE_WRITE_REGION": "us-east-1", "RELIABLE_WRITE_ENDPOINT_URL": "http://127.0.0.1:1"}


class MovedTime(SystemTime):
    def __init__(self) -> None:
        self.now = 1000.0

    def elapsed_seconds(self) -> float:
        return self.now


class Heard(Notifier):
    """A watchdog of 30 s, and what it was told."""

    def __init__(self) -> None:
        super().__init__("/nowhere", watchdog_seconds=30)
        self.messages: list[str] = []

    def _send(self, message: str) -> None:
        self.messages.append(message)

    @property
    def beats(self) -> int:
        return self.messages.count("WATCHDOG=1")


class Ticks(StopSignals):
    """A signal after so many looks; time passes between them."""

    def __init__(self, time: MovedTime, count: int, between: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._time = time
        self._count = count
        self._between = between

    def wait(self, seconds: float) -> bool:
        self._time.now += seconds
        self._between()
        self._count -= 1
        return self._count < 0


@pytest.fixture
def configuration() -> Configuration:
    return load({"monitor.http_port": 0}, environment=ENVIRONMENT)


class Case:
    def __init__(self, configuration: Configuration) -> None:
        self.time = MovedTime()
        self.heard = Heard()
        self.daemon = Daemon(configuration, time=self.time, notifier=self.heard)
        self.may_end = threading.Event()

    def loop(self, run: Callable[[], None]) -> None:
        """The daemon with an engine that is there and a loop of our own."""
        engine = SimpleNamespace(installation=SimpleNamespace(shards=64))
        daemon: Any = self.daemon
        daemon._wait_for_installation = lambda: engine
        daemon._monitor = SimpleNamespace(run=run, stop=self.may_end.set, status=lambda: None)

    def until_stopped(self) -> None:
        assert self.may_end.wait(20)

    def run(self, ticks: int, between: Callable[[], None] = lambda: None) -> ExitCode:
        return self.daemon.run(Ticks(self.time, ticks, between))


@pytest.fixture
def case(configuration: Configuration) -> Iterator[Case]:
    made = Case(configuration)
    yield made
    made.may_end.set()


def test_the_watchdog_is_fed_well_within_its_time_while_the_loop_moves(case: Case) -> None:
    case.loop(case.until_stopped)
    assert case.run(300, case.daemon._pulse.touch) is ExitCode.DONE
    assert case.heard.beats >= 300 / 30 * 2
    assert [message.splitlines()[0] for message in (case.heard.messages[0], case.heard.messages[-1])] == [
        "READY=1",
        "STOPPING=1",
    ]


def test_the_watchdog_starves_once_the_loop_hangs(case: Case) -> None:
    case.loop(case.until_stopped)
    case.run(5000)
    fed_seconds = case.heard.beats * 5  # at every half of ten seconds
    assert 0 < fed_seconds < 600


def test_a_loop_that_ends_by_an_error_of_its_own_ends_the_process_with_70(case: Case) -> None:
    def fails() -> None:
        raise KeyError

    case.loop(fails)
    assert case.run(100_000) is ExitCode.DEFECT
    assert not case.daemon.watched.live().ok


@pytest.mark.parametrize(("retryable", "code"), [(True, ExitCode.SERVICE), (False, ExitCode.CONFIGURATION)])
def test_what_fail_fast_ends_with_tells_whose_fault_it_is(
    retryable: bool, code: ExitCode, configuration: Configuration
) -> None:
    daemon: Any = Daemon(configuration, fail_fast=True, time=MovedTime(), notifier=Heard())

    def missing() -> None:
        raise ConfigurationError("not there", retryable=retryable)

    daemon._writer.engine = missing
    assert daemon.run(Ticks(daemon._time, 100_000)) is code


def test_attempts_that_did_not_end_are_told_by_the_code(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []

    class Ended(BaseException):
        pass

    def end(code: int) -> None:
        ended.append(code)
        raise Ended

    monkeypatch.setattr("monitor.process.os._exit", end)
    case.loop(case.until_stopped)
    daemon: Any = case.daemon
    daemon._monitor.status = lambda: SimpleNamespace(under_way=2, is_ready=True, **dict.fromkeys(_SHOWN, 0))
    with pytest.raises(Ended):
        case.run(1)
    assert ended == [ExitCode.PARTLY]


_SHOWN = ("pending", "quarantined", "recovered_total", "oldest_pending_age_seconds")
