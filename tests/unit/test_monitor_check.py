"""A writer that leaves a write behind says so, once, when nobody is there to finish it; and never pays for asking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reliable_write.dynamodb import CallFailed, Store
from reliable_write.events import Events
from reliable_write.heartbeats import Heartbeats, MonitorCheck
from reliable_write.limits import HEARTBEAT_ALIVE_SECONDS, MONITOR_CHECK_EVERY_SECONDS
from reliable_write.policy import FailureKind
from tests.unit.fakes import NOON, InlineWorkers, ManualTime, ScriptedCalls, Step


class Ear:
    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, _level: str) -> Callable[..., None]:
        return lambda event, **facts: self.heard.append((event, facts))


class NoThreads(InlineWorkers):
    def background(self, name: str, loop: Callable[[], None]) -> None:
        raise RuntimeError(f"can't start new thread {name} {loop}")


class Desk:
    def __init__(self, *steps: Step, workers: InlineWorkers | None = None) -> None:
        self.calls, self.time, self.ear = ScriptedCalls(*steps), ManualTime(), Ear()
        self.workers = workers or InlineWorkers()
        heartbeats = Heartbeats(Store(self.calls, self.time), "system", self.time)
        self.check = MonitorCheck(heartbeats, self.workers, self.time, Events(self.ear))

    def leave_one(self) -> None:
        self.check.left_behind("a write")
        while self.workers.loops:
            self.workers.loops.pop()()


def beats(*ages: float) -> dict[str, Any]:
    return {"Items": [{"sk": {"S": str(age)}, "seen_at": {"N": str(int((NOON - age) * 1000))}} for age in ages]}


@pytest.mark.parametrize(
    ("there", "last"),
    [
        (beats(), None),
        (beats(HEARTBEAT_ALIVE_SECONDS + 5, 900), 25),
        (beats(-HEARTBEAT_ALIVE_SECONDS - 5), -25),  # dead, and by a clock ahead of ours: alive for hours otherwise
    ],
)
def test_it_warns_once_where_no_monitor_is_alive(there: dict[str, Any], last: int | None) -> None:
    desk = Desk(there)
    desk.leave_one()
    ((event, facts),) = desk.ear.heard
    assert event == "no_monitor"
    assert facts["write_id"] == "a write"
    assert facts["last_seen_seconds"] == last
    desk.time.pass_seconds(10 * MONITOR_CHECK_EVERY_SECONDS)
    desk.leave_one()
    assert len(desk.calls.sent) == len(desk.ear.heard) == 1


def test_it_is_silent_where_one_is_alive_and_asks_again_later_but_not_soon() -> None:
    desk = Desk(beats(900, 1), beats(900))
    desk.leave_one()
    desk.leave_one()
    assert len(desk.calls.sent) == 1
    assert desk.ear.heard == []
    desk.time.pass_seconds(MONITOR_CHECK_EVERY_SECONDS)
    desk.leave_one()
    assert [event for event, _ in desk.ear.heard] == ["no_monitor"]


@pytest.mark.parametrize("trouble", [CallFailed(FailureKind.ACCESS_DENIED, "", "system"), KeyError("a bug")])
def test_a_look_that_fails_is_silent_and_tried_again(trouble: Exception) -> None:
    desk = Desk(trouble, beats())
    desk.leave_one()
    assert desk.ear.heard == []
    desk.time.pass_seconds(MONITOR_CHECK_EVERY_SECONDS)
    desk.leave_one()
    assert [event for event, _ in desk.ear.heard] == ["no_monitor"]


def test_nothing_is_sent_in_the_callers_thread_and_no_thread_is_no_error() -> None:
    desk = Desk()
    desk.check.left_behind("a write")
    assert desk.calls.sent == []
    assert len(desk.workers.loops) == 1
    Desk(workers=NoThreads()).leave_one()


def test_a_live_monitor_behind_a_page_of_dead_ones_is_heard() -> None:
    """A monitor that dies every few seconds leaves more records in a day than one page holds."""
    key = {"pk": {"S": "M"}, "sk": {"S": "900"}}
    desk = Desk({**beats(900), "LastEvaluatedKey": key}, beats(1))
    desk.leave_one()
    assert desk.ear.heard == []
    assert [request.get("ExclusiveStartKey") for _, request in desk.calls.sent] == [None, key]
