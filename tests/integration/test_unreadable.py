"""What this version cannot read, find or understand in the journal is told, left as it is, and stops nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reliable_write import PropagationPendingError, ReliableWriteScope, limits
from reliable_write.clock import Stamp
from reliable_write.entry import Entry, UnreadableEntry, encode_operations, entry_item, read_entry, shard_of
from reliable_write.errors import Outcome
from reliable_write.operations import Operation, Put
from reliable_write.recovery import Resumed
from reliable_write.system_table import CONFIG_KEY, Installation
from reliable_write.testing.engines import Engine
from reliable_write.testing.faults import FaultPlan, answer, deny
from tests.integration.test_promises import left_behind, name, settled, shown
from tests.world import World


@pytest.fixture
def small_world(dynoxide: Engine, unique_name: Callable[[str], str]) -> Iterator[World]:
    """One shard, so that the damaged entry stands before the good one."""
    world = World(dynoxide, unique_name, Installation(shards=1))
    yield world
    world.close()


def entries(world: World) -> list[dict[str, Any]]:
    return sorted(world.records("J#") + world.records("C#"), key=lambda item: (item["pk"]["S"], item["sk"]["S"]))


# --- chunks -------------------------------------------------------------------------------------------------------

DAMAGE: dict[str, Any] = {
    "missing": None,
    "without its part": {},
    "a string": {"part": {"S": "text"}},
    "a list": {"part": {"L": []}},
    "other bytes": {"part": {"B": b"\0" * 100}},
    "no bytes": {"part": {"NULL": True}},
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_chunk_stops_nobody_and_is_left_as_it_is(
    small_world: World, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = small_world
    damaged, good = world.table("damaged"), world.table("good")
    with monkeypatch.context() as patch:
        patch.setattr(limits, "CHUNK_BYTES_MAX", 60)
        write_id = left_behind(world, damaged, v="damaged")
    chunks = world.records("C#")
    assert len(chunks) > 1
    key = {part: chunks[1][part] for part in ("pk", "sk")}
    if DAMAGE[damage] is None:
        world.client.delete_item(TableName=world.system_table, Key=key)
    else:
        world.client.put_item(TableName=world.system_table, Item={**key, **DAMAGE[damage]})
    before = entries(world)
    left_behind(world, good, v="good")
    reports = world.writer().recovery.resume_all()
    assert [(report.write_id == write_id, report.resumed) for report in reports] == [
        (True, Resumed.UNREADABLE),
        (False, Resumed.FINISHED),
    ]
    assert reports[0].reason
    assert world.writer().recovery.resume(write_id).resumed is Resumed.UNREADABLE
    assert entries(world) == before
    assert shown(world, good) == "good"
    assert world.items(damaged) == []


def test_a_chunk_that_cannot_be_fetched_is_no_damage(small_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    table = small_world.table("one")
    monkeypatch.setattr(limits, "CHUNK_BYTES_MAX", 60)
    left_behind(small_world, table)
    recoverer = small_world.writer()
    with FaultPlan(recoverer.client).on("GetItem", deny, having=b"C#") as plan:
        (report,) = recoverer.recovery.resume_all()
    assert plan.injected
    assert report.resumed is Resumed.STILL_PENDING
    settled(small_world)
    assert shown(small_world, table) == "a"


def test_a_newer_format_in_chunks_is_told_as_a_newer_format(small_world: World) -> None:
    """Where its payload lies, and in how many chunks, is the newer version's business."""
    left_behind(small_world, small_world.table("one"))
    (item,) = small_world.records("J#")
    del item["payload"]
    item["format"] = {"N": "2"}
    small_world.client.put_item(TableName=small_world.system_table, Item=item)
    engine = small_world.writer().engine()
    for chunks in (0, 3, 10_000):
        item["chunks"] = {"N": str(chunks)}
        with pytest.raises(UnreadableEntry, match="format 2 is not known") as caught:
            engine.journal.operations(read_entry(item), engine.attempt_deadline())
        assert caught.value.unknown_format
    settled(small_world, expect=Resumed.UNREADABLE)


