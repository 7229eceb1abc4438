"""The commit of a scope and what follows it: unknown, refused, interrupted, and tables that refuse afterwards."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from reliable_write import (
    CommitFailedError,
    CommitUnknownError,
    Outcome,
    PropagationPendingError,
    ReliableWriter,
    ReliableWriteScope,
    ScopeClosedError,
    WrongThreadError,
    limits,
)
from reliable_write.recovery import Resumed
from reliable_write.testing.faults import Call, FaultPlan, conflict, deny, lose_answer, refuse_connection, throttle
from tests.clocks import HastyTime
from tests.integration.scopes import named, nothing_written
from tests.world import World

# --- the commit point -------------------------------------------------------------------------------------------------


def unknown(world: World, table: str, writer: ReliableWriter) -> ReliableWriteScope:
    """A scope whose journal put was applied and never answered."""
    scope = ReliableWriteScope(writer)
    with scope:
        scope.put_item(table, Item={"id": "ada", "n": 1})
        scope.delete_item(table, Key={"id": "bob"})
        plan = FaultPlan(writer.client).on("PutItem", lose_answer, "after", having=named(world.system_table))
        with plan, pytest.raises(CommitUnknownError) as caught:
            scope.commit()
    assert plan.injected > 1, "every answer is lost"
    assert caught.value.outcome is Outcome.UNKNOWN
    assert caught.value.retryable
    assert caught.value.write_id == scope.write_id
    assert world.items(table) == [], "nothing is propagated before the commit is known"
    return scope


def test_an_unknown_commit_committed_again_is_one_write(every_world: World) -> None:
    world = every_world
    table = world.table("people")
    writer = world.hasty()
    scope = unknown(world, table, writer)
    with pytest.raises(ScopeClosedError, match="Only commit"):
        scope.put_item(table, Item={"id": "more"})
    (entry,) = world.records("J#")
    receipt = scope.commit()
    writer.close()
    assert receipt.write_id == receipt.stamp == scope.write_id == entry["sk"]["S"]
    assert world.items(table) == [{"id": {"S": "ada"}, "n": {"N": "1"}, "_rw": {"S": receipt.stamp}}]
    assert world.records("J#") == []


def test_an_unknown_commit_that_recovery_finished_meanwhile_is_still_one_write(every_world: World) -> None:
    world = every_world
    table = world.table("people")
    writer = world.hasty()
    scope = unknown(world, table, writer)
    (report,) = world.writer().recovery.resume_all()
    assert report.resumed is Resumed.FINISHED
    with world.writer() as another, another.begin() as later:
        later.put_item(table, Item={"id": "ada", "n": 2})
    receipt = scope.commit()
    writer.close()
    assert receipt.superseded == ("operations[0]",)
    assert [item["n"] for item in world.items(table)] == [{"N": "2"}]
    assert world.records("J#") == []


def test_an_unknown_commit_is_not_repeated_after_ten_minutes(world: World) -> None:
    """CE22."""
    table = world.table("people")
    time = HastyTime()
    writer = world.writer(time=time)
    scope = unknown(world, table, writer)
    time.skip(limits.COMMIT_REPEAT_SECONDS + 1)
    with nothing_written(writer), pytest.raises(CommitUnknownError, match="600 s ago") as caught:
        scope.commit()
    assert not caught.value.retryable
    assert caught.value.outcome is Outcome.UNKNOWN
    assert caught.value.scope is scope, "whoever commits again by error.scope hears it every time"


def test_another_thread_is_told_how_to_settle_an_unknown_scope_and_not_to_make_another(world: World) -> None:
    """As where `asyncio.to_thread` commits again what it has committed: a second scope would be a second write."""
    writer = world.hasty()
    scope = unknown(world, world.table("people"), writer)
    with ThreadPoolExecutor() as executor:
        error = executor.submit(scope.commit).exception()
    assert isinstance(error, WrongThreadError)
    assert error.outcome is Outcome.UNKNOWN
    assert f"writer.status({scope.write_id!r})" in str(error)
    assert "Make one scope" not in str(error)
    assert scope.commit().operations == 2


def test_a_commit_that_stays_unknown_can_be_tried_once_more(world: World) -> None:
    table = world.table("people")
    writer = world.hasty()
    scope = unknown(world, table, writer)
    with (
        FaultPlan(writer.client).on("PutItem", refuse_connection, having=named(world.system_table)),
        pytest.raises(CommitUnknownError),
    ):
        scope.commit()  # certainly refused now, but the first try is as unknown as it was
    assert scope.commit().operations == 2


@pytest.mark.parametrize(
    ("fault", "retryable"),
    [(throttle, True), (conflict, True), (refuse_connection, True), (deny, False)],
    ids=["throttle", "conflict", "refuse", "deny"],
)
def test_a_commit_that_was_certainly_refused_says_so(world: World, fault: Any, retryable: bool) -> None:
    table = world.table("people")
    writer = world.hasty()
    scope = ReliableWriteScope(writer)
    scope.put_item(table, Item={"id": "ada"})
    plan = FaultPlan(writer.client).on("PutItem", fault)
    with plan, pytest.raises(CommitFailedError, match="Nothing was written") as caught:
        scope.commit()
    assert plan.injected
    assert caught.value.retryable is retryable
    assert caught.value.outcome is Outcome.NOT_WRITTEN
    assert world.items(table) == world.records("J#") == []


def test_a_witness_that_cannot_be_read_refuses_the_commit(world: World) -> None:
    table = world.table("people")
    writer = world.hasty()
    scope = ReliableWriteScope(writer)
    scope.put_item(table, Item={"id": "ada"})
    with (
        nothing_written(writer),
        FaultPlan(writer.client).on("BatchGetItem", deny),
        pytest.raises(CommitFailedError, match="dynamodb:BatchGetItem"),
    ):
        scope.commit()


@pytest.mark.parametrize("where", ["before", "after"])
def test_an_interrupt_during_the_commit_leaves_the_scope_unknown_and_committable(world: World, where: Any) -> None:
    table = world.table("people")
    writer = world.writer()

    def interrupt(_call: Call) -> None:
        raise KeyboardInterrupt

    scope = ReliableWriteScope(writer)
    scope.put_item(table, Item={"id": "ada"})
    plan = FaultPlan(writer.client).on("PutItem", interrupt, where, times=1)
    with plan, pytest.raises(KeyboardInterrupt), scope:
        scope.commit()
    assert plan.injected == 1
    with pytest.raises(ScopeClosedError) as caught:
        scope.put_item(table, Item={"id": "bob"})
    assert caught.value.outcome is Outcome.UNKNOWN
    assert scope.commit().operations == 1
    assert len(world.items(table)) == 1


# --- after it ---------------------------------------------------------------------------------------------------------


def test_a_table_that_refuses_is_told_and_the_others_are_written(every_world: World) -> None:
    world = every_world
    open_table, closed = world.table("open"), world.table("closed")
    writer = world.hasty()
    scope = ReliableWriteScope(writer)
    scope.put_item(open_table, Item={"id": "ada"})
    scope.put_items(closed, [{"id": "x"}, {"id": "y"}])
    scope.put_item(open_table, Item={"id": "bob"})
    plan = FaultPlan(writer.client).on("PutItem", deny, having=named(closed))
    with plan, pytest.raises(PropagationPendingError) as caught:
        scope.commit()
    assert plan.injected == 2
    error = caught.value
    assert error.outcome is Outcome.WILL_BE_WRITTEN
    assert error.needs_operator
    assert [(failure.operation, failure.table, failure.permanent) for failure in error.failures] == [
        ("operations[1].items[0]", closed, True),
        ("operations[1].items[1]", closed, True),
    ]
    assert all("access denied" in failure.reason for failure in error.failures)
    assert len(world.items(open_table)) == 2
    assert world.items(closed) == []
    (report,) = world.writer().recovery.resume_all()
    assert (report.write_id, report.resumed) == (error.write_id, Resumed.FINISHED)
    assert len(world.items(closed)) == 2


def test_a_table_that_is_only_busy_needs_no_operator(world: World) -> None:
    table = world.table("busy")
    writer = world.hasty()
    scope = ReliableWriteScope(writer)
    scope.put_item(table, Item={"id": "ada"})
    with (
        FaultPlan(writer.client).on("PutItem", throttle, having=named(table)),
        pytest.raises(PropagationPendingError) as caught,
    ):
        scope.commit()
    assert not caught.value.needs_operator
    assert "throttled" in str(caught.value)
    assert len(world.records("J#")) == 1
