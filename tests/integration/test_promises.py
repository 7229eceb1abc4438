"""The promises by their numbers, and the counterexamples that would break them; see the guarantees in the docs.

Races are made by hand: a call is held at the wire while something else happens, so each interleaving is the one named.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from reliable_write import (
    CommitUnknownError,
    Outcome,
    PropagationPendingError,
    Receipt,
    ReliableWriter,
    ReliableWriteScope,
)
from reliable_write.clock import Deadline, HybridClock, Stamp, SystemTime
from reliable_write.entry import Entry, State, entry_item, read_entry
from reliable_write.errors import TooLateError
from reliable_write.journal import Journal
from reliable_write.recovery import Recovery, Resumed
from reliable_write.testing.faults import Call, FaultPlan, SimulatedCrash, crash, deny, lose_answer
from tests.clocks import SkippingTime, StandingTime
from tests.world import World, plain_world

world = plain_world


def name(table: str) -> bytes:
    return f'"{table}"'.encode()


def another(world: World, **more: Any) -> ReliableWriter:
    """Another process, which leaves no finished entry behind."""
    return world.writer(delete_finished_inline=True, **more)


def put(writer: ReliableWriter, *tables: str, key: str = "x", **values: Any) -> Receipt:
    with ReliableWriteScope(writer) as scope:
        for table in tables:
            scope.put_item(table, Item={"id": key, **values})
        return scope.commit()


def delete(writer: ReliableWriter, table: str, key: str = "x") -> Receipt:
    with ReliableWriteScope(writer) as scope:
        scope.delete_item(table, Key={"id": key})
        return scope.commit()


def shown(world: World, table: str, key: str = "x") -> Any:
    item = world.item(table, id={"S": key})
    return item and item.get("v", {}).get("S")


def left_behind(world: World, *tables: str, v: str = "a", item: dict[str, Any] | None = None) -> str:
    """A write that is committed and propagated nowhere: its writer died. Returns its id."""
    writer = world.writer()
    scope = ReliableWriteScope(writer)
    for table in tables:
        scope.put_item(table, Item=item or {"id": "x", "v": v})
    plan = FaultPlan(writer.client)
    for table in tables:
        plan.on("PutItem", crash, having=name(table))
    with pytest.raises(SimulatedCrash):
        scope.commit()
    assert plan.injected
    assert scope.write_id is not None
    return scope.write_id


def settled(world: World, *, expect: Resumed = Resumed.FINISHED) -> None:
    """Recover everything that is there."""
    reports = world.writer().recovery.resume_all()
    assert reports
    assert {report.resumed for report in reports} == {expect}


@contextmanager
def held(plan: FaultPlan, operation: str, having: bytes, when: Any = "before") -> Iterator[tuple[Any, Any]]:
    """The first such call is held at the wire until the block is left (or the second event is set)."""
    arrived, go_on = threading.Event(), threading.Event()

    def hold(_call: Call) -> None:
        arrived.set()
        assert go_on.wait(20)

    plan.on(operation, hold, when, times=1, having=having)
    try:
        yield arrived, go_on
    finally:
        go_on.set()


# --- G1: all or nothing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crash_at", range(1, 8))
def test_g1_all_or_nothing_whichever_call_is_the_last(every_world: World, crash_at: int) -> None:
    """One put, one delete and a batch; the process is gone before its n-th call."""
    world = every_world
    one, two = world.table("one"), world.table("two")
    world.client.put_item(TableName=two, Item={"id": {"S": "old"}})
    writer = world.writer()
    scope = ReliableWriteScope(writer)
    scope.put_item(one, Item={"id": "a"})
    scope.delete_item(two, Key={"id": "old"})
    scope.put_items(two, [{"id": "b"}, {"id": "c"}])
    plan = FaultPlan(writer.client).at(crash_at, crash)
    with pytest.raises(SimulatedCrash):
        scope.commit()
    assert plan.injected
    world.writer().recovery.resume_all()
    found = ([item["id"]["S"] for item in world.items(one)], sorted(item["id"]["S"] for item in world.items(two)))
    committed = crash_at > 2  # the witness is the first call, the commit point the second
    assert found == ((["a"], ["b", "c"]) if committed else ([], ["old"]))
    assert world.records("J#") == []


def test_g1_what_was_acknowledged_is_there(world: World) -> None:
    one, two = world.table("one"), world.table("two")
    put(another(world), one, two, v="a")
    assert shown(world, one) == shown(world, two) == "a"


def test_g1_what_cannot_be_applied_is_quarantined_and_kept(world: World) -> None:
    table = world.table("one")
    left_behind(world, table, v="a")
    recoverer = world.writer()
    with FaultPlan(recoverer.client).on("PutItem", deny, having=name(table)):
        (report,) = recoverer.recovery.resume_all()
    assert report.resumed is Resumed.QUARANTINED
    (entry,) = recoverer.recovery.look().entries
    assert entry.state == State.QUARANTINED
    assert entry.payload is None
    assert "access denied" in (entry.last_error or "")
    assert recoverer.recovery.resume_all() == [], "an operator decides"


# --- G2: convergence ----------------------------------------------------------------------------------------------


def test_g2_one_winner_on_all_keys_whatever_the_order_of_propagation(world: World) -> None:
    """CE2: two copies that disagree."""
    one, two = world.table("one"), world.table("two")
    left_behind(world, one, two, v="older")
    newer = put(another(world), one, v="newer")
    newest = left_behind(world, one, two, v="newest")
    recovery = world.writer().recovery
    assert recovery.resume(newest).resumed is Resumed.FINISHED
    settled(world)  # the older one last
    assert shown(world, one) == shown(world, two) == "newest"
    assert world.records("J#") == []
    assert newer.superseded == ()


def test_g2_many_writers_over_the_same_keys_leave_one_winner_on_all_of_them(world: World) -> None:
    tables = [world.table(f"copy{number}") for number in range(3)]
    writers = [world.writer() for _ in range(4)]

    def race(index: int) -> None:
        for turn in range(8):
            put(writers[index], *tables, v=f"{index}-{turn}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(race, range(4)))
    items = [world.item(table, id={"S": "x"}) for table in tables]
    assert items[0] is not None
    assert items[0] == items[1] == items[2]
    assert items[0]["v"]["S"].endswith("-7"), "a later write of the same client comes later"


def test_ce1_a_superseded_write_is_never_stamped_anew(world: World) -> None:
    """A journalled, puts X; B, which saw X, puts X and Y and is acknowledged; A's put of Y must stay behind B's."""
    x, y = world.table("x"), world.table("y")
    a = world.writer()
    scope = ReliableWriteScope(a)
    for table in (x, y):
        scope.put_item(table, Item={"id": "x", "v": "A"})
    plan = FaultPlan(a.client)
    with held(plan, "PutItem", name(y)) as (arrived, go_on), ThreadPoolExecutor(1) as pool:
        # A scope belongs to its thread, so B runs in the other one.
        other = pool.submit(lambda: (arrived.wait(20), put(another(world), x, y, v="B"), go_on.set()))
        receipt = scope.commit()
        assert other.result()[1].superseded == ()
    assert receipt.superseded, "A tells that it was overtaken"
    assert shown(world, x) == shown(world, y) == "B"
    assert world.item(y, id={"S": "x"})["_rw"]["S"] > receipt.stamp  # type: ignore[index]


def test_ce4_two_writers_of_one_clock_never_make_equal_stamps(world: World) -> None:
    one, two, standing = world.table("one"), world.table("two"), StandingTime()
    receipts = [put(another(world, time=standing), one, two, v=str(number), key=f"k{number}") for number in range(20)]
    assert len({receipt.stamp for receipt in receipts}) == 20
    assert len({receipt.stamp[:16] for receipt in receipts}) == 1, "or the clocks did not stand"


# --- G3: no resurrection ------------------------------------------------------------------------------------------


def test_g3_a_put_then_a_delete_leave_nothing(every_world: World) -> None:
    world = every_world
    table = world.table("one")
    writer = world.writer()
    put(writer, table, v="a")
    receipt = delete(writer, table)
    assert world.items(table) == []
    (tombstone,) = world.records("T#")
    assert tombstone["stamp"]["S"] == receipt.stamp
    assert tombstone["key"]["M"] == {"id": {"S": "x"}}


def test_g3_a_late_put_does_not_bring_a_deleted_item_back(every_world: World) -> None:
    world = every_world
    table = world.table("one")
    left_behind(world, table, v="old")
    delete(another(world), table)
    settled(world)
    assert world.items(table) == []
    assert world.records("J#") == []


def test_g3_a_put_after_the_delete_stays(world: World) -> None:
    table = world.table("one")
    left_behind(world, table, v="old")
    delete(another(world), table)
    put(another(world), table, v="new")
    settled(world)
    assert shown(world, table) == "new"


def test_g3_a_commit_repeated_after_a_delete_does_not_bring_the_item_back(world: World) -> None:
    """Unknown, finished by a monitor, deleted by somebody, and only then committed again: late, like a monitor's."""
    table = world.table("one")
    writer = world.hasty(delete_finished_inline=True)
    scope = ReliableWriteScope(writer)
    scope.put_item(table, Item={"id": "x", "v": "old"})
    plan = FaultPlan(writer.client).on("PutItem", lose_answer, "after", having=name(world.system_table))
    with plan, pytest.raises(CommitUnknownError):
        scope.commit()
    settled(world)
    delete(another(world), table)
    assert scope.commit().superseded == ("operations[0]",)
    assert world.items(table) == []


