"""Heartbeats: they keep a lease through trouble, tell in time when they cannot, and end with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from reliable_write import Lease, Lock
from reliable_write.clock import SystemTime
from reliable_write.locks.heartbeat import Heartbeat
from reliable_write.testing.faults import Call, Fault, InFlight, conflict, deny, lose_answer, server_error, throttle
from tests.integration.locking import BEAT, LEASE, REQUEST, SAFE, Machine, Room, beat, plain_room, room

__all__ = ["plain_room", "room"]
SECONDS_MAX = 30.0


class Told:
    """What the callbacks of a lock said, when, and by which thread."""

    def __init__(self, machine: Machine) -> None:
        self.heard: list[tuple[str, float]] = []
        self._machine = machine

    def lock(self, **more: Any) -> Lock:
        return self._machine.lock(on_danger=self._hear("danger"), on_lost=self._hear("lost"), **more)

    def _hear(self, what: str) -> Callable[[Lease], None]:
        return lambda _lease: self.heard.append((what, self._machine.clock.elapsed))


def turns(machine: Machine, lease: Lease, seconds: float) -> Heartbeat:
    """So long a life of its heartbeat, by the machine's clocks."""
    heartbeat = Heartbeat(lease._hold, machine.clock)
    pause: float | None = BEAT
    end = machine.clock.elapsed + seconds
    while pause is not None and machine.clock.elapsed + pause <= end:
        machine.clock.pass_seconds(pause)
        pause = heartbeat.turn()
    return heartbeat


@pytest.mark.parametrize("fault", [throttle, conflict, server_error, lose_answer], ids=lambda fault: fault.__name__)
def test_heartbeats_survive_trouble_that_passes(plain_room: Room, fault: Fault) -> None:
    machine = plain_room.machine()
    told = Told(machine)
    lease = told.lock().acquire()
    with machine.faults() as plan:
        plan.on("UpdateItem", fault, times=3)
        turns(machine, lease, 3 * LEASE)
    assert plan.injected == 3
    assert lease.is_held()
    assert told.heard == []


def test_heartbeats_survive_lost_answers(plain_room: Room) -> None:
    """Applied, and nobody is told: the retry is refused by its own beat, which says that it is there."""
    machine = plain_room.machine()
    told = Told(machine)
    lease = told.lock().acquire()
    with machine.faults() as plan:
        plan.on("UpdateItem", lose_answer, "after", times=5)
        turns(machine, lease, 3 * LEASE)
    assert plan.injected == 5
    assert lease.is_held()
    assert told.heard == []


def test_a_holder_is_told_of_danger_first_and_of_the_loss_when_the_lease_is_over(plain_room: Room) -> None:
    machine = plain_room.machine()
    told = Told(machine)
    lease = told.lock().acquire()
    with machine.faults() as plan:
        plan.on("UpdateItem", deny)
        turns(machine, lease, 2 * LEASE)
    assert plan.injected > 1
    assert told.heard == [("danger", SAFE), ("lost", LEASE)]
    assert machine.told("lock_in_danger")[0]["remaining_seconds"] == LEASE - SAFE
    assert machine.told("lock_lost")[0]["reason"] == "expired"
    assert not lease.is_held()


def test_no_renewal_is_sent_whose_answer_could_come_after_the_lease(plain_room: Room) -> None:
    """Whoever hangs in it would tell nobody in time that the lease is lost (dynamolock#446)."""
    machine, sent = plain_room.machine(), []
    told = Told(machine)
    lease = told.lock().acquire()

    def hang(call: Call) -> None:
        sent.append(machine.clock.elapsed)
        machine.clock.pass_seconds(REQUEST)
        lose_answer(call)

    with machine.faults() as plan:
        plan.on("UpdateItem", hang)
        turns(machine, lease, 2 * LEASE)
    assert len(sent) > 3
    assert max(sent) <= LEASE - REQUEST + 0.001
    assert [what for what, _ in told.heard] == ["danger", "lost"]
    assert SAFE - 0.001 <= told.heard[0][1] <= SAFE + REQUEST
    assert told.heard[1][1] == pytest.approx(LEASE, abs=0.001)


