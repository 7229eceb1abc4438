"""Operations at commit when things go wrong: others in between, conflicts, lost answers, requests that land late.

Exactly once each time, and the outcome that is told is the one that holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from boto3.dynamodb.conditions import Attr

from reliable_write import (
    CommitFailedError,
    CommitUnknownError,
    ConditionFailedError,
    IdempotencyMismatchError,
    Outcome,
    PropagationPendingError,
    ReliableWriter,
    ReliableWriteScope,
    ScopeClosedError,
)
from reliable_write.clock import SystemTime
from reliable_write.recovery import Resumed
from reliable_write.testing.engines import Capability
from reliable_write.testing.faults import (
    Call,
    Fault,
    FaultPlan,
    InFlight,
    SimulatedCrash,
    answer,
    cancel,
    conflict,
    crash,
    deny,
    lose_answer,
    refuse_connection,
    server_error,
    throttle,
)
from tests.integration.at_commit import QUICK, add, count, delete, plant, put, shown, there, tombstone, traces
from tests.integration.stuck_writes import HastyTime
from tests.world import World

pytestmark = pytest.mark.needs(Capability.TRANSACTIONS)
TRANSACT = "TransactWriteItems"


def another(world: World, **more: Any) -> ReliableWriter:
    """Another process, which leaves no finished entry behind."""
    return world.writer(delete_finished_inline=True, **more)


def hasty(world: World, **more: Any) -> ReliableWriter:
    """One that waits for nothing: sleeping moves its clocks on."""
    return another(world, time=HastyTime(), **{**QUICK, **more})


class Jump(SystemTime):
    """A clock that can be moved on."""

    def __init__(self) -> None:
        self.by = 0.0

    def wall_seconds(self) -> float:
        return super().wall_seconds() + self.by

    def elapsed_seconds(self) -> float:
        return super().elapsed_seconds() + self.by


def mixed(writer: ReliableWriter, counter: str, other: str, **scope: Any) -> ReliableWriteScope:
    """An increment at commit, and a put that is journalled."""
    recording = ReliableWriteScope(writer, **scope)
    recording.update_item(counter, Key={"id": "x"}, add={"n": 1})
    recording.put_item(other, Item={"id": "x", "v": "mine"})
    return recording


def on_commit(writer: ReliableWriter, table: str, fault: Fault, when: Any = "before", **more: Any) -> FaultPlan:
    """Act on the transactions that touch a table."""
    return FaultPlan(writer.client).on(TRANSACT, fault, when, having=f'"{table}"'.encode(), **more)


def lost(scope: ReliableWriteScope, writer: ReliableWriter, table: str, fault: Fault, when: Any = "before") -> None:
    """Commit, without an answer."""
    with on_commit(writer, table, fault, when) as plan, pytest.raises(CommitUnknownError) as caught:
        scope.commit()
    assert plan.injected
    assert caught.value.outcome is Outcome.UNKNOWN
    assert caught.value.retryable
    assert caught.value.write_id == scope.write_id


def refusing(wanted: type[Exception], call: Callable[[], object]) -> Any:
    with pytest.raises(wanted) as caught:
        call()
    return caught.value


# --- somebody was in between --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["put", "update", "delete"])
def test_a_later_write_between_look_and_transaction_is_looked_at_again(every_world: World, how: str) -> None:
    table, other = every_world.table("one"), every_world.table("two")
    writer, rival = another(every_world), another(every_world)
    add(writer, table, n=40)
    rivals: list[str] = []
    acts: dict[str, Callable[[], Any]] = {
        "put": lambda: put(rival, table, n=7),
        "update": lambda: add(rival, table, n=2),
        "delete": lambda: delete(rival, table),
    }
    plan = on_commit(writer, table, lambda _: rivals.append(acts[how]().stamp), times=1)
    with plan:
        scope = mixed(writer, table, other)
        receipt = scope.commit()
    assert plan.injected == 1
    assert plan.count(TRANSACT) == 2
    assert receipt.stamp > rivals[0]
    assert receipt.write_id < rivals[0], "the first stamp, which never changes"
    assert receipt.write_id == scope.write_id
    assert count(every_world, table) == {"put": 8, "update": 43, "delete": 1}[how]
    assert there(every_world, table)["_rwu"]["S"] == receipt.stamp
    assert there(every_world, other)["_rw"]["S"] == receipt.stamp
    (mine,) = [item for item in every_world.records("R#") if item["pk"]["S"] == f"R#{receipt.write_id}"]
    assert mine["stamp"]["S"] == receipt.stamp
    assert every_world.records("J#") == []


def test_ce20_a_delete_renewed_between_look_and_transaction_is_looked_at_again(every_world: World) -> None:
    """The item is absent before and after; an update older than the new tombstone would be audited away."""
    table = every_world.table("one")
    writer, rival = another(every_world), another(every_world)
    delete(rival, table)
    with on_commit(writer, table, lambda _: delete(rival, table), times=1) as plan:
        receipt = add(writer, table)
    assert plan.injected == 1
    item = there(every_world, table)
    assert item["_rw"]["S"] == tombstone(every_world, table)
    assert item["_rwu"]["S"] == receipt.stamp > item["_rw"]["S"]


def test_a_tombstone_collected_between_look_and_transaction_is_looked_at_again(every_world: World) -> None:
    table = every_world.table("one")
    writer = another(every_world)
    delete(another(every_world), table)

    def collect(_call: Call) -> None:
        (found,) = every_world.records("T#")
        every_world.client.delete_item(TableName=every_world.system_table, Key={"pk": found["pk"], "sk": found["sk"]})

    with on_commit(writer, table, collect, times=1) as plan:
        add(writer, table)
    assert (plan.injected, plan.count(TRANSACT)) == (1, 3), "a probe, a refusal, a success"
    assert "_rw" not in there(every_world, table)


@pytest.mark.parametrize("how", ["put", "update", "delete"])
def test_g4_an_update_by_a_slow_clock_comes_after_what_it_has_seen(every_world: World, how: str) -> None:
    """At the first look: were the stamps not shown to the clock, the guards would object for an hour."""
    table = every_world.table("one")
    ahead, slow = Jump(), Jump()
    ahead.by, slow.by = 3600.0, -3600.0
    rival, writer = another(every_world, time=ahead), another(every_world, time=slow)
    acts: dict[str, Callable[[], Any]] = {
        "put": lambda: put(rival, table),
        "update": lambda: add(rival, table),
        "delete": lambda: delete(rival, table),
    }
    before = acts[how]()
    with on_commit(writer, table, lambda _: None) as plan:
        assert add(writer, table).stamp > before.stamp
    assert plan.count(TRANSACT) == 1 + 1, "the question whether there are transactions, and one attempt"
    assert count(every_world, table) == (2 if how == "update" else 1)


def test_a_rival_at_every_attempt_crowds_the_write_out_and_nothing_is_written(world: World) -> None:
    table, other = world.table("one"), world.table("two")
    writer = hasty(world)
    rival = another(world, time=writer.time)  # or the writer's clock would soon be ahead of it
    plan = on_commit(writer, table, lambda _: put(rival, table, n=7))
    scope = mixed(writer, table, other)
    with plan:
        error = refusing(CommitFailedError, scope.commit)
    assert plan.injected > 1
    assert (error.outcome, error.retryable, error.write_id) == (Outcome.NOT_WRITTEN, True, scope.write_id)
    assert count(world, table) == 7
    assert shown(world, other) is None
    assert world.records("J#") == world.records("R#") == []


def test_what_cannot_be_looked_at_again_is_told_with_the_write_id(world: World) -> None:
    table = world.table("one")
    writer, rival = hasty(world), another(world)
    plan = on_commit(writer, table, lambda _: put(rival, table, n=7), times=1)

    def blind(_call: Call) -> None:
        plan.on("BatchGetItem", deny)

    plan.on(TRANSACT, blind, "after", times=1, having=table.encode())
    scope = ReliableWriteScope(writer)
    scope.update_item(table, Key={"id": "x"}, add={"n": 1})
    with plan:
        error = refusing(CommitFailedError, scope.commit)
    assert (error.outcome, error.write_id) == (Outcome.NOT_WRITTEN, scope.write_id)
    assert count(world, table) == 7


def test_a_condition_is_judged_on_what_the_second_look_finds(every_world: World) -> None:
    """The rival's write makes the condition false; the guards objected first."""
    table = every_world.table("one")
    writer, rival = another(every_world), another(every_world)
    put(writer, table, state="draft")
    scope = ReliableWriteScope(writer)
    scope.update_item(table, Key={"id": "x"}, add={"n": 1}, ConditionExpression=Attr("state").eq("draft"))
    with on_commit(writer, table, lambda _: put(rival, table, state="paid"), times=1) as plan:
        error = refusing(ConditionFailedError, scope.commit)
    assert plan.count(TRANSACT) == 2
    assert error.failures[0].item["state"] == "paid"
    assert error.write_id == scope.write_id