def test_ce5_a_delete_that_lands_within_a_late_put_is_not_undone(world: World) -> None:
    """Looking for the tombstone before the put would miss it: the look comes after."""
    table = world.table("one")
    left_behind(world, table, v="old")
    recoverer, deleter = world.writer(), world.writer()
    plan = FaultPlan(recoverer.client)
    with held(plan, "PutItem", name(table)) as (arrived, go_on), ThreadPoolExecutor(1) as pool:
        work = pool.submit(recoverer.recovery.resume_all)
        assert arrived.wait(20)
        delete(deleter, table)
        go_on.set()
        reports = work.result()  # the deleter's own entry may be among them: it is deleted behind its back
    assert {report.resumed for report in reports} == {Resumed.FINISHED}
    assert world.items(table) == []


def test_ce23_a_late_puts_undo_keeps_an_update_that_came_after_it(world: World) -> None:
    """Between the late put and its undo an update later than the tombstone builds on the item."""
    table = world.table("one")
    left_behind(world, table, v="old")
    delete(another(world), table)
    later = HybridClock(SystemTime()).stamp()
    recoverer = world.writer()
    plan = FaultPlan(recoverer.client)
    with held(plan, "DeleteItem", name(table)) as (arrived, go_on), ThreadPoolExecutor(1) as pool:
        work = pool.submit(recoverer.recovery.resume_all)
        assert arrived.wait(20), "the put found the tombstone and wants to take itself back"
        _update(world, table, later)
        go_on.set()
        (report,) = work.result()
    assert report.resumed is Resumed.FINISHED
    item = world.item(table, id={"S": "x"})
    assert item is not None
    assert item["_rwu"]["S"] == later


