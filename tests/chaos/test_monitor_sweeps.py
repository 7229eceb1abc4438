"""One monitor, and several, over a real journal: who is finished when, and by whom."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest

from monitor import SilentObserver, SweepReport, WriteMonitor
from reliable_write import ReliableWriteScope
from reliable_write.clock import Deadline, Stamp
from reliable_write.entry import Entry, shard_of
from reliable_write.errors import ConfigurationError
from reliable_write.journal import Journal
from reliable_write.recovery import Resumed
from reliable_write.testing.faults import Call, FaultPlan, SimulatedCrash, answer, crash, deny
from tests.chaos.stragglers import LEASE, Bench, Ear, Left, delete, ids, moved_to, put
from tests.world import SHARDS, World

FINISHED = str(Resumed.FINISHED)


def test_a_straggler_waits_a_lease_and_is_finished(plain_world: World) -> None:
    table, gone = plain_world.table("people"), plain_world.table("gone")
    plain_world.client.put_item(TableName=gone, Item={"id": {"S": "b"}})
    left, bench = Left(plain_world), Bench(plain_world)
    left.leave(left.entry(put(table, "a"), delete(gone, "b")))
    assert bench.sweep_after(0) == {}
    assert bench.sweep_after(LEASE - 5) == {}
    assert bench.claims() == 0
    assert plain_world.items(table) == []
    assert bench.sweep_after(5) == {FINISHED: 1}
    assert bench.claims() == 1
    assert ids(plain_world.items(table)) == {"a"}
    assert plain_world.items(gone) == []
    assert plain_world.records("J#") == []
    assert bench.monitor.run_once().pending == 0
    assert bench.monitor.status().recovered_total == 1


def test_an_entry_whose_writer_has_just_died_is_finished_the_same_way(plain_world: World) -> None:
    table, writer = plain_world.table("people"), plain_world.writer()
    scope = ReliableWriteScope(writer)
    scope.put_item(table, Item={"id": "a"})
    bench = Bench(plain_world)
    plan = FaultPlan(writer.client).on("PutItem", crash, "after", having=plain_world.system_table.encode())
    with plan, pytest.raises(SimulatedCrash):
        scope.commit()
    assert plan.injected == 1
    assert bench.sweep_after(0) == {}
    assert bench.sweep_after() == {FINISHED: 1}
    assert ids(plain_world.items(table)) == {"a"}


def test_a_live_writers_entry_that_moves_is_left_alone(world: World) -> None:
    """Each claim by somebody else begins its lease anew."""
    table = world.table("people")
    left, bench = Left(world), Bench(world)
    left.leave(left.entry(put(table, "a")))
    engine = world.writer().engine()
    for _ in range(3):
        assert bench.sweep_after(LEASE - 1) == {}
        engine.journal.claim(
            engine.journal.find(left.entries[0].write_id, engine.attempt_deadline()), "x", engine.attempt_deadline()
        )
    assert bench.claims() == 0
    bench.monitor.run_once()
    assert bench.sweep_after() == {FINISHED: 1}


def test_a_scheduled_run_takes_what_is_four_leases_old_at_its_first_look(world: World) -> None:
    table = world.table("people")
    left, bench = Left(world), Bench(world)
    left.leave(*left.puts(3, table))
    bench.time.skip(4 * LEASE - 5)
    assert bench.monitor.run_once(one_shot=True).attempts == {}
    bench.time.skip(5)
    report = bench.monitor.run_once(one_shot=True)
    assert report.attempts == {Resumed.FINISHED: 3}
    other = Bench(world, time=bench.time)
    other.monitor.run_once()
    assert other.monitor.status().own_shards == SHARDS, "it takes no shards from those that stay"


def test_a_look_out_of_time_reads_no_more_shards_and_begins_no_attempt(wide_world: World) -> None:
    left, bench = Left(wide_world), Bench(wide_world, readers=1)
    left.leave(*left.puts(30, wide_world.table("people")))
    bench.time.skip(4 * LEASE)
    bench.faults.on("Query", lambda _call: bench.time.skip(2), times=64)
    report = bench.monitor.run_once(one_shot=True, seconds_max=9)
    read = bench.faults.count("Query")
    assert read in (5, 6), "one reader, and the sweep's own thread, which may have looked at the clock before it"
    assert len(report.unread_shards) == 64 - read
    assert (report.started, report.attempts, bench.claims()) == (0, {}, 0)
    assert bench.monitor.run_once(one_shot=True, seconds_max=900).attempts == {Resumed.FINISHED: 30}


def test_a_crew_out_of_time_begins_no_more_attempts_and_ends_those_it_has_begun(world: World) -> None:
    left, bench = Left(world), Bench(world, workers=1)
    left.leave(*left.puts(10, world.table("people")))
    bench.time.skip(4 * LEASE)
    bench.faults.on("UpdateItem", lambda _call: bench.time.skip(5), times=10)
    report = bench.monitor.run_once(one_shot=True, seconds_max=12)
    assert (report.started, report.attempts) == (3, {Resumed.FINISHED: 3}), "at 0, 5 and 10 seconds"
    assert bench.monitor.status().under_way == 0
    assert len(world.records("J#")) == 7


def test_an_attempt_under_way_when_the_time_is_up_is_waited_for(world: World) -> None:
    left, bench = Left(world), Bench(world, workers=1)
    left.leave(*left.puts(2, world.table("people")))
    bench.time.skip(4 * LEASE)
    given_up: list[int] = []

    def outlast(_call: Call) -> None:
        sweeper = bench.monitor._sweeper
        assert sweeper is not None
        while sweeper.under_way > 1:  # until the sweep gives the other one up
            threading.Event().wait(0.01)
        given_up.append(1)

    bench.faults.on("UpdateItem", outlast, times=1)
    report = bench.monitor.run_once(one_shot=True, seconds_max=1)
    assert given_up
    assert (report.started, report.attempts) == (1, {Resumed.FINISHED: 1})
    assert bench.monitor.status().under_way == 0


def test_the_time_of_the_look_counts_for_the_crew(world: World) -> None:
    left, bench = Left(world), Bench(world, workers=1, readers=1)
    left.leave(*left.puts(10, world.table("people")))
    bench.time.skip(4 * LEASE)
    bench.faults.on("Query", lambda _call: bench.time.skip(7), times=1)
    bench.faults.on("UpdateItem", lambda _call: bench.time.skip(5), times=10)
    assert bench.monitor.run_once(one_shot=True, seconds_max=12).started == 1


def test_two_monitors_share_the_work_and_claim_each_entry_once(wide_plain_world: World) -> None:
    table = wide_plain_world.table("people")
    left = Left(wide_plain_world)
    left.leave(*left.puts(40, table))
    one = Bench(wide_plain_world)
    two = Bench(wide_plain_world, time=one.time)
    for _ in range(2):  # the second time, each knows of the other
        assert one.sweep_after(0) == two.sweep_after(0) == {}
    assert one.monitor.status().monitors_alive == two.monitor.status().monitors_alive == 2
    done = Counter({"one": one.sweep_after().get(FINISHED, 0), "two": two.sweep_after(0).get(FINISHED, 0)})
    assert done.total() == 40
    assert min(done.values()) >= 8, done
    assert one.claims() + two.claims() == 40
    assert wide_plain_world.records("J#") == []
    assert one.monitor.status().own_shards + two.monitor.status().own_shards == 64
    puts = Counter(call.body for bench in (one, two) for call in bench.faults.calls if table.encode() in call.body)
    assert len(puts) == 40
    assert set(puts.values()) == {1}, "each effect once"


def test_a_dead_monitors_shards_are_taken_over_after_a_further_lease(wide_world: World) -> None:
    table = wide_world.table("people")
    left = Left(wide_world)
    left.leave(*left.puts(40, table))
    live = Bench(wide_world)
    dead = Bench(wide_world, time=live.time)
    dead.monitor.run_once()
    live.monitor.run_once()
    assert 0 < live.monitor.status().own_shards < 64
    mine = live.sweep_after().get(FINISHED, 0)
    assert 0 < mine < 40
    assert live.sweep_after() == {FINISHED: 40 - mine}, "though its heartbeat is there for some seconds yet"
    live.time.skip(20)
    live.monitor.run_once()
    assert live.monitor.status().own_shards == 64


def test_monitors_that_race_for_the_same_entries_apply_each_once(plain_world: World) -> None:
    """Neither knows of the other: politeness is gone, and nothing but work is lost."""
    table = plain_world.table("people")
    left = Left(plain_world)
    left.leave(*left.puts(30, table))
    benches = [Bench(plain_world), Bench(plain_world)]
    for bench in benches:
        bench.monitor.run_once()
        bench.time.skip(LEASE)
    for record in plain_world.records("M"):
        plain_world.client.delete_item(TableName=plain_world.system_table, Key={"pk": record["pk"], "sk": record["sk"]})
    threads = [threading.Thread(target=bench.monitor.run_once) for bench in benches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(bench.monitor.status().recovered_total for bench in benches) == 30
    puts = Counter(call.body for bench in benches for call in bench.faults.calls if table.encode() in call.body)
    assert len(puts) == 30
    assert set(puts.values()) == {1}, "each effect once"
    assert ids(plain_world.items(table)) == {f"good-{number}" for number in range(30)}


def test_a_shard_that_cannot_be_read_does_not_stop_the_others(world: World) -> None:
    table = world.table("people")
    ear = Ear()
    left, bench = Left(world), Bench(world, logger=ear)
    left.leave(*left.puts(20, table))
    blind = shard_of(left.entries[0].stamp, SHARDS)
    hidden = sum(entry.shard == blind for entry in left.entries)
    bench.monitor.run_once()
    bench.faults.on("Query", deny, having=f'"J#{blind:03d}"'.encode(), times=2)
    assert bench.sweep_after()[FINISHED] >= 20 - hidden
    status = bench.monitor.status()
    assert status.unread_shards == (blind,)
    assert not status.is_ready
    bench.monitor.run_once()
    assert len(ear.of("shard_not_read")) == 1, "told once, not with each sweep"
    bench.monitor.run_once()
    assert bench.monitor.status().is_ready
    assert world.records("J#") == []


def test_an_exception_nobody_expected_stops_neither_the_others_nor_the_sweep(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = world.table("people")
    ear = Ear()
    left, bench = Left(world), Bench(world, logger=ear)
    left.leave(*left.puts(10, table))
    bench.monitor.run_once()
    read, broken = Journal.read, {left.entries[3].stamp}

    def explode(journal: Journal, shard: int, stamp: Stamp, deadline: Deadline) -> Entry | None:
        if stamp in broken:
            raise ZeroDivisionError
        return read(journal, shard, stamp, deadline)

    monkeypatch.setattr(Journal, "read", explode)
    assert bench.sweep_after() == {FINISHED: 9}
    assert bench.monitor.status().failures_total == 1
    assert [facts["write_id"] for facts in ear.of("monitor_failed")] == sorted(broken)
    broken.clear()
    assert bench.sweep_after() == {FINISHED: 1}


def test_observers_hear_of_everything_and_cannot_stop_it(world: World) -> None:
    heard: list[str] = []

    class Loud(SilentObserver):
        def sweep_finished(self, report: SweepReport) -> None:
            heard.append(f"sweep {report.pending}")
            raise RuntimeError

    bench = Bench(world)
    monitor = WriteMonitor(bench.writer, bench.monitor.settings, observers=[Loud()])
    monitor.run_once()
    monitor.run_once()
    assert heard == ["sweep 0", "sweep 0"]


def test_draining_ends_the_loop_and_takes_the_heartbeat_away(world: World) -> None:
    bench = Bench(world, poll_seconds=0.05)
    swept = threading.Event()

    class Waiter(SilentObserver):
        def sweep_finished(self, report: SweepReport) -> None:
            if report.attempts or world.records("M"):
                swept.set()

    monitor = WriteMonitor(bench.writer, bench.monitor.settings, observers=[Waiter()])
    thread = threading.Thread(target=monitor.run)
    thread.start()
    assert swept.wait(30)
    monitor.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert monitor.status().draining
    assert not monitor.status().is_ready
    assert world.records("M") == []


def test_a_heartbeat_that_comes_after_the_drain_is_not_sent(world: World) -> None:
    bench = Bench(world)
    bench.monitor.run_once()
    assert len(world.records("M")) == 1
    assert bench.monitor.drain()
    bench.monitor._beat()
    assert world.records("M") == []


def test_a_drain_finishes_what_is_under_way_and_begins_nothing_more(world: World) -> None:
    table = world.table("people")
    left, bench = Left(world), Bench(world, workers=1)
    left.leave(*left.puts(5, table))
    bench.monitor.run_once()
    reached, go_on = threading.Event(), threading.Event()

    def hold(_call: object) -> None:
        reached.set()
        go_on.wait(30)

    bench.faults.on("PutItem", hold, having=table.encode())
    bench.time.skip(LEASE)
    sweep = threading.Thread(target=bench.monitor.run_once)
    sweep.start()
    assert reached.wait(30)
    drain = threading.Thread(target=bench.monitor.drain)
    drain.start()
    while bench.monitor.status().under_way > 1:
        pass
    go_on.set()
    drain.join(30)
    sweep.join(30)
    assert len(world.items(table)) == 1
    assert len(world.records("J#")) == 4
    assert bench.monitor.status().attempts_total == {Resumed.FINISHED: 1}


def test_more_entries_than_can_be_remembered_are_finished_all_the_same(world: World) -> None:
    table = world.table("people")
    left, bench = Left(world), Bench(world, tracked_max=2)
    left.leave(*left.puts(12, table))
    bench.monitor.run_once()
    sweeps = 0
    while bench.sweep_after(4 * LEASE + 1):
        sweeps += 1
    assert world.records("J#") == []
    assert sweeps <= 6


def test_young_entries_that_cannot_be_remembered_are_left_to_their_writers(world: World) -> None:
    """Nobody has seen them unchanged for a lease; their age must tell."""
    left, bench = Left(world), Bench(world, tracked_max=1)
    left.leave(*left.puts(12, world.table("people")))
    bench.monitor.run_once()
    assert bench.sweep_after(4 * LEASE - 5) == {FINISHED: 1}
    assert bench.claims() == 1


def test_what_others_finish_is_not_remembered(world: World) -> None:
    left, bench = Left(world), Bench(world, tracked_max=5)
    for _ in range(3):
        left.leave(*left.puts(4, world.table("people")))
        bench.monitor.run_once()
        world.writer().recovery.resume_all()
    bench.monitor.run_once()
    left.leave(*left.puts(5, world.table("people")))
    bench.monitor.run_once()
    assert bench.sweep_after() == {FINISHED: 5}, "there was room for each"


def test_a_sweep_that_a_drain_overtakes_begins_nothing(world: World) -> None:
    left, bench = Left(world), Bench(world)
    left.leave(*left.puts(5, world.table("people")))
    bench.monitor.run_once()
    bench.faults.on("Query", lambda _call: bench.monitor.drain(), times=1, having=b'"J#0')
    bench.time.skip(LEASE)
    report = bench.monitor.run_once()
    assert bench.faults.injected == 1
    assert (report.started, dict(report.attempts), bench.claims()) == (0, {}, 0)
    assert len(world.records("J#")) == 5


def test_what_cannot_be_done_does_not_keep_the_rest_of_what_cannot_be_remembered_waiting(world: World) -> None:
    """Memory is full, and the oldest of the others are for a dead table or damaged: nothing is noted in those, so they
    look the same with every sweep. Who stands behind them has a turn all the same.
    """
    dead, fine = world.table("dead"), world.table("fine")
    left, bench = Left(world), Bench(world, tracked_max=3, workers=2, breaker_failures=3)
    bench.faults.on("PutItem", answer("ExpiredTokenException"), having=f'"{dead}"'.encode())
    left.leave(*(moved_to(entry, 0) for entry in left.puts(9, dead)))
    left.leave(*(moved_to(entry, 0) for entry in left.puts(4, fine, mark="broken")), spoil=_damage)
    left.leave(*(moved_to(entry, 0) for entry in left.puts(5, fine)))
    bench.monitor.run_once()
    for _ in range(9):  # eighteen in the shard, two with each look
        bench.sweep_after(4 * LEASE + 1)
    assert ids(world.items(fine)) == {f"good-{number}" for number in range(5)}
    assert len(world.records("J#")) == 13


def _damage(item: dict[str, Any]) -> None:
    item["payload"] = {"B": b"0" * 40}


def test_without_dynamodb_sweeps_go_on_and_nothing_seen_is_forgotten(world: World) -> None:
    table = world.table("people")
    left, bench = Left(world), Bench(world)
    left.leave(*left.puts(10, table))
    bench.monitor.run_once()
    assert bench.monitor.status().is_ready
    bench.faults.on("Query", answer("ExpiredTokenException"), times=1 + SHARDS)
    assert bench.sweep_after() == {FINISHED: 10}, "by what it saw before: the entries themselves can be read"
    assert bench.faults.injected == 1 + SHARDS, "the heartbeats and each shard"
    assert len(bench.monitor.status().unread_shards) == SHARDS
    assert not bench.monitor.status().is_ready
    bench.monitor.run_once()
    assert bench.monitor.status().is_ready


def test_a_heartbeat_that_dynamodb_does_not_take_is_told_once_until_it_does_and_is_no_failure(world: World) -> None:
    ear = Ear()
    bench = Bench(world, logger=ear)
    for _ in range(2):
        bench.faults.on("PutItem", answer("ExpiredTokenException"), having=b'"M"', times=2)
        for _ in range(3):
            bench.time.skip(bench.monitor.settings.heartbeat_seconds)
            bench.monitor.run_once()
        assert len(world.records("M")) == 1, "the third one was taken"
    bench.faults.on("BatchWriteItem", answer("ExpiredTokenException"), having=b'"M"')
    assert bench.monitor.drain()
    assert bench.faults.injected == 5
    assert [facts["hindered"] for facts in ear.of("monitor_hindered")] == ["heartbeat", "heartbeat", "retirement"]
    assert bench.monitor.status().failures_total == 0
    assert ear.of("monitor_failed") == []


def test_a_monitor_started_while_dynamodb_is_away_says_so_and_begins_when_it_is_back(world: World) -> None:
    ear = Ear()
    bench = Bench(world, logger=ear, poll_seconds=0.02)
    bench.faults.on("GetItem", answer("ExpiredTokenException"), times=6)
    swept = threading.Event()

    class Waiter(SilentObserver):
        def sweep_finished(self, report: SweepReport) -> None:
            del report
            swept.set()

    monitor = WriteMonitor(bench.writer, bench.monitor.settings, observers=[Waiter()])
    thread = threading.Thread(target=monitor.run)
    thread.start()
    assert swept.wait(30)
    monitor.stop()
    thread.join(30)
    assert bench.faults.injected == 6
    assert sum(facts["hindered"] == "sweep" for facts in ear.of("monitor_hindered")) == 1
    assert monitor.status().failures_total == 0
    assert ear.of("monitor_failed") == []


def test_a_lease_within_an_attempts_deadline_is_refused(world: World) -> None:
    with pytest.raises(ConfigurationError, match="lease_seconds"):
        WriteMonitor(world.writer(), Bench(world).monitor.settings.model_copy(update={"lease_seconds": 8.0}))