# --- conflicts ----------------------------------------------------------------------------------------------------

PASSING = {
    "conflict": cancel("TransactionConflict"),
    "conflict at the first": cancel("TransactionConflict", at=0),
    "throttled action": cancel("ThrottlingError"),
    "throughput": cancel("ProvisionedThroughputExceeded"),
    "conflict as a whole": conflict,
    "throttled": throttle,
    "in progress": answer("TransactionInProgressException"),
    "server error": server_error,
    "no connection": refuse_connection,
}


@pytest.mark.parametrize("kind", sorted(PASSING))
def test_what_passes_is_waited_out_with_the_same_bytes(world: World, kind: str) -> None:
    table, other = world.table("one"), world.table("two")
    writer = hasty(world, attempt_deadline_seconds=8.0)
    with on_commit(writer, table, PASSING[kind], times=3) as plan:
        scope = mixed(writer, table, other)
        receipt = scope.commit()
    assert plan.injected == 3
    sent = [call.body for call in plan.calls if call.operation == TRANSACT and table.encode() in call.body]
    assert len(sent) == 4
    assert len(set(sent)) == 1
    assert json.loads(sent[0])["ClientRequestToken"] == receipt.stamp == receipt.write_id
    assert count(world, table) == 1
    assert there(world, other)["v"] == {"S": "mine"}


