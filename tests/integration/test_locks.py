"""Taking, keeping and losing a lock: what is lost on the way, who takes over when, and a token that only grows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import CapturingLogger

from reliable_write import (
    CommitFailedError,
    ConfigurationError,
    InvalidItemError,
    Lease,
    Lock,
    LockLostError,
    LockNotAcquiredError,
    Outcome,
    ReadFailedError,
    ReliableWriteScope,
    UnknownTableError,
    WriteTooLargeError,
)
from reliable_write.locks.items import LockState
from reliable_write.testing.faults import Call, Fault, InFlight, answer, conflict, deny, lose_answer, throttle
from reliable_write.testing.faults import server_error as broken
from reliable_write.testing.meter import Meter
from tests.integration.locking import LEASE, YEAR, Machine, Room, beat, plain_room, room
from tests.unit.fakes import NOON

__all__ = ["plain_room", "room"]


# --- taking it ----------------------------------------------------------------------------------------------------


def test_an_acquisition_whose_answer_was_lost_is_recognised(plain_room: Room) -> None:
    """The retry meets what the first try wrote; taken for somebody else's it would wait for itself (dynamolock#280)."""
    machine = plain_room.machine()
    with machine.faults() as plan:
        plan.on("UpdateItem", lose_answer, "after", times=1)
        lease = machine.lock().acquire(blocking=False)
    assert plan.injected == 1
    assert plan.count("UpdateItem") == 2
    assert lease.token == int(NOON * 1000) + 1


@pytest.mark.parametrize("fault", [throttle, conflict, broken], ids=["throttled", "conflict", "server error"])
def test_trouble_of_the_store_is_waited_out_when_it_passes(plain_room: Room, fault: Fault) -> None:
    machine = plain_room.machine()
    with machine.faults() as plan:
        plan.on("UpdateItem", fault, times=2)
        assert machine.lock().acquire(blocking=False).is_held()
    assert plan.injected == 2


def test_trouble_of_the_store_is_not_taken_for_somebody_else_s_lock(plain_room: Room) -> None:
    machine = plain_room.machine()
    lock = machine.lock()
    with machine.faults() as plan:
        plan.on("UpdateItem", deny)
        with pytest.raises(CommitFailedError, match="could not be acquired: access denied") as refused:
            lock.try_acquire()
        assert refused.value.outcome is Outcome.NOT_WRITTEN
        plan.on("GetItem", deny)
        with pytest.raises(ReadFailedError, match="could not be read"):
            lock.peek()
    with pytest.raises(UnknownTableError):
        machine.lock(table="no-such-table").acquire()
    assert lock.acquire(blocking=False).is_held(), "the handle is free for another try"


def test_an_acquisition_that_was_never_answered_is_unknown_and_this_handle_may_have_it_at_once(
    plain_room: Room,
) -> None:
    machine, other = plain_room.machine(), plain_room.machine()
    lock = machine.lock()
    with machine.faults() as plan:
        plan.on("UpdateItem", lose_answer, "after")
        with pytest.raises(CommitFailedError) as unknown:
            lock.acquire()
    assert unknown.value.outcome is Outcome.UNKNOWN
    assert other.lock().try_acquire() is None, "others cannot know, and wait for its lease"
    lease = lock.acquire(blocking=False)
    assert lease.token == int(NOON * 1000) + 2
    assert other.lock().try_acquire() is None


def test_a_request_that_lands_after_the_release_brings_nothing_back(room: Room) -> None:
    """It arrives late and takes the free lock in the name of a lease that is over: under a token of its own."""
    machine, late = room.machine(), InFlight()
    lock = machine.lock()
    with machine.faults() as plan:
        plan.on("UpdateItem", late, times=1)
        lease = lock.acquire()
    assert lease.release()
    assert late.land() == [200]
    seen = lock.peek()
    assert seen.lease_id == lease._hold.holding.lease_id
    assert seen.token == lease.token + 1
    with pytest.raises(LockLostError, match="was released"), machine.writer.begin() as scope:
        scope.check(lease)
    assert lock.acquire(blocking=False).token == lease.token + 2


