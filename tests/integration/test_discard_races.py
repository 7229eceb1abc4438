"""A discard racing a monitor is too late, or wins; never both, at whatever moment the two meet.

They meet at every call of either: one is stopped before it, the other runs to its end, then the first goes on. The
wait of a discard for attempts under way is a sleep of the operator's time, which these tests end by an event.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from reliable_write import ReliableWriter
from reliable_write.errors import EntryNotFoundError, TooLateError
from reliable_write.recovery import Resumed
from reliable_write.testing.faults import Call, FaultPlan, wait_for
from tests.integration.stuck_writes import HastyTime, Stuck, cli, ids, one, put
from tests.world import World, plain_world

world = plain_world
BY: dict[str, Any] = {"operator": "ada@night", "reason": "a race"}


def discard(writer: ReliableWriter, write_id: str) -> bool:
    """Whether it won."""
    try:
        writer.engine().operators.discard(write_id, **BY)
    except TooLateError:
        return False
    return True


def resume(writer: ReliableWriter, write_id: str) -> Resumed:
    return writer.recovery.resume(write_id).resumed


def check(world: World, table: str, *, discarded: bool, resumed: Resumed) -> None:
    """One of them won, the item and the records say the same, and nothing is left to do."""
    assert discarded != (resumed is Resumed.FINISHED), f"discarded: {discarded}, monitor: {resumed}"
    assert bool(world.items(table)) != discarded
    assert [record["action"]["S"] for record in world.records("A")] == ["discard"] * discarded
    assert world.records("J#") == []


# The operator's calls: find, record, then set aside (chunk, head), then, after the wait, the removal.
OPERATOR_CALLS = [("UpdateItem", 1), ("DeleteItem", 1), ("PutItem", 1), ("PutItem", 2)]


@pytest.mark.parametrize(("call", "number"), OPERATOR_CALLS)
def test_an_operator_overtaken_by_a_monitor_is_too_late(world: World, call: str, number: int) -> None:
    """Stopped anywhere before the entry is set aside, the monitor finishes it; stopped after, the discard wins."""
    table = world.table("t")
    operator, monitor = world.writer(time=HastyTime()), world.writer()
    entry = Stuck(monitor).commit(one(put(table, "x")))
    operator.engine()
    reached, go_on, seen = threading.Event(), threading.Event(), 0

    def stop(stopped: Call) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            reached.set()
            wait_for(go_on)(stopped)

    with FaultPlan(operator.client).on(call, stop), ThreadPoolExecutor(1) as pool:
        deed = pool.submit(discard, operator, entry.write_id)
        assert reached.wait(20)
        resumed = resume(monitor, entry.write_id)
        go_on.set()
        won = deed.result(20)
    check(world, table, discarded=won, resumed=resumed)
    assert won == (call == "DeleteItem")


class AwaitedTime(HastyTime):
    """An operator whose wait for attempts under way is as long as the test says; its clock may move on meanwhile."""

    def __init__(self, *, moves: bool = False) -> None:
        super().__init__()
        self.moves = moves
        self.asleep, self.wake = threading.Event(), threading.Event()

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds if self.moves else 0.0)
        self.asleep.set()
        assert self.wake.wait(20)


# A monitor's calls: claim, put of the item, look for a tombstone, removal of the entry.
MONITOR_CALLS = ["UpdateItem", "PutItem", "BatchWriteItem"]


@pytest.mark.parametrize("call", MONITOR_CALLS)
def test_a_monitor_met_in_its_attempt_finishes_and_the_discard_is_late_or_is_kept_off(world: World, call: str) -> None:
    """The attempt began before the discard and ends within the time that the discard waits for it."""
    table = world.table("t")
    time = AwaitedTime()
    operator, monitor = world.writer(time=time), world.writer()
    entry = Stuck(monitor).commit(one(put(table, "x")))
    operator.engine()
    go_on = threading.Event()
    reached = threading.Event()

    def stop(stopped: Call) -> None:
        reached.set()
        wait_for(go_on)(stopped)

    with FaultPlan(monitor.client).on(call, stop, times=1) as plan, ThreadPoolExecutor(2) as pool:
        attempt = pool.submit(resume, monitor, entry.write_id)
        assert reached.wait(20)
        deed = pool.submit(discard, operator, entry.write_id)
        assert time.asleep.wait(20), "a pending write is not removed under an attempt"
        go_on.set()
        resumed = attempt.result(20)
        time.wake.set()
        won = deed.result(20)
        assert plan.injected == 1
    check(world, table, discarded=won, resumed=resumed)
    assert won == (call == "UpdateItem"), "before its claim it is kept off; after it, it finishes"


def test_the_command_line_waits_for_attempts_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """For many writes it waits once; one of them is under way, the others are not."""
    table = world.table("t")
    time, monitor = AwaitedTime(moves=True), world.writer()
    monkeypatch.setattr("reliable_write.cli.connect.SystemTime", lambda: time)
    stuck = Stuck(monitor)
    entries = [stuck.commit(one(put(table, f"k{n}"))) for n in range(3)]
    reached, go_on = threading.Event(), threading.Event()

    def stop(stopped: Call) -> None:
        reached.set()
        wait_for(go_on)(stopped)

    def let_go() -> Resumed:
        assert time.asleep.wait(20)
        go_on.set()
        resumed = attempt.result(20)
        time.wake.set()
        return resumed

    with FaultPlan(monitor.client).on("PutItem", stop, times=1), ThreadPoolExecutor(2) as pool:
        attempt = pool.submit(resume, monitor, entries[0].write_id)
        assert reached.wait(20)
        met = pool.submit(let_go)
        ran = cli(world, "writes", "discard", *ids(entries), "--reason", "a race", "--yes", "--json")
        assert met.result(20) is Resumed.FINISHED
    results = {result["write_id"]: result["result"] for result in ran.facts["results"]}
    assert list(map(results.get, ids(entries))) == ["too late", "done", "done"]
    assert [item["id"]["S"] for item in world.items(table)] == ["k0"]
    assert world.records("J#") == []


def test_among_many_at_once_each_write_has_one_winner(world: World) -> None:
    """Threads of both, unsynchronised; the operators' wait lasts until the monitors are through."""
    table = world.table("t")
    time = AwaitedTime()
    operator, monitor = world.writer(time=time), world.writer()
    stuck = Stuck(monitor)
    entries = [stuck.commit(one(put(table, f"k{n}"))) for n in range(40)]
    operator.engine()
    with ThreadPoolExecutor(40) as deeds, ThreadPoolExecutor(4) as attempts:
        resumes = [attempts.submit(_resumed, monitor, entry.write_id) for entry in entries]
        discards = [deeds.submit(_discarded, operator, entry.write_id) for entry in reversed(entries)]
        resumed = [future.result(60) for future in resumes]
        time.wake.set()
        discarded = list(reversed([future.result(60) for future in discards]))
    for entry, won, ended in zip(entries, discarded, resumed, strict=True):
        assert won != ended, entry.write_id
    assert len(world.items(table)) == sum(resumed)
    assert len(world.records("A")) == sum(discarded)
    assert world.records("J#") == []
    assert sum(resumed) + sum(discarded) == len(entries)
    assert sum(resumed), "no monitor ever won: they did not meet"
    assert sum(discarded), "no discard ever won: they did not meet"


def _resumed(monitor: ReliableWriter, write_id: str) -> bool:
    try:
        return resume(monitor, write_id) is Resumed.FINISHED
    except EntryNotFoundError:  # the other one was quicker
        return False


def _discarded(operator: ReliableWriter, write_id: str) -> bool:
    try:
        return discard(operator, write_id)
    except EntryNotFoundError:  # the other one was quicker
        return False
