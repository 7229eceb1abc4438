"""Collection of tombstones: two waits, and an older entry alive in any shape keeps them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from reliable_write.clock import Stamp
from reliable_write.dynamodb import CallFailed
from reliable_write.events import Event
from reliable_write.policy import FailureKind
from tests.simulation.memory_world import SYSTEM, TABLE, MemoryWorld
from tests.unit.auditing import (
    DAY,
    EARLY,
    W,
    after,
    beyond_the_shards,
    chunked,
    collected,
    no_stamp,
    pending,
    quarantined,
    refuse_second_page,
    unknown_format,
    unknown_state,
    unreadable,
)


@pytest.fixture
def world() -> MemoryWorld:
    return MemoryWorld()


def test_a_tombstone_goes_after_two_waits_and_not_a_second_earlier(world: MemoryWorld) -> None:
    world.delete()
    reports = after(world, world.auditor(), W - 1, 1, W - 1, 1)
    assert collected(reports) == [0, 0, 0, 0, 1]
    assert all(report.complete for report in reports)
    assert world.records("T#") == []


def test_the_second_wait_begins_with_the_pass_that_showed_nothing_older(world: MemoryWorld) -> None:
    """What an older entry's last attempt sent just before that pass may live for another W, however old T is."""
    world.delete()
    assert collected(after(world, world.auditor(), 10 * W, W - 1, 1)) == [0, 0, 0, 1]


def test_a_pass_that_began_within_the_first_wait_does_not_end_it(world: MemoryWorld) -> None:
    """What it went by early may have been put behind it by a commit that was still allowed to."""
    world.delete()
    auditor = world.auditor()
    after(world, auditor, W - 1)
    _pass_takes(world, 10)
    auditor.run_once()
    _pass_takes(world, 0)
    world.time.pass_seconds(W)
    assert collected(after(world, auditor, W)) == [0, 1]


def test_the_second_wait_begins_with_the_end_of_the_pass(world: MemoryWorld) -> None:
    """An older entry may have been finished and removed just before the pass came by its place."""
    world.delete()
    auditor = world.auditor()
    auditor.run_once()
    world.time.pass_seconds(W)
    _pass_takes(world, 10)
    auditor.run_once()
    _pass_takes(world, 0)
    world.time.pass_seconds(W - 1)
    assert collected(after(world, auditor, 1)) == [0, 1]


def _pass_takes(world: MemoryWorld, seconds: float) -> None:
    def wait(call: str, _request: Any) -> None:
        if call == "scan":
            world.time.pass_seconds(seconds)

    world.tables.before = wait


def test_waits_are_counted_on_the_elapsed_clock_alone(world: MemoryWorld) -> None:
    world.delete()
    auditor = world.auditor()
    auditor.run_once()
    for _ in range(3):
        world.time.wall += 10 * W
        assert auditor.run_once().tombstones_collected == 0


def test_a_ghost_that_came_after_the_early_audit_is_found_by_the_last_one(world: MemoryWorld) -> None:
    older = world.stamp()
    world.delete()
    auditor = world.auditor()
    after(world, auditor, EARLY, W)
    world.plant(_rw=older)
    world.time.pass_seconds(W)
    report = auditor.run_once()
    assert (report.ghosts_removed, report.tombstones_collected) == (1, 1)
    assert world.shown() is None


def test_a_ghost_that_came_after_the_early_audit_goes_though_an_older_entry_waits_for_a_person(
    world: MemoryWorld,
) -> None:
    """Nothing is collected then, so there is no last audit; quarantine may last for months."""
    standing = world.stamp()
    older = world.stamp()
    world.delete()
    world.record("J#000", standing, **quarantined(standing))
    auditor = world.auditor()
    after(world, auditor, EARLY)
    world.plant(_rw=older)
    reports = after(world, auditor, W - 1, 1)
    assert [report.ghosts_removed for report in reports] == [0, 0, 1]
    assert world.shown() is None
    assert world.records("T#")


def test_a_ghost_that_came_after_the_early_audit_goes_without_gc_too(world: MemoryWorld) -> None:
    older = world.stamp()
    world.delete()
    auditor = world.auditor(gc=False)
    after(world, auditor, EARLY)
    world.plant(_rw=older)
    assert [report.ghosts_removed for report in after(world, auditor, W - 1, 1)] == [0, 0, 1]