def test_the_time_of_a_lease_counts_from_before_the_request(plain_room: Room) -> None:
    machine = plain_room.machine()

    def slow(_call: Call) -> None:
        machine.clock.pass_seconds(6.0)

    with machine.faults() as plan:
        plan.on("UpdateItem", slow, "after")
        lease = machine.lock().acquire()
        assert lease.remaining_seconds() == LEASE - 6
        lease.renew()
        assert lease.remaining_seconds() == LEASE - 6


def test_a_lease_that_has_run_out_when_its_answer_comes_is_taken_anew(plain_room: Room) -> None:
    machine = plain_room.machine()
    with machine.faults() as plan:
        plan.on("UpdateItem", lambda _call: machine.clock.pass_seconds(LEASE), "after", times=1)
        lease = machine.lock().acquire()
    assert plan.count("UpdateItem") == 2
    assert lease.remaining_seconds() == LEASE


def test_of_many_who_find_a_lock_free_one_has_it(plain_room: Room) -> None:
    machines = [plain_room.machine() for _ in range(5)]
    leases = [machine.lock().try_acquire() for machine in machines]
    assert [lease is not None for lease in leases] == [True, False, False, False, False]


@pytest.mark.parametrize("what", ["clock", "owner", "data"])
def test_what_cannot_be_is_refused_before_anything_is_sent(room: Room, what: str) -> None:
    machine = room.machine()
    with machine.faults() as plan:
        if what == "owner":
            with pytest.raises(ConfigurationError, match="owner is a name of 1 to 256"):
                machine.lock(owner="")
        elif what == "data":
            with pytest.raises(InvalidItemError, match=r"data\[1\]"):
                machine.lock().acquire(data=[1, 0.5])
            with pytest.raises(WriteTooLargeError, match="every heartbeat pays"):
                machine.lock().acquire(data=b"x" * 65_536)
        else:
            with pytest.raises(ValueError, match="timeout is -1"):
                machine.lock().acquire(timeout=-1)
            with pytest.raises(ConfigurationError, match="poll_seconds"):
                machine.lock(poll_seconds=0)
    assert plan.calls == []


