"""What the README of the AWS lock client (awslabs/amazon-dynamodb-lock-client) promises, each by its name.

What it promises and we do not stands in docs/locks.md, with the reason.
"""

from __future__ import annotations

import pytest

from reliable_write import InvalidKeyError, Lock, LockNotAcquiredError, WriteTooLargeError
from reliable_write.testing.meter import Meter
from tests.integration.locking import BEAT, LEASE, YEAR, Room, beat, every_room, plain_room, room
from tests.unit.fakes import NOON

__all__ = ["every_room", "plain_room", "room"]


def test_it_works_on_every_engine(every_room: Room) -> None:
    first, second = every_room.machine(), every_room.machine()
    with first.lock().acquire(data="mine") as lease:
        assert second.lock().try_acquire() is None
        first.clock.pass_seconds(BEAT)
        beat(lease)
        assert second.lock().peek().data == "mine"
    with second.lock() as after:
        assert after.token == lease.token + 1


# --- "fine-grained and coarse-grained locking" --------------------------------------------------------------------


@pytest.mark.parametrize("key", ["k", "campaign/7 für Ωmega 🔒", " ", "x" * 2048])
def test_lock_keys_can_be_any_arbitrary_string_up_to_a_certain_length(plain_room: Room, key: str) -> None:
    machine = plain_room.machine()
    with machine.lock(key):
        assert machine.lock(key).try_acquire() is None
    with pytest.raises(WriteTooLargeError, match="2048"):
        machine.lock("x" * 2049).acquire()


def test_fine_grained_locks_on_one_table_do_not_meet(plain_room: Room) -> None:
    machine = plain_room.machine()
    with machine.lock("customer-1"), machine.lock("customer-2"):
        assert machine.lock("customer-2").try_acquire() is None


def test_when_the_leader_fails_another_host_leads_within_a_lease(plain_room: Room) -> None:
    """Seen alive for the last time, it is succeeded a whole lease later and not before."""
    leader, other = plain_room.machine(), plain_room.machine()
    lease = leader.lock().acquire()
    assert other.lock().acquire(timeout=LEASE + 1).token == lease.token + 1
    assert LEASE <= other.clock.elapsed < LEASE + 1
    assert other.told("lock_taken_over")[0]["taken_from"] == lease.owner


def test_a_table_that_has_a_hash_key_will_do(plain_room: Room) -> None:
    """Theirs must be called `key`; ours is asked for its name. A range key is `sort_key`."""
    machine, world = plain_room.machine(), plain_room.world
    both = world.table("both", hash_key="place:S", range_key="number:N")
    with machine.lock("a", table=both, sort_key=7), machine.lock("a", table=both, sort_key=8):
        assert machine.lock("a", table=both, sort_key=7).locked()
    with pytest.raises(InvalidKeyError, match="place and number; give key and sort_key"):
        machine.lock("a", table=both).acquire()
    with pytest.raises(InvalidKeyError, match="name; give key alone"):
        machine.lock("a", sort_key="b").acquire()


def test_if_i_die_my_lock_will_expire_otherwise_i_hold_it_until_i_stop_heartbeating(plain_room: Room) -> None:
    holder, waiter = plain_room.machine(), plain_room.machine()
    lease, wanted = holder.lock().acquire(), waiter.lock()
    for _ in range(10):
        for machine in (holder, waiter):
            machine.clock.pass_seconds(BEAT)
        beat(lease)
        assert wanted.try_acquire() is None
        assert lease.is_held()
    holder.clock.pass_seconds(LEASE)
    waiter.clock.pass_seconds(LEASE)
    assert not lease.is_held()
    assert wanted.try_acquire() is not None


def test_the_permissions_are_those_it_names_and_describe_table(plain_room: Room) -> None:
    holder, waiter = plain_room.machine(), plain_room.machine()
    with Meter(holder.client) as first, Meter(waiter.client) as second:
        lease = holder.lock().acquire(data="d")
        beat(lease)
        waiter.lock().try_acquire()
        waiter.lock().acquire(timeout=LEASE + 1).release()
        waiter.lock().peek()
    asked = {*first.calls, *second.calls}
    assert asked == {"UpdateItem", "GetItem", "DescribeTable"}


# --- "send automatic heartbeats" ----------------------------------------------------------------------------------


def test_a_heartbeat_updates_the_record_version_number(plain_room: Room) -> None:
    machine = plain_room.machine()
    lock = machine.lock()
    lease = lock.acquire()
    seen = set()
    for _ in range(3):
        seen.add(lock.peek().record_version)
        machine.clock.pass_seconds(BEAT)
        assert beat(lease) == BEAT
        assert lease.remaining_seconds() == LEASE
    assert len(seen) == 3


# --- "acquire lock with timeout" ----------------------------------------------------------------------------------