def test_tombstones_that_are_held_back_are_audited_ever_more_rarely_but_daily(world: MemoryWorld) -> None:
    """A late attempt at any older entry may still leave a ghost; half a million keys are not read every minute."""
    standing = world.stamp()
    world.delete()
    world.record("J#000", standing, **quarantined(standing))
    auditor = world.auditor()
    began, audited_at = world.time.elapsed, []
    while world.time.elapsed - began < 5 * DAY:
        if auditor.run_once().audited:
            audited_at.append(world.time.elapsed - began)
        world.time.pass_seconds(60)
    pauses = [round(later - earlier) for earlier, later in itertools.pairwise(audited_at)]
    assert len(audited_at) == 10
    assert max(pauses) <= DAY + 60
    assert pauses == sorted(pauses)


@pytest.mark.parametrize(
    "older",
    [pending, quarantined, unknown_format, unknown_state, unreadable, no_stamp, beyond_the_shards],
)
def test_ce6_ce17_an_older_entry_alive_in_any_shape_keeps_the_tombstone(
    world: MemoryWorld, older: Callable[[Stamp], dict[str, Any]]
) -> None:
    item = older(world.stamp())
    place = item["pk"]["S"], item["sk"]["S"]
    world.delete()
    world.record(*place, **item)
    auditor = world.auditor()
    reports = after(world, auditor, W, W, W, W, W)
    assert collected(reports) == [0] * 6
    assert [report.held_back for report in reports] == [1] * 6
    world.forget(*place)
    assert collected(after(world, auditor, W - 1, 1, W - 1, 1)) == [0, 0, 0, 0, 1], "both waits, from when it was seen"


def test_ce6_ce17_the_delete_s_own_entry_keeps_its_tombstone(world: MemoryWorld) -> None:
    receipt = world.delete()
    world.record("J#001", receipt.stamp)
    assert collected(after(world, world.auditor(), W, W, W)) == [0] * 4


def test_an_older_entry_that_turns_up_between_the_waits_begins_them_anew(world: MemoryWorld) -> None:
    """No request is that old by the protocol's durations; a table restored from a backup may hold one."""
    older = world.stamp()
    world.delete()
    auditor = world.auditor()
    after(world, auditor, W)
    world.record("J#000", older)
    world.time.pass_seconds(1)
    auditor.run_once()
    world.forget("J#000", older)
    world.time.pass_seconds(W - 1)
    assert auditor.run_once().tombstones_collected == 0
    assert collected(after(world, auditor, W - 1, W)) == [0, 0, 1]


def test_an_older_entry_that_turns_up_in_the_very_pass_that_would_collect_keeps_the_tombstone(
    world: MemoryWorld,
) -> None:
    """Wherever the pass meets it: before the tombstone, or after it."""
    older = world.stamp()
    world.delete()
    auditor = world.auditor()
    after(world, auditor, W)
    world.record("J#000", older)
    world.time.pass_seconds(W)
    assert auditor.run_once().tombstones_collected == 0
    world.forget("J#000", older)
    assert collected(after(world, auditor, W - 1, 1, W)) == [0, 0, 0, 1]


def test_a_younger_entry_keeps_nothing(world: MemoryWorld) -> None:
    world.delete()
    world.record("J#000", world.stamp())
    assert collected(after(world, world.auditor(), W, W))[-1] == 1


@pytest.mark.parametrize("broken", [1, 2])
def test_a_pass_that_broke_off_proves_nothing(world: MemoryWorld, broken: int) -> None:
    """Whichever of the passes that must be complete it is; an older entry behind the break was not seen."""
    for key in "abcdefg":
        world.delete(key)
    auditor = world.auditor()
    for turn in range(3):
        world.tables.before = refuse_second_page if turn == broken else lambda _call, _request: None
        report = auditor.run_once()
        assert report.complete == (turn != broken)
        assert report.tombstones_collected == 0
        world.time.pass_seconds(W)
    assert len(world.records("T#")) == 7
    assert world.told().count(Event.AUDIT_INCOMPLETE) == 1
    world.tables.before = lambda _call, _request: None
    after(world, auditor, W, W)
    assert world.records("T#") == []


def test_an_older_entry_seen_by_a_pass_that_broke_off_counts_all_the_same(world: MemoryWorld) -> None:
    older = world.stamp()
    for key in "abcdef":
        world.delete(key)
    auditor = world.auditor()
    after(world, auditor, W)
    world.record("J#000", older)
    world.tables.before = refuse_second_page
    assert not auditor.run_once().complete
    world.tables.before = lambda _call, _request: None
    world.forget("J#000", older)
    world.time.pass_seconds(W)
    assert auditor.run_once().tombstones_collected == 0