@pytest.mark.parametrize("kind", sorted(PASSING))
def test_what_does_not_pass_until_the_deadline_is_told_as_it_is(world: World, kind: str) -> None:
    table, other = world.table("one"), world.table("two")
    writer = hasty(world)
    scope = mixed(writer, table, other)
    doubtful = kind in ("in progress", "server error")
    with on_commit(writer, table, PASSING[kind]) as plan:
        error = refusing(CommitUnknownError if doubtful else CommitFailedError, scope.commit)
    assert plan.injected > 1
    assert error.outcome is (Outcome.UNKNOWN if doubtful else Outcome.NOT_WRITTEN)
    assert error.retryable
    assert count(world, table) == 0
    assert traces(world) == []
    if doubtful:
        scope.commit()
        assert count(world, table) == 1
    else:
        refusing(ScopeClosedError, scope.commit)


@pytest.mark.parametrize("code", ["AccessDenied", "Unheard"])
def test_a_reason_of_another_kind_is_a_refusal(world: World, code: str) -> None:
    table, other = world.table("one"), world.table("two")
    writer = hasty(world)
    with on_commit(writer, table, cancel(code), times=1):
        error = refusing(Exception, mixed(writer, table, other).commit)
    assert error.outcome is Outcome.NOT_WRITTEN
    assert count(world, table) == 0


def test_a_cancellation_without_a_reason_is_settled_by_a_fence(world: World) -> None:
    """It may have been our own receipt that objected."""
    table, other = world.table("one"), world.table("two")
    writer = hasty(world)
    scope = mixed(writer, table, other)
    silent = answer("TransactionCanceledException", CancellationReasons=[{"Code": "None"}])
    with on_commit(writer, table, silent, times=1):
        error = refusing(CommitFailedError, scope.commit)
    assert (error.outcome, error.write_id) == (Outcome.NOT_WRITTEN, scope.write_id)
    assert writer.status(scope.write_id or "") == "not written"


# --- lost answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_answer_lost_once_is_asked_for_again(every_world: World, when: Any) -> None:
    table, other = every_world.table("one"), every_world.table("two")
    writer = hasty(every_world, attempt_deadline_seconds=8.0)
    with on_commit(writer, table, lose_answer, when, times=1) as plan:
        receipt = mixed(writer, table, other).commit()
    assert plan.injected == 1
    assert not receipt.duplicate
    assert count(every_world, table) == 1
    assert there(every_world, other)["_rw"]["S"] == receipt.stamp


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_unknown_commit_is_settled_by_committing_again(every_world: World, when: Any) -> None:
    table, other = every_world.table("one"), every_world.table("two")
    writer = hasty(every_world)
    scope = mixed(writer, table, other)
    lost(scope, writer, table, lose_answer, when)
    applied = when == "after"
    assert count(every_world, table) == applied
    assert writer.status(scope.write_id or "") == ("pending" if applied else "unknown")
    assert shown(every_world, other) is None
    receipt = scope.commit()
    assert (receipt.write_id, receipt.duplicate) == (scope.write_id, False)
    assert count(every_world, table) == 1
    assert there(every_world, other)["v"] == {"S": "mine"}
    assert every_world.records("J#") == []
    refusing(ScopeClosedError, scope.commit)


