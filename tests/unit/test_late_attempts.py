"""What comes late, on tables in memory: an attempt at a write whose key was deleted since leaves nothing behind.

The audit would find it, half a minute or half an hour later; until then a deleted item would be back. The same on real
engines, and more of it, is in `tests/integration/test_late_puts.py` and `test_discard_races.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from reliable_write import Outcome, PropagationPendingError, Receipt, ReliableWriteError, ReliableWriteScope, limits
from reliable_write.commit import Prepared
from reliable_write.dynamodb import CallFailed, CallName, ConditionRefused, TransactionCancelled
from reliable_write.engine import Engine
from reliable_write.entry import State, UnreadableEntry
from reliable_write.errors import ConditionFailedError, TooLateError
from reliable_write.operations import Operation
from reliable_write.policy import FailureKind
from reliable_write.propagation import Status
from reliable_write.recovery import Resumed
from reliable_write.values import WireItem
from tests.simulation.memory import Request
from tests.simulation.memory_world import SYSTEM, TABLE, MemoryWorld, deleting, putting

W = limits.COLLECTION_WAIT_SECONDS
Event = Callable[[], object]
WHO: dict[str, Any] = {"operator": "ada", "reason": "a test"}


@pytest.fixture
def world() -> MemoryWorld:
    return MemoryWorld()


@dataclass
class Writer:
    parts: Engine

    def engine(self) -> Engine:
        return self.parts


def left_behind(world: MemoryWorld, action: Any) -> Prepared:
    """A write whose writer died just after its commit point."""
    prepared = world.prepare(action, world.process())
    world.engine.journal.commit(prepared.entry, world.engine.attempt_deadline())
    world.time.pass_seconds(1.0)
    return prepared


@contextlib.contextmanager
def before(world: MemoryWorld, call: CallName, table: str, event: Event) -> Iterator[None]:
    """Something happens, once, just before such a request lands."""
    happened: list[bool] = []

    def happen() -> None:
        happened.append(True)
        event()

    world.tables.before = _once(call, table, happen)
    yield
    world.tables.before = lambda _call, _request: None
    assert happened, f"no {call} came"


def _once(call: CallName, table: str, event: Event) -> Callable[[CallName, Request], None]:
    left = [event]

    def look(sent: CallName, request: Request) -> None:
        if left and sent == call and _touches(request, table):
            left.pop()()

    return look


def _touches(request: Request, table: str) -> bool:
    parts = [part for action in request.get("TransactItems", ()) for part in action.values()]
    return table in (request.get("TableName"), *request.get("RequestItems", ()), *(part["TableName"] for part in parts))


def update(world: MemoryWorld, name: str, condition: str | None = None, *, key: str | None = None) -> Receipt:
    scope = ReliableWriteScope(Writer(world.process()), idempotency_key=key)
    scope.update_item(TABLE, {"id": "x"}, ConditionExpression=condition, add={name: 1})
    receipt = scope.commit()
    world.time.pass_seconds(1.0)
    return receipt


# --- a late put and a newer delete --------------------------------------------------------------------------------


def test_a_late_put_that_a_delete_has_overtaken_leaves_nothing(world: MemoryWorld) -> None:
    put = left_behind(world, putting(v="old"))
    world.delete()
    report = world.engine.recovery.resume(put.write_id)
    assert world.shown() is None
    assert report.resumed is Resumed.FINISHED
    assert [result.status for result in report.results] == [Status.SUPERSEDED]


def test_a_put_that_is_sent_twice_is_late(world: MemoryWorld) -> None:
    """Applied, seen, deleted; its answer was lost, so it is sent again."""
    prepared = world.prepare(putting(v="old"))

    def lose() -> None:
        world.tables.apply(*world.tables.sent[-1])
        world.time.pass_seconds(0.1)
        world.delete(engine=world.process())
        raise CallFailed(FailureKind.TIMEOUT, "lost", TABLE)

    with before(world, "put_item", TABLE, lose):
        receipt = world.commit(prepared)
    assert world.shown() is None
    assert receipt.superseded == ("operations[0]",)


def test_a_commit_that_is_repeated_is_late(world: MemoryWorld) -> None:
    """The first one reached its commit point, was not told so, and died away; then somebody deleted the key."""
    prepared = world.prepare(putting(v="old"))

    def silence(call: CallName, request: Request) -> None:
        with contextlib.suppress(ConditionRefused):
            world.tables.apply(call, request)
        raise CallFailed(FailureKind.TIMEOUT, "lost", SYSTEM)

    world.tables.before = silence
    with pytest.raises(ReliableWriteError) as unknown:
        world.commit(prepared)
    assert unknown.value.outcome is Outcome.UNKNOWN
    world.tables.before = lambda _call, _request: None
    world.delete(engine=world.process())
    receipt = world.commit(prepared)
    assert world.shown() is None
    assert receipt.superseded == ("operations[0]",)


def test_a_transaction_that_is_repeated_is_late(world: MemoryWorld) -> None:
    scope = ReliableWriteScope(Writer(world.process()), idempotency_key="key-1")
    scope.put_item(TABLE, {"id": "x", "v": "old"})

    def silence(call: CallName, request: Request) -> None:
        if call == "transact_write_items":
            with contextlib.suppress(TransactionCancelled):
                world.tables.apply(call, request)
            raise CallFailed(FailureKind.TIMEOUT, "lost", SYSTEM)

    world.tables.before = silence
    with pytest.raises(ReliableWriteError) as unknown:
        scope.commit()
    assert unknown.value.outcome is Outcome.UNKNOWN
    world.tables.before = lambda _call, _request: None
    world.delete(engine=world.process())
    receipt = scope.commit()
    assert world.shown() is None
    assert receipt.superseded == ("operations[0]",)


def test_an_older_delete_that_comes_late_clears_no_way_for_a_put_between_the_two(world: MemoryWorld) -> None:
    first = left_behind(world, deleting())
    between = left_behind(world, putting(v="old"))
    last = world.delete()
    for one in (first, between):
        assert world.engine.recovery.resume(one.write_id).resumed is Resumed.FINISHED
    assert world.shown() is None
    assert [record["stamp"]["S"] for record in world.records("T#")] == [last.stamp]


def test_ce23_what_takes_a_late_put_back_spares_an_update_that_came_after_the_delete(world: MemoryWorld) -> None:
    """The update was built on the put itself; the delete, which had begun before it, was overtaken by it, and left its
    tombstone. Then the put is tried again, finds itself applied, and the newer tombstone.
    """
    put = left_behind(world, putting())
    with before(world, "batch_write_item", SYSTEM, _deny):
        world.engine.recovery.resume(put.write_id)
    delete = world.prepare(deleting())
    world.time.pass_seconds(1.0)
    update(world, "counted")
    with pytest.raises(PropagationPendingError):
        world.commit(delete)
    assert world.engine.recovery.resume(put.write_id).resumed is Resumed.FINISHED
    assert (world.shown() or {}).get("counted") == {"N": "1"}


def _deny() -> None:
    raise CallFailed(FailureKind.ACCESS_DENIED, "denied", SYSTEM)


def test_a_tombstone_outlives_what_was_on_its_way_when_its_entry_went(world: MemoryWorld) -> None:
    """A commit that had not witnessed the delete lives between two passes of the auditor, and none of them sees its
    entry. What its last attempt sent lands later still: then an audit must be to come, or the item is back for good.
    """
    put = world.prepare(putting(v="old"), world.process())
    world.time.pass_seconds(1.0)
    world.delete()
    auditor = world.auditor()
    auditor.run_once()
    world.time.pass_seconds(W - 60.0)
    world.engine.journal.commit(put.entry, world.engine.attempt_deadline())
    held: list[tuple[CallName, Request]] = []

    def hold() -> None:
        held.append(world.tables.sent[-1])
        raise CallFailed(FailureKind.TIMEOUT, "held", TABLE)

    with before(world, "put_item", TABLE, hold):
        assert world.engine.recovery.resume(put.write_id).resumed is Resumed.FINISHED
    for seconds in (61.0, 61.0):
        world.time.pass_seconds(seconds)
        auditor.run_once()
    world.tables.apply(*held[0])
    for _ in range(4):
        world.time.pass_seconds(W + 1)
        auditor.run_once()
    assert world.shown() is None
    assert world.records("T#") == []


# --- a late transaction -------------------------------------------------------------------------------------------


def test_what_was_told_not_to_be_written_is_fenced_off_before_it_is_told(world: MemoryWorld) -> None:
    """Its first request is on its way and not answered; the second one is refused by the caller's condition."""
    world.put(v="there")
    held: list[tuple[CallName, Request]] = []

    def hold() -> None:
        held.append(world.tables.sent[-1])
        world.delete(engine=world.process())
        raise CallFailed(FailureKind.TIMEOUT, "held", None)

    world.tables.before = _once("transact_write_items", TABLE, hold)
    with pytest.raises(ConditionFailedError) as refused:
        update(world, "counted", "attribute_exists(id)")
    assert refused.value.outcome is Outcome.NOT_WRITTEN
    for tombstone in world.records("T#"):  # nothing but the receipt is in its way now
        world.forget(tombstone["pk"]["S"], tombstone["sk"]["S"])
    world.plant(v="there again")
    with contextlib.suppress(TransactionCancelled, ConditionRefused):
        world.tables.apply(*held[0])
    assert "counted" not in (world.shown() or {}), "told not to be written, and is"


