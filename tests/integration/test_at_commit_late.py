"""Operations at commit whose requests land late: fenced, met by the next commit, or unknown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from boto3.dynamodb.conditions import Attr

from reliable_write import (
    CommitFailedError,
    CommitUnknownError,
    ConditionFailedError,
    Outcome,
    ReliableWriteScope,
    ScopeClosedError,
)
from reliable_write.recovery import Resumed
from reliable_write.testing.engines import Capability
from reliable_write.testing.faults import (
    Call,
    FaultPlan,
    InFlight,
    SimulatedCrash,
    cancel,
    crash,
    deny,
    lose_answer,
    refuse_connection,
)
from tests.clocks import HastyTime
from tests.integration.at_commit import another, count, plant, put, shown, there
from tests.integration.disturbed import TRANSACT, hasty, lost, mixed, on_commit, refusing
from tests.world import World

pytestmark = pytest.mark.needs(Capability.TRANSACTIONS)


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
    writer, late = hasty(every_world), InFlight()
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
    time = HastyTime()
    writer = another(world, time=time)
    scope = mixed(writer, table, other)
    lost(scope, writer, table, lose_answer)
    time.skip(590.0)
    lost(scope, writer, table, lose_answer)
    time.skip(11.0)
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