def test_an_unknown_commit_that_was_applied_is_finished_by_a_monitor_without_the_caller(every_world: World) -> None:
    table, other = every_world.table("one"), every_world.table("two")
    writer = hasty(every_world)
    scope = mixed(writer, table, other)
    lost(scope, writer, table, lose_answer, "after")
    (report,) = every_world.writer().recovery.resume_all()
    assert report.resumed is Resumed.FINISHED
    assert report.write_id == scope.write_id
    assert there(every_world, other)["v"] == {"S": "mine"}
    assert count(every_world, table) == 1
    assert writer.status(scope.write_id or "") == "applied"
    assert scope.commit().write_id == scope.write_id
    assert count(every_world, table) == 1


def test_g3_a_commit_repeated_after_a_delete_does_not_bring_the_put_back(world: World) -> None:
    """Unknown, finished by a monitor, deleted by somebody, and only then committed again."""
    table, other = world.table("one"), world.table("two")
    writer = hasty(world)
    scope = mixed(writer, table, other)
    lost(scope, writer, table, lose_answer, "after")
    world.writer().recovery.resume_all()
    delete(another(world), other)
    scope.commit()
    assert shown(world, other) is None
    assert count(world, table) == 1


def test_g3_a_commit_repeated_while_its_entry_stands_looks_for_tombstones(world: World) -> None:
    """Unknown, deleted by somebody who never saw the item, and then propagated: late, as by a monitor."""
    table, other = world.table("one"), world.table("two")
    writer = hasty(world)
    scope = mixed(writer, table, other)
    lost(scope, writer, table, lose_answer, "after")
    gone = delete(another(world), other)
    assert scope.commit().superseded == ("operations[1]",)
    assert shown(world, other) is None
    assert tombstone(world, other) == gone.stamp


def test_a_commit_repeated_on_a_quarantined_entry_says_so_and_keeps_off_what_was_skipped(world: World) -> None:
    table, other = world.table("one"), world.table("two")
    writer = hasty(world)
    scope = mixed(writer, table, other)
    scope.put_item(other, Item={"id": "y", "v": "mine"})
    lost(scope, writer, table, lose_answer, "after")
    operators = world.writer().engine().operators
    write_id = scope.write_id or ""
    operators.quarantine(write_id, operator="me", reason="wait")
    error = refusing(PropagationPendingError, scope.commit)
    assert error.needs_operator
    assert error.failures[0].operation == "operations[1]"
    assert writer.status(write_id) == "quarantined"
    assert shown(world, other) is None
    operators.skip(write_id, ["operations[2]"], operator="me", reason="not wanted")
    operators.retry(write_id, operator="me", reason="go on")
    refusing(ScopeClosedError, scope.commit)  # it will be written, and says so
    (report,) = world.writer().recovery.resume_all()
    assert report.resumed is Resumed.FINISHED
    assert (shown(world, other, "x") is None, shown(world, other, "y") is None) == (False, True)


@pytest.mark.parametrize("how", ["away", "garbled"])
def test_a_commit_repeated_on_an_entry_that_cannot_be_read_is_pending(world: World, how: str) -> None:
    table, other = world.table("one"), world.table("two")
    writer = hasty(world)
    scope = mixed(writer, table, other)
    lost(scope, writer, table, lose_answer, "after")
    plan = FaultPlan(writer.client)
    if how == "away":
        plan.on("GetItem", deny, having=b"J#")
    else:
        (entry,) = world.records("J#")
        world.client.put_item(TableName=world.system_table, Item={**entry, "epoch": {"S": "not a number"}})
    error = refusing(PropagationPendingError, scope.commit)
    assert error.outcome is Outcome.WILL_BE_WRITTEN
    assert error.needs_operator == (how == "garbled")
    assert ("cannot be read" if how == "garbled" else "could not be read") in str(error)
    assert count(world, table) == 1