def test_ce23_a_late_put_does_take_itself_back_from_under_an_older_update(world: World) -> None:
    table = world.table("one")
    left_behind(world, table, v="old")
    between = HybridClock(SystemTime()).stamp()
    delete(another(world), table)
    recoverer = world.writer()
    plan = FaultPlan(recoverer.client)
    with held(plan, "DeleteItem", name(table)) as (arrived, go_on), ThreadPoolExecutor(1) as pool:
        work = pool.submit(recoverer.recovery.resume_all)
        assert arrived.wait(20)
        _update(world, table, between)
        go_on.set()
        work.result()
    assert world.items(table) == []


def _update(world: World, table: str, stamp: Stamp) -> None:
    """What an update at the commit point leaves behind."""
    world.client.update_item(
        TableName=table,
        Key={"id": {"S": "x"}},
        UpdateExpression="SET n = :n, #u = :s",
        ExpressionAttributeNames={"#u": "_rwu"},
        ExpressionAttributeValues={":n": {"N": "1"}, ":s": {"S": stamp}},
    )


@pytest.mark.parametrize("late", ["put", "delete"])
def test_ce11_a_write_that_an_update_has_overtaken_is_told_and_nothing_lost(world: World, late: str) -> None:
    table = world.table("one")
    put(another(world), table, v="first")
    writer = world.hasty()
    scope = ReliableWriteScope(writer)
    if late == "put":
        scope.put_item(table, Item={"id": "x", "v": "second"})
    else:
        scope.delete_item(table, Key={"id": "x"})
    plan = FaultPlan(writer.client)
    operation = "PutItem" if late == "put" else "DeleteItem"
    plan.on(operation, lambda _: _update(world, table, HybridClock(SystemTime()).stamp()), times=1, having=name(table))
    with pytest.raises(PropagationPendingError, match="an update later in order") as caught:
        scope.commit()
    assert plan.injected == 1
    assert caught.value.needs_operator
    item = world.item(table, id={"S": "x"})
    assert item is not None
    assert (item["v"]["S"], item["n"]["N"]) == ("first", "1")
    settled(world, expect=Resumed.QUARANTINED)