def test_a_lease_that_is_renewed_after_all_is_out_of_danger_and_may_get_into_it_again(plain_room: Room) -> None:
    machine = plain_room.machine()
    told = Told(machine)
    lease = told.lock(safe_seconds=7.0).acquire()
    heartbeat = Heartbeat(lease._hold, machine.clock)
    for _ in range(2):
        with machine.faults() as plan:
            plan.on("UpdateItem", deny)
            machine.clock.pass_seconds(7.0)
            heartbeat.turn()
        assert lease.in_danger()
        heartbeat.turn()
        assert not lease.in_danger()
    assert [what for what, _ in told.heard] == ["danger", "danger"]


def test_a_heartbeat_that_is_refused_says_that_the_lock_is_lost(plain_room: Room) -> None:
    machine = plain_room.machine()
    told = Told(machine)
    lease = told.lock().acquire()
    plain_room.machine().lock(owner="another").acquire(timeout=2 * LEASE)
    machine.clock.pass_seconds(BEAT)
    assert beat(lease) is None
    assert told.heard == [("lost", BEAT)]
    (told_to_the_log,) = machine.told("lock_lost")
    assert (told_to_the_log["reason"], told_to_the_log["taken_by"]) == ("taken", "another")


def test_a_heartbeat_does_not_renew_what_a_late_request_brought_back(room: Room) -> None:
    """Its id is there again, after somebody else has held the lock: under another token."""
    machine, late = room.machine(), InFlight()
    told = Told(machine)
    with machine.faults() as plan:
        plan.on("UpdateItem", late, times=1)
        lease = told.lock().acquire()
    room.machine().lock().acquire(timeout=2 * LEASE).release()
    assert late.land() == [200]
    machine.clock.pass_seconds(BEAT)
    assert beat(lease) is None
    assert [what for what, _ in told.heard] == ["lost"]
    assert lease.release() is False


def test_an_item_that_somebody_overwrote_is_a_lock_that_is_lost(plain_room: Room) -> None:
    machine = plain_room.machine()
    told = Told(machine)
    lease = told.lock().acquire()
    item = {"name": {"S": "x"}, "lock_id": {"N": "1"}}
    plain_room.world.client.put_item(TableName=plain_room.table, Item=item)
    machine.clock.pass_seconds(BEAT)
    assert beat(lease) is None
    assert told.heard == [("lost", BEAT)]


def test_a_callback_s_own_defect_ends_no_heartbeat(plain_room: Room) -> None:
    machine = plain_room.machine()

    def broken(_lease: Lease) -> None:
        raise KeyError("a defect")

    lease = machine.lock(on_danger=broken, on_lost=broken).acquire()
    with machine.faults() as plan:
        plan.on("UpdateItem", deny)
        turns(machine, lease, LEASE)
    assert len(machine.told("lock_callback_failed")) == 2


def test_a_process_that_slept_beyond_its_lease_sends_nothing_when_it_wakes(plain_room: Room) -> None:
    machine = plain_room.machine()
    told = Told(machine)
    lease = told.lock().acquire()
    machine.clock.pass_seconds(LEASE)
    with machine.faults() as plan:
        assert beat(lease) is None
    assert plan.calls == []
    assert told.heard == [("lost", LEASE)]


def test_a_released_lease_beats_no_more_and_is_not_told_lost(plain_room: Room) -> None:
    machine = plain_room.machine()
    told = Told(machine)
    lease = told.lock().acquire()
    lease.release()
    machine.clock.pass_seconds(BEAT)
    with machine.faults() as plan:
        assert beat(lease) is None
    assert plan.calls == []
    assert told.heard == []