def test_a_commit_repeated_after_an_operator_skipped_a_part_leaves_that_part_alone(world: World) -> None:
    table, other = world.table("one"), world.table("two")
    writer = hasty(world)
    scope = mixed(writer, table, other)
    scope.put_item(other, Item={"id": "y", "v": "mine"})
    lost(scope, writer, table, lose_answer, "after")
    world.writer().engine().operators.skip(scope.write_id or "", ["operations[2]"], operator="me", reason="no")
    scope.commit()
    assert (shown(world, other, "x") is None, shown(world, other, "y") is None) == (False, True)


# --- late landing -------------------------------------------------------------------------------------------------


def test_ce21_an_attempt_that_lands_after_the_write_took_a_new_stamp_is_refused(every_world: World) -> None:
    """The receipt is keyed by the write id: keyed by the stamp, both attempts would take effect."""
    table, other = every_world.table("one"), every_world.table("two")
    writer, rival, late = hasty(every_world), another(every_world), InFlight()
    scope = mixed(writer, table, other)
    lost(scope, writer, table, late)
    assert late.calls
    newer = put(rival, table, n=10)
    receipt = scope.commit()
    assert receipt.stamp > newer.stamp > receipt.write_id
    assert count(every_world, table) == 11
    every_world.client.put_item(TableName=table, Item={"id": {"S": "x"}, "n": {"N": "11"}})  # stamps and all
    assert set(late.land()) == {400}
    assert count(every_world, table) == 11
    assert every_world.records("J#") == []


@pytest.mark.parametrize("keyed", [False, True])
def test_ce21_an_attempt_that_lands_before_the_restamped_one_is_the_one_that_counts(
    every_world: World, keyed: bool
) -> None:
    table, other = every_world.table("one"), every_world.table("two")
    writer, rival, late = hasty(every_world), another(every_world), InFlight()
    scope = mixed(writer, table, other, idempotency_key="order-1" if keyed else None)
    lost(scope, writer, table, late)
    first = json.loads(late.calls[0].body)["ClientRequestToken"]
    put(rival, table, n=10)
    landed: list[int] = []

    def land(_call: Call) -> None:
        """At the second transaction of this commit, which has the new stamp."""
        if plan.count(TRANSACT) == 2:
            plant(every_world, table)
            landed.extend(late.land())

    with on_commit(writer, table, land) as plan:
        receipt = scope.commit()
    assert plan.count(TRANSACT) == 2
    assert landed[0] == 200
    assert (receipt.stamp, receipt.write_id) == (first, scope.write_id)
    assert not receipt.duplicate, "it was this very scope"
    assert count(every_world, table) == 1
    assert there(every_world, other)["_rw"]["S"] == first
    assert every_world.records("J#") == []


def test_a_write_refused_after_an_unanswered_attempt_is_fenced_and_then_certainly_not_written(
    every_world: World,
) -> None:
    table, other = every_world.table("one"), every_world.table("two")
    writer, rival, late = hasty(every_world), another(every_world), InFlight()
    scope = ReliableWriteScope(writer)
    scope.put_item(other, Item={"id": "x"})
    scope.update_item(table, Key={"id": "x"}, add={"n": 1}, ConditionExpression=Attr("state").not_exists())
    lost(scope, writer, table, late)
    put(rival, table, state="paid")
    error = refusing(ConditionFailedError, scope.commit)
    assert error.outcome is Outcome.NOT_WRITTEN
    assert error.failures[0].operation == "operations[1]"
    assert writer.status(scope.write_id or "") == "not written"
    # Now everything would let it through but the void receipt.
    every_world.client.delete_item(TableName=table, Key={"id": {"S": "x"}})
    assert set(late.land()) == {400}
    assert shown(every_world, table) is None
    assert shown(every_world, other) is None
    assert every_world.records("J#") == []
    assert writer.status(scope.write_id or "") == "not written"
    refusing(ScopeClosedError, scope.commit)


def refused_while_in_flight(world: World, table: str, **scope: Any) -> tuple[ReliableWriteScope, Any, InFlight]:
    """Unanswered once, still under way; and its condition has become false."""
    writer, late = hasty(world), InFlight()
    recording = ReliableWriteScope(writer, **scope)
    recording.update_item(table, Key={"id": "x"}, add={"n": 1}, ConditionExpression=Attr("state").not_exists())
    lost(recording, writer, table, late)
    put(another(world), table, state="paid")
    return recording, writer, late