def test_a_key_that_is_used_again_counts_once(world: MemoryWorld) -> None:
    """By another process, under another stamp: a receipt that went by the stamp would not be found."""
    first, second = update(world, "counted", key="key-1"), update(world, "counted", key="key-1")
    assert (world.shown() or {})["counted"] == {"N": "1"}
    assert (first.duplicate, second.duplicate) == (False, True)
    assert first.stamp == second.stamp


def test_what_lands_before_it_is_fenced_off_is_told_to_be_written(world: MemoryWorld) -> None:
    """The same race, and the first request wins it."""
    world.put(v="there")
    held: list[tuple[CallName, Request]] = []

    def hold() -> None:
        held.append(world.tables.sent[-1])
        world.tables.before = _once("transact_write_items", TABLE, hide)
        raise CallFailed(FailureKind.TIMEOUT, "held", None)

    def hide() -> None:
        item = world.tables.tables[TABLE].items.pop("x")
        world.tables.before = _once("put_item", SYSTEM, lambda: land(item))

    def land(item: WireItem) -> None:
        world.tables.tables[TABLE].items["x"] = item
        world.tables.apply(*held[0])

    world.tables.before = _once("transact_write_items", TABLE, hold)
    try:
        outcome = update(world, "counted", "attribute_exists(id)").stamp
    except ReliableWriteError as error:
        outcome = str(error.outcome)
    assert outcome == (world.shown() or {})["_rwu"]["S"]


