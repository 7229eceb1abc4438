"""A put that arrives when its key has been deleted since: it never brings the item back, and never passes for done
where the tombstone says nothing.
"""

from __future__ import annotations

from typing import Any

import pytest

from reliable_write import ForeignStampError, Outcome, ReliableWriteScope
from reliable_write.clock import HybridClock, SystemTime
from reliable_write.entry import State
from reliable_write.operations import Delete
from reliable_write.propagation import Status
from reliable_write.recovery import Resumed
from reliable_write.testing.engines import Engine
from reliable_write.testing.faults import Call, FaultPlan, lose_answer
from reliable_write.tombstones import tombstone_key
from tests.integration.stuck_writes import Stuck, one
from tests.integration.stuck_writes import delete as deletion
from tests.integration.stuck_writes import put as an_item
from tests.integration.test_promises import another, delete, left_behind, name, put, shown
from tests.world import World, plain_world

world = plain_world

DAY_SECONDS = 86_400.0


# --- sent twice within one attempt --------------------------------------------------------------------------------


def test_a_put_whose_answer_was_lost_does_not_undo_a_delete_that_saw_it(every_world: World) -> None:
    """Applied, seen and deleted by somebody else, and only then sent again: the first attempt is late by itself."""
    world = every_world
    table = world.table("one")
    writer, deleter = another(world), another(world)

    def delete_and_lose(call: Call) -> None:
        assert shown(world, table) == "a"
        assert delete(deleter, table).superseded == ()
        lose_answer(call)

    with FaultPlan(writer.client).on("PutItem", delete_and_lose, "after", times=1, having=name(table)) as plan:
        receipt = put(writer, table, v="a")
    assert plan.injected == 1
    assert [call.operation for call in plan.calls if name(table) in call.body].count("PutItem") == 2
    assert receipt.superseded == ("operations[0]",)
    assert world.items(table) == []


def test_the_same_where_the_delete_comes_between_a_refusal_and_the_look(dynalite: Engine, unique_name: Any) -> None:
    """An engine that does not show the item with its refusal is asked for it, and it may be gone by then."""
    world = World(dynalite, unique_name)
    table = world.table("one")
    writer, deleter = another(world), another(world)
    plan = FaultPlan(writer.client).on("PutItem", lose_answer, "after", times=1, having=name(table))
    plan.on("GetItem", lambda _: delete(deleter, table), times=1, having=name(table))
    with plan:
        receipt = put(writer, table, v="a")
    assert plan.injected == 2
    assert receipt.superseded == ("operations[0]",)
    assert world.items(table) == []
    world.close()


def test_the_same_where_a_newer_put_refused_ours_and_was_deleted_before_the_look(
    dynalite: Engine, unique_name: Any
) -> None:
    """No answer is lost here: two others come and go between our put and our look."""
    world = World(dynalite, unique_name)
    table = world.table("one")
    writer, other, deleter = another(world), another(world), another(world)
    plan = FaultPlan(writer.client).on("PutItem", lambda _: put(other, table, v="b"), times=1, having=name(table))
    plan.on("GetItem", lambda _: delete(deleter, table), times=1, having=name(table))
    with plan:
        receipt = put(writer, table, v="a")
    assert plan.injected == 2
    assert receipt.superseded == ("operations[0]",)
    assert world.items(table) == []
    world.close()


def test_a_put_that_is_answered_at_once_looks_for_no_tombstone(world: World) -> None:
    """The common case costs what it did."""
    table = world.table("one")
    writer = another(world)
    writer.engine()
    with FaultPlan(writer.client) as plan:
        put(writer, table, v="a")
    assert plan.count("GetItem") == 0