def test_a_renewal_that_was_under_way_while_it_was_released_brings_nothing_back(plain_room: Room) -> None:
    """Their issues tell of a release that its own heartbeat undid."""
    machine = plain_room.machine()
    told = Told(machine)
    lease = told.lock().acquire()
    machine.clock.pass_seconds(BEAT)
    with machine.faults() as plan:
        plan.on("UpdateItem", lambda _call: lease.release(), having=b":beat", times=1)
        assert beat(lease) is None
    assert plan.injected == 1
    assert told.heard == []
    assert not machine.lock().peek().held
    assert plain_room.machine().lock().acquire(blocking=False).is_held()


# --- the thread ---------------------------------------------------------------------------------------------------


def heartbeat_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "reliable-write-lock"]


def test_the_thread_renews_by_itself_and_ends_with_the_release(room: Room) -> None:
    machine, renewed = room.machine(time=SystemTime(), threads=True), threading.Event()
    seen: list[int] = []

    def count(_call: Call) -> None:
        seen.append(1)
        if len(seen) == 3:
            renewed.set()

    with machine.faults() as plan:
        plan.on("UpdateItem", count, "after", having=b":beat")
        with machine.lock(lease_seconds=10 * REQUEST, heartbeat_seconds=0.02) as lease:
            (thread,) = heartbeat_threads()
            assert thread.daemon
            assert renewed.wait(SECONDS_MAX)
            assert lease.is_held()
        thread.join(SECONDS_MAX)
    assert not thread.is_alive()


def test_a_thread_that_waits_for_its_next_heartbeat_does_not_hold_up_a_release(room: Room) -> None:
    machine = room.machine(time=SystemTime(), threads=True)
    with machine.lock(lease_seconds=1000.0):
        (thread,) = heartbeat_threads()
    thread.join(SECONDS_MAX)
    assert not thread.is_alive()


def test_a_store_that_hangs_keeps_nobody_from_being_told(room: Room) -> None:
    """By real clocks: the request hangs, and `on_lost` is called when the lease is over all the same."""
    machine, lost, stall = room.machine(time=SystemTime(), threads=True), threading.Event(), threading.Event()
    lock = machine.lock(lease_seconds=1.6, heartbeat_seconds=0.1, on_lost=lambda _lease: lost.set())

    def hang(call: Call) -> None:
        stall.wait(REQUEST)
        lose_answer(call)

    with machine.faults() as plan:
        plan.on("UpdateItem", hang, having=b":beat")
        lease = lock.acquire()
        assert lost.wait(SECONDS_MAX)
        assert plan.injected > 0
    assert not lease.is_held()
    assert lease.release(), "nobody has taken over"


def test_without_heartbeats_there_is_no_thread(room: Room) -> None:
    machine = room.machine(threads=True)
    with machine.lock(heartbeat=False) as lease:
        assert heartbeat_threads() == []
        machine.clock.pass_seconds(BEAT)
        lease.renew()
        assert lease.remaining_seconds() == LEASE


def test_a_lock_that_can_have_no_thread_is_not_held(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = room.machine()

    def none_left(_name: str, _loop: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(machine.writer.engine().workers, "background", none_left)
    lock = machine.lock()
    with pytest.raises(RuntimeError, match="start new thread"):
        lock.acquire()
    assert not lock.locked()
    monkeypatch.undo()
    assert lock.acquire(blocking=False).is_held()


def test_an_interrupted_acquisition_leaves_no_heartbeat_behind(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C may strike when the thread runs and the caller has no lease yet that he could release."""
    machine = room.machine(time=SystemTime(), threads=True)
    workers = machine.writer.engine().workers
    begin = workers.background

    def interrupted(name: str, loop: Callable[[], None]) -> None:
        begin(name, loop)
        raise KeyboardInterrupt

    monkeypatch.setattr(workers, "background", interrupted)
    lock = machine.lock()
    with pytest.raises(KeyboardInterrupt):
        lock.acquire()
    for thread in heartbeat_threads():
        thread.join(SECONDS_MAX)
    assert heartbeat_threads() == []
    assert not lock.locked()
    assert lock.lease is None
