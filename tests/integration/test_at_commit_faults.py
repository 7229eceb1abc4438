"""Operations at commit when things go wrong: others in between, conflicts, lost answers.

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
    ReliableWriteScope,
    ScopeClosedError,
)
from reliable_write.recovery import Resumed
from reliable_write.testing.engines import Capability
from reliable_write.testing.faults import (
    Call,
    FaultPlan,
    answer,
    cancel,
    conflict,
    deny,
    lose_answer,
    refuse_connection,
    server_error,
    throttle,
)
from tests.clocks import SkippingTime
from tests.integration.at_commit import add, another, count, delete, put, shown, there, tombstone, traces
from tests.integration.disturbed import TRANSACT, hasty, lost, mixed, on_commit, refusing
from tests.world import World

pytestmark = pytest.mark.needs(Capability.TRANSACTIONS)


# --- somebody was in between ------------------------------------------------------------------------------------------


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
    ahead, slow = SkippingTime(3600.0), SkippingTime(-3600.0)
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


# --- conflicts --------------------------------------------------------------------------------------------------------


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
    writer = hasty(world)
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


# --- lost answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_answer_lost_once_is_asked_for_again(every_world: World, when: Any) -> None:
    table, other = every_world.table("one"), every_world.table("two")
    writer = hasty(every_world)
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


# --- keys of the caller's ---------------------------------------------------------------------------------------------


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