def test_a_fence_that_finds_the_write_landed_says_that_it_is_written(every_world: World) -> None:
    table = every_world.table("one")
    scope, writer, late = refused_while_in_flight(every_world, table)

    def land(_call: Call) -> None:
        every_world.client.delete_item(TableName=table, Key={"id": {"S": "x"}})
        assert late.land()[0] == 200

    plan = FaultPlan(writer.client).on("PutItem", land, times=1, having=b'"void"')
    receipt = scope.commit()
    assert plan.injected == 1
    assert receipt.write_id == scope.write_id == receipt.stamp
    assert count(every_world, table) == 1
    assert writer.status(receipt.write_id) == "applied"


def test_a_fence_whose_own_answer_was_lost_holds(every_world: World) -> None:
    table = every_world.table("one")
    scope, writer, late = refused_while_in_flight(every_world, table)
    plan = FaultPlan(writer.client).on("PutItem", lose_answer, "after", times=1, having=b'"void"')
    refusing(ConditionFailedError, scope.commit)
    assert plan.injected == 1
    every_world.client.delete_item(TableName=table, Key={"id": {"S": "x"}})
    assert set(late.land()) == {400}
    assert count(every_world, table) == 0


def test_a_fence_that_nobody_heard_of_is_met_by_the_next_commit(every_world: World) -> None:
    """Our own void receipt is no success."""
    table = every_world.table("one")
    scope, writer, late = refused_while_in_flight(every_world, table)
    with FaultPlan(writer.client).on("PutItem", lose_answer, "after", having=b'"void"'):
        refusing(CommitUnknownError, scope.commit)
    assert len(every_world.records("R#")) == 1, "the void one"
    every_world.client.delete_item(TableName=table, Key={"id": {"S": "x"}})
    error = refusing(CommitFailedError, scope.commit)
    assert (error.outcome, error.write_id) == (Outcome.NOT_WRITTEN, scope.write_id)
    assert set(late.land()) == {400}
    assert count(every_world, table) == 0


def test_an_unanswered_try_is_not_forgotten_over_a_conflict(every_world: World) -> None:
    """Lost, then in conflict, then refused for good: the first try may still land, so it is fenced."""
    table = every_world.table("one")
    put(another(every_world), table, state="paid")
    writer, late = hasty(every_world, attempt_deadline_seconds=8.0), InFlight()
    scope = ReliableWriteScope(writer)
    scope.update_item(table, Key={"id": "x"}, add={"n": 1}, ConditionExpression=Attr("state").not_exists())
    with on_commit(writer, table, late, times=1) as plan:
        plan.on(TRANSACT, cancel("TransactionConflict"), times=1, having=table.encode())
        error = refusing(ConditionFailedError, scope.commit)
    assert (plan.injected, error.outcome) == (2, Outcome.NOT_WRITTEN)
    every_world.client.delete_item(TableName=table, Key={"id": {"S": "x"}})
    assert late.land() == [400]
    assert count(every_world, table) == 0


def test_a_write_that_cannot_be_fenced_stays_unknown(world: World) -> None:
    table = world.table("one")
    scope, writer, late = refused_while_in_flight(world, table)
    with FaultPlan(writer.client).on("PutItem", refuse_connection, having=b'"void"') as plan:
        error = refusing(CommitUnknownError, scope.commit)
    assert plan.injected
    assert error.outcome is Outcome.UNKNOWN
    world.client.delete_item(TableName=table, Key={"id": {"S": "x"}})
    assert late.land()[0] == 200, "so it was right to say so"
    assert scope.commit().write_id == scope.write_id
    assert count(world, table) == 1


def test_a_key_of_the_callers_is_not_fenced_so_it_stays_unknown_and_usable(world: World) -> None:
    table = world.table("one")
    scope, _, late = refused_while_in_flight(world, table, idempotency_key="order-1")
    error = refusing(CommitUnknownError, scope.commit)
    assert "condition" in str(error)
    assert isinstance(error.__cause__, ConditionFailedError)
    assert world.records("R#") == [record for record in world.records("R#") if "void" not in record], (
        "a void receipt would refuse the key for ever"
    )
    world.client.delete_item(TableName=table, Key={"id": {"S": "x"}})
    with ReliableWriteScope(another(world), idempotency_key="order-1") as again:
        again.update_item(table, Key={"id": "x"}, add={"n": 1}, ConditionExpression=Attr("state").not_exists())
        assert not again.commit().duplicate
    assert set(late.land()) == {400}
    assert count(world, table) == 1
    assert scope.commit().duplicate, "another scope was first"
    assert count(world, table) == 1


