"""The audit on real engines: ghosts made as they come about, by calls held at the wire; hours passed by a clock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from monitor.auditor import Auditor
from monitor.audits import AuditReport, AuditSettings
from reliable_write import PropagationPendingError, Receipt, ReliableWriter, ReliableWriteScope, limits
from reliable_write.clock import HybridClock, SystemTime
from reliable_write.recovery import Resumed
from reliable_write.testing.faults import Call, FaultPlan, SimulatedCrash, crash, deny
from tests.clocks import SkippingTime
from tests.world import World

W = limits.COLLECTION_WAIT_SECONDS
SCHEDULED_W = W + limits.SCHEDULED_AUDIT_MARGIN_SECONDS
HOUR = 3600.0
EARLY = limits.EARLY_AUDIT_SECONDS


class Watchman:
    """An auditor in a process of its own, and its clock."""

    def __init__(self, world: World) -> None:
        self.time = SkippingTime()
        self.writer = world.writer(time=self.time)
        self.auditor = Auditor(self.writer.engine())

    def after(self, *waits: float) -> list[AuditReport]:
        reports = []
        for seconds in waits:
            self.time.skip(seconds)
            reports.append(self.auditor.run_once())
            assert reports[-1].complete, reports[-1]
        return reports

    def collects(self) -> int:
        return sum(report.tombstones_collected for report in self.after(0, W, W))


class Runs:
    """Scheduled runs, each a process on a machine of its own that knows nothing of the others."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.passed = 0.0

    def auditor(self, skew: float = 0.0) -> tuple[ReliableWriter, Auditor]:
        time = SkippingTime(self.passed, ahead=skew)
        writer = self.world.writer(time=time)
        return writer, Auditor(writer.engine(), AuditSettings(scheduled=True))

    def after(self, *waits: float) -> list[AuditReport]:
        reports = []
        for seconds in waits:
            self.passed += seconds
            reports.append(self.auditor()[1].run_once())
            assert reports[-1].complete, reports[-1]
        return reports


def put(writer: ReliableWriter, table: str, **values: Any) -> Receipt:
    with ReliableWriteScope(writer) as scope:
        scope.put_item(table, Item={"id": "x", **values})
        return scope.commit()


def delete(writer: ReliableWriter, table: str) -> Receipt:
    with ReliableWriteScope(writer) as scope:
        scope.delete_item(table, Key={"id": "x"})
        return scope.commit()


def process(world: World, **more: Any) -> ReliableWriter:
    """Another process, which leaves no finished entry behind."""
    return world.writer(delete_finished_inline=True, **more)


@contextmanager
def held(plan: FaultPlan, operation: str, table: str) -> Iterator[tuple[threading.Event, threading.Event]]:
    """The first such call waits at the wire until the second event is set."""
    arrived, go_on = threading.Event(), threading.Event()

    def hold(_call: Call) -> None:
        arrived.set()
        assert go_on.wait(20)

    plan.on(operation, hold, times=1, having=f'"{table}"'.encode())
    try:
        yield arrived, go_on
    finally:
        go_on.set()


def ghost(world: World, table: str) -> str:
    """A put is stalled after its witness; the key is deleted; the put lands. The ghost's stamp."""
    slow, other = process(world), process(world)
    with (
        held(FaultPlan(slow.client), "PutItem", table) as (arrived, go_on),
        ThreadPoolExecutor(1) as pool,
    ):
        landing = pool.submit(put, slow, table, v="ghost")
        assert arrived.wait(20)
        deleted = delete(other, table)
        go_on.set()
        receipt = landing.result()
    assert receipt.stamp < deleted.stamp
    item = world.item(table, id={"S": "x"})
    assert item is not None, "or it is no ghost"
    assert item["_rw"]["S"] == receipt.stamp
    assert world.records("J#") == []
    return receipt.stamp


def left_behind(world: World, table: str) -> str:
    """A put that is committed and not applied: its writer died. Its id."""
    writer = world.writer()
    scope = ReliableWriteScope(writer)
    scope.put_item(table, Item={"id": "x", "v": "late"})
    plan = FaultPlan(writer.client).on("PutItem", crash, having=f'"{table}"'.encode())
    with pytest.raises(SimulatedCrash):
        scope.commit()
    assert plan.injected
    assert scope.write_id is not None
    return scope.write_id


def update(world: World, table: str, stamp: str) -> None:
    """What an update at the commit point leaves behind."""
    world.client.update_item(
        TableName=table,
        Key={"id": {"S": "x"}},
        UpdateExpression="SET n = :n, #u = :s",
        ExpressionAttributeNames={"#u": "_rwu"},
        ExpressionAttributeValues={":n": {"N": "1"}, ":s": {"S": stamp}},
    )