def test_try_acquire_gives_nothing_where_acquire_raises(plain_room: Room) -> None:
    holder, waiter = plain_room.machine(), plain_room.machine()
    lease = holder.lock(owner="the holder").acquire()
    for seconds in (0.0, 3.0):
        assert waiter.lock().try_acquire(seconds) is None
        with pytest.raises(LockNotAcquiredError, match="held by the holder until about") as refused:
            waiter.lock().acquire(timeout=seconds)
        assert refused.value.owner == "the holder"
        assert refused.value.since_milliseconds == int(NOON * 1000)
        assert refused.value.key == {"name": "x"}
    assert lease.release()
    assert waiter.lock().try_acquire() is not None


def test_waiting_polls_according_to_an_interval_you_set_up(plain_room: Room) -> None:
    holder, waiter = plain_room.machine(), plain_room.machine()
    holder.lock().acquire()
    waiter.lock().peek()
    with Meter(waiter.client) as meter:
        assert waiter.lock(poll_seconds=0.25).try_acquire(10.0) is None
    looks = meter.calls["GetItem"] - len(waiter.clock.slept)
    assert looks in (0, 1), "one more where the engine does not tell what it found with its refusal"
    assert len(waiter.clock.slept) >= 10 / 0.25
    assert max(waiter.clock.slept) == 0.25
    assert sum(waiter.clock.slept) == pytest.approx(10.0)


def test_a_timeout_shorter_than_a_lease_does_not_outlast_a_dead_holder(plain_room: Room) -> None:
    """Theirs polls for a lease at least, whatever it is told; ours ends when it is told to."""
    holder, waiter = plain_room.machine(), plain_room.machine()
    holder.lock().acquire()
    assert waiter.lock().try_acquire(LEASE - 1) is None
    assert waiter.clock.elapsed == pytest.approx(LEASE - 1)


# --- "acquire lock without blocking the user thread" --------------------------------------------------------------


def test_without_blocking_a_held_lock_is_refused_at_once(plain_room: Room) -> None:
    holder, waiter = plain_room.machine(), plain_room.machine()
    holder.lock().acquire()
    with pytest.raises(LockNotAcquiredError) as refused:
        waiter.lock().acquire(blocking=False)
    assert refused.value.retryable
    assert waiter.clock.slept == []


def test_without_blocking_a_lock_that_does_not_exist_or_is_stale_is_had(plain_room: Room) -> None:
    waiter = plain_room.machine()
    lock = waiter.lock()
    assert lock.acquire(blocking=False).release()
    plain_room.machine().lock().acquire()
    assert lock.try_acquire() is None
    waiter.clock.pass_seconds(LEASE - 0.01)
    assert lock.try_acquire() is None
    waiter.clock.pass_seconds(0.01)
    assert lock.try_acquire() is not None
    assert waiter.clock.slept == []


# --- "read the data in a lock without acquiring it" ---------------------------------------------------------------


def test_anybody_can_read_the_data_in_a_lock_and_find_out_who_owns_it(plain_room: Room) -> None:
    data = {"host": "a", "ports": [1, 2], "raw": b"\x00\xff"}
    with plain_room.machine().lock(owner="somebody").acquire(data=data):
        seen = plain_room.machine().lock().peek()
    assert (seen.owner, seen.data, seen.lease_seconds) == ("somebody", data, LEASE)
    assert type(seen.data["raw"]) is bytes


# --- "how we handle clock skew" -----------------------------------------------------------------------------------


@pytest.mark.parametrize("skew", [-YEAR, -60.0, 60.0, YEAR])
def test_machines_that_disagree_about_the_time_do_not_clobber_each_others_locks(plain_room: Room, skew: float) -> None:
    holder, waiter = plain_room.machine(NOON), plain_room.machine(NOON + skew)
    lease, wanted = holder.lock().acquire(), waiter.lock()
    assert wanted.try_acquire(LEASE - 1) is None
    assert waiter.lock().try_acquire() is None, "one who has seen it for the first time knows nothing of its age"
    lease.renew()
    assert wanted.try_acquire(LEASE - 1) is None
    assert lease.is_held()
    assert wanted.try_acquire(1.5) is not None


def test_a_waiter_begins_anew_whenever_it_sees_another_record_version_number(plain_room: Room) -> None:
    """Theirs did not (their issue says): it waited for something it could not get any more."""
    holder, waiter = plain_room.machine(), plain_room.machine()
    lease, due = holder.lock().acquire(), [19.0, 38.0, 57.0, 1000.0]

    def renew_now_and_then(seconds: float) -> None:
        holder.clock.pass_seconds(seconds)
        if holder.clock.elapsed >= due[0]:
            due.pop(0)
            lease.renew()

    waiter.clock.meanwhile = renew_now_and_then
    assert waiter.lock().acquire(timeout=100).token == lease.token + 1
    assert 57 + LEASE <= waiter.clock.elapsed < 57 + LEASE + 2


def test_a_lock_is_a_lock_of_the_writers_installation() -> None:
    with pytest.raises(TypeError, match="takes a ReliableWriter first, not str"):
        Lock("locks", "locks", "x")  # type: ignore[arg-type]  # what somebody may try