def test_a_definite_refusal_after_an_unanswered_attempt_is_no_certainty(world: World) -> None:
    table, other = world.table("one"), world.table("two")
    writer, late = hasty(world), InFlight()
    scope = mixed(writer, table, other)
    lost(scope, writer, table, late)
    lost(scope, writer, table, deny)
    assert late.land()[0] == 200
    scope.commit()
    assert count(world, table) == 1


def test_a_definite_refusal_of_the_first_attempt_is_certain(world: World) -> None:
    table, other = world.table("one"), world.table("two")
    writer = hasty(world)
    scope = mixed(writer, table, other)
    with on_commit(writer, table, deny):
        error = refusing(CommitFailedError, scope.commit)
    assert (error.outcome, error.retryable) == (Outcome.NOT_WRITTEN, False)
    assert "access denied" in str(error)
    assert writer.status(scope.write_id or "") == "unknown"


def test_ctrl_c_within_the_transaction_leaves_the_scope_to_be_committed_again(world: World) -> None:
    table, other = world.table("one"), world.table("two")
    writer = hasty(world)
    scope = mixed(writer, table, other)

    def interrupt(_call: Call) -> None:
        raise KeyboardInterrupt

    with on_commit(writer, table, interrupt, "after", times=1), pytest.raises(KeyboardInterrupt):
        scope.commit()
    assert count(world, table) == 1
    assert scope.commit().write_id == scope.write_id
    assert count(world, table) == 1
    assert there(world, other)["v"] == {"S": "mine"}


def test_ce22_more_than_ten_minutes_after_its_first_request_it_is_not_committed_again(world: World) -> None:
    table, other = world.table("one"), world.table("two")
    time = Jump()
    writer = another(world, time=time, **QUICK)
    scope = mixed(writer, table, other)
    lost(scope, writer, table, lose_answer)
    time.by = 590.0
    lost(scope, writer, table, lose_answer)
    time.by = 601.0
    with FaultPlan(writer.client) as plan:
        error = refusing(CommitUnknownError, scope.commit)
    assert plan.calls == []
    assert not error.retryable
    assert count(world, table) == 0


def test_a_process_that_dies_after_the_transaction_is_finished_by_recovery(every_world: World) -> None:
    table, other = every_world.table("one"), every_world.table("two")
    writer = another(every_world)
    scope = mixed(writer, table, other)
    on_commit(writer, table, crash, "after")
    with pytest.raises(SimulatedCrash):
        scope.commit()
    (report,) = every_world.writer().recovery.resume_all()
    assert report.resumed is Resumed.FINISHED
    assert [result.place for result in report.results] == ["operations[1]"]
    assert (count(every_world, table), there(every_world, other)["v"]) == (1, {"S": "mine"})


# --- keys of the caller's -----------------------------------------------------------------------------------------


def test_g3_the_same_key_weeks_later_does_not_bring_back_what_was_deleted(every_world: World) -> None:
    """Its tombstone is collected, its receipt is kept longer: a duplicate must not propagate what is finished."""
    table, other = every_world.table("one"), every_world.table("two")
    mixed(another(every_world), table, other, idempotency_key="order-1").commit()
    delete(another(every_world), other)
    for found in every_world.records("T#"):
        every_world.client.delete_item(TableName=every_world.system_table, Key={"pk": found["pk"], "sk": found["sk"]})
    assert mixed(another(every_world), table, other, idempotency_key="order-1").commit().duplicate
    assert shown(every_world, other) is None
    assert count(every_world, table) == 1


def test_the_same_key_again_writes_nothing_and_other_operations_are_refused(every_world: World) -> None:
    table, other = every_world.table("one"), every_world.table("two")
    first = mixed(another(every_world), table, other, idempotency_key="order-1").commit()
    again = mixed(another(every_world), table, other, idempotency_key="order-1").commit()
    assert (first.duplicate, again.duplicate) == (False, True)
    assert (again.write_id, again.stamp) == (first.write_id, first.stamp) == ("order-1", first.stamp)
    scope = mixed(another(every_world), table, other, idempotency_key="order-1")
    scope.put_item(other, Item={"id": "z"})
    error = refusing(IdempotencyMismatchError, scope.commit)
    assert error.outcome is Outcome.NOT_WRITTEN
    assert count(every_world, table) == 1
    assert shown(every_world, other, "z") is None
