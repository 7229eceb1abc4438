"""G1: a process that is killed at any of its calls leaves everything or nothing, and recovery finishes it once.

Every call a writer, or a recoverer, makes is a crash point, counted by a dry run; at each one a real process kills
itself with SIGKILL, once before the call is sent and once after it was applied.
"""

from __future__ import annotations

import enum
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reliable_write import ReliableWriteScope
from reliable_write.limits import CHUNK_BYTES_MAX
from reliable_write.operations import Delete
from reliable_write.recovery import Resumed
from reliable_write.system_table import Installation
from reliable_write.testing.engines import Engine
from reliable_write.tombstones import tombstone_key
from tests.chaos.processes import run, run_to_death
from tests.chaos.victims import PLANS, CrashPoint, Home, Plan, Told, recover_once, write_once
from tests.world import World

SHARDS = 1
"""A recoverer's walk is part of its crash points, and 64 equal ones would teach nothing."""
EVERY_PLAN = pytest.mark.parametrize("kind", sorted(PLANS))


class Left(enum.Enum):
    """What a killed process left behind."""

    NOTHING = "nothing applied, no entry"
    ENTRY = "an entry, which recovery finished"
    WHOLE = "everything applied, no entry"


@pytest.fixture
def small_world(dynoxide: Engine, unique_name: Callable[[str], str]) -> Iterator[World]:
    world = World(dynoxide, unique_name, Installation(shards=SHARDS))
    yield world
    world.close()


class Stage:
    """One plan, played again and again under new keys, with what was there before."""

    def __init__(self, world: World, kind: str) -> None:
        self.world = world
        self.home = Home(world.engine.endpoint_url, world.system_table)
        self._tables = [world.table("one"), world.table("two"), world.table("three")]
        self._make_plan = PLANS[kind]
        self._marks = itertools.count()
        self._writer = world.writer(delete_finished_inline=True)
        self.recovery = world.writer().recovery

    def set_up(self) -> Plan:
        """New keys. One put meets an item a scope wrote, the deletes meet items of somebody without stamps."""
        plan = self._make_plan(self._tables, f"mark-{next(self._marks)}")
        table, item = plan.puts[0]
        with ReliableWriteScope(self._writer) as scope:
            scope.put_item(table, Item={"id": item["id"], "value": "old"})
            scope.commit()
        for table, key in plan.deletes:
            self.world.client.put_item(TableName=table, Item=_doomed(key))
        return plan

    def strand(self, commit_call: int) -> Plan:
        """A writer killed just after its commit point: everything is left to recovery."""
        plan = self.set_up()
        run_to_death(write_once, self.home, plan, CrashPoint(commit_call, "after"))
        assert len(self.entries()) == 1
        self.check_nothing(plan)
        return plan

    def check_nothing(self, plan: Plan) -> None:
        (first_table, first), *others = plan.puts
        old = self.world.item(first_table, id={"S": first["id"]})
        assert old is not None
        assert old["value"] == {"S": "old"}
        for table, item in others:
            assert self.world.item(table, id={"S": item["id"]}) is None
        for table, key in plan.deletes:
            assert self.world.item(table, id={"S": key}) == _doomed(key)

    def check_whole(self, plan: Plan) -> None:
        """All applied, under one stamp, and no entry; a tombstone with that stamp for each delete."""
        found = self._stored(plan)
        puts, deleted, tombs = found[: len(plan.puts)], found[len(plan.puts) :: 2], found[len(plan.puts) + 1 :: 2]
        for (_, wanted), item in zip(plan.puts, puts, strict=True):
            assert item["value"] in ({"S": wanted["value"]}, {"B": wanted["value"]})
        assert deleted == [{}] * len(plan.deletes)
        assert len({item["_rw"]["S"] for item in puts} | {tomb["stamp"]["S"] for tomb in tombs}) == 1
        assert self.entries() == []

    def finish(self, plan: Plan) -> Left:
        """Recover in another writer; a second recovery changes nothing."""
        left = Left.ENTRY if self.entries() else Left.WHOLE
        reports = self.recovery.resume_all()
        assert [report.resumed for report in reports] == [Resumed.FINISHED] * (left is Left.ENTRY)
        self.check_whole(plan)
        before = self._stored(plan)
        assert self.recovery.resume_all() == []
        assert self._stored(plan) == before
        return left

    def entries(self) -> list[dict[str, Any]]:
        """By Query: a scan would read all the chunks that earlier rounds have left."""
        return [entry for shard in range(SHARDS) for entry in self._partition(f"J#{shard:03d}")]

    def chunks(self, stamp: str) -> list[dict[str, Any]]:
        return self._partition(f"C#{stamp}")

    def _partition(self, pk: str) -> list[dict[str, Any]]:
        answer = self.world.client.query(
            TableName=self.world.system_table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": pk}},
            ConsistentRead=True,
        )
        assert "LastEvaluatedKey" not in answer
        items: list[dict[str, Any]] = answer["Items"]
        return items

    def _stored(self, plan: Plan) -> list[dict[str, Any]]:
        """What is at every key of the plan: its puts; then each deleted item and its tombstone. Absent: empty."""
        found = [self.world.item(table, id={"S": item["id"]}) for table, item in plan.puts]
        for table, key in plan.deletes:
            delete = Delete(table, ("id",), {"id": {"S": key}})
            found.append(self.world.item(table, **delete.key))
            found.append(self.world.item(self.world.system_table, **tombstone_key(delete)))
        return [item or {} for item in found]


