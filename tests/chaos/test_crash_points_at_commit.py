"""G1, G5: killed at any of its calls, a scope with operations at commit is whole or not there, and each effect is once.

As in `test_crash_points`: every call is a crash point, before it is sent and after it was applied, by SIGKILL.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reliable_write import ReliableWriteScope, WriteState
from reliable_write.operations import Delete
from reliable_write.recovery import Resumed
from reliable_write.system_table import Installation
from reliable_write.testing.engines import Engine
from reliable_write.tombstones import tombstone_key
from tests.chaos.processes import run, run_to_death
from tests.chaos.victims import CrashPoint, Home, Told, recover_once
from tests.chaos.victims_at_commit import SHAPES, Shape, commit, commit_once
from tests.world import World

EVERY_SHAPE = pytest.mark.parametrize("kind", SHAPES)


@pytest.fixture
def small_world(dynoxide: Engine, unique_name: Callable[[str], str]) -> Iterator[World]:
    """One shard: a recoverer's walk is part of its crash points."""
    world = World(dynoxide, unique_name, Installation(shards=1))
    yield world
    world.close()


class Stage:
    """One shape, played again and again under new keys."""

    def __init__(self, world: World, kind: str) -> None:
        self.world = world
        self.kind = kind
        self.home = Home(world.engine.endpoint_url, world.system_table)
        self.writer = world.writer(delete_finished_inline=True)
        self._tables = (world.table("counters"), world.table("puts"), world.table("deletes"))
        self._marks = itertools.count()

    def set_up(self) -> Shape:
        """A counter that stands at 5, and an item to be deleted."""
        shape = Shape(self.kind, self._tables, f"mark-{next(self._marks)}")
        with ReliableWriteScope(self.writer) as scope:
            scope.put_item(shape.tables[0], Item={"id": shape.mark, "n": 5})
            scope.put_item(shape.tables[2], Item={"id": shape.mark, "value": "doomed"})
            scope.commit()
        return shape

    def strand(self, commit_call: int) -> Shape:
        """Killed just after its commit point."""
        shape = self.set_up()
        run_to_death(commit_once, self.home, shape, CrashPoint(commit_call, "after"))
        return shape

    def finish(self) -> bool:
        """Recover everything; whether there was something. A second recovery finds nothing."""
        reports = self.writer.recovery.resume_all()
        assert {report.resumed for report in reports} <= {Resumed.FINISHED}
        assert self.writer.recovery.resume_all() == []
        return bool(reports)

    def check(self, shape: Shape, *, written: bool) -> None:
        """All of it, once, under one stamp; or nothing."""
        counter, put, doomed, *parts = self._stored(shape)
        tomb = self._tombstone(shape)
        assert counter is not None
        assert counter["n"] == {"N": "6" if written else "5"}
        if not written or self.kind == "update":
            assert put is None
            assert doomed is not None
            assert tomb is None
            assert parts == [None, None]
            return
        assert put is not None
        stamp = counter["_rwu"]
        assert (doomed, put["_rw"], tomb and tomb["stamp"]) == (None, stamp, stamp)
        assert [part and part["_rw"] for part in parts] == [stamp if self.kind == "conditional" else None] * 2

    def _stored(self, shape: Shape) -> list[dict[str, Any] | None]:
        places = [(table, shape.mark) for table in shape.tables]
        places += [(shape.tables[1], f"{shape.mark}-{part}") for part in "ab"]
        return [self.world.item(table, id={"S": key}) for table, key in places]

    def _tombstone(self, shape: Shape) -> dict[str, Any] | None:
        delete = Delete(shape.tables[2], ("id",), {"id": {"S": shape.mark}})
        return self.world.item(self.world.system_table, **tombstone_key(delete))


def dry_run(stage: Stage) -> Told:
    shape = stage.set_up()
    told: Told = run(commit_once, stage.home, shape, None)
    stage.check(shape, written=True)
    return told


def points(calls: list[str]) -> Iterator[CrashPoint]:
    for number in range(1, len(calls) + 1):
        yield CrashPoint(number, "before")
        yield CrashPoint(number, "after")


@EVERY_SHAPE
def test_g1_g5_a_writer_killed_at_any_call_leaves_everything_once_or_nothing(small_world: World, kind: str) -> None:
    stage = Stage(small_world, kind)
    told = dry_run(stage)
    seen: Counter[str] = Counter()
    for point in points(told.operations):
        shape = stage.set_up()
        run_to_death(commit_once, stage.home, shape, point)
        written = point.number > told.commit_call or point == CrashPoint(told.commit_call, "after")
        recovered = stage.finish()
        stage.check(shape, written=written)
        seen["recovered" if recovered else "whole" if written else "nothing"] += 1
        if shape.idempotency_key is not None:
            assert stage.writer.status(shape.mark) is (WriteState.APPLIED if written else WriteState.UNKNOWN)
            assert commit(stage.writer, shape) is written, "the same key again"
            stage.check(shape, written=True)
    assert seen.total() == 2 * len(told.operations)
    assert seen["nothing"] == 2 * told.commit_call - 1
    assert (seen["recovered"] > 0) == (kind != "update")
    run(commit_once, stage.home, stage.set_up(), CrashPoint(len(told.operations) + 1, "before"))


@pytest.mark.parametrize("kind", ["update_and_put", "conditional"])
def test_g1_g5_a_recoverer_killed_at_any_call_leaves_work_that_the_next_one_finishes(
    small_world: World, kind: str
) -> None:
    stage = Stage(small_world, kind)
    told = dry_run(stage)
    shape = stage.strand(told.commit_call)
    recovering: Told = run(recover_once, stage.home, None)
    stage.check(shape, written=True)
    recovered = 0
    for point in points(recovering.operations):
        shape = stage.strand(told.commit_call)
        run_to_death(recover_once, stage.home, point)
        recovered += stage.finish()
        stage.check(shape, written=True)
    assert recovered >= len(recovering.operations)
