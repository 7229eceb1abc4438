"""Audits and collection on a time line that moves only when told. W is the collection's wait."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from monitor.auditor import Auditor, AuditReport
from reliable_write import limits
from reliable_write.clock import Stamp
from reliable_write.dynamodb import CallFailed
from reliable_write.entry import Entry, State, entry_item
from reliable_write.events import Event
from reliable_write.policy import FailureKind
from reliable_write.testing.faults import SimulatedCrash
from tests.simulation.memory_world import SYSTEM, TABLE, MemoryWorld

W = limits.COLLECTION_WAIT_SECONDS
EARLY = limits.EARLY_AUDIT_SECONDS
DAY = 86_400.0


@pytest.fixture
def world() -> MemoryWorld:
    return MemoryWorld()


def after(world: MemoryWorld, auditor: Auditor, *waits: float) -> list[AuditReport]:
    """One round now, and one after each of the waits."""
    reports = [auditor.run_once()]
    for seconds in waits:
        world.time.pass_seconds(seconds)
        reports.append(auditor.run_once())
    return reports


def collected(reports: Sequence[AuditReport]) -> list[int]:
    return [report.tombstones_collected for report in reports]


# --- the early audit ----------------------------------------------------------------------------------------------


def test_a_ghost_is_removed_once_attempts_begun_before_its_tombstone_are_out_of_time(world: MemoryWorld) -> None:
    world.ghost()
    auditor = world.auditor()
    first, second = after(world, auditor, EARLY - 0.1)
    assert (first.ghosts_removed, second.ghosts_removed) == (0, 0)
    assert world.shown() is not None
    world.time.pass_seconds(0.1)
    report = auditor.run_once()
    assert (report.audited, report.ghosts_removed) == (1, 1)
    assert world.shown() is None
    assert world.records("T#"), "the tombstone stays: something older may still be on its way"


def test_a_key_is_audited_early_only_once(world: MemoryWorld) -> None:
    world.delete()
    reports = after(world, world.auditor(), EARLY, 60, 60)
    assert [report.audited for report in reports] == [0, 1, 0, 0]


def test_an_item_that_only_an_older_update_made_is_a_ghost_too(world: MemoryWorld) -> None:
    older = world.stamp()
    world.delete()
    world.plant(_rwu=older)
    assert after(world, world.auditor(), EARLY)[1].ghosts_removed == 1
    assert world.shown() is None


@pytest.mark.parametrize("rounds", [(EARLY,), (W, W)], ids=["early", "final"])
def test_what_is_later_than_the_delete_or_without_a_stamp_is_kept(world: MemoryWorld, rounds: tuple[float]) -> None:
    older = world.stamp()
    for key in ("put", "update", "both", "bare", "equal"):
        world.delete(key)
    later = world.stamp()
    world.plant("put", _rw=later)
    world.plant("update", _rw=older, _rwu=later)
    world.plant("both", _rw=later, _rwu=older)
    world.plant("bare", v="by somebody else")
    tombstone = next(item for item in world.records("T#") if item["key"]["M"] == {"id": {"S": "equal"}})
    world.plant("equal", _rw=older, _rwu=tombstone["stamp"]["S"])
    before = world.tables.items(TABLE)
    reports = after(world, world.auditor(), *rounds)
    assert reports[-1].audited == 5
    assert sum(report.ghosts_removed for report in reports) == 0
    assert world.tables.items(TABLE) == before


@pytest.mark.parametrize("stamp", ["v1", f"{1_700_200_000_000:012x}" + "0" * 24], ids=["shape", "future"])
def test_a_foreign_stamp_is_left_alone_and_alarmed_once(world: MemoryWorld, stamp: str) -> None:
    world.delete()
    world.plant(_rw=stamp)
    reports = after(world, world.auditor(), EARLY, W, W, 60)
    assert [report.foreign for report in reports] == [0, 1, 0, 1, 1]
    assert world.told().count(Event.AUDIT_FOREIGN_STAMP) == 1
    assert world.shown() is not None
    assert collected(reports) == [0] * 5, "once repaired it may turn out to need its tombstone"
    world.plant(v="repaired")
    assert auditor_collects(world)


def auditor_collects(world: MemoryWorld) -> bool:
    return after(world, world.auditor(), W, W)[-1].tombstones_collected == 1


@pytest.mark.parametrize("change", [{"_rw": True}, {"_rwu": True}, {}], ids=["put", "update", "bare"])
def test_what_is_written_between_the_look_and_the_removal_is_kept(world: MemoryWorld, change: dict[str, bool]) -> None:
    world.ghost()
    auditor = world.auditor()
    auditor.run_once()
    older = (world.shown() or {})["_rw"]["S"]
    world.time.pass_seconds(EARLY)
    later = world.stamp()
    meanwhile = {"_rw": older} if "_rwu" in change else {}

    def write(call: str, request: Any) -> None:
        if call == "delete_item" and request["TableName"] == TABLE:
            world.plant(**{**meanwhile, **dict.fromkeys(change, later)})

    world.tables.before = write
    report = auditor.run_once()
    assert report.ghosts_removed == 0
    assert world.shown() is not None


def test_an_item_put_by_a_slow_clock_after_another_auditor_collected_is_kept(world: MemoryWorld) -> None:
    """Auditor one lists the tombstone and falls asleep; two collects it; a writer whose clock is slower than the
    deleter's was finds nothing to witness, puts with a lower stamp, is acknowledged; one wakes up.
    """
    world.delete(engine=world.process(skew=20_000.0))
    sleeper, collector = world.auditor(), world.auditor()
    after(world, collector, W)
    sleeper.run_once()
    world.time.pass_seconds(W)

    def meanwhile(call: str, request: Any) -> None:
        if call == "get_item" and request["TableName"] == TABLE:
            world.tables.before = lambda _call, _request: None
            assert collector.run_once().tombstones_collected == 1
            world.put(v="acknowledged")

    world.tables.before = meanwhile
    assert sleeper.run_once().ghosts_removed == 0
    assert (world.shown() or {})["v"] == {"S": "acknowledged"}


def test_a_ghost_that_another_ghost_replaced_under_the_look_is_looked_at_again(world: MemoryWorld) -> None:
    older = world.stamp()
    world.ghost()
    auditor = world.auditor()
    auditor.run_once()
    world.time.pass_seconds(EARLY)

    def replace(call: str, request: Any) -> None:
        if call == "delete_item" and request["TableName"] == TABLE:
            world.plant(_rw=older)

    world.tables.before = replace
    assert auditor.run_once().ghosts_removed == 0
    world.tables.before = lambda _call, _request: None
    assert auditor.run_once().ghosts_removed == 1


def test_an_engine_that_does_not_tell_old_items_is_audited_the_same() -> None:
    world = MemoryWorld(tells_old_items=False)
    world.ghost()
    reports = after(world, world.auditor(), EARLY, W, W)
    assert sum(report.ghosts_removed for report in reports) == 1
    assert collected(reports)[-1] == 1


# --- collection: the two waits ------------------------------------------------------------------------------------


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
    world.record("J#000", standing, **_quarantined(standing))
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
    world.record("J#000", standing, **_quarantined(standing))
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


def entry_of(stamp: Stamp, **more: Any) -> dict[str, Any]:
    return entry_item(Entry(0, stamp, stamp, 1, 0, b"payload", **more))


def _pending(stamp: Stamp) -> dict[str, Any]:
    return entry_of(stamp)


def _quarantined(stamp: Stamp) -> dict[str, Any]:
    return entry_of(stamp, state=State.QUARANTINED)


def _unknown_format(stamp: Stamp) -> dict[str, Any]:
    return {**entry_of(stamp), "format": {"N": "99"}}


def _unknown_state(stamp: Stamp) -> dict[str, Any]:
    return {**entry_of(stamp), "state": {"S": "frozen"}}


def _unreadable(stamp: Stamp) -> dict[str, Any]:
    return {"pk": {"S": "J#000"}, "sk": {"S": stamp}, "junk": {"N": "1"}}


def _no_stamp(_stamp: Stamp) -> dict[str, Any]:
    return {"pk": {"S": "J#003"}, "sk": {"S": "!garbage"}}


def _beyond_the_shards(stamp: Stamp) -> dict[str, Any]:
    return {**entry_of(stamp), "pk": {"S": "J#900"}}


@pytest.mark.parametrize(
    "older",
    [_pending, _quarantined, _unknown_format, _unknown_state, _unreadable, _no_stamp, _beyond_the_shards],
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
        world.tables.before = _refuse_second_page if turn == broken else lambda _call, _request: None
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
    world.tables.before = _refuse_second_page
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
        world.tables.before = _refuse_second_page
        assert not auditor.run_once().complete
        world.tables.before = lambda _call, _request: None
        world.time.pass_seconds(wait)
        auditor.run_once()
    assert world.records("T#") == world.records("C#") == []


def _refuse_second_page(call: str, request: Any) -> None:
    if call == "scan" and "ExclusiveStartKey" in request:
        raise CallFailed(FailureKind.ACCESS_DENIED, "AccessDeniedException", SYSTEM)


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


# --- troubles -----------------------------------------------------------------------------------------------------


def test_a_table_that_cannot_be_read_keeps_its_tombstones_and_nobody_else_s(world: MemoryWorld) -> None:
    world.tables.create("dead", "id")
    for number in range(9):
        world.delete(f"k{number}", table="dead")
        world.delete(f"k{number}")
    del world.tables.tables["dead"]
    reports = after(world, world.auditor(parallel_max=1), W, W)
    assert reports[-1].tombstones_collected == 9
    assert (reports[-1].troubles, reports[-1].skipped) == (3, 6), "three tries are enough for one round"
    assert {item["table"]["S"] for item in world.records("T#")} == {"dead"}
    assert world.told().count(Event.AUDIT_SKIPPED_TABLE) == 2, "in the early audit and in the last one"


def test_a_table_that_refuses_every_key_is_told_and_does_not_eat_the_round(world: MemoryWorld) -> None:
    world.tables.create("denied", "id")
    for number in range(99):
        world.delete(f"k{number}", table="denied")
    world.delete()
    _deny_looks(world, lambda _key: True)
    report = after(world, world.auditor(parallel_max=1, table_refusals_max=9), W, W)[-1]
    assert (report.troubles, report.skipped, report.tombstones_collected) == (9, 90, 1)
    assert world.told().count(Event.AUDIT_SKIPPED_TABLE) == 2, "in the early audit and in the last one"
    assert len(world.records("T#")) == 99


def test_keys_behind_many_that_are_refused_have_their_turn_by_chance(world: MemoryWorld) -> None:
    """A policy may deny some keys of a table and not others; the order in which a scan shows them never changes."""
    world.tables.create("denied", "id")
    for number in range(60):
        world.delete(f"k{number}", table="denied")
    shown = [item["key"]["M"]["id"]["S"] for item in world.records("T#")]
    _deny_looks(world, lambda key: key in shown[:50])
    auditor = world.auditor(parallel_max=1, table_refusals_max=9)
    assert collected(after(world, auditor, W, W)) == [0, 0, 0]
    world.time.jitter_share = 0.0
    report = auditor.run_once()
    assert (report.troubles, report.skipped, report.tombstones_collected) == (50, 0, 10)


def _deny_looks(world: MemoryWorld, denied: Callable[[str], bool]) -> None:
    def deny(call: str, request: Any) -> None:
        if call == "get_item" and request["TableName"] == "denied" and denied(request["Key"]["id"]["S"]):
            raise CallFailed(FailureKind.ACCESS_DENIED, "AccessDeniedException", "denied")

    world.tables.before = deny


def test_one_key_that_is_refused_does_not_stop_the_others_of_its_table(world: MemoryWorld) -> None:
    for number in range(9):
        world.delete(f"k{number}")

    def refuse(call: str, request: Any) -> None:
        if call == "get_item" and request["Key"] in [{"id": {"S": f"k{number}"}} for number in range(5)]:
            raise CallFailed(FailureKind.VALIDATION, "ValidationException", TABLE)

    world.tables.before = refuse
    report = after(world, world.auditor(parallel_max=2), W, W)[-1]
    assert (report.troubles, report.skipped, report.tombstones_collected) == (5, 0, 4)
    assert len(world.records("T#")) == 5


def test_a_tombstone_that_cannot_be_removed_is_tried_again(world: MemoryWorld) -> None:
    world.delete()
    auditor = world.auditor()
    after(world, auditor, W)
    world.time.pass_seconds(W)
    world.tables.before = _deny_removal
    report = auditor.run_once()
    assert (report.tombstones_collected, report.troubles) == (0, 1)
    world.tables.before = lambda _call, _request: None
    assert auditor.run_once().tombstones_collected == 1


def _deny_removal(call: str, request: Any) -> None:
    if call == "delete_item" and request["TableName"] == SYSTEM:
        raise CallFailed(FailureKind.ACCESS_DENIED, "AccessDeniedException", SYSTEM)


def test_an_audit_that_failed_is_made_up_for(world: MemoryWorld) -> None:
    world.ghost()
    auditor = world.auditor()
    auditor.run_once()
    world.time.pass_seconds(EARLY)
    with_table = dict(world.tables.tables)
    del world.tables.tables[TABLE]
    assert auditor.run_once().troubles == 1
    world.tables.tables = with_table
    assert auditor.run_once().ghosts_removed == 1


def test_unreadable_tombstones_are_left_alone_and_alarmed_once(world: MemoryWorld) -> None:
    stamp, far = world.stamp(), f"{int((world.time.wall + 3 * DAY) * 1000):012x}" + "0" * 24
    key = {"key": {"M": {"id": {"S": "x"}}}, "table": {"S": TABLE}}
    world.record("T#a", "T", **key)
    world.record("T#b", "T", **key, stamp={"S": "when?"})
    world.record("T#c", "T", stamp={"S": stamp}, table={"S": TABLE})
    world.record("T#d", "T", stamp={"S": stamp}, key={"M": {"id": {"S": "x"}}})
    world.record("T#e", "T", **key, stamp={"S": far})
    world.plant(_rw=stamp)
    reports = after(world, world.auditor(), EARLY, W, W)
    assert [report.tombstones_unreadable for report in reports] == [5] * 4
    assert collected(reports) == [0] * 4
    assert world.told().count(Event.TOMBSTONE_UNREADABLE) == 5
    assert world.shown() is not None
    world.time.pass_seconds(2 * DAY)
    assert [item["pk"]["S"] for item in world.records("T#")] == ["T#a", "T#b", "T#c", "T#d", "T#e"]


# --- bounds -------------------------------------------------------------------------------------------------------


def test_memory_is_bounded_and_who_waits_has_his_turn(world: MemoryWorld) -> None:
    for number in range(7):
        world.delete(f"k{number}")
    auditor = world.auditor(tombstones_max=5)
    reports = after(world, auditor, W, W, W, W)
    assert [report.tombstones_unwatched for report in reports[:3]] == [2, 2, 2]
    assert len(auditor._watches) <= 5
    assert collected(reports) == [0, 0, 5, 0, 0]
    assert collected(after(world, auditor, W))[-1] == 2
    assert Event.COLLECTION_OVERFULL in world.told()


def test_one_round_collects_no_more_than_it_may(world: MemoryWorld) -> None:
    for number in range(7):
        world.delete(f"k{number}")
    assert collected(after(world, world.auditor(collections_max=3), W, W, 1, 1)) == [0, 0, 3, 3, 1]


def test_no_more_keys_are_looked_at_at_once_than_allowed(world: MemoryWorld) -> None:
    for number in range(20):
        world.delete(f"k{number}")
    auditor = world.auditor(parallel_max=2)
    sizes: list[int] = []
    run_all = auditor._engine.workers.run_all

    def counted(tasks: Sequence[Any]) -> Any:
        sizes.append(len(tasks))
        return run_all(tasks)

    auditor._engine.workers.run_all = counted  # type: ignore[method-assign]
    after(world, auditor, EARLY, W, W)
    assert max(sizes) == 2
    assert world.records("T#") == []


def test_a_round_that_is_told_to_stop_stops_between_pages_and_collects_nothing(world: MemoryWorld) -> None:
    for number in range(9):
        world.delete(f"k{number}")
    auditor = world.auditor()
    after(world, auditor, W)
    world.time.pass_seconds(W)
    world.tables.sent.clear()
    report = auditor.run_once(lambda: len(world.tables.sent) > 1)
    assert (report.complete, report.reason, report.tombstones_collected) == (False, "stopped", 0)
    assert [call for call, _ in world.tables.sent] == ["scan", "scan"]


def test_a_round_that_is_told_to_stop_while_it_collects_leaves_the_rest(world: MemoryWorld) -> None:
    for number in range(9):
        world.delete(f"k{number}")
    auditor = world.auditor(parallel_max=2)
    after(world, auditor, W)
    world.time.pass_seconds(W)
    looked = [call for call, _ in world.tables.sent].count("get_item")
    report = auditor.run_once(lambda: [call for call, _ in world.tables.sent].count("get_item") > looked)
    assert (report.complete, report.tombstones_collected, report.skipped) == (True, 2, 7)
    assert auditor.run_once().tombstones_collected == 7


# --- chunks -------------------------------------------------------------------------------------------------------


def chunked(world: MemoryWorld, *, chunks: int = 3) -> Stamp:
    stamp = world.stamp()
    for number in range(chunks):
        world.record(f"C#{stamp}", f"{number:04d}", part={"B": b"part"})
    return stamp


def test_chunks_go_two_waits_after_a_pass_showed_no_head(world: MemoryWorld) -> None:
    """The first pass may have gone by the head's place before it was put: it proves nothing."""
    chunked(world, chunks=30)
    reports = after(world, world.auditor(), 60, 2 * W - 1, 1)
    assert [report.chunks_collected for report in reports] == [0, 0, 0, 30]
    assert world.records("C#") == []