@EVERY_PLAN
def test_g1_a_writer_killed_at_any_call_leaves_everything_or_nothing(small_world: World, kind: str) -> None:
    stage = Stage(small_world, kind)
    calls, commit_call = _count_calls(stage)
    seen: Counter[Left] = Counter()
    for point in _points(calls):
        plan = stage.set_up()
        run_to_death(write_once, stage.home, plan, point)
        if _is_before(point, commit_call):
            assert stage.entries() == [], point
            assert stage.recovery.resume_all() == []
            stage.check_nothing(plan)
            seen[Left.NOTHING] += 1
        else:
            seen[stage.finish(plan)] += 1
    assert seen.total() == 2 * len(calls)
    assert seen[Left.NOTHING] == 2 * commit_call - 1
    assert seen[Left.ENTRY] == 2 * (len(calls) - commit_call)
    assert seen[Left.WHOLE] == 1
    # There is no further point: a kill planned for one call more does not happen.
    run(write_once, stage.home, stage.set_up(), CrashPoint(len(calls) + 1, "before"))


@EVERY_PLAN
def test_g1_a_recoverer_killed_at_any_call_leaves_work_that_the_next_one_finishes(
    small_world: World, kind: str
) -> None:
    stage = Stage(small_world, kind)
    _, commit_call = _count_calls(stage)
    plan = stage.strand(commit_call)
    told: Told = run(recover_once, stage.home, None)
    stage.check_whole(plan)
    seen: Counter[Left] = Counter()
    for point in _points(told.operations):
        plan = stage.strand(commit_call)
        run_to_death(recover_once, stage.home, point)
        seen[stage.finish(plan)] += 1
    assert seen[Left.ENTRY] == 2 * len(told.operations) - 1
    assert seen[Left.WHOLE] == 1


def test_a_chunked_scope_is_really_in_chunks(small_world: World) -> None:
    stage = Stage(small_world, "chunked")
    _, commit_call = _count_calls(stage)
    stage.strand(commit_call)
    (entry,) = stage.entries()
    assert "payload" not in entry
    chunks = stage.chunks(entry["sk"]["S"])
    assert len(chunks) == int(entry["chunks"]["N"]) >= 2
    assert sum(len(bytes(chunk["part"]["B"])) for chunk in chunks) > CHUNK_BYTES_MAX


def _count_calls(stage: Stage) -> tuple[list[str], int]:
    """A dry run: every call on the wire, the deletion of the finished entry included, and which is the commit point."""
    plan = stage.set_up()
    told: Told = run(write_once, stage.home, plan, None)
    assert told.operations[-1] == "BatchWriteItem"
    assert 0 < told.commit_call < len(told.operations)
    stage.check_whole(plan)
    return told.operations, told.commit_call


def _points(calls: list[str]) -> Iterator[CrashPoint]:
    for number in range(1, len(calls) + 1):
        yield CrashPoint(number, "before")
        yield CrashPoint(number, "after")


def _is_before(point: CrashPoint, commit_call: int) -> bool:
    return point.number < commit_call or (point.number == commit_call and point.when == "before")


def _doomed(key: str) -> dict[str, Any]:
    return {"id": {"S": key}, "value": {"S": "doomed"}}
