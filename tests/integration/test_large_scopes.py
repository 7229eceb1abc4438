"""Scopes of 625 items and of 16 megabytes: written whole, recovered whole, or refused."""

from __future__ import annotations

import os

import pytest

from reliable_write import PropagationPendingError, ReliableWriter, ReliableWriteScope, WriteTooLargeError, limits
from reliable_write.recovery import Resumed
from reliable_write.testing.faults import FaultPlan, SimulatedCrash, crash
from tests.clocks import StandingTime
from tests.integration.scopes import named, nothing_written
from tests.world import World


def test_a_scope_takes_625_items_over_25_operations(every_world: World) -> None:
    world = every_world
    tables = [world.table(f"table{index}") for index in range(3)]
    writer = world.writer(time=StandingTime())
    with ReliableWriteScope(writer) as scope:
        for operation in range(25):
            scope.put_items(tables[operation % 3], [{"id": f"{operation}-{item}", "n": item} for item in range(25)])
        receipt = scope.commit()
    assert receipt.operations == 25
    assert sum(len(world.items(table)) for table in tables) == 625
    with ReliableWriteScope(writer) as scope:
        for operation in range(25):
            scope.delete_items(tables[operation % 3], [{"id": f"{operation}-{item}"} for item in range(25)])
        scope.commit()
    writer.close()
    assert sum(len(world.items(table)) for table in tables) == 0
    assert len(world.records("T#")) == 625
    assert world.records("J#") == []


SIXTEEN_MEGABYTES = 48
"""Items of 350,000 random bytes: 16.8 MB, four times what a transaction takes, in some 64 chunks."""


def _large(world: World, writer: ReliableWriter) -> tuple[str, ReliableWriteScope, dict[str, bytes]]:
    table = world.table("large")
    contents = {f"p{number}": os.urandom(350_000) for number in range(SIXTEEN_MEGABYTES)}
    scope = ReliableWriteScope(writer)
    names = list(contents)
    for start in range(0, len(names), 25):
        scope.put_items(table, [{"id": name, "blob": contents[name]} for name in names[start : start + 25]])
    return table, scope, contents


def _blobs(world: World, table: str) -> dict[str, bytes]:
    return {item["id"]["S"]: item["blob"]["B"] for item in world.items(table)}


def test_16_megabytes_that_do_not_compress_are_written_whole(world: World) -> None:
    writer = world.writer(time=StandingTime())
    table, scope, contents = _large(world, writer)
    with FaultPlan(writer.client) as plan:
        scope.commit()
    chunks = len(world.records("C#"))
    assert chunks * limits.CHUNK_BYTES_MAX > 16 * limits.MB
    assert plan.count("PutItem") == chunks + 1 + len(contents)
    assert _blobs(world, table) == contents


def test_16_megabytes_are_recovered_whole_after_a_crash_in_the_middle(world: World) -> None:
    writer = world.writer(time=StandingTime())
    table, scope, contents = _large(world, writer)
    plan = FaultPlan(writer.client).on("PutItem", crash, having=named(table))
    with plan, pytest.raises((SimulatedCrash, PropagationPendingError)):
        scope.commit()
    assert plan.injected
    assert len(world.items(table)) < len(contents)
    (report,) = world.writer(time=StandingTime()).recovery.resume_all()
    assert report.resumed is Resumed.FINISHED
    assert _blobs(world, table) == contents


def test_a_crash_among_the_chunks_writes_nothing(world: World) -> None:
    """Chunks without a head are nothing (CE15's other side: the head comes last)."""
    writer = world.writer(time=StandingTime())
    table = world.table("large")
    scope = ReliableWriteScope(writer)
    scope.put_items(table, [{"id": f"p{number}", "blob": os.urandom(350_000)} for number in range(4)])
    plan = FaultPlan(writer.client).on("PutItem", crash, having=b'"0002"')
    with plan, pytest.raises(SimulatedCrash):
        scope.commit()
    assert plan.injected
    assert world.records("J#") == []
    assert world.writer().recovery.resume_all() == []
    assert world.items(table) == []


def test_a_scope_over_its_size_limit_is_refused(world: World) -> None:
    table = world.table("large")
    writer = world.writer()
    blob = b"x" * 400_000
    with nothing_written(writer), ReliableWriteScope(writer) as scope:
        with pytest.raises(WriteTooLargeError, match=f"it takes {limits.SCOPE_BYTES_MAX}"):  # noqa: PT012 - one of ten
            for operation in range(10):
                scope.put_items(table, [{"id": f"{operation}-{item}", "blob": blob} for item in range(25)])
        assert len(scope) == 3
        scope.discard()
