"""CE20 to CE26 by hand, on an engine that has forgotten its tokens, as ten minutes later: only our own guards hold.

The random versions of these are in `tests/unit/test_transacted_model.py` and `tests/chaos/test_exact_sums.py`.
"""

from __future__ import annotations

from typing import Any

import pytest

from reliable_write import CommitUnknownError, PropagationPendingError, Receipt, ReliableWriter, ReliableWriteScope
from reliable_write.entry import State
from reliable_write.recovery import Resumed
from reliable_write.testing.engines import Capability
from reliable_write.testing.faults import Call, FaultPlan, InFlight, lose_answer
from tests.chaos.counting import forget_tokens
from tests.clocks import HastyTime, SkippingTime
from tests.integration.test_promises import another, delete, left_behind, name
from tests.world import World

pytestmark = pytest.mark.needs(Capability.TRANSACTIONS)


def forgetful(world: World, **more: Any) -> ReliableWriter:
    writer = another(world, **more)
    forget_tokens(writer.client)
    return writer


def add(writer: ReliableWriter, table: str, **more: Any) -> Receipt:
    scope = ReliableWriteScope(writer)  # no block: others write in the middle of a scope, in one thread
    scope.update_item(table, {"id": "x"}, add={"n": 1}, **more)
    return scope.commit()


def item(world: World, table: str) -> dict[str, str]:
    """The item, its numbers as text; empty where it is absent."""
    found = world.item(table, id={"S": "x"}) or {}
    return {key: next(iter(value.values())) for key, value in found.items()}


def test_ce20_an_update_of_a_deleted_key_comes_after_the_delete_and_stays(every_world: World) -> None:
    """By a clock an hour behind, and over a ghost that a stalled put has left."""
    world = every_world
    table = world.table("one")
    late = InFlight()
    putter, slow = another(world), forgetful(world, time=SkippingTime(-3600.0))
    with FaultPlan(putter.client).on("PutItem", late, times=1, having=name(table)), ReliableWriteScope(putter) as scope:
        scope.put_item(table, {"id": "x", "dead": 1})
        scope.commit()
    deleted = delete(another(world), table)
    late.land()
    assert "dead" in item(world, table)
    with FaultPlan(slow.client) as plan:
        added = add(slow, table)
    assert plan.count("BatchGetItem") == 1  # the ghost it removed by itself is no reason to look again
    assert added.stamp > deleted.stamp
    assert item(world, table) == {"id": "x", "n": "1", "_rw": deleted.stamp, "_rwu": added.stamp}


def test_ce21_an_applied_update_that_was_not_answered_does_not_land_again_under_a_new_stamp(
    every_world: World,
) -> None:
    """Sent again it finds its own doing in the way; without its receipt it would look again and take a new stamp."""
    world = every_world
    table = world.table("one")
    writer = forgetful(world)
    add(writer, table)
    with FaultPlan(writer.client).on("TransactWriteItems", lose_answer, "after", times=1) as plan:
        receipt = add(writer, table)
    assert plan.count("TransactWriteItems") == 2
    assert plan.count("BatchGetItem") == 1
    assert item(world, table) == {"id": "x", "n": "2", "_rwu": receipt.stamp}
    assert len(world.records("R#")) == 2


def test_ce21_an_unanswered_update_that_took_a_new_stamp_and_then_lands_is_applied_once(
    every_world: World,
) -> None:
    world = every_world
    table = world.table("one")
    writer, rival, late = forgetful(world), another(world), InFlight()

    def overtake(call: Call) -> None:
        late(call) if plan.injected == 1 else add(rival, table)

    with FaultPlan(writer.client) as plan:
        plan.on("TransactWriteItems", overtake, times=2, having=name(table))
        receipt = add(writer, table)
    assert plan.count("BatchGetItem") == 2
    assert receipt.stamp != receipt.write_id
    assert late.land() == [400]
    assert item(world, table) == {"id": "x", "n": "2", "_rwu": receipt.stamp}