def test_g3_a_ghost_goes_with_the_early_audit_and_its_tombstone_with_the_last_one(every_world: World) -> None:
    world = every_world
    table = world.table("people")
    ghost(world, table)
    watchman = Watchman(world)
    seen, early, first, last = watchman.after(0, EARLY, W, W)
    assert [report.ghosts_removed for report in (seen, early, first, last)] == [0, 1, 0, 0]
    assert world.items(table) == []
    assert last.tombstones_collected == 1
    assert world.records("T#") == []
    put(process(world), table, v="new")
    watchman.after(0, W, W)
    assert len(world.items(table)) == 1, "the key takes writes as if nothing had been"


@pytest.mark.parametrize("later", ["put", "update", "bare"])
def test_what_came_onto_a_ghost_later_is_kept(every_world: World, later: str) -> None:
    world = every_world
    table = world.table("people")
    ghost(world, table)
    if later == "put":
        put(process(world), table, v="new")
    elif later == "update":
        update(world, table, HybridClock(SystemTime()).stamp())
    else:
        world.client.put_item(TableName=table, Item={"id": {"S": "x"}, "v": {"S": "somebody else's"}})
    before = world.items(table)
    assert Watchman(world).collects() == 1
    assert world.items(table) == before


def test_a_ghost_under_an_update_older_than_the_delete_goes(every_world: World) -> None:
    world = every_world
    table = world.table("people")
    older = HybridClock(SystemTime()).stamp()
    ghost(world, table)
    update(world, table, older)
    watchman = Watchman(world)
    assert watchman.after(0, EARLY)[1].ghosts_removed == 1
    assert world.items(table) == []


def test_an_update_that_lands_between_the_look_and_the_removal_is_kept(world: World) -> None:
    table = world.table("people")
    ghost(world, table)
    watchman = Watchman(world)
    watchman.after(0)
    with (
        held(FaultPlan(watchman.writer.client), "DeleteItem", table) as (arrived, go_on),
        ThreadPoolExecutor(1) as pool,
    ):
        auditing = pool.submit(watchman.after, EARLY)
        assert arrived.wait(20)
        update(world, table, HybridClock(SystemTime()).stamp())
        go_on.set()
        (report,) = auditing.result()
    assert report.ghosts_removed == 0
    assert world.items(table)[0]["n"] == {"N": "1"}


def test_ce6_ce17_nothing_is_collected_while_an_older_quarantined_entry_lives(every_world: World) -> None:
    """Then an operator has it tried again: the late put meets the tombstone and takes itself back."""
    world = every_world
    table = world.table("people")
    write_id = left_behind(world, table)
    delete(process(world), table)
    stuck = process(world)
    with FaultPlan(stuck.client).on("PutItem", deny, having=f'"{table}"'.encode()):
        (report,) = stuck.recovery.resume_all()
    assert report.resumed is Resumed.QUARANTINED
    watchman = Watchman(world)
    reports = watchman.after(0, EARLY, W, W, W, W)
    assert [report.held_back for report in reports] == [1] * 6
    assert len(world.records("T#")) == 1
    assert len(world.records("C#")) == 1, "quarantine moved the payload there; its head lives"
    stuck.engine().operators.retry(write_id, operator="ada", reason="permission granted")
    assert stuck.recovery.resume(write_id).resumed is Resumed.FINISHED
    assert world.items(table) == []
    reports = watchman.after(0, W, W, W)
    assert [report.tombstones_collected for report in reports] == [0, 0, 1, 0]
    assert world.records("T#") == world.records("C#") == []


def test_ce6_ce17_after_a_discard_both_waits_begin_anew(world: World) -> None:
    table = world.table("people")
    write_id = left_behind(world, table)
    delete(process(world), table)
    watchman = Watchman(world)
    watchman.after(0, W, W, W)
    operators = world.hasty().engine().operators
    operators.quarantine(write_id, operator="ada", reason="wrong data")
    watchman.after(W, W)
    operators.discard(write_id, operator="ada", reason="wrong data")
    reports = watchman.after(W - 10, 10, W - 10, 10)
    assert [report.tombstones_collected for report in reports] == [0, 0, 0, 1]
    assert world.items(table) == []