def test_an_older_delete_that_comes_late_does_not_clear_the_way_for_a_put_between_the_two(every_world: World) -> None:
    """Its tombstone, put over the newer delete's, would let the late put take itself for the last word."""
    world = every_world
    table = world.table("one")
    stuck = Stuck(another(world))
    first = stuck.commit(one(deletion(table, "x")))
    between = stuck.commit(one(an_item(table, "x")))
    last = delete(another(world), table)
    recovery = world.writer().recovery
    for entry in (first, between):
        assert recovery.resume(entry.write_id).resumed is Resumed.FINISHED
    assert world.items(table) == []
    (tombstone,) = world.records("T#")
    assert tombstone["stamp"] == {"S": last.stamp}


def test_a_late_put_after_an_older_delete_stays(every_world: World) -> None:
    """The tombstone it finds is not later than it: taking itself back would lose the write."""
    world = every_world
    table = world.table("one")
    delete(another(world), table)
    left_behind(world, table, v="late")
    (report,) = world.writer().recovery.resume_all()
    assert [result.status for result in report.results] == [Status.APPLIED]
    assert shown(world, table) == "late"
    assert len(world.records("T#")) == 1


# --- tombstones that say nothing ----------------------------------------------------------------------------------


class Ahead(SystemTime):
    """Two days ahead of everybody."""

    def wall_seconds(self) -> float:
        return super().wall_seconds() + 2 * DAY_SECONDS


STAMPS: dict[str, Any] = {
    "far future": {"stamp": {"S": HybridClock(Ahead()).stamp()}},
    "no stamp": {},
    "garbled": {"stamp": {"S": "yesterday"}},
    "a number": {"stamp": {"N": "7"}},
    "upper case": {"stamp": {"S": "F" * 36}},
}


def plant(world: World, table: str, stamp: dict[str, Any]) -> dict[str, Any]:
    """A tombstone on `x` with this stamp, or what there is of one."""
    where = tombstone_key(Delete(table, ("id",), {"id": {"S": "x"}}))
    tombstone = {**where, "table": {"S": table}, **stamp}
    world.client.put_item(TableName=world.system_table, Item=tombstone)
    return tombstone


@pytest.mark.parametrize("kind", STAMPS)
def test_a_put_is_refused_where_the_tombstone_tells_no_order(world: World, kind: str) -> None:
    table = world.table("one")
    tombstone = plant(world, table, STAMPS[kind])
    writer = another(world)
    with ReliableWriteScope(writer) as scope:
        scope.put_item(table, Item={"id": "x"})
        with pytest.raises(ForeignStampError, match=r"a day ahead, or its tombstone in .* is damaged") as caught:
            scope.commit()
    assert caught.value.outcome is Outcome.NOT_WRITTEN
    assert world.items(table) == world.records("J#") == []
    assert world.records("T#") == [tombstone]
    assert put(writer, table, key="another", v="a").superseded == (), "our own clock has not followed it"


@pytest.mark.parametrize("kind", STAMPS)
def test_a_late_put_is_set_aside_where_the_tombstone_tells_no_order(world: World, kind: str) -> None:
    """Taken for superseded, the write would be lost to a clock or a flipped bit; taken for applied, it might undo a
    delete.
    """
    table = world.table("one")
    left_behind(world, table, v="late")
    tombstone = plant(world, table, STAMPS[kind])
    recovery = world.writer().recovery
    (report,) = recovery.resume_all()
    assert report.resumed is Resumed.QUARANTINED
    assert [result.status for result in report.results] == [Status.FAILED]
    assert "tombstone" in report.reason
    (entry,) = recovery.look().entries
    assert entry.state == State.QUARANTINED
    assert entry.last_error == report.reason
    assert world.records("T#") == [tombstone]


def test_a_tombstone_less_than_a_day_ahead_is_followed(world: World) -> None:
    table = world.table("one")

    class AnHourAhead(SystemTime):
        def wall_seconds(self) -> float:
            return super().wall_seconds() + 3600.0

    deleted = delete(another(world, time=AnHourAhead()), table)
    assert put(another(world), table, v="a").stamp > deleted.stamp
    assert shown(world, table) == "a"