@pytest.mark.parametrize("rival", ["put", "update"])
def test_what_is_put_at_commit_comes_after_what_came_after_its_look(world: MemoryWorld, rival: str) -> None:
    """CE9, CE25: by its stamp, since whoever looks later goes by that."""
    others: list[Receipt] = []
    scope = ReliableWriteScope(Writer(world.process()))
    scope.put_item(TABLE, {"id": "x"}, at_commit=True)

    def write() -> None:
        world.time.pass_seconds(1.0)
        others.append(world.put(engine=world.process()) if rival == "put" else update(world, "counted"))

    world.time.pass_seconds(1.0)
    with before(world, "transact_write_items", TABLE, write):
        receipt = scope.commit()
    assert receipt.stamp > others[0].stamp


def test_an_update_does_not_build_upon_a_ghost_that_came_after_its_look(world: MemoryWorld) -> None:
    """CE20."""
    older = world.stamp()
    world.delete()
    with before(world, "transact_write_items", TABLE, lambda: world.plant(_rw=older, v="dead")):
        update(world, "counted")
    assert (world.shown() or {}).keys() == {"id", "counted", "_rw", "_rwu"}


@pytest.mark.parametrize("deletes", [0, 1], ids=["first delete", "second delete"])
def test_an_update_comes_after_a_delete_that_came_after_its_look(world: MemoryWorld, deletes: int) -> None:
    """CE20: else the audit would take it away with the ghosts."""
    deleted: list[Receipt] = [world.delete() for _ in range(deletes)]
    world.time.pass_seconds(1.0)

    def delete() -> None:
        world.time.pass_seconds(1.0)
        deleted.append(world.delete(engine=world.process()))

    with before(world, "transact_write_items", TABLE, delete):
        updated = update(world, "counted")
    assert updated.stamp > deleted[-1].stamp