@pytest.mark.parametrize("damage", [{"format": {"N": "99"}}, {"state": {"S": "frozen"}}, {"epoch": {"S": "?"}}])
def test_ce17_an_older_entry_that_this_version_cannot_read_keeps_the_tombstone(
    world: World, damage: dict[str, Any]
) -> None:
    table = world.table("people")
    left_behind(world, table)
    (entry,) = world.records("J#")
    delete(process(world), table)
    world.client.put_item(TableName=world.system_table, Item={**entry, **damage})
    assert Watchman(world).collects() == 0
    assert world.records("J#") == [{**entry, **damage}]


def test_a_late_put_recovered_between_the_waits_does_not_resurrect(every_world: World) -> None:
    world = every_world
    table = world.table("people")
    write_id = left_behind(world, table)
    delete(process(world), table)
    watchman = Watchman(world)
    watchman.after(0, W)
    assert process(world).recovery.resume(write_id).resumed is Resumed.FINISHED
    assert world.items(table) == []
    assert [report.tombstones_collected for report in watchman.after(W - 60, 60)] == [0, 0]
    watchman.after(W, W)
    assert (world.items(table), world.records("T#")) == ([], [])


def test_a_recoverer_that_died_between_its_late_put_and_the_look_is_made_up_for(world: World) -> None:
    """Its entry lives, so the tombstone does; the audit need not wait for the next recoverer."""
    table = world.table("people")
    left_behind(world, table)
    delete(process(world), table)
    recoverer = process(world)
    plan = FaultPlan(recoverer.client).on("PutItem", crash, "after", having=f'"{table}"'.encode())
    with pytest.raises(SimulatedCrash):
        recoverer.recovery.resume_all()
    assert plan.injected
    assert len(world.items(table)) == 1
    watchman = Watchman(world)
    reports = watchman.after(0, EARLY, W, W)
    assert sum(report.ghosts_removed for report in reports) == 1
    assert sum(report.tombstones_collected for report in reports) == 0
    assert {report.resumed for report in process(world).recovery.resume_all()} == {Resumed.FINISHED}
    assert world.items(table) == []


def test_a_delete_renewed_between_audit_and_collection_is_not_lost(every_world: World) -> None:
    world = every_world
    table = world.table("people")
    delete(process(world), table)
    watchman = Watchman(world)
    watchman.after(0, W)
    with (
        held(FaultPlan(watchman.writer.client), "DeleteItem", world.system_table) as (arrived, go_on),
        ThreadPoolExecutor(1) as pool,
    ):
        collecting = pool.submit(watchman.after, W)
        assert arrived.wait(20)
        renewed = delete(process(world), table)
        go_on.set()
        (report,) = collecting.result()
    assert report.tombstones_collected == 0
    assert [item["stamp"]["S"] for item in world.records("T#")] == [renewed.stamp]


