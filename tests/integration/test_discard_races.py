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
from reliable_write.limits import LEASE_SECONDS
from reliable_write.recovery import Resumed
from reliable_write.testing.faults import Call, FaultPlan, wait_for
from tests.clocks import HastyTime
from tests.integration.stuck_writes import Stuck, cli, ids, one, put
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
    deeds = [record["action"]["S"] for record in world.records("A")]
    assert [deed for deed in deeds if deed != "retry"] == ["discard"] * discarded
    assert world.records("J#") == []


# The operator's calls: find, record, then set aside (chunk, head), then, after the wait, the removal.
OPERATOR_CALLS = [("UpdateItem", 1), ("DeleteItem", 1), ("PutItem", 1), ("PutItem", 2)]


@pytest.mark.parametrize(("call", "number"), OPERATOR_CALLS)
def test_an_operator_overtaken_by_a_monitor_is_too_late(world: World, call: str, number: int) -> None:
    """Stopped anywhere before the entry is set aside, the monitor finishes it; stopped after, the discard wins."""
    table = world.table("t")
    operator, monitor = world.hasty(), world.writer()
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


class Stop:
    """Holds up the first call of a kind until it is let go."""

    def __init__(self, client: Any, call: str) -> None:
        self.reached, self._go_on = threading.Event(), threading.Event()
        self.plan = FaultPlan(client).on(call, self._hold, times=1)

    def _hold(self, call: Call) -> None:
        self.reached.set()
        wait_for(self._go_on)(call)

    def await_it(self) -> None:
        assert self.reached.wait(20)

    def let_go(self) -> None:
        self._go_on.set()


@pytest.mark.parametrize("call", MONITOR_CALLS)
def test_a_write_retried_under_a_discard_is_the_monitors(world: World, call: str) -> None:
    """One person is about to remove a quarantined write, another retries it, a monitor is at it: the removal is of what
    was seen, so it is too late. Without the epoch in its condition the write would be discarded and finished.
    """
    table = world.table("t")
    operator, other, monitor = world.hasty(), world.writer(), world.writer()
    entry = Stuck(other).quarantined(one(put(table, "x")))
    operator.engine()
    monitor.engine()
    removal, attempted = Stop(operator.client, "DeleteItem"), Stop(monitor.client, call)
    with removal.plan, attempted.plan, ThreadPoolExecutor(2) as pool:
        deed = pool.submit(discard, operator, entry.write_id)
        removal.await_it()
        other.engine().operators.retry(entry.write_id, **BY)
        attempt = pool.submit(resume, monitor, entry.write_id)
        attempted.await_it()
        removal.let_go()
        won = deed.result(20)
        attempted.let_go()
        resumed = attempt.result(20)
    assert (won, resumed) == (False, Resumed.FINISHED)
    check(world, table, discarded=won, resumed=resumed)


@pytest.mark.parametrize("call", MONITOR_CALLS)
def test_a_write_retried_while_its_discard_waits_is_the_monitors(world: World, call: str) -> None:
    """The same in the wait of a discard for attempts under way, which is long enough for somebody to come by."""
    table = world.table("t")
    time = AwaitedTime()
    operator, other, monitor = world.writer(time=time), world.writer(), world.writer()
    entry = Stuck(other).commit(one(put(table, "x")))
    operator.engine()
    monitor.engine()
    attempted = Stop(monitor.client, call)
    with attempted.plan, ThreadPoolExecutor(2) as pool:
        deed = pool.submit(discard, operator, entry.write_id)
        assert time.asleep.wait(20)
        other.engine().operators.retry(entry.write_id, **BY)
        attempt = pool.submit(resume, monitor, entry.write_id)
        attempted.await_it()
        time.wake.set()
        won = deed.result(20)
        attempted.let_go()
        resumed = attempt.result(20)
    assert (won, resumed) == (False, Resumed.FINISHED)
    check(world, table, discarded=won, resumed=resumed)


