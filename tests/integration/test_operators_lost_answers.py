"""A lost answer leaves no deed unrecorded, and no record of a deed that was refused."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from reliable_write import ReliableWriter
from reliable_write.clock import HybridClock, Stamp
from reliable_write.dynamodb import CallFailed
from reliable_write.entry import FORMAT, Entry, encode_operations, shard_of
from reliable_write.errors import TooLateError, UnsupportedOperationError, WriteRejectedError
from reliable_write.operations import Operation, Put
from reliable_write.testing.faults import FaultPlan, deny, lose_answer
from tests.world import World, plain_world

world = plain_world
BY: dict[str, Any] = {"operator": "ada@night", "reason": "a test"}


def commit(writer: ReliableWriter, table: str, **more: Any) -> Entry:
    """An entry whose writer died right after the commit point."""
    engine = writer.engine()
    stamp = HybridClock(engine.time).stamp()
    operations = [Operation("put_item", (Put(table, ("id",), {"id": {"S": "x"}}),))]
    entry = Entry(
        shard=shard_of(stamp, engine.journal.shards),
        stamp=stamp,
        write_id=stamp,
        format=FORMAT,
        committed_at_milliseconds=int(engine.time.wall_seconds() * 1000),
        payload=encode_operations(operations, stamp, stamp),
    )
    engine.journal.commit(dataclasses.replace(entry, **more), engine.attempt_deadline())
    return entry


DEEDS: dict[str, tuple[str, Callable[[ReliableWriter, Stamp], object]]] = {
    "discard": ("DeleteItem", lambda writer, stamp: writer.engine().operators.discard(stamp, **BY)),
    "retry": ("UpdateItem", lambda writer, stamp: writer.engine().operators.retry(stamp, **BY)),
    "quarantine": ("UpdateItem", lambda writer, stamp: writer.engine().operators.quarantine(stamp, **BY)),
    "skip": ("UpdateItem", lambda writer, stamp: writer.engine().operators.skip(stamp, ["operations[0]"], **BY)),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_a_deed_that_was_done_and_not_answered_stays_recorded(world: World, deed: str) -> None:
    """The repeat of the same request is refused by what the first one did."""
    writer = world.hasty()
    entry = commit(writer, world.table("people"))
    call, do = DEEDS[deed]
    with FaultPlan(writer.client).on(call, lose_answer, "after", times=1) as plan:
        with pytest.raises(TooLateError, match="answer was lost") as told:
            do(writer, entry.stamp)
        assert plan.injected == 1
    assert told.value.ambiguous
    (record,) = world.records("A")
    assert record["action"] == {"S": deed}
    held = world.records("J#")
    assert held == [] if deed == "discard" else held[0]["epoch"] == {"N": "1"}


@pytest.mark.parametrize("deed", DEEDS)
def test_a_record_that_was_written_and_not_answered_stops_no_deed(world: World, deed: str) -> None:
    """The repeat of the record's put finds it there."""
    writer = world.hasty()
    entry = commit(writer, world.table("people"))
    with FaultPlan(writer.client).on("PutItem", lose_answer, "after", times=1, having=b"operator") as plan:
        DEEDS[deed][1](writer, entry.stamp)
        assert plan.injected == 1
    (record,) = world.records("A")
    assert record["action"] == {"S": deed}


@pytest.mark.parametrize("deed", DEEDS)
def test_a_deed_whose_record_was_perhaps_not_written_is_not_done_and_leaves_no_record(world: World, deed: str) -> None:
    writer = world.hasty()
    entry = commit(writer, world.table("people"))
    with FaultPlan(writer.client).on("PutItem", lose_answer, "after", having=b"operator") as plan:
        with pytest.raises(CallFailed):
            DEEDS[deed][1](writer, entry.stamp)
        assert plan.injected
    assert world.records("A") == []
    assert world.records("J#")[0]["epoch"] == {"N": "0"}


@pytest.mark.parametrize("deed", DEEDS)
def test_a_deed_that_was_refused_for_certain_leaves_no_record(world: World, deed: str) -> None:
    writer = world.hasty()
    entry = commit(writer, world.table("people"))
    call, do = DEEDS[deed]
    with FaultPlan(writer.client).on(call, deny) as plan:
        with pytest.raises(CallFailed):
            do(writer, entry.stamp)
        assert plan.injected == 1
    assert world.records("A") == []
    assert world.records("J#")[0]["epoch"] == {"N": "1" if deed == "discard" else "0"}, "set aside, not discarded"


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("newer", [{"format": 9}, {"state": "frozen"}])
def test_what_a_newer_version_wrote_is_left_as_it_is(world: World, deed: str, newer: dict[str, Any]) -> None:
    writer = world.hasty()
    entry = commit(writer, world.table("people"), **newer)
    before = world.records("J#")
    with pytest.raises(UnsupportedOperationError, match="newer reliable-write"):
        DEEDS[deed][1](writer, entry.stamp)
    assert world.records("J#") == before
    assert world.records("A") == []


def test_a_damaged_entry_can_still_be_given_up(world: World) -> None:
    """The one way out for what nobody can read any more; nothing but a person's word takes it."""
    writer = world.hasty()
    entry = commit(writer, world.table("people"), payload=b"0" * 40)
    assert writer.engine().operators.examine(entry.write_id).unreadable
    with pytest.raises(UnsupportedOperationError, match="can be skipped"):
        DEEDS["skip"][1](writer, entry.stamp)
    writer.engine().operators.discard(entry.write_id, **BY)
    assert world.records("J#") == []


@pytest.mark.parametrize(("places", "told"), [([], "say which"), (["operations[0]", "operations[9]"], r"has no .*9")])
def test_skipping_nothing_or_what_is_not_there_is_refused_and_leaves_no_record(
    world: World, places: list[str], told: str
) -> None:
    writer = world.hasty()
    entry = commit(writer, world.table("people"))
    before = world.records("J#")
    with pytest.raises(WriteRejectedError, match=told):
        writer.engine().operators.skip(entry.write_id, places, **BY)
    assert world.records("A") == []
    assert world.records("J#") == before