# --- G4: real time ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slow_by", [3600.0, 40_000.0])
def test_g4_ce3_a_later_write_wins_however_slow_its_clock(every_world: World, slow_by: float) -> None:
    world = every_world
    table = world.table("one")
    first = put(another(world), table, v="first")
    second = put(another(world, time=SkippingTime(-slow_by)), table, v="second")
    assert second.superseded == ()
    assert second.stamp > first.stamp
    assert shown(world, table) == "second"


def test_g4_a_later_put_comes_after_a_delete_however_slow_its_clock(world: World) -> None:
    """The item is gone; only its tombstone tells."""
    table = world.table("one")
    writer = world.writer()
    put(writer, table, v="first")
    deleted = delete(writer, table)
    left = put(another(world, time=SkippingTime(-3600.0)), table, v="second")
    assert left.stamp > deleted.stamp
    assert shown(world, table) == "second"


def test_g4_a_later_delete_comes_after_a_put_however_slow_its_clock(world: World) -> None:
    table = world.table("one")
    put(another(world), table, v="first")
    assert delete(another(world, time=SkippingTime(-3600.0)), table).superseded == ()
    assert world.items(table) == []


def test_g4_a_clock_ahead_moves_the_others_on(world: World) -> None:
    table = world.table("one")
    ahead = put(another(world, time=SkippingTime(3600.0)), table, v="ahead")
    after = put(another(world), table, v="after")
    assert after.stamp > ahead.stamp
    assert shown(world, table) == "after"


# --- G6: one answer -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_g6_unknown_is_said_when_it_is_unknown(world: World, when: Any) -> None:
    """Whether the put arrived or not cannot be told, and is not."""
    table = world.table("one")
    writer = world.hasty()
    scope = ReliableWriteScope(writer)
    scope.put_item(table, Item={"id": "x", "v": "a"})
    plan = FaultPlan(writer.client).on("PutItem", lose_answer, when, having=name(world.system_table))
    with plan, pytest.raises(CommitUnknownError) as caught:
        scope.commit()
    assert plan.injected
    assert caught.value.outcome is Outcome.UNKNOWN
    assert caught.value.write_id == scope.write_id
    assert len(world.records("J#")) == (1 if when == "after" else 0)
    assert scope.commit().write_id == scope.write_id
    assert shown(world, table) == "a"


def test_g6_ce12_a_put_that_was_applied_and_not_answered_is_a_success(every_world: World) -> None:
    """The SDK's second answer is a failed condition: our own stamp is there."""
    world = every_world
    table = world.table("one")
    writer = world.writer()
    plan = FaultPlan(writer.client).on("PutItem", lose_answer, "after", times=1, having=name(table))
    with plan:
        receipt = put(writer, table, v="a")
    assert plan.injected == 1
    assert receipt.superseded == ()
    assert shown(world, table) == "a"


def test_g6_ce12_a_journal_put_that_was_applied_and_not_answered_is_a_success(every_world: World) -> None:
    world = every_world
    table = world.table("one")
    writer = world.writer()
    plan = FaultPlan(writer.client).on("PutItem", lose_answer, "after", times=1, having=name(world.system_table))
    with plan:
        put(writer, table, v="a")
    assert plan.injected == 1
    assert shown(world, table) == "a"


def test_g6_a_delete_that_was_applied_and_not_answered_is_a_success(every_world: World) -> None:
    world = every_world
    table = world.table("one")
    writer = world.writer()
    put(writer, table, v="a")
    plan = FaultPlan(writer.client).on("DeleteItem", lose_answer, "after", times=1, having=name(table))
    plan.on("PutItem", lose_answer, "after", times=1, having=b"T#")
    with plan:
        assert delete(writer, table).superseded == ()
    assert plan.injected == 2
    assert world.items(table) == []