@pytest.mark.parametrize("call", ["PutItem", "BatchWriteItem"])
def test_a_discard_of_what_was_just_set_aside_waits_too(world: World, call: str) -> None:
    """Quarantined does not mean that nobody is at it: the attempt that a person's `quarantine` came across goes on."""
    table = world.table("t")
    time = AwaitedTime()
    operator, monitor = world.writer(time=time), world.writer()
    entry = Stuck(monitor).commit(one(put(table, "x")))
    operator.engine()
    attempted = Stop(monitor.client, call)
    with attempted.plan, ThreadPoolExecutor(2) as pool:
        attempt = pool.submit(resume, monitor, entry.write_id)
        attempted.await_it()
        operator.engine().operators.quarantine(entry.write_id, **BY)
        deed = pool.submit(discard, operator, entry.write_id)
        assert time.asleep.wait(20), "it is not removed under an attempt"
        attempted.let_go()
        resumed = attempt.result(20)
        time.wake.set()
        won = deed.result(20)
    assert (won, resumed) == (False, Resumed.FINISHED)
    assert [item["id"]["S"] for item in world.items(table)] == ["x"]
    assert [record["action"]["S"] for record in world.records("A")] == ["quarantine"]


def test_only_who_saw_it_quarantined_need_not_wait_again(world: World) -> None:
    """The word that a lease has passed holds for the epoch that was seen; without one, or for a pending write, it is
    not believed.
    """
    stuck, table = Stuck(world.writer()), world.table("t")
    aside, other = (stuck.quarantined(one(put(table, key))) for key in "ab")
    pending = stuck.commit(one(put(table, "c")))
    slept: list[float] = []
    for entry, seen_epoch in ((aside, aside.epoch), (other, None), (pending, pending.epoch)):
        time = HastyTime()
        operators = world.writer(time=time).engine().operators
        operators.discard(entry.write_id, **BY, seen_epoch=seen_epoch, attempts_over=True)
        slept.append(time.skipped)
    assert slept == [0, LEASE_SECONDS, LEASE_SECONDS]


def test_the_command_line_waits_for_attempts_at_what_was_just_set_aside(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one whose plan was left by a Ctrl-C a moment ago: all of its writes are quarantined by then."""
    table = world.table("t")
    time, monitor = AwaitedTime(moves=True), world.writer()
    stuck = Stuck(monitor)
    entries = [stuck.commit(one(put(table, f"k{n}"))) for n in range(3)]
    attempted = Stop(monitor.client, "PutItem")

    def let_go() -> Resumed:
        assert time.asleep.wait(20)
        attempted.let_go()
        resumed = attempt.result(20)
        time.wake.set()
        return resumed

    with attempted.plan, ThreadPoolExecutor(2) as pool:
        attempt = pool.submit(resume, monitor, entries[0].write_id)
        attempted.await_it()
        aside = cli(world, "writes", "quarantine", *ids(entries), "--reason", "a race", "--yes")
        assert aside.code == 0
        monkeypatch.setattr("reliable_write.cli.connect.SystemTime", lambda: time)
        met = pool.submit(let_go)
        ran = cli(world, "writes", "discard", *ids(entries), "--reason", "a race", "--yes", "--json")
        assert met.result(20) is Resumed.FINISHED
    results = {result["write_id"]: result["result"] for result in ran.facts["results"]}
    assert list(map(results.get, ids(entries))) == ["too late", "done", "done"]
    assert [item["id"]["S"] for item in world.items(table)] == ["k0"]


def test_a_retry_overtaken_by_a_discard_is_too_late_and_leaves_no_ghost(world: World) -> None:
    """The other way round: the retry's update meets no entry any more, and makes none (CE13)."""
    table = world.table("t")
    operator, other, monitor = world.hasty(), world.writer(), world.writer()
    entry = Stuck(monitor).quarantined(one(put(table, "x")))
    other.engine()
    retried = Stop(other.client, "UpdateItem")
    with retried.plan, ThreadPoolExecutor(1) as pool:
        deed = pool.submit(other.engine().operators.retry, entry.write_id, **BY)
        retried.await_it()
        assert discard(operator, entry.write_id)
        retried.let_go()
        with pytest.raises(TooLateError):
            deed.result(20)
    with pytest.raises(EntryNotFoundError):
        resume(monitor, entry.write_id)
    assert (world.items(table), world.records("J#")) == ([], [])
    assert [record["action"]["S"] for record in world.records("A")] == ["discard"]


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