def test_a_table_that_is_gone_keeps_its_tombstones(every_world: World) -> None:
    world = every_world
    dropped, kept = world.table("dropped"), world.table("kept")
    delete(process(world), dropped)
    delete(process(world), kept)
    world.client.delete_table(TableName=dropped)
    world.client.get_waiter("table_not_exists").wait(TableName=dropped, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    assert Watchman(world).collects() == 1
    assert [item["table"]["S"] for item in world.records("T#")] == [dropped]


def test_chunks_of_a_large_write_go_and_those_of_a_live_one_stay(every_world: World) -> None:
    """One is finished; one waits for its table's permission, and still finds its chunks after a day of audits."""
    world = every_world
    table, other = world.table("people"), world.table("others")
    done, stuck = process(world), world.hasty()
    with ReliableWriteScope(done) as scope:
        scope.put_items(table, [{"id": str(number), "v": noise()} for number in range(3)])
        scope.commit()
    with FaultPlan(stuck.client).on("PutItem", deny, having=f'"{other}"'.encode()):
        scope = ReliableWriteScope(stuck)
        scope.put_items(other, [{"id": str(number), "v": noise()} for number in range(3)])
        with pytest.raises(PropagationPendingError):
            scope.commit()
    assert len({item["pk"]["S"] for item in world.records("C#")}) == 2
    watchman = Watchman(world)
    reports = watchman.after(0, 60, *[W] * 20)
    assert sum(report.chunks_collected for report in reports) > 1
    assert {item["pk"]["S"] for item in world.records("C#")} == {f"C#{scope.write_id}"}
    assert {report.resumed for report in process(world).recovery.resume_all()} == {Resumed.FINISHED}
    assert len(world.items(other)) == 3
    watchman.after(0, 60, 2 * W)
    assert world.records("C#") == []


def noise() -> bytes:
    """What does not compress."""
    return SystemTime().random_bytes(200_000)


def test_an_auditor_that_dies_at_any_call_leaves_what_a_second_one_finishes(world: World) -> None:
    table = world.table("people")
    crashes = 0
    for at in range(1, 30):
        ghost(world, table)
        dying = Watchman(world)
        dying.after(0, W)
        with FaultPlan(dying.writer.client).at(at, crash) as plan:
            try:
                dying.after(W)
            except SimulatedCrash:
                crashes += 1
        Watchman(world).collects()
        assert world.items(table) == []
        assert world.records("T#") == []
        if not plan.injected:
            break
    assert crashes == at - 1 >= 3, "scan, look, removal of the tombstone"


# --- scheduled runs -----------------------------------------------------------------------------------------------


def test_scheduled_runs_audit_and_collect_over_many_processes(every_world: World) -> None:
    world = every_world
    table = world.table("people")
    ghost(world, table)
    runs = Runs(world)
    reports = runs.after(0, EARLY + 1, SCHEDULED_W - 60, 60, SCHEDULED_W - 60, 60)
    assert [report.ghosts_removed for report in reports] == [0, 1, 0, 0, 0, 0]
    assert [report.tombstones_collected for report in reports] == [0, 0, 0, 0, 0, 1]
    assert world.items(table) == world.records("T#") == []


def test_ce6_ce17_scheduled_runs_collect_nothing_while_an_older_entry_lives(world: World) -> None:
    table = world.table("people")
    write_id = left_behind(world, table)
    delete(process(world), table)
    runs = Runs(world)
    reports = runs.after(0, SCHEDULED_W, SCHEDULED_W, SCHEDULED_W)
    assert [report.held_back for report in reports] == [1] * 4
    assert process(world).recovery.resume(write_id).resumed is Resumed.FINISHED
    reports = runs.after(0, SCHEDULED_W)
    assert [report.tombstones_collected for report in reports] == [0, 1]
    assert world.items(table) == world.records("T#") == []


@pytest.mark.parametrize("skew", [HOUR, -HOUR])
@pytest.mark.parametrize("wrong_run", [0, 1, 2])
def test_a_scheduled_run_whose_clock_is_an_hour_off_collects_nothing_too_early(
    world: World, skew: float, wrong_run: int
) -> None:
    delete(process(world), world.table("people"))
    runs = Runs(world)
    for turn in range(3):
        assert len(world.records("T#")) == 1
        runs.auditor(skew if turn == wrong_run else 0.0)[1].run_once()
        runs.passed += W + HOUR
    assert len(world.records("T#")) == 1, "W and the hour have passed twice; the margin has not"
    runs.passed += 2 * SCHEDULED_W
    runs.after(0, SCHEDULED_W)
    assert world.records("T#") == []


def test_of_two_scheduled_runs_that_race_one_writes_what_it_saw(world: World) -> None:
    """The slower of them saw the tombstone first; a newer delete comes before it can say so."""
    table = world.table("people")
    delete(process(world), table)
    runs = Runs(world)
    writer, slow = runs.auditor()
    with (
        held(FaultPlan(writer.client), "UpdateItem", world.system_table) as (arrived, go_on),
        ThreadPoolExecutor(1) as pool,
    ):
        auditing = pool.submit(slow.run_once)
        assert arrived.wait(20)
        delete(process(world), table)
        runs.passed += HOUR
        runs.after(0)
        (noted,) = world.records("T#")
        go_on.set()
        auditing.result()
    assert world.records("T#") == [noted]
    assert [report.tombstones_collected for report in runs.after(SCHEDULED_W - HOUR, HOUR, SCHEDULED_W)] == [0, 0, 1]


def test_a_scheduled_run_that_dies_at_any_call_leaves_what_later_ones_finish(world: World) -> None:
    table = world.table("people")
    crashes = 0
    for turn in range(3):
        for at in range(1, 20):
            ghost(world, table)
            runs = Runs(world)
            runs.after(*[0, SCHEDULED_W][:turn])
            runs.passed += SCHEDULED_W
            writer, dying = runs.auditor()
            with FaultPlan(writer.client).at(at, crash) as plan:
                try:
                    dying.run_once()
                except SimulatedCrash:
                    crashes += 1
            if turn < 2:
                assert len(world.records("T#")) == 1, "nothing is hurried by it"
            runs.after(SCHEDULED_W, SCHEDULED_W, SCHEDULED_W)
            assert world.items(table) == world.records("T#") == []
            if not plan.injected:
                break
    assert crashes >= 8, "scan and note; scan, look, removal and note; scan, look and removals"