def test_a_pass_that_broke_off_forgets_nothing(world: MemoryWorld) -> None:
    """What it did not come to is still there; where every other pass breaks off, all must end all the same."""
    for number in range(7):
        world.delete(f"k{number}")
        chunked(world, chunks=1)
    auditor = world.auditor()
    auditor.run_once()
    for wait in (W, 2 * W):
        world.tables.before = refuse_second_page
        assert not auditor.run_once().complete
        world.tables.before = lambda _call, _request: None
        world.time.pass_seconds(wait)
        auditor.run_once()
    assert world.records("T#") == world.records("C#") == []


def test_a_delete_renewed_between_the_rounds_begins_its_waits_anew(world: MemoryWorld) -> None:
    world.delete()
    auditor = world.auditor()
    after(world, auditor, W)
    world.put(v="again")
    renewed = world.delete().stamp
    world.time.pass_seconds(W)
    assert auditor.run_once().tombstones_collected == 0
    (tombstone,) = world.records("T#")
    assert tombstone["stamp"]["S"] == renewed
    assert collected(after(world, auditor, W, W))[1:] == [0, 1]


def test_a_delete_renewed_between_the_audit_and_the_collection_is_not_lost(world: MemoryWorld) -> None:
    world.delete()
    auditor = world.auditor()
    after(world, auditor, W)
    world.time.pass_seconds(W)
    stamps: list[str] = []

    def renew(call: str, request: Any) -> None:
        if call == "delete_item" and request["TableName"] == SYSTEM and not stamps:
            stamps.append("begun")
            stamps[0] = world.delete().stamp

    world.tables.before = renew
    assert auditor.run_once().tombstones_collected == 0
    assert [item["stamp"]["S"] for item in world.records("T#")] == stamps


def test_a_tombstone_whose_removal_was_answered_late_counts_once(world: MemoryWorld) -> None:
    """The first request was applied and its answer lost; the second finds nothing."""
    world.delete()
    auditor = world.auditor()
    after(world, auditor, W)
    world.time.pass_seconds(W)
    lost: list[int] = []

    def lose(call: str, request: Any) -> None:
        if call == "delete_item" and not lost:
            lost.append(1)
            world.tables.apply("delete_item", request)
            raise CallFailed(FailureKind.TIMEOUT, "ReadTimeoutError", SYSTEM)

    world.tables.before = lose
    report = auditor.run_once()
    assert (report.tombstones_collected, report.troubles, lost) == (1, 0, [1])


def test_a_tombstone_collected_by_another_auditor_is_not_counted(world: MemoryWorld) -> None:
    world.delete()
    one, two = world.auditor(), world.auditor()
    for _ in range(2):
        one.run_once(), two.run_once()
        world.time.pass_seconds(W)
    assert [one.run_once().tombstones_collected, two.run_once().tombstones_collected] == [1, 0]
    assert two.run_once().tombstones == 0
    assert len(one._watches) == len(two._watches) == 0, "or memory would fill with what is gone"


def test_a_tombstone_that_another_auditor_collects_first_is_not_counted_either(world: MemoryWorld) -> None:
    world.delete()
    auditor = world.auditor()
    after(world, auditor, W)
    world.time.pass_seconds(W)

    def first(call: str, request: Any) -> None:
        if call == "delete_item":
            world.forget(request["Key"]["pk"]["S"], "T")

    world.tables.before = first
    report = auditor.run_once()
    assert (report.tombstones_collected, report.troubles) == (0, 0)


def test_with_order_clock_tombstones_live_a_day_longer() -> None:
    world = MemoryWorld(order="clock")
    world.delete()
    reports = after(world, world.auditor(), W, W, DAY - W - 1, 1, W - 1, 1)
    assert collected(reports) == [0, 0, 0, 0, 0, 0, 1]


def test_without_gc_all_is_kept_and_ghosts_still_go(world: MemoryWorld) -> None:
    world.ghost()
    world.record(f"C#{world.stamp()}", "0000", part={"B": b"x"})
    auditor = world.auditor(gc=False)
    assert world.told()[-1] == Event.COLLECTION_OFF
    reports = after(world, auditor, EARLY, W, W, W, W)
    assert sum(report.ghosts_removed for report in reports) == 1
    assert sum(report.tombstones_collected + report.chunks_collected for report in reports) == 0
    assert len(world.records("T#")) == len(world.records("C#")) == 1


def test_without_gc_an_audit_that_failed_is_made_up_for_however_late(world: MemoryWorld) -> None:
    world.ghost()
    auditor = world.auditor(gc=False)
    tables = dict(world.tables.tables)
    del world.tables.tables[TABLE]
    after(world, auditor, W, W, W)
    world.tables.tables = tables
    assert auditor.run_once().ghosts_removed == 1