def test_ce22_an_unknown_update_is_not_committed_again_after_ten_minutes(every_world: World) -> None:
    world = every_world
    table = world.table("one")
    time = HastyTime()
    writer = forgetful(world, time=time)
    scope = ReliableWriteScope(writer)
    scope.update_item(table, {"id": "x"}, add={"n": 1})
    with FaultPlan(writer.client).on("TransactWriteItems", lose_answer), pytest.raises(CommitUnknownError) as unknown:
        scope.commit()
    assert unknown.value.retryable
    time.skip(601)
    with FaultPlan(writer.client) as plan, pytest.raises(CommitUnknownError) as again:
        scope.commit()
    assert not again.value.retryable
    assert plan.calls == []
    assert item(world, table) == {}


def test_ce24_a_delete_run_again_after_an_update_of_its_key_takes_nothing_away(every_world: World) -> None:
    """The deleter dies after its delete and before its entry is removed."""
    world = every_world
    table = world.table("one")
    deleter = world.writer()
    deleted = delete(deleter, table)  # its entry is removed only when the writer is closed
    assert len(world.records("J#")) == 1
    added = add(forgetful(world), table)
    assert world.writer().recovery.resume(deleted.write_id).resumed is Resumed.FINISHED
    assert item(world, table) == {"id": "x", "n": "1", "_rw": deleted.stamp, "_rwu": added.stamp}


def overtaken_delete(world: World, table: str) -> str:
    """A delete that an update has overtaken between its stamp and its first request; its write id."""
    deleter, adder = another(world), another(world)
    with FaultPlan(deleter.client) as plan:
        plan.on("PutItem", lambda _: add(adder, table), times=1, having=b'"T#')
        with pytest.raises(PropagationPendingError) as pending:
            delete(deleter, table)
    assert plan.injected == 1
    assert pending.value.needs_operator
    assert pending.value.write_id is not None
    return pending.value.write_id


def test_ce26_updates_after_a_delete_that_was_overtaken_do_not_make_it_pass_for_done(
    every_world: World,
) -> None:
    """The delete has left its tombstone, and the item an update made, without a full write, is still there. An update
    that handed the tombstone on to it would say that the delete had been done: it would vanish, and nobody be told.
    """
    world = every_world
    table = world.table("one")
    writer = forgetful(world)
    add(writer, table)
    write_id = overtaken_delete(world, table)
    add(writer, table)
    assert world.writer().recovery.resume(write_id).resumed is Resumed.QUARANTINED
    (entry,) = world.records("J#")
    assert entry["state"]["S"] == State.QUARANTINED
    assert item(world, table)["n"] == "3"
    assert "_rw" not in item(world, table)


@pytest.mark.parametrize("condition", [None, "attribute_not_exists(done)"])
def test_ce26_an_update_whose_item_goes_after_the_look_looks_again(every_world: World, condition: str | None) -> None:
    """It then makes the item, and hands on the tombstone after all (CE24). The condition holds with the item and
    without: it is not what refused.
    """
    world = every_world
    table = world.table("one")
    deleter, writer = world.writer(), forgetful(world)
    deleted = delete(deleter, table)
    add(writer, table)

    def remove(_call: Call) -> None:
        world.client.delete_item(TableName=table, Key={"id": {"S": "x"}})

    with FaultPlan(writer.client).on("TransactWriteItems", remove, times=1) as plan:
        added = add(writer, table, ConditionExpression=condition)
    assert plan.count("BatchGetItem") == 2
    assert item(world, table) == {"id": "x", "n": "1", "_rw": deleted.stamp, "_rwu": added.stamp}
    assert world.writer().recovery.resume(deleted.write_id).resumed is Resumed.FINISHED


def test_ce10_a_late_put_of_a_counter_is_told_and_no_increment_is_lost(every_world: World) -> None:
    world = every_world
    table = world.table("one")
    write_id = left_behind(world, table, item={"id": "x", "n": 1000})
    added = add(forgetful(world), table)
    assert world.writer().recovery.resume(write_id).resumed is Resumed.QUARANTINED
    assert item(world, table) == {"id": "x", "n": "1", "_rwu": added.stamp}
    assert world.writer().status(write_id) == "quarantined"