def test_ce7_a_lost_answer_is_never_turned_into_a_second_write(world: World) -> None:
    """The entry is finished and gone before the caller asks again: the same id is the same write."""
    table = world.table("one")
    writer = world.hasty()
    scope = ReliableWriteScope(writer)
    scope.put_item(table, Item={"id": "x", "v": "a"})
    plan = FaultPlan(writer.client).on("PutItem", lose_answer, "after", having=name(world.system_table))
    with plan, pytest.raises(CommitUnknownError):
        scope.commit()
    settled(world)
    before = world.item(table, id={"S": "x"})
    assert scope.commit().stamp == scope.write_id
    writer.close()
    assert world.item(table, id={"S": "x"}) == before
    assert world.records("J#") == []


def test_ce8_a_late_duplicate_of_the_journal_put_does_no_harm(world: World) -> None:
    """It brings the finished entry back; finishing it again changes nothing, and resurrects nothing."""
    one, two = world.table("one"), world.table("two")
    write_id = left_behind(world, one, two, v="old")
    (item,) = world.records("J#")
    settled(world)
    put(another(world), one, v="new")
    delete(another(world), two)
    world.client.put_item(TableName=world.system_table, Item=item)
    (report,) = world.writer().recovery.resume_all()
    assert (report.write_id, report.resumed) == (write_id, Resumed.FINISHED)
    assert shown(world, one) == "new"
    assert world.items(two) == []


def test_ce9_a_late_write_never_turns_the_stamp_of_an_item_back(world: World) -> None:
    table = world.table("one")
    left_behind(world, table, v="old")
    new = put(another(world), table, v="new")
    settled(world)
    item = world.item(table, id={"S": "x"})
    assert item is not None
    assert (item["v"]["S"], item["_rw"]["S"]) == ("new", new.stamp)


def test_ce14_a_number_key_spelled_in_two_ways_has_one_tombstone(world: World) -> None:
    from decimal import Decimal  # noqa: PLC0415

    table = world.table("one", "id:N")
    writer = world.writer()
    for spelled in (1, Decimal("1.0"), Decimal("10E-1")):
        with writer.begin() as scope:
            scope.delete_item(table, Key={"id": spelled})
    assert len(world.records("T#")) == 1


# --- the journal's invariants -------------------------------------------------------------------------------------


def _parts(world: World) -> tuple[Journal, Recovery, Callable[[], Deadline]]:
    engine = world.writer().engine()
    return engine.journal, engine.recovery, engine.attempt_deadline


def _stored(world: World) -> Entry:
    (item,) = world.records("J#")
    return read_entry(item)


def _changes(journal: Journal, entry: Entry, soon: Callable[[], Deadline]) -> list[Callable[[], object]]:
    return [
        lambda: journal.claim(entry, "you", soon()),
        lambda: journal.postpone(entry, "why", 7, soon()),
        lambda: journal.quarantine(entry, "why", soon()),
    ]


def test_ce13_ce18_nothing_but_a_commit_brings_an_entry_into_being(every_world: World) -> None:
    world = every_world
    table = world.table("one")
    left_behind(world, table, v="a")
    journal, _, soon = _parts(world)
    entry = _stored(world)
    journal.finish([(entry.shard, entry.stamp)], soon())
    for change in _changes(journal, entry, soon):
        with pytest.raises(TooLateError):
            change()
    assert world.records("J#") == [], "no ghost without a payload"


def test_of_two_who_claim_the_same_sight_of_an_entry_one_is_too_late(every_world: World) -> None:
    world = every_world
    left_behind(world, world.table("one"), v="a")
    journal, _, soon = _parts(world)
    entry = _stored(world)
    claimed = journal.claim(entry, "me", soon())
    assert (claimed.epoch, claimed.attempts, claimed.owner) == (entry.epoch + 1, 1, "me")
    for change in _changes(journal, entry, soon):
        with pytest.raises(TooLateError):
            change()
    assert _stored(world) == claimed


def test_ce18_quarantine_happens_in_place_and_keeps_every_byte(every_world: World) -> None:
    world = every_world
    left_behind(world, world.table("one"), v="a")
    journal, _, soon = _parts(world)
    entry = _stored(world)
    before = journal.operations(entry, soon())
    journal.quarantine(journal.claim(entry, "me", soon()), "why", soon())
    after = _stored(world)
    assert (after.stamp, after.shard, after.state) == (entry.stamp, entry.shard, State.QUARANTINED)
    assert after.payload is None
    assert journal.operations(after, soon()) == before