@pytest.mark.parametrize("head", [_pending, _quarantined, _unknown_format, _unreadable, _beyond_the_shards])
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
            _refuse_second_page(call, request)

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
    world.tables.before = _refuse_second_page
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


# --- crashes ------------------------------------------------------------------------------------------------------


def _troubled() -> MemoryWorld:
    """A ghost, a tombstone over nothing, an item later than its tombstone, chunks with and without a head."""
    world = MemoryWorld()
    world.ghost("ghost")
    world.delete("gone")
    world.delete("again")
    world.put("again", v="kept")
    chunked(world, chunks=2)
    world.record("J#002", chunked(world, chunks=2))
    return world


def test_an_auditor_that_dies_at_any_call_leaves_what_a_second_one_finishes() -> None:
    crashes = 0
    for at in range(1, 200):
        world = _troubled()
        kept = {key: world.shown(key) for key in ("again",)}
        calls = 0

        def crash(_call: str, _request: Any, at: int = at) -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                raise SimulatedCrash

        world.tables.before = crash
        try:
            after(world, world.auditor(), EARLY, W, W, 2 * W)
        except SimulatedCrash:
            crashes += 1
        world.tables.before = lambda _call, _request: None
        after(world, world.auditor(), EARLY, W, W, 2 * W)
        assert world.records("T#") == []
        assert world.shown("ghost") is None
        assert {key: world.shown(key) for key in kept} == kept
        assert len(world.records("C#")) == 2
        assert len(world.records("J#")) == 1
        if calls < at:
            break
    assert crashes == at - 1
    assert crashes > 20