@pytest.mark.parametrize(
    ("spans", "told"),
    [
        ({"lease_seconds": 0}, "above 0"),
        ({"heartbeat_seconds": 10.1}, "at most half"),
        ({"heartbeat_seconds": 0}, "at most half"),
        ({"lease_seconds": 1.3}, "would not outlast one lost answer, for which a request waits up to 1 s"),
        ({"safe_seconds": 4.9}, "between the heartbeat"),
        ({"safe_seconds": 20.1}, "between the heartbeat"),
    ],
)
def test_spans_that_do_not_fit_together_are_refused_with_the_numbers(
    room: Room, spans: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        room.machine().lock(**spans)


# --- taking over --------------------------------------------------------------------------------------------------


def test_a_holder_that_comes_back_in_the_last_moment_keeps_its_lock(plain_room: Room) -> None:
    """The waiter has decided; the heartbeat lands first, and the version is not the one he saw."""
    holder, waiter = plain_room.machine(), plain_room.machine()
    lease = holder.lock().acquire()
    wanted = waiter.lock()
    assert wanted.try_acquire() is None
    waiter.clock.pass_seconds(LEASE)
    with waiter.faults() as plan:
        plan.on("UpdateItem", lambda _call: lease.renew(), having=b"seen_id", times=1)
        assert wanted.try_acquire() is None
    assert plan.injected == 1
    lease.renew()


def test_two_who_find_the_holder_dead_do_not_both_take_over(plain_room: Room) -> None:
    plain_room.machine().lock().acquire()
    machines = [plain_room.machine(), plain_room.machine()]
    locks = [machine.lock() for machine in machines]
    assert [lock.try_acquire() for lock in locks] == [None, None]
    for machine in machines:
        machine.clock.pass_seconds(LEASE)
    first: list[Any] = []
    with machines[1].faults() as plan:
        plan.on("UpdateItem", lambda _call: first.append(locks[0].try_acquire()), having=b"seen_id", times=1)
        assert locks[1].try_acquire() is None
    assert first[0] is not None


def test_the_holder_s_lease_counts_and_not_the_waiter_s(plain_room: Room) -> None:
    plain_room.machine().lock(lease_seconds=3 * LEASE).acquire()
    waiter = plain_room.machine()
    wanted = waiter.lock()
    assert wanted.try_acquire(3 * LEASE - 1) is None
    assert wanted.try_acquire(2) is not None


def test_a_version_that_only_looks_old_is_not_old(plain_room: Room) -> None:
    """Its wall clock jumped by a year between two looks; only time that has passed counts for a waiter."""
    plain_room.machine().lock().acquire()
    waiter = plain_room.machine()
    wanted = waiter.lock()
    assert wanted.try_acquire() is None
    waiter.clock.wall += YEAR
    assert wanted.try_acquire() is None


# --- the token ----------------------------------------------------------------------------------------------------


def tokens_of(room: Room, steps: str) -> list[int]:
    """Tokens over steps: r and k release (with and without deleting data), d lets it die and take over."""
    tokens: list[int] = []
    for step in steps:
        machine = room.machine(NOON - len(tokens) * YEAR)  # every next clock is a year behind
        lease = machine.lock().acquire(timeout=2 * LEASE)
        tokens.append(lease.token)
        if step != "d":
            lease.release(delete=step == "r")
    return tokens


def test_the_token_grows_over_releases_and_takeovers_whatever_the_clocks_say(plain_room: Room) -> None:
    tokens = tokens_of(plain_room, "rkddrdk")
    assert tokens == list(range(tokens[0], tokens[0] + 7))


def test_the_token_of_a_lock_whose_item_was_removed_begins_above_where_it_was(plain_room: Room) -> None:
    """By the clock: nothing else is left to go by. A thousand holders a second would have to have been."""
    machine = plain_room.machine()
    tokens: list[int] = []
    for _ in range(3):
        for _ in range(5):
            lease = machine.lock().acquire()
            tokens.append(lease.token)
            lease.release()
        plain_room.world.client.delete_item(TableName=plain_room.table, Key={"name": {"S": "x"}})
        machine.clock.pass_seconds(0.01)
    assert tokens == sorted(set(tokens))


def test_a_release_keeps_the_item_with_the_token_and_nothing_else(plain_room: Room) -> None:
    lease = plain_room.machine().lock().acquire(data="mine")
    assert lease.release()
    assert plain_room.item() == {"name": {"S": "x"}, "lock_token": {"N": str(lease.token)}}


# --- data, and what else is in the item ---------------------------------------------------------------------------


def test_data_outlive_their_holder_until_somebody_replaces_them(plain_room: Room) -> None:
    first = plain_room.machine().lock().acquire(data={"done": 3})
    second = plain_room.machine().lock(delete_on_release=False).acquire(timeout=2 * LEASE)
    assert second.token > first.token
    assert second.data == {"done": 3}
    second.renew(data={"done": 4})
    assert second.data == {"done": 4}
    second.renew()
    second.release()
    lock = plain_room.machine().lock()
    assert lock.peek().data == {"done": 4}
    with lock.acquire(data="other") as third:
        assert third.data == "other"
    assert lock.peek() == LockState(token=third.token)


def test_other_attributes_of_the_item_are_left_alone(plain_room: Room) -> None:
    item = {"name": {"S": "x"}, "owner": {"S": "an attribute of somebody's"}, "data": {"N": "7"}}
    plain_room.world.client.put_item(TableName=plain_room.table, Item=item)
    lease = plain_room.machine().lock().acquire(data=b"mine")
    second = plain_room.machine().lock().acquire(timeout=2 * LEASE)
    second.release()
    assert plain_room.item() == {**item, "lock_token": {"N": str(lease.token + 1)}}


@pytest.mark.parametrize("foreign", [{"lock_id": {"N": "1"}}, {"lock_id": {"S": "a"}, "lock_token": {"S": "b"}}])
def test_attributes_that_no_lock_wrote_are_told_of(room: Room, foreign: dict[str, Any]) -> None:
    room.world.client.put_item(TableName=room.table, Item={"name": {"S": "x"}, **foreign})
    for use in (room.machine().lock().peek, room.machine().lock().acquire):
        with pytest.raises(ReadFailedError, match="no lock of this library wrote"):
            use()


# --- the holder's own clock ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("clock", ["wall", "elapsed"])
def test_the_greater_of_wall_and_boot_time_ends_a_lease(plain_room: Room, clock: str) -> None:
    machine = plain_room.machine()
    lease = machine.lock().acquire()
    setattr(machine.clock, clock, getattr(machine.clock, clock) + LEASE)
    assert not lease.is_held()
    with pytest.raises(LockLostError, match="ran out before it was renewed"):
        lease.check()


def test_a_lease_that_has_run_out_does_not_come_back(plain_room: Room) -> None:
    machine = plain_room.machine()
    lease = machine.lock().acquire()
    machine.clock.pass_seconds(LEASE)
    assert beat(lease) is None
    machine.clock.pass_seconds(-LEASE)
    assert not lease.is_held()
    with machine.faults() as plan, pytest.raises(LockLostError):
        lease.renew()
    assert plan.calls == []


def test_ensure_renews_only_what_would_not_last(plain_room: Room) -> None:
    machine = plain_room.machine()
    lease = machine.lock(heartbeat=False).acquire()
    machine.clock.pass_seconds(8.0)
    with Meter(machine.client) as meter:
        lease.ensure(12.0)
        assert lease.remaining_seconds() == 12.0
        lease.ensure(12.1)
    assert lease.remaining_seconds() == LEASE
    assert meter.calls == {"UpdateItem": 1}
    for seconds in (LEASE + 1, float("nan")):
        with pytest.raises(ValueError, match="never lasts"):
            lease.ensure(seconds)


def test_a_renewal_without_an_answer_leaves_what_is_left(plain_room: Room) -> None:
    machine = plain_room.machine()
    lease = machine.lock().acquire()
    machine.clock.pass_seconds(2.0)
    with machine.faults() as plan:
        plan.on("UpdateItem", deny)
        with pytest.raises(CommitFailedError, match=r"The lease has 18.0 s left"):
            lease.renew()
    assert lease.remaining_seconds() == 18.0


# --- the end of a block -------------------------------------------------------------------------------------------


def taken_over(room: Room, machine: Machine) -> int:
    """Somebody else has it now; his token."""
    other = room.machine()
    lease = other.lock(owner="another").acquire(timeout=2 * LEASE)
    assert machine.told("lock_lost") == []
    return lease.token


def test_leaving_a_block_whose_lock_was_lost_says_so(plain_room: Room) -> None:
    machine = plain_room.machine()
    with pytest.raises(LockLostError, match="another holds it now") as lost:  # noqa: SIM117 - the lock is lost inside
        with machine.lock() as lease:
            token = taken_over(plain_room, machine)
    assert lost.value.outcome is Outcome.UNKNOWN
    assert (lost.value.token, lost.value.owner) == (lease.token, "another")
    assert plain_room.machine().lock().peek().token == token, "the other one still has it"


def test_what_the_block_raises_passes_unchanged_also_where_the_lock_was_lost(plain_room: Room) -> None:
    machine, error = plain_room.machine(), KeyError("the block's own")
    with pytest.raises(KeyError) as raised:  # noqa: SIM117, PT012 - the lock is lost inside
        with machine.lock():
            taken_over(plain_room, machine)
            raise error
    assert raised.value is error
    with pytest.raises(KeyError) as raised, machine.lock("free"):
        raise error
    assert not machine.lock("free").locked(), "and it is released"


def test_a_block_that_outlasts_its_lease_was_alone_where_nobody_took_over(plain_room: Room) -> None:
    """The store decides, not the clock."""
    machine = plain_room.machine()
    with machine.lock() as lease:
        machine.clock.pass_seconds(10 * LEASE)
        assert beat(lease) is None
        assert not lease.is_held()
    assert not machine.lock().locked()


def test_a_release_that_is_not_answered_is_told_to_the_log_while_the_lease_had_time(plain_room: Room) -> None:
    machine = plain_room.machine()
    with machine.faults() as plan:
        with machine.lock():
            plan.on("UpdateItem", deny)
        assert machine.told("lock_not_released")
        assert plan.injected == 1


def test_a_release_that_is_not_answered_after_the_lease_is_a_lock_that_may_be_lost(plain_room: Room) -> None:
    machine = plain_room.machine()
    with machine.faults() as plan, pytest.raises(LockLostError, match="may be held by somebody else"), machine.lock():  # noqa: PT012 - lost inside
        plan.on("UpdateItem", deny)
        machine.clock.pass_seconds(LEASE)


def test_a_release_whose_answer_was_lost_is_recognised(plain_room: Room) -> None:
    machine = plain_room.machine()
    lease = machine.lock().acquire()
    with machine.faults() as plan:
        plan.on("UpdateItem", lose_answer, "after", times=1)
        assert lease.release()
    assert plan.count("UpdateItem") == 2


def test_a_late_release_whose_answer_was_lost_is_one_where_the_lock_is_free(plain_room: Room) -> None:
    """Under our token nobody can have had it in between."""
    machine = plain_room.machine()
    lease = machine.lock().acquire()
    machine.clock.pass_seconds(2 * LEASE)
    with machine.faults() as plan:
        plan.on("UpdateItem", lose_answer, "after", times=1)
        assert lease.release()


def test_a_late_release_whose_answer_was_lost_is_none_where_somebody_has_it(plain_room: Room) -> None:
    machine, other = plain_room.machine(), plain_room.machine()
    lease = machine.lock().acquire()
    machine.clock.pass_seconds(2 * LEASE)

    def taken(call: Call) -> None:
        assert other.lock().try_acquire() is not None
        lose_answer(call)

    with machine.faults() as plan:
        plan.on("UpdateItem", taken, "after", times=1)
        assert not lease.release()


def test_a_release_whose_answer_was_lost_is_one_also_where_somebody_was_quick(plain_room: Room) -> None:
    """Its lease had time left, so nobody could have had the lock before."""
    machine, other = plain_room.machine(), plain_room.machine()
    lease = machine.lock().acquire()

    def taken(call: Call) -> None:
        assert other.lock().try_acquire() is not None
        lose_answer(call)

    with machine.faults() as plan:
        plan.on("UpdateItem", taken, "after", times=1)
        assert lease.release()


def test_a_release_tells_whether_it_was_held_until_then(plain_room: Room) -> None:
    machine = plain_room.machine()
    lease = machine.lock().acquire()
    assert lease.release() is True
    assert lease.release() is False
    lost = machine.lock().acquire()
    taken_over(plain_room, machine)
    assert lost.release() is False
    with pytest.raises(LockLostError):
        lost.check()


def test_a_released_handle_has_nothing_to_release_or_guard(plain_room: Room) -> None:
    lock = plain_room.machine().lock()
    with lock:
        pass
    with pytest.raises(LockLostError, match="not held by this handle"):
        lock.release()


def test_an_explicit_release_inside_of_the_block_is_the_end_of_it(plain_room: Room) -> None:
    machine = plain_room.machine()
    with machine.lock() as lease:
        lease.release()
        other = machine.lock().acquire()
    assert other.is_held()


def test_the_error_crosses_processes_and_tells_no_key(plain_room: Room) -> None:
    plain_room.machine().lock("secret-customer").acquire()
    with pytest.raises(LockNotAcquiredError) as refused:
        plain_room.machine().lock("secret-customer").acquire(timeout=0)
    assert "secret-customer" not in str(refused.value)
    assert refused.value.key == {"name": "secret-customer"}
    assert refused.value.until_milliseconds == int((NOON + LEASE) * 1000)


def test_what_is_told_to_the_log_holds_no_key(room: Room) -> None:
    machine = room.machine()
    lease = machine.lock("secret-customer").acquire(data="secret data")
    machine.clock.pass_seconds(LEASE)
    beat(lease)
    log: CapturingLogger = machine.log
    assert machine.told("lock_lost")[0]["token"] == lease.token
    assert "secret" not in repr(log.calls)


# --- costs --------------------------------------------------------------------------------------------------------


PAGE = Path(__file__).parents[2] / "docs" / "locks.md"
Costs = tuple[float, float, float]


def told() -> dict[str, Costs]:
    """The table of the page: requests, read units, write units."""
    rows = re.findall(r"^\| ([a-z][^|]+) \| (\d) \| (\d) \| (\d) \|$", PAGE.read_text(), re.MULTILINE)
    return {what: (int(calls), int(reads), int(writes)) for what, calls, reads, writes in rows}


def counted(machine: Machine, deed: Callable[[], object]) -> Costs:
    with Meter(machine.client) as meter:
        deed()
    return sum(meter.calls.values()), meter.read_units, meter.write_units


def guarded_costs(machine: Machine, lease: Lease | None, table: str) -> Costs:
    scope = ReliableWriteScope(machine.writer)
    if lease is not None:
        lease.guard(scope)
    scope.put_item(table, {"id": "x"}, at_commit=True)
    return counted(machine, scope.commit)


def test_the_costs_on_the_page_are_those_counted(room: Room) -> None:
    machine, waiter, things = room.machine(), room.machine(), room.world.table("things")
    guarded_costs(machine, None, things)
    lock, wanted = machine.lock(), waiter.lock()
    wanted.peek()
    lock.acquire().release()
    costs = {"take a free lock": counted(machine, lock.acquire)}
    assert lock.lease is not None
    costs["each heartbeat"] = counted(machine, lock.lease.renew)
    costs["each look of a waiter"] = counted(waiter, wanted.peek)
    with Meter(waiter.client) as meter:
        assert wanted.try_acquire() is None
    assert meter.calls["UpdateItem"] == 1
    # DynamoDB bills a refused write; this engine tells nothing of it, and does not tell what it found either.
    costs["first try of a waiter, or of a non-blocking one"] = (1, 0, 1)
    with_guard, without = guarded_costs(machine, lock.lease, things), guarded_costs(machine, None, things)
    costs["guard a scope, beside what it costs"] = tuple(  # type: ignore[assignment]  # three
        mine - bare for mine, bare in zip(with_guard, without, strict=True)
    )
    costs["release it"] = counted(machine, lock.release)
    assert costs == told()


def test_a_lock_may_lie_in_another_region(room: Room) -> None:
    """See the tests of destinations for how it gets there; here only that it is found by its alias."""
    machine = room.machine()
    with pytest.raises(UnknownTableError, match="no destination 'eu'"):
        Lock(machine.writer, "eu:locks", "x", lease_seconds=LEASE).acquire()


def test_an_answer_that_nobody_understands_is_the_store_s(room: Room) -> None:
    machine = room.machine()
    with machine.faults() as plan:
        plan.on("UpdateItem", answer("ValidationException"))
        with pytest.raises(CommitFailedError, match="refused as invalid"):
            machine.lock().acquire()
