"""One handle and many threads, one thread and many locks, and what a forked child has of all that."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest

from reliable_write import (
    Lease,
    Lock,
    LockLostError,
    LockNotAcquiredError,
    ReliableWriter,
    ReliableWriteScope,
    WrongThreadError,
    acquire_all,
)
from reliable_write.clock import SystemTime
from reliable_write.testing.faults import FaultPlan, deny
from reliable_write.testing.meter import Meter
from tests.integration.locking import LEASE, Room, plain_room, room
from tests.integration.test_fork import in_child
from tests.world import REGION

__all__ = ["plain_room", "room"]
SECONDS_MAX = 30.0
THREADS = 8

# Python 3.12 and later warn of a fork beside threads, which is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


# --- threads ------------------------------------------------------------------------------------------------------


def test_threads_that_share_a_handle_are_alone_with_it_one_after_the_other(plain_room: Room) -> None:
    machine = plain_room.machine(time=SystemTime())
    lock, inside, most, tokens = machine.lock(), [0], [0], []

    def section(_number: int) -> None:
        for _ in range(5):
            with lock as lease:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                tokens.append(lease.token)
                inside[0] -= 1

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(section, range(THREADS)))
    assert most == [1]
    assert tokens == list(range(tokens[0], tokens[0] + 5 * THREADS))


def in_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(SECONDS_MAX)


def test_a_thread_that_finds_the_handle_taken_asks_nobody(plain_room: Room) -> None:
    machine = plain_room.machine()
    lock = machine.lock()
    with lock, Meter(machine.client) as meter:
        assert in_thread(lock.try_acquire) is None
        with pytest.raises(LockNotAcquiredError, match="another thread of this process") as refused:
            in_thread(lambda: lock.acquire(timeout=0.01))
        assert refused.value.owner == lock.owner
    assert meter.calls == {}


def test_two_handles_in_one_process_are_two_holders(plain_room: Room) -> None:
    machine = plain_room.machine()
    first, second = machine.lock(), machine.lock()
    assert first.owner != second.owner
    with first:
        assert second.try_acquire() is None


def test_a_lease_may_be_released_by_another_thread(plain_room: Room) -> None:
    lock = plain_room.machine().lock()
    lease = lock.acquire()
    assert in_thread(lease.release)
    assert lock.acquire(blocking=False).is_held()


def test_the_block_of_one_thread_ends_its_own_lease_only(plain_room: Room) -> None:
    """It was released inside, and another thread has the handle when the block ends."""
    lock = plain_room.machine().lock()
    with lock as lease:
        lease.release()
        other: Lease = in_thread(lock.acquire)
    assert other.is_held()
    assert lock.lease is other
    assert other.release()


def test_a_lease_is_released_once_by_however_many(plain_room: Room) -> None:
    """Each of them has found it not released yet; whoever freed the handle again would free it from its next holder."""
    lock = plain_room.machine().lock()
    lease, barrier = lock.acquire(), threading.Barrier(THREADS)

    def meet() -> bool:
        barrier.wait(SECONDS_MAX)
        return True

    lease._ends_turn = meet
    with ThreadPoolExecutor(THREADS) as pool:
        released = list(pool.map(lambda _number: lease.release(), range(THREADS)))
    assert sorted(released) == [False] * (THREADS - 1) + [True]
    assert lock.acquire(blocking=False).is_held()


# --- re-entrance --------------------------------------------------------------------------------------------------


def test_waiting_for_oneself_is_refused_at_once(plain_room: Room) -> None:
    lock = plain_room.machine().lock()
    with lock, pytest.raises(LockNotAcquiredError, match="this very thread"):
        lock.acquire()
    assert not lock.locked()


def test_a_reentrant_lock_is_had_again_by_its_thread_and_released_as_often(plain_room: Room) -> None:
    machine = plain_room.machine()
    lock = machine.lock(reentrant=True)
    with lock as outer:
        with Meter(machine.client) as meter:
            with lock as inner:
                assert inner is outer
                assert in_thread(lock.try_acquire) is None
            assert outer.is_held()
            again = lock.acquire()
            assert again.release() is True
            assert outer.is_held()
        assert meter.calls == {}
    assert not outer.is_held()
    assert not lock.locked()


def test_data_given_when_it_is_had_again_lie_beside_it(plain_room: Room) -> None:
    lock = plain_room.machine().lock(reentrant=True)
    with lock.acquire(data={"step": 1}):
        with lock.acquire(data={"step": 2}) as inner:
            assert inner.data == {"step": 2} == lock.peek().data
        with lock.acquire() as inner:
            assert inner.data == {"step": 2}
    assert not lock.locked()


def test_what_was_lost_is_not_entered_again(plain_room: Room) -> None:
    machine = plain_room.machine()
    lock = machine.lock(reentrant=True)
    with lock:
        machine.clock.pass_seconds(LEASE)
        with pytest.raises(LockLostError):
            lock.acquire()
    assert lock.lease is None


# --- forks --------------------------------------------------------------------------------------------------------


@pytest.fixture
def forking(room: Room) -> Iterator[ReliableWriter]:
    """A writer that makes its own clients, as a process that forks needs it."""
    session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION)
    with ReliableWriter(room.world.settings(), session=session) as writer:
        yield writer


def test_a_child_does_not_hold_its_parent_s_lock(room: Room, forking: ReliableWriter) -> None:
    lock = Lock(forking, room.table, "x")
    with lock as lease:

        def in_the_child() -> tuple[bool, bool, list[str], bool, list[str]]:
            refusals = []
            for use in (lease.check, lease.release, lease.renew, lock.acquire, lock.try_acquire, lock.release):
                try:
                    use()
                except WrongThreadError as error:
                    refusals.append(str(error).split(";", maxsplit=1)[0].partition(" was ")[0])
            beats = [thread.name for thread in threading.enumerate() if thread.name == "reliable-write-lock"]
            own = Lock(forking, room.table, "x")
            return lease.is_held(), lock.lease is None, refusals, own.try_acquire() is None, beats

        held, nothing, refusals, own_refused, beats = in_child(in_the_child)
        assert (held, nothing, own_refused, beats) == (False, True, True, [])
        assert refusals == ["This lease"] * 3 + ["This lock"] * 3
        assert lease.is_held()
    assert not lock.locked()


def test_a_child_that_leaves_the_block_does_not_release_it(room: Room, forking: ReliableWriter) -> None:
    def in_the_child() -> str:
        try:
            lease.__exit__(None, None, None)
        except WrongThreadError:
            lease.__exit__(KeyError, KeyError(), None)
            return "refused"
        return "released"

    with Lock(forking, room.table, "x") as lease:
        assert in_child(in_the_child) == "refused"
        lease.renew()


def test_a_guard_in_a_child_is_refused(room: Room, forking: ReliableWriter) -> None:
    with Lock(forking, room.table, "x") as lease:

        def in_the_child() -> str:
            try:
                lease.guard(ReliableWriteScope(forking))
            except WrongThreadError as error:
                return type(error).__name__
            return "guarded"

        assert in_child(in_the_child) == "WrongThreadError"


# --- many locks ---------------------------------------------------------------------------------------------------


def recorded(plan: FaultPlan) -> list[str]:
    """The keys of the locks that were asked for or let go, in the order of requests."""
    bodies = [call.body.decode() for call in plan.calls if call.operation == "UpdateItem"]
    return [("-" if "REMOVE" in body else "+") + body.split('{"name": {"S": "')[1][0] for body in bodies]


def test_many_locks_are_taken_in_one_order_and_released_in_reverse(plain_room: Room) -> None:
    machine = plain_room.machine()
    locks = [machine.lock(key) for key in "cab"]
    with machine.faults() as plan, acquire_all(locks) as leases:
        assert [lease.key["name"] for lease in leases] == ["c", "a", "b"]
        assert len(leases) == 3
        assert leases[1].key == {"name": "a"}
        leases.check()
    assert recorded(plan) == ["+a", "+b", "+c", "-c", "-b", "-a"]


def test_all_or_none(plain_room: Room) -> None:
    machine = plain_room.machine()
    locks = [machine.lock(key) for key in "abc"]
    plain_room.machine().lock("c").acquire()
    with machine.faults() as plan, pytest.raises(LockNotAcquiredError):
        acquire_all(locks, timeout=3.0)
    assert [one for one in recorded(plan) if one != "+c"] == ["+a", "+b", "-b", "-a"]
    assert sum(machine.clock.slept) == pytest.approx(3.0), "the time is for all together"
    assert [lock.lease for lock in locks] == [None] * 3


def test_the_time_of_many_is_one(plain_room: Room) -> None:
    machine, other = plain_room.machine(), plain_room.machine()
    leases = {key: other.lock(key).acquire() for key in "ab"}

    def release_later(_seconds: float) -> None:
        if machine.clock.elapsed > 2.0:
            leases["a"].release()

    machine.clock.meanwhile = release_later
    with pytest.raises(LockNotAcquiredError):
        acquire_all([machine.lock("b"), machine.lock("a")], timeout=3.0)
    assert machine.clock.elapsed == pytest.approx(3.0)


def test_one_item_twice_is_refused_before_anything_is_sent(plain_room: Room) -> None:
    machine = plain_room.machine()
    with machine.faults() as plan:
        with pytest.raises(ValueError, match="for one item"):
            acquire_all([machine.lock("a"), machine.lock("b"), machine.lock("a")])
        with pytest.raises(ValueError, match="at least one"):
            acquire_all([])
    assert plan.calls == []


def test_processes_that_want_the_same_locks_in_other_orders_do_not_wait_for_ever(plain_room: Room) -> None:
    machines = [plain_room.machine(time=SystemTime()) for _ in range(4)]
    had: list[int] = []

    def take(number: int) -> None:
        keys = "abc" if number % 2 else "cba"
        for _ in range(3):
            with acquire_all([machines[number].lock(key, poll_seconds=0.05) for key in keys], timeout=SECONDS_MAX):
                had.append(number)

    with ThreadPoolExecutor(len(machines)) as pool:
        list(pool.map(take, range(len(machines))))
    assert len(had) == 12


def test_many_are_released_one_by_one_also_where_one_cannot_be(plain_room: Room) -> None:
    machine = plain_room.machine()
    leases = acquire_all([machine.lock(key) for key in "abc"])
    with machine.faults() as plan:
        plan.on("UpdateItem", deny, having=b'"b"')
        with pytest.raises(Exception, match="could not be released"):
            leases.release()
    assert [machine.lock(key).locked() for key in "abc"] == [False, True, False]


def test_many_guard_a_scope_together(room: Room) -> None:
    machine, table = room.machine(), room.world.table("things")
    with pytest.raises(LockLostError), acquire_all([machine.lock(key) for key in "ab"]) as leases:  # noqa: PT012 - lost inside
        scope = ReliableWriteScope(machine.writer)
        leases.guard(scope)
        scope.put_item(table, {"id": "x"})
        room.machine().lock("b").acquire(timeout=2 * LEASE)
        scope.commit()
    assert room.world.items(table) == []
    assert not machine.lock("a").locked()


def test_of_many_one_that_was_lost_is_told_at_the_end(plain_room: Room) -> None:
    machine = plain_room.machine()
    with pytest.raises(LockLostError) as lost, acquire_all([machine.lock(key) for key in "ab"]):
        plain_room.machine().lock("a").acquire(timeout=2 * LEASE)
    assert lost.value.key == {"name": "a"}
    assert not machine.lock("b").locked()
