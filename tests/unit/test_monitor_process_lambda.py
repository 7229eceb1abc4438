"""Scheduled runs: how many sweeps, how long, and what they return; on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import monitor.aws_lambda
from monitor.audits import AuditReport
from monitor.aws_lambda import ScheduledRuns, handler
from monitor.settings import load
from monitor.status import SweepReport
from reliable_write.clock import SystemTime
from reliable_write.errors import ConfigurationError
from reliable_write.recovery import Resumed

ENVIRONMENT = {
    "RELIABLE_WRITE_REGION": "us-east-1",
    "RELIABLE_WRITE_ENDPOINT_URL": "http://127.0.0.1:1",
    "RELIABLE_WRITE_ATTEMPT_DEADLINE_SECONDS": "8",
    "RELIABLE_WRITE_READ_TIMEOUT_SECONDS": "4",
}
RESERVE_SECONDS = 26.0


class TestTime(SystemTime):
    __test__ = False

    def __init__(self) -> None:
        self.now = 0.0

    def elapsed_seconds(self) -> float:
        return self.now

    def wall_seconds(self) -> float:
        return self.now


class FakeMonitor:
    """Each sweep takes a while and finishes what it is told to."""

    def __init__(self, time: TestTime, finished: list[int], sweep_seconds: float) -> None:
        self.time = time
        self.finished = finished
        self.sweep_seconds = sweep_seconds
        self.allowed: list[float] = []
        self.audits: list[float] = []

    def run_once(self, *, one_shot: bool, seconds_max: float) -> SweepReport:
        assert one_shot
        self.allowed.append(seconds_max)
        self.time.now += min(self.sweep_seconds, seconds_max)
        count = self.finished.pop(0) if self.finished else 0
        attempts = {Resumed.FINISHED: count, Resumed.STILL_PENDING: 1} if count else {}
        assert seconds_max > 0
        return SweepReport(pending=7, quarantined=2, started=count, attempts=attempts)

    def audit_once(self, *, seconds_max: float) -> AuditReport:
        self.audits.append(seconds_max)
        return AuditReport(complete=True, tombstones=4)


def runs(finished: list[int], sweep_seconds: float = 1.0, **settings: str) -> tuple[ScheduledRuns, FakeMonitor]:
    time = TestTime()
    made = ScheduledRuns(load(environment={**ENVIRONMENT, **settings}), time=time)
    fake = FakeMonitor(time, finished, sweep_seconds)
    made._monitor = fake  # type: ignore[assignment]  # the sweeps themselves are tested elsewhere
    return made, fake


def test_it_sweeps_while_sweeps_finish_something_and_adds_up() -> None:
    made, fake = runs([5, 3, 0, 9])
    facts = made.run(300)
    assert facts["sweeps"] == len(fake.allowed) == 3
    assert facts["started"] == 8
    assert facts["attempts"] == {"finished": 8, "still_pending": 2}
    assert (facts["pending"], facts["quarantined"], facts["out_of_time"]) == (7, 2, False)


def test_it_leaves_the_reserve_untouched() -> None:
    """What has begun at the last moment must be able to end before Lambda freezes the process."""
    made, fake = runs([1] * 100, sweep_seconds=30)
    facts = made.run(106)
    assert made.reserve_seconds == RESERVE_SECONDS
    assert fake.allowed == [80, 50, 20]
    assert fake.time.now == 80
    assert fake.audits == [], "what is committed comes first"
    assert facts["out_of_time"]


def test_a_budget_within_the_reserve_begins_nothing() -> None:
    made, fake = runs([1])
    assert made.run(RESERVE_SECONDS) == {"sweeps": 0, "started": 0, "attempts": {}, "out_of_time": True}
    assert fake.allowed == []


def test_it_audits_in_the_time_that_is_left_and_not_more_often_than_set() -> None:
    made, fake = runs([1, 0], sweep_seconds=10)
    assert made.run(106)["audit"]["tombstones"] == 4
    assert fake.audits == [60]
    assert "audit" not in made.run(106), "a warm invocation soon after"
    fake.time.now += 60
    made.run(106)
    assert len(fake.audits) == 2


def test_it_audits_only_where_audits_are_wanted() -> None:
    made, fake = runs([], RELIABLE_WRITE_MONITOR_AUDIT="false")
    assert "audit" not in made.run(106)
    assert fake.audits == []


class Context:
    def get_remaining_time_in_millis(self) -> int:
        return 60_000


@pytest.fixture
def cold() -> Iterator[None]:
    monitor.aws_lambda._warm.cache_clear()
    yield
    monitor.aws_lambda._warm.cache_clear()


@pytest.mark.usefixtures("cold")
def test_the_handler_keeps_its_parts_for_warm_invocations_and_passes_the_time_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Any] = []

    class Runs:
        def __init__(self, configuration: object) -> None:
            made.append(configuration)

        def run(self, budget_seconds: float) -> dict[str, Any]:
            return {"budget": budget_seconds}

    monkeypatch.setattr(monitor.aws_lambda, "ScheduledRuns", Runs)
    monkeypatch.setattr("monitor.logs.configure_logs", lambda *_: None)
    assert [handler({}, Context()), handler({}, Context())] == [{"budget": 60.0}] * 2
    assert len(made) == 1


@pytest.mark.usefixtures("cold")
def test_a_failure_to_start_fails_the_invocation_and_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELIABLE_WRITE_MONITOR_POLL_SECONDS", "often")
    with pytest.raises(ConfigurationError):
        handler({}, Context())
    monkeypatch.delenv("RELIABLE_WRITE_MONITOR_POLL_SECONDS")
    monkeypatch.setattr(
        monitor.aws_lambda, "ScheduledRuns", lambda _: type("Runs", (), {"run": lambda *_: {"ok": 1}})()
    )
    monkeypatch.setattr("monitor.logs.configure_logs", lambda *_: None)
    assert handler({}, Context()) == {"ok": 1}