# --- an operator who comes late -----------------------------------------------------------------------------------


def test_a_discard_is_of_what_was_seen(world: MemoryWorld) -> None:
    """While it waits for attempts under way, somebody else has the write tried again: it is too late."""
    write_id = left_behind(world, putting(v="wanted")).write_id
    other = world.process()

    with (
        before(world, "delete_item", SYSTEM, lambda: other.operators.retry(write_id, **WHO)),
        pytest.raises(TooLateError),
    ):
        world.engine.operators.discard(write_id, **WHO)
    assert [entry.state for entry in world.engine.recovery.look().entries] == [State.PENDING]


def test_a_discard_is_told_once_no_attempt_under_way_can_write_any_more(world: MemoryWorld) -> None:
    """It meets a monitor between two operations: one is on its way, the other must not follow it."""
    puts = (Operation("put_item", (putting("x"),)), Operation("put_item", (putting("y"),)))
    monitor = world.process()
    prepared = monitor.committer.prepare(puts, monitor.attempt_deadline())
    monitor.journal.commit(prepared.entry, monitor.attempt_deadline())

    with before(world, "put_item", TABLE, lambda: world.engine.operators.discard(prepared.write_id, **WHO)):
        monitor.recovery.resume(prepared.write_id)
    assert world.shown("x") is not None
    assert world.shown("y") is None, "told to be discarded, and written after that"
    assert world.records("J#") == []


def test_a_discard_that_waits_is_not_overtaken_by_new_attempts(
    world: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Monitors come by every few seconds; an operator who had to be quicker than they would never have his way."""
    write_id = left_behind(world, putting(v="unwanted")).write_id
    monitor, came = world.process(), []

    def wait(seconds: float) -> None:
        world.time.pass_seconds(seconds)
        came.append(monitor.recovery.resume(write_id).resumed)

    monkeypatch.setattr(world.engine.time, "sleep", wait)
    with contextlib.suppress(TooLateError):
        world.engine.operators.discard(write_id, **WHO)
    assert came == [Resumed.QUARANTINED]
    assert world.shown() is None
    assert world.records("J#") == []


# --- a monitor that comes late ------------------------------------------------------------------------------------


def test_ce13_a_note_on_an_entry_that_was_finished_meanwhile_makes_no_entry(world: MemoryWorld) -> None:
    """It could not apply the write and another monitor could; what it notes must not stand there as a new entry."""
    put = left_behind(world, putting(v="wanted"))
    other = world.process()

    def fail() -> None:
        world.tables.before = _once("update_item", SYSTEM, lambda: other.recovery.resume(put.write_id))
        raise CallFailed(FailureKind.UNCLASSIFIED, "failed", TABLE)

    world.tables.before = _once("put_item", TABLE, fail)
    resumed = None
    with contextlib.suppress(UnreadableEntry):  # as such an entry would be
        resumed = world.engine.recovery.resume(put.write_id).resumed
    assert world.records("J#") == []
    assert resumed is Resumed.TOO_LATE
    assert world.shown() is not None