# --- states -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("all_of_them", [True, False])
def test_a_state_of_a_newer_version_is_told_and_left_as_it_is(small_world: World, all_of_them: bool) -> None:
    """Passed over in silence it would stay for ever without anybody knowing."""
    world = small_world
    table = world.table("one")
    write_id = left_behind(world, table)
    (item,) = world.records("J#")
    item["state"] = {"S": "archived"}
    world.client.put_item(TableName=world.system_table, Item=item)
    recovery = world.writer().recovery
    (report,) = recovery.resume_all() if all_of_them else [recovery.resume(write_id)]
    assert (report.write_id, report.resumed) == (write_id, Resumed.UNREADABLE)
    assert "'archived'" in report.reason
    assert world.records("J#") == [item]
    assert world.items(table) == []


# --- shards -------------------------------------------------------------------------------------------------------


def test_a_shard_that_cannot_be_read_stops_no_other(dynoxide: Engine, unique_name: Callable[[str], str]) -> None:
    world = World(dynoxide, unique_name, Installation(shards=2))
    tables = []
    while {item["pk"]["S"] for item in world.records("J#")} != {"J#000", "J#001"}:
        tables.append(world.table("one"))
        left_behind(world, tables[-1])
    recoverer = world.writer()
    with FaultPlan(recoverer.client).on("Query", deny, having=b'"J#000"') as plan:
        standing = recoverer.recovery.look()
        reports = recoverer.recovery.resume_all()
    assert plan.injected == 2
    assert [(bad.partition, bad.sort_key) for bad in standing.unreadable] == [("J#000", "")]
    assert "access denied" in standing.unreadable[0].reason
    assert [report.resumed for report in reports].count(Resumed.UNREADABLE) == 1
    assert {report.resumed for report in reports} == {Resumed.UNREADABLE, Resumed.FINISHED}
    assert {item["pk"]["S"] for item in world.records("J#")} == {"J#000"}
    settled(world)
    assert all(shown(world, table) == "a" for table in tables)
    world.close()


def test_entries_are_found_when_the_number_of_shards_has_grown_since(
    dynoxide: Engine, unique_name: Callable[[str], str]
) -> None:
    world = World(dynoxide, unique_name, Installation(shards=4))
    tables = []
    moved: set[bool] = set()
    while moved != {True, False}:
        tables.append(world.table("one"))
        stamp = Stamp(left_behind(world, tables[-1]))
        moved.add(shard_of(stamp, 4) != shard_of(stamp, 8))
    world.client.update_item(
        TableName=world.system_table,
        Key=CONFIG_KEY,
        UpdateExpression="SET shards = :eight",
        ExpressionAttributeValues={":eight": {"N": "8"}},
    )
    settled(world)
    assert world.records("J#") == []
    assert all(shown(world, table) == "a" for table in tables)
    world.close()


def test_entries_are_found_whose_id_is_not_their_stamp(world: World) -> None:
    table = world.table("one")
    stamp = Stamp(left_behind(world, table))
    settled(world)
    world.client.delete_item(TableName=table, Key={"id": {"S": "x"}})
    operation = Operation("put_item", (Put(table, ("id",), {"id": {"S": "x"}, "v": {"S": "named"}}),))
    payload = encode_operations([operation], stamp, "order-7")
    shards = world.writer().engine().installation.shards
    entry = Entry(shard_of(stamp, shards), stamp, "order-7", 1, 7, payload)
    world.client.put_item(TableName=world.system_table, Item=entry_item(entry))
    (report,) = world.writer().recovery.resume_all()
    assert (report.write_id, report.resumed) == ("order-7", Resumed.FINISHED)
    assert shown(world, table) == "named"
    assert world.records("J#") == []


# --- tables -------------------------------------------------------------------------------------------------------


def test_a_table_that_is_gone_at_the_first_attempt_needs_no_operator_yet(world: World) -> None:
    """A deployment may be about to make it again; only an entry of ten minutes is set aside for that."""
    table, other = world.table("one"), world.table("other")
    writer = world.writer()
    plan = FaultPlan(writer.client).on("PutItem", answer("ResourceNotFoundException"), having=name(table))
    with ReliableWriteScope(writer) as scope, plan:
        scope.put_item(table, Item={"id": "x", "v": "a"})
        scope.put_item(other, Item={"id": "x", "v": "a"})
        with pytest.raises(PropagationPendingError, match="A monitor finishes it") as caught:
            scope.commit()
    assert plan.injected == 1
    assert caught.value.outcome is Outcome.WILL_BE_WRITTEN
    assert not caught.value.needs_operator
    assert [(failure.table, failure.permanent) for failure in caught.value.failures] == [(table, False)]
    assert shown(world, other) == "a"
    settled(world)
    assert shown(world, table) == "a"
