"""Early audits and troubles on a time line that moves only when told. W is the collection's wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from reliable_write.dynamodb import CallFailed
from reliable_write.events import Event
from reliable_write.policy import FailureKind
from reliable_write.testing.faults import SimulatedCrash
from tests.simulation.memory_world import SYSTEM, TABLE, MemoryWorld
from tests.unit.auditing import DAY, EARLY, W, after, auditor_collects, chunked, collected


@pytest.fixture
def world() -> MemoryWorld:
    return MemoryWorld()


# --- the early audit --------------------------------------------------------------------------------------------------


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


# --- troubles ---------------------------------------------------------------------------------------------------------


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


# --- bounds -----------------------------------------------------------------------------------------------------------


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


# --- crashes ----------------------------------------------------------------------------------------------------------


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
