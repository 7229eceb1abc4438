"""Audits of scheduled runs: each a new process with a wall clock of its own; what they know stands in the table.

W is the collection's wait, MARGIN what two wall clocks may differ by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from monitor.auditor import Auditor
from monitor.audits import AuditReport, AuditSettings
from monitor.notes import Note, read_note
from reliable_write import limits
from reliable_write.dynamodb import CallFailed
from reliable_write.policy import FailureKind
from reliable_write.testing.faults import SimulatedCrash
from tests.simulation.memory_world import SYSTEM, TABLE, MemoryWorld
from tests.unit.fakes import NOON

MARGIN = limits.SCHEDULED_AUDIT_MARGIN_SECONDS
W = limits.COLLECTION_WAIT_SECONDS + MARGIN
EARLY = limits.EARLY_AUDIT_SECONDS
HOUR = 3600.0


@pytest.fixture
def world() -> MemoryWorld:
    return MemoryWorld()


def scheduled(world: MemoryWorld, skew: float = 0.0, **settings: Any) -> Auditor:
    """The auditor of one run: a process that knows nothing."""
    return Auditor(world.process(skew), AuditSettings(scheduled=True, **settings))


def run(world: MemoryWorld, skew: float = 0.0, **settings: Any) -> AuditReport:
    return scheduled(world, skew, **settings).run_once()


def after(world: MemoryWorld, *waits: float) -> list[AuditReport]:
    reports = []
    for seconds in waits:
        world.time.pass_seconds(seconds)
        reports.append(run(world))
    return reports


def collected(reports: Sequence[AuditReport]) -> list[int]:
    return [report.tombstones_collected for report in reports]


def note_of(world: MemoryWorld) -> Note | None:
    (tombstone,) = world.records("T#")
    return read_note(tombstone.get("note", {}).get("S"), float("inf"))


def uninterrupted(_call: str, _request: Any) -> None:
    """Nothing happens before a call."""


# --- the waits ----------------------------------------------------------------------------------------------------


def test_a_tombstone_goes_after_two_waits_told_by_three_runs_and_not_a_second_earlier(world: MemoryWorld) -> None:
    world.delete()
    reports = after(world, 0, W - 1, 1, W - 1, 1)
    assert collected(reports) == [0, 0, 0, 0, 1]
    assert world.records("T#") == []


def test_three_runs_a_month_apart_do_as_well(world: MemoryWorld) -> None:
    world.delete()
    assert collected(after(world, 0, 30 * MARGIN, 30 * MARGIN)) == [0, 0, 1]


def test_one_run_proves_one_thing_however_old_the_tombstone_is(world: MemoryWorld) -> None:
    """A long life before the first run is no wait: nobody saw it then."""
    world.delete()
    assert collected(after(world, 10 * W, 1, 1)) == [0, 0, 0]


def test_a_process_that_just_started_does_not_go_by_its_uptime(world: MemoryWorld) -> None:
    """Functions and containers come up with an elapsed clock at nothing, or at that of a host up for a year."""
    world.delete()
    run(world)
    for _ in range(3):
        world.time.elapsed += 10 * W
        assert run(world).tombstones_collected == 0
    world.time.elapsed = 0.0
    assert collected(after(world, W, W)) == [0, 1]


@pytest.mark.parametrize("skew", [HOUR, -HOUR, MARGIN - 1, 1 - MARGIN])
@pytest.mark.parametrize("wrong_run", [0, 1, 2])
def test_a_host_whose_clock_is_off_collects_nothing_before_its_time(
    world: MemoryWorld, skew: float, wrong_run: int
) -> None:
    """Whichever of the three facts it is that its runs see, W without the margin has really passed each time."""
    world.delete()
    seen: list[float] = []
    while world.records("T#"):
        noted = note_of(world)
        turn = 0 if noted is None else 1 if noted.clear_at is None else 2
        if len(seen) <= turn - 1:
            seen.append(world.time.elapsed)
        world.time.pass_seconds(600.0)
        run(world, skew if turn == wrong_run else 0.0)
    assert seen[0] > 0
    assert seen[1] - seen[0] >= limits.COLLECTION_WAIT_SECONDS
    assert world.time.elapsed - seen[1] >= limits.COLLECTION_WAIT_SECONDS


def test_with_order_clock_tombstones_live_another_day() -> None:
    world = MemoryWorld(order="clock")
    world.delete()
    assert collected(after(world, 0, W, W, W)) == [0, 0, 0, 1]


def test_without_gc_all_is_kept_and_ghosts_still_go(world: MemoryWorld) -> None:
    world.ghost()
    for seconds in (0, EARLY, W, W, W):
        world.time.pass_seconds(seconds)
        run(world, gc=False)
    assert world.shown() is None
    assert len(world.records("T#")) == 1


# --- early audits -------------------------------------------------------------------------------------------------


def test_a_ghost_goes_with_the_first_run_after_attempts_are_out_of_time_and_its_key_is_looked_at_once(
    world: MemoryWorld,
) -> None:
    world.ghost()
    reports = after(world, 0, EARLY - 0.1, 0.1, 60, 60)
    assert [report.ghosts_removed for report in reports] == [0, 0, 1, 0, 0]
    assert [report.audited for report in reports] == [0, 0, 1, 0, 0]
    assert world.shown() is None
    assert world.records("T#")


def test_a_ghost_that_came_after_the_early_audit_is_found_by_the_last_one(world: MemoryWorld) -> None:
    older = world.stamp()
    world.delete()
    after(world, 0, EARLY, W)
    world.plant(_rw=older)
    (report,) = after(world, W)
    assert (report.ghosts_removed, report.tombstones_collected) == (1, 1)
    assert world.shown() is None


def test_an_early_audit_that_failed_is_made_up_for(world: MemoryWorld) -> None:
    world.ghost()
    run(world)
    tables = dict(world.tables.tables)
    del world.tables.tables[TABLE]
    assert after(world, EARLY)[0].troubles == 1
    world.tables.tables = tables
    assert run(world).ghosts_removed == 1


# --- what holds it back -------------------------------------------------------------------------------------------


def test_ce6_ce17_an_older_entry_keeps_the_tombstone_and_costs_no_write_a_run(world: MemoryWorld) -> None:
    older = world.stamp()
    world.delete()
    world.record("J#000", older)
    after(world, 0, EARLY, W)
    world.tables.sent.clear()
    reports = after(world, W, W)
    assert collected(reports) == [0, 0]
    assert [report.held_back for report in reports] == [1, 1]
    assert {call for call, _ in world.tables.sent} == {"get_item", "scan"}, "get_item: the installation's record"
    world.forget("J#000", older)
    assert collected(after(world, 1, W - 1, 1)) == [0, 0, 1], "the second wait begins when it is gone"


def test_an_older_entry_between_the_waits_begins_them_anew(world: MemoryWorld) -> None:
    older = world.stamp()
    world.delete()
    after(world, 0, W)
    world.record("J#000", older)
    after(world, 60)
    world.forget("J#000", older)
    assert collected(after(world, W - 1, 1, W - 1, 1)) == [0, 0, 0, 1]


def test_a_pass_that_broke_off_proves_nothing(world: MemoryWorld) -> None:
    for key in "abcdefg":
        world.delete(key)
    run(world)
    world.time.pass_seconds(W)
    world.tables.before = refuse_second_page
    assert not run(world).complete
    world.tables.before = uninterrupted
    assert collected(after(world, W)) == [0]
    assert collected(after(world, W)) == [7]


def refuse_second_page(call: str, request: Any) -> None:
    if call == "scan" and "ExclusiveStartKey" in request:
        raise CallFailed(FailureKind.ACCESS_DENIED, "AccessDeniedException", SYSTEM)


def test_a_delete_renewed_between_the_runs_begins_its_waits_anew(world: MemoryWorld) -> None:
    world.delete()
    after(world, 0, W)
    world.put(v="again")
    world.delete()
    assert note_of(world) is None, "the new tombstone says nothing of the old one's waits"
    assert collected(after(world, W, W, W)) == [0, 0, 1]


@pytest.mark.parametrize("note", ["", "soon", "1/2", f"{int((NOON + 10 * MARGIN) * 1000)}//"])
def test_a_note_that_makes_no_sense_or_tells_of_the_far_future_is_written_anew(world: MemoryWorld, note: str) -> None:
    world.delete()
    (tombstone,) = world.records("T#")
    world.record(tombstone["pk"]["S"], "T", **{**tombstone, "note": {"S": note}})
    assert collected(after(world, 0, W - 1, 1, W)) == [0, 0, 0, 1]


# --- races --------------------------------------------------------------------------------------------------------


def before_note(world: MemoryWorld, event: Any) -> None:
    """Let something happen once, when a note is about to be written."""

    def happen(call: str, request: Any) -> None:
        if call == "update_item" and request["TableName"] == SYSTEM:
            world.tables.before = uninterrupted
            event()

    world.tables.before = happen


def test_of_two_runs_that_see_a_tombstone_first_one_writes_and_the_later_time_cannot_go_back(
    world: MemoryWorld,
) -> None:
    world.delete()
    before_note(world, lambda: run(world, skew=HOUR))
    run(world)
    noted = note_of(world)
    assert noted is not None
    assert noted.quiet_since >= world.time.wall + HOUR - 1


@pytest.mark.parametrize("earlier_runs", [(), (W,)], ids=["first seen", "clear"])
def test_a_note_that_comes_after_a_newer_delete_is_not_written(
    world: MemoryWorld, earlier_runs: Sequence[float]
) -> None:
    """It would tell the new tombstone's waits from the old one's first sight."""
    world.delete()
    for seconds in earlier_runs:
        run(world)
        world.time.pass_seconds(seconds)
    before_note(world, lambda: (world.put(v="again"), world.delete()))
    run(world)
    assert note_of(world) is None


def test_a_run_that_slept_does_not_undo_what_another_has_found_since(world: MemoryWorld) -> None:
    """It saw nothing older and falls asleep before it says so; another says so, then a third meets an older entry."""
    older = world.stamp()
    world.delete()
    after(world, 0, EARLY)
    world.time.pass_seconds(W)

    def meanwhile() -> None:
        run(world)
        world.record("J#000", older)
        world.time.pass_seconds(60.0)
        run(world)
        world.forget("J#000", older)

    before_note(world, meanwhile)
    run(world)
    noted = note_of(world)
    assert noted is not None
    assert noted.clear_at is None


def test_two_runs_that_collect_at_once_count_it_once(world: MemoryWorld) -> None:
    world.delete()
    after(world, 0, W)
    world.time.pass_seconds(W)
    others: list[AuditReport] = []

    def first(call: str, _request: Any) -> None:
        if call == "delete_item":
            world.tables.before = uninterrupted
            others.append(run(world))

    world.tables.before = first
    assert [run(world).tombstones_collected, others[0].tombstones_collected] == [0, 1]


def test_a_process_kept_for_the_next_run_goes_by_what_others_have_noted_since(world: MemoryWorld) -> None:
    world.delete()
    warm = scheduled(world)
    warm.run_once()
    after(world, W)
    world.time.pass_seconds(W)
    assert warm.run_once().tombstones_collected == 1


def test_of_two_runs_that_see_chunks_without_a_head_one_writes(world: MemoryWorld) -> None:
    chunked(world)

    def first(call: str, _request: Any) -> None:
        if call == "put_item":
            world.tables.before = uninterrupted
            run(world, skew=HOUR)

    world.tables.before = first
    run(world)
    assert [report.chunks_collected for report in after(world, 2 * W, HOUR)] == [0, 3]


def test_a_daemon_and_scheduled_runs_do_not_disturb_each_other(world: MemoryWorld) -> None:
    world.delete()
    daemon = world.auditor()
    for _ in range(2):
        run(world)
        daemon.run_once()
        world.time.pass_seconds(limits.COLLECTION_WAIT_SECONDS)
    assert daemon.run_once().tombstones_collected == 1
    assert run(world).tombstones == 0


# --- chunks -------------------------------------------------------------------------------------------------------


def chunked(world: MemoryWorld) -> str:
    stamp = world.stamp()
    for number in range(3):
        world.record(f"C#{stamp}", f"{number:04d}", part={"B": b"part"})
    return stamp


def test_chunks_go_two_waits_after_a_run_saw_no_head_and_their_note_goes_with_them(world: MemoryWorld) -> None:
    chunked(world)
    reports = after(world, 0, 2 * W - 1, 1)
    assert [report.chunks_collected for report in reports] == [0, 0, 3]
    assert world.records("C#") == []


@pytest.mark.parametrize("backwards", [False, True], ids=["chunks first", "head first"])
def test_ce15_chunks_of_a_live_head_are_never_taken(backwards: bool) -> None:
    world = MemoryWorld(backwards=backwards, page_items=1)
    world.record("J#000", chunked(world))
    after(world, *[W] * 6)
    assert len(world.records("C#")) == 3, "no note either"


def test_ce15_a_slow_committer_finds_its_chunks(world: MemoryWorld) -> None:
    stamp = chunked(world)
    after(world, 0, 2 * W - 1)
    world.record("J#000", stamp)
    after(world, 1, 60)
    assert len(world.records("C#")) == 3, "the note is gone too"
    world.forget("J#000", stamp)
    assert [report.chunks_collected for report in after(world, 60, 2 * W - 1, 1)] == [0, 0, 3]


def test_where_not_all_heads_can_be_remembered_no_chunks_are_judged() -> None:
    world = MemoryWorld(backwards=True)
    chunked(world)
    for _ in range(3):
        world.record("J#000", world.stamp())
    for _ in range(4):
        world.time.pass_seconds(2 * W)
        assert run(world, entries_max=3).chunks_collected == 0
    assert [report.chunks_collected for report in after(world, 1, 2 * W)] == [0, 3]


# --- time and death -----------------------------------------------------------------------------------------------


def test_a_run_out_of_time_begins_nothing_more_and_later_ones_go_on(world: MemoryWorld) -> None:
    for number in range(9):
        world.ghost(f"k{number}")
    run(world)
    world.time.pass_seconds(EARLY + 1)
    runs = audited = 0
    while any(world.shown(f"k{number}") for number in range(9)):
        runs += 1
        auditor = scheduled(world, parallel_max=2)
        world.tables.sent.clear()
        report = auditor.run_once(lambda: sum(call == "delete_item" for call, _ in world.tables.sent) >= 2)
        audited += report.audited
        assert sum(call == "delete_item" for call, _ in world.tables.sent) <= 3, "a batch over"
    assert runs > 2
    assert audited == 9, "none of them twice"


def test_collection_goes_on_over_runs_that_are_out_of_time(world: MemoryWorld) -> None:
    for number in range(7):
        world.delete(f"k{number}")
    after(world, 0, EARLY, W)
    world.time.pass_seconds(W)
    left = []
    while world.records("T#"):
        auditor = scheduled(world, parallel_max=2)
        world.tables.sent.clear()
        auditor.run_once(lambda: any(call == "delete_item" for call, _ in world.tables.sent))
        left.append(len(world.records("T#")))
    assert left == [5, 3, 1, 0]


def test_a_run_that_dies_at_any_call_leaves_what_later_ones_finish_and_hurries_nothing() -> None:
    """At each call of each of the runs: what it was about to send is lost, or landed without an answer."""
    for lands in (False, True):
        crashes = 0
        for at in range(1, 400):
            world = MemoryWorld()
            world.ghost("ghost")
            world.delete("gone")
            world.delete("again")
            world.put("again", v="kept")
            chunked(world)
            kept = world.shown("again")
            calls = 0

            def crash(call: Any, request: Any, at: int = at, lands: bool = lands, world: MemoryWorld = world) -> None:
                nonlocal calls
                calls += 1
                if calls == at:
                    if lands:
                        world.tables.apply(call, request)
                    raise SimulatedCrash

            world.tables.before = crash
            for seconds in (0, EARLY, W, W, W):
                world.time.pass_seconds(seconds)
                try:
                    run(world)
                except SimulatedCrash:
                    crashes += 1
                if world.time.elapsed < 2 * W:
                    assert len(world.records("T#")) == 3, "too early"
            world.tables.before = uninterrupted
            after(world, EARLY, W, W, 2 * W)
            assert world.records("T#") == world.records("C#") == []
            assert (world.shown("ghost"), world.shown("again")) == (None, kept)
            if calls < at:
                break
        assert crashes == at - 1 > 30


def test_a_note_comes_out_of_the_table_as_it_went_in() -> None:
    """Or each run would write it anew, a little later each time."""
    for second in range(2000):
        text = Note(NOON + second * 1.0003, 2168948292.372 + second, looked=bool(second % 2)).text()
        again = read_note(text, float("inf"))
        assert again is not None
        assert again.text() == text
