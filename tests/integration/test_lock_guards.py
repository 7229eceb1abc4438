"""Guarded scopes: the store looks, in the commit point itself, whether the lock is held by whoever says so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reliable_write import (
    CommitUnknownError,
    DuplicateKeyError,
    InvalidItemError,
    Lease,
    LockLostError,
    Outcome,
    ReliableWriteScope,
    UnsupportedOperationError,
)
from reliable_write.testing.engines import Engine
from reliable_write.testing.faults import Call, InFlight, cancel, lose_answer
from tests.integration.locking import LEASE, Machine, Room, beat, room
from tests.world import World

__all__ = ["room"]


def guarded(machine: Machine, lease: Lease, table: str, **item: object) -> ReliableWriteScope:
    scope = ReliableWriteScope(machine.writer)
    lease.guard(scope)
    scope.put_item(table, {"id": "thing", **item})
    return scope


@pytest.fixture
def things(room: Room) -> str:
    return room.world.table("things")


def take_over(room: Room, name: str = "another") -> Lease:
    return room.machine().lock(owner=name).acquire(timeout=2 * LEASE)


def test_the_holder_writes(room: Room, things: str) -> None:
    machine = room.machine()
    lock = machine.lock()
    with lock as lease:
        guarded(machine, lease, things, n=1).commit()
        with machine.writer.begin() as scope:
            lock.guard(scope)
            scope.put_item(things, {"id": "other"}, at_commit=True)
            assert len(scope) == 2
    assert len(room.world.items(things)) == 2


def test_a_zombie_s_write_is_refused_although_its_clock_stood_still(room: Room, things: str) -> None:
    """A paused machine knows nothing of the pause: only the store can tell."""
    lost: list[Lease] = []
    machine = room.machine()
    lease = machine.lock(on_lost=lost.append).acquire()
    scope = guarded(machine, lease, things)
    successor = take_over(room)
    assert lease.is_held(), "as far as it knows"
    with pytest.raises(LockLostError, match=r"took it over.*another holds it now.*Nothing of this") as told:
        scope.commit()
    assert told.value.outcome is Outcome.NOT_WRITTEN
    assert (told.value.token, told.value.owner, told.value.table) == (lease.token, "another", room.table)
    assert told.value.failures[0].operation == "operations[0]"
    assert told.value.write_id == scope.write_id
    assert room.world.items(things) == []
    assert lost == [lease]
    assert not lease.is_held()
    guarded(room.machine(), successor, things).commit()


def test_also_where_the_successor_has_gone_again(room: Room, things: str) -> None:
    machine = room.machine()
    lease = machine.lock().acquire()
    scope = guarded(machine, lease, things)
    take_over(room).release()
    with pytest.raises(LockLostError):
        scope.commit()


def test_a_lease_whose_request_landed_twice_is_refused_under_its_first_token(room: Room, things: str) -> None:
    """A request that was delayed brings its id back, after somebody else has held the lock: the token tells."""
    machine, late = room.machine(), InFlight()
    with machine.faults() as plan:
        plan.on("UpdateItem", late, times=1)
        lease = machine.lock().acquire()
    scope = guarded(machine, lease, things)
    take_over(room).release()
    assert late.land() == [200]
    assert machine.lock().peek().lease_id == lease._hold.holding.lease_id
    with pytest.raises(LockLostError):
        scope.commit()
    with pytest.raises(LockLostError):
        lease.renew()
    assert room.world.items(things) == []


def test_a_lock_that_an_operator_released_is_lost(room: Room, things: str) -> None:
    machine = room.machine()
    lock = machine.lock()
    lease = lock.acquire()
    scope = guarded(machine, lease, things)
    assert lease._hold.terms.item.release_for(lock.peek(), machine.writer.engine().attempt_deadline()).done
    with pytest.raises(LockLostError, match="or an operator released it"):
        scope.commit()


def test_a_heartbeat_in_between_does_not_matter(room: Room, things: str) -> None:
    machine = room.machine()
    lease = machine.lock().acquire()
    scope = guarded(machine, lease, things)
    machine.clock.pass_seconds(LEASE / 4)
    beat(lease)
    scope.commit()


def test_a_conflict_with_a_heartbeat_is_waited_out(room: Room, things: str) -> None:
    """The transaction and the heartbeat are on one item: DynamoDB cancels one of the two."""
    machine = room.machine()
    lease = machine.lock().acquire()
    with machine.faults() as plan:
        plan.on("TransactWriteItems", cancel("TransactionConflict", at=1), times=2, having=b'"R#')
        guarded(machine, lease, things).commit()
    assert plan.injected == 2


def test_of_an_unknown_commit_only_the_same_scope_again_tells(room: Room, things: str) -> None:
    """It was applied while the lock was held, and has happened, whoever holds it now."""
    machine = room.machine()
    lease = machine.lock().acquire()
    scope = guarded(machine, lease, things)
    with machine.faults() as plan:
        plan.on("TransactWriteItems", lose_answer, "after", having=b'"R#')
        with pytest.raises(CommitUnknownError):
            scope.commit()
    take_over(room)
    assert scope.commit().write_id == scope.write_id
    assert len(room.world.items(things)) == 1


def test_an_unknown_commit_that_did_not_arrive_is_refused_by_the_successor(room: Room, things: str) -> None:
    machine = room.machine()
    lease = machine.lock().acquire()
    scope = guarded(machine, lease, things)
    with machine.faults() as plan:
        plan.on("TransactWriteItems", lose_answer, having=b'"R#')
        with pytest.raises(CommitUnknownError):
            scope.commit()
    take_over(room)
    with pytest.raises(LockLostError):
        scope.commit()
    assert room.world.items(things) == []


def test_the_lost_lock_is_told_also_beside_another_condition_that_is_false(room: Room, things: str) -> None:
    machine = room.machine()
    lease = machine.lock().acquire()
    scope = ReliableWriteScope(machine.writer)
    scope.put_item(things, {"id": "a"}, "attribute_exists(id)")
    lease.guard(scope)
    take_over(room)
    with pytest.raises(LockLostError) as told:
        scope.commit()
    assert [failure.operation for failure in told.value.failures] == ["operations[0]", "operations[1]"]


@pytest.mark.parametrize("how", ["released", "out of time"])
def test_a_lease_that_is_known_to_be_over_guards_nothing(room: Room, how: str) -> None:
    machine = room.machine()
    lease = machine.lock().acquire()
    ends: dict[str, Callable[[], object]] = {
        "released": lease.release,
        "out of time": lambda: machine.clock.pass_seconds(LEASE),
    }
    ends[how]()
    scope = ReliableWriteScope(machine.writer)
    with machine.faults() as plan, pytest.raises(LockLostError):
        lease.guard(scope)
    assert (len(scope), plan.calls) == (0, [])


def test_one_scope_looks_at_a_lock_once(room: Room) -> None:
    machine = room.machine()
    lease = machine.lock().acquire()
    with machine.writer.begin() as scope:
        lease.guard(scope)
        with pytest.raises(DuplicateKeyError):
            lease.guard(scope)
        scope.discard()


def test_what_cannot_be_checked_is_refused_by_name(room: Room) -> None:
    scope = ReliableWriteScope(room.machine().writer)
    with pytest.raises(InvalidItemError, match="such as a lease, is needed, not str"):
        scope.check("lease")  # type: ignore[arg-type]  # what somebody may try


def test_without_transactions_guards_are_refused_by_name_and_locks_work(
    dynalite: Engine, unique_name: Callable[[str], str]
) -> None:
    world = World(dynalite, unique_name)
    bare = Room(world)
    machine = bare.machine()
    with machine.lock() as lease:
        scope = ReliableWriteScope(machine.writer)
        with pytest.raises(UnsupportedOperationError, match=r"condition check.* needs TransactWriteItems"):
            lease.guard(scope)
        assert len(scope) == 0
        assert bare.machine().lock().try_acquire() is None
    bare.close()
    world.close()


def test_a_journalled_put_may_arrive_after_its_lock_has_passed_on_and_one_at_commit_may_not(
    room: Room, things: str
) -> None:
    """Why the docs say `at_commit=True`: a holder who dies after its commit leaves the put to recovery."""
    machine = room.machine()
    lease = machine.lock().acquire()

    def dies(call: Call) -> None:
        lose_answer(call)

    with machine.faults() as plan, pytest.raises(Exception, match="committed"):  # noqa: PT012 - one scope
        plan.on("PutItem", dies, having=things.encode())
        scope = guarded(machine, lease, things, n=1)
        scope.commit()
    take_over(room)
    assert room.world.items(things) == [], "the successor does not see what is committed"
    assert room.machine().writer.look(things, {"id": "thing"}).pending
    room.machine().writer.recovery.resume_all()
    assert len(room.world.items(things)) == 1