@pytest.mark.parametrize("when", ["before", "after"])
def test_ce18_a_quarantine_that_crashes_half_way_loses_nothing(world: World, when: Any) -> None:
    table = world.table("one")
    left_behind(world, table, v="a")
    recoverer = world.writer()
    plan = FaultPlan(recoverer.client).on("PutItem", deny, having=name(table))
    plan.on("PutItem", crash, when, having=b'"C#')
    with pytest.raises(SimulatedCrash):
        recoverer.recovery.resume_all()
    assert plan.injected == 2
    assert _stored(world).state == State.PENDING
    settled(world)
    assert shown(world, table) == "a"


def test_ce19_a_frozen_recoverer_sends_nothing_when_it_wakes_up(world: World) -> None:
    """Its claim was its last word: the attempt is out of time, and the put never leaves."""
    table = world.table("one")
    left_behind(world, table, v="old")
    time = SkippingTime()
    frozen = world.writer(time=time)
    engine = frozen.engine()

    def freeze(_call: Call) -> None:
        time.skip(60.0)

    plan = FaultPlan(frozen.client).on("UpdateItem", freeze, "after", times=1)
    with plan:
        (report,) = engine.recovery.resume_all()
    assert plan.injected == 1
    assert [call for call in plan.calls if name(table) in call.body] == []
    assert {result.trouble.kind for result in report.results if result.trouble} == {"deadline passed"}
    assert world.items(table) == []
    settled(world)
    assert shown(world, table) == "old"


def test_ce19_a_frozen_writer_sends_nothing_when_it_wakes_up(world: World) -> None:
    table = world.table("one")
    time = SkippingTime()
    writer = world.writer(time=time)

    def freeze(_call: Call) -> None:
        time.skip(60.0)

    plan = FaultPlan(writer.client).on("PutItem", freeze, "after", times=1, having=name(world.system_table))
    with plan, pytest.raises(PropagationPendingError, match="deadline passed"):
        put(writer, table, v="a")
    assert plan.injected == 1
    assert plan.count("PutItem") == 1
    settled(world)
    assert shown(world, table) == "a"


def test_a_newer_format_is_left_exactly_as_it_is(every_world: World) -> None:
    world = every_world
    table = world.table("one")
    left_behind(world, table, v="a")
    (item,) = world.records("J#")
    item["format"] = {"N": "99"}
    world.client.put_item(TableName=world.system_table, Item=item)
    settled(world, expect=Resumed.UNREADABLE)
    assert world.records("J#") == [item]
    assert world.items(table) == []


def test_a_damaged_entry_is_left_as_it_is_and_stops_nobody(every_world: World) -> None:
    """Simol's monitor thread died of the first one."""
    world = every_world
    table = world.table("one")
    left_behind(world, table, v="damaged")
    (item,) = world.records("J#")
    item["payload"] = {"B": b"\0" + item["payload"]["B"][1:]}
    world.client.put_item(TableName=world.system_table, Item=item)
    clock = HybridClock(SystemTime())
    headless = {**entry_item(Entry(3, clock.stamp(), "w", 1, 7, b"x")), "epoch": {"S": "none"}}
    world.client.put_item(TableName=world.system_table, Item=headless)
    left_behind(world, table, v="good")
    recovery = world.writer().recovery
    told = Counter(report.resumed for report in recovery.resume_all())
    assert told == {Resumed.UNREADABLE: 2, Resumed.FINISHED: 1}
    assert len(recovery.look().unreadable) == 1
    assert shown(world, table) == "good"
    assert sorted(record["sk"]["S"] for record in world.records("J#")) == sorted([item["sk"]["S"], headless["sk"]["S"]])


def test_a_journal_that_cannot_be_read_is_no_empty_journal(world: World) -> None:
    left_behind(world, world.table("one"), v="a")
    writer = world.hasty()
    engine = writer.engine()
    with FaultPlan(writer.client).on("Query", deny):
        standing = engine.recovery.look()
        reports = engine.recovery.resume_all()
    assert len(standing.unreadable) == engine.journal.shards
    assert {report.resumed for report in reports} == {Resumed.UNREADABLE}
