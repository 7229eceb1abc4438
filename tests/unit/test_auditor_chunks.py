"""Collection of chunks whose entry was never made or is gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reliable_write.clock import Stamp
from reliable_write.dynamodb import CallFailed
from reliable_write.policy import FailureKind
from tests.simulation.memory_world import SYSTEM, MemoryWorld
from tests.unit.auditing import (
    W,
    after,
    beyond_the_shards,
    chunked,
    pending,
    quarantined,
    refuse_second_page,
    unknown_format,
    unreadable,
)


@pytest.fixture
def world() -> MemoryWorld:
    return MemoryWorld()


def test_chunks_go_two_waits_after_a_pass_showed_no_head(world: MemoryWorld) -> None:
    """The first pass may have gone by the head's place before it was put: it proves nothing."""
    chunked(world, chunks=30)
    reports = after(world, world.auditor(), 60, 2 * W - 1, 1)
    assert [report.chunks_collected for report in reports] == [0, 0, 0, 30]
    assert world.records("C#") == []


@pytest.mark.parametrize("head", [pending, quarantined, unknown_format, unreadable, beyond_the_shards])
def test_chunks_of_a_live_head_are_never_taken(world: MemoryWorld, head: Callable[[Stamp], dict[str, Any]]) -> None:
    item = head(chunked(world))
    world.record(item["pk"]["S"], item["sk"]["S"], **item)
    reports = after(world, world.auditor(), *[W] * 6)
    assert sum(report.chunks_collected for report in reports) == 0
    assert len(world.records("C#")) == 3


def test_ce15_a_slow_committer_finds_its_chunks(world: MemoryWorld) -> None:
    """The head comes a second before the chunks would go; it is finished; only then the two waits count."""
    stamp = chunked(world)
    auditor = world.auditor()
    after(world, auditor, 60, 2 * W - 1)
    world.record("J#000", stamp)
    after(world, auditor, 1, 60)
    assert len(world.records("C#")) == 3
    world.forget("J#000", stamp)
    reports = after(world, auditor, 2 * W - 1, 1)
    assert [report.chunks_collected for report in reports] == [0, 0, 3]


def test_ce15_a_head_seen_by_a_pass_that_broke_off_counts_all_the_same(world: MemoryWorld) -> None:
    stamp = chunked(world)
    auditor = world.auditor()
    after(world, auditor, 60)
    world.record("J#000", stamp)
    for key in "abcdef":
        world.delete(key)

    def refuse(call: str, request: Any) -> None:
        if request.get("ExclusiveStartKey", {}).get("pk", {}).get("S", "") > "J":
            refuse_second_page(call, request)

    world.tables.before = refuse
    assert not auditor.run_once().complete
    world.tables.before = lambda _call, _request: None
    world.forget("J#000", stamp)
    world.time.pass_seconds(2 * W)
    assert auditor.run_once().chunks_collected == 0


def test_a_pass_that_broke_off_before_the_head_proves_nothing(world: MemoryWorld) -> None:
    stamp = chunked(world)
    world.record("J#000", stamp)
    auditor = world.auditor()
    auditor.run_once()
    world.tables.before = refuse_second_page
    assert not auditor.run_once().complete
    world.tables.before = lambda _call, _request: None
    world.time.pass_seconds(2 * W)
    world.forget("J#000", stamp)
    assert auditor.run_once().chunks_collected == 0


def test_chunks_that_cannot_be_removed_are_tried_again_and_stop_nobody(world: MemoryWorld) -> None:
    chunked(world)
    chunked(world)
    auditor = world.auditor()
    after(world, auditor, 60)
    world.time.pass_seconds(2 * W)
    failures: list[int] = []

    def refuse(call: str, _request: Any) -> None:
        if call == "batch_write_item" and not failures:
            failures.append(1)
            raise CallFailed(FailureKind.ACCESS_DENIED, "AccessDeniedException", SYSTEM)

    world.tables.before = refuse
    report = auditor.run_once()
    assert (report.chunks_collected, report.troubles) == (3, 1)
    assert auditor.run_once().chunks_collected == 3


def test_chunk_groups_in_memory_are_bounded(world: MemoryWorld) -> None:
    for _ in range(5):
        chunked(world, chunks=1)
    auditor = world.auditor(chunk_groups_max=2)
    reports = after(world, auditor, 60, 2 * W)
    assert reports[-1].chunks_collected == 2
    assert len(auditor._groups) <= 2
    after(world, auditor, *[60, 2 * W] * 3)
    assert world.records("C#") == []
