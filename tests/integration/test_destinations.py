"""Scopes over two Regions, one of them away for a while.

"Home" is where the system table is.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from monitor.auditor import Auditor, AuditSettings
from reliable_write import CommitFailedError, Outcome, PropagationPendingError, ReliableWriter, ReliableWriteScope
from reliable_write.recovery import Resumed
from reliable_write.system_table import Installation
from reliable_write.testing.engines import Dynoxide, Engine
from reliable_write.testing.faults import Call, FaultPlan, SimulatedCrash, crash
from tests.clocks import SkippingTime, StandingTime
from tests.integration.regions import TABLE, Far, Two, Watch, at, far, make_table, two, until
from tests.integration.test_monitor_process import Monitor
from tests.world import World

__all__ = ["far", "two"]


BRISK: dict[str, Any] = {"attempt_deadline_seconds": 4.0, "read_timeout_seconds": 1.0}
"""For a Region that takes requests and answers none: only such waits take their time."""


@pytest.fixture
def two_by_clock(dynoxide: Engine, unique_name: Callable[[str], str], far: Far) -> Iterator[Two]:
    home = World(dynoxide, unique_name, Installation(order="clock"))
    both = Two(home, far)
    yield both
    both.close()
    home.close()


def kill_with(two: Two, writer: ReliableWriter) -> FaultPlan:
    """The second Region dies as the journal entry is on its way: after the witness, before the propagation."""
    entry = f'"{two.home.system_table}"'.encode()
    return FaultPlan(writer.client).on("PutItem", lambda _call: two.far.engine.kill(), times=1, having=entry)


# --- both are there ---------------------------------------------------------------------------------------------------


def test_a_scope_over_two_regions_is_written_in_both(two: Two) -> None:
    receipt = two.put(two.writer())
    assert (two.items(), two.far.items()) == ({"o-1": "a"}, {"o-1": "a"})
    assert receipt.superseded == ()
    assert two.home.records("J#") == []


def test_one_name_and_key_in_two_places_are_two_items_with_two_tombstones(two: Two) -> None:
    make_table(two.home.client, TABLE) if TABLE not in two.home.client.list_tables()["TableNames"] else None
    writer = two.writer()
    with ReliableWriteScope(writer) as scope:
        for table in (TABLE, f"eu:{TABLE}"):
            scope.delete_item(table, Key={"id": "same"})
        scope.commit()
    marked = {record["table"]["S"] for record in two.home.records("T#")}
    assert marked == {TABLE, f"eu:{TABLE}"}
    names = {record["pk"]["S"] for record in two.home.records("T#")}
    assert len(names) == 2


def test_batches_and_deletes_reach_the_second_region_and_the_witness_splits_its_reads(two: Two) -> None:
    writer = two.writer()
    two.put(writer, "gone")
    plans = [FaultPlan(client) for client in (writer.client, at(writer))]
    with ReliableWriteScope(writer) as scope:
        for number in range(5):
            scope.put_items(f"eu:{TABLE}", [{"id": f"e-{number}-{index}"} for index in range(25)])
            scope.put_items(two.table, [{"id": f"h-{number}-{index}"} for index in range(25)])
        scope.delete_items(f"eu:{TABLE}", [{"id": "gone"}])
        scope.commit()
    assert len(two.far.items()) == 125
    assert len(two.items()) == 126
    home, far = ([call for call in plan.calls if call.operation == "BatchGetItem"] for plan in plans)
    assert len(far) == 2, "126 keys there"
    assert len(home) == 4, "125 keys and 250 tombstones here"
    assert not any(b"eu:" in call.body for call in plans[1].calls), "the alias is ours; over there it means nothing"


def test_order_holds_across_regions(two: Two) -> None:
    """G4 through the second Region alone: a writer with a slow clock goes above the stamp it finds there."""

    class Slow(SkippingTime):
        def __init__(self) -> None:
            super().__init__()
            self.skip(-3600.0)

    two.put(two.writer(), v="first")
    with ReliableWriteScope(two.writer(time=Slow())) as scope:
        scope.put_item(f"eu:{TABLE}", Item={"id": "o-1", "v": "second"})
        scope.commit()
    assert two.far.items() == {"o-1": "second"}


def test_g3_a_late_put_does_not_bring_back_what_was_deleted_in_the_second_region(two: Two) -> None:
    dead = two.writer()
    plan = FaultPlan(at(dead)).on("PutItem", crash)
    scope = ReliableWriteScope(dead)
    two.both(scope, v="old")
    with pytest.raises(SimulatedCrash):
        scope.commit()
    assert plan.injected
    with ReliableWriteScope(two.writer()) as later:
        later.delete_item(f"eu:{TABLE}", Key={"id": "o-1"})
        later.commit()
    (report,) = two.writer().recovery.resume_all()
    assert report.resumed is Resumed.FINISHED
    assert two.far.items() == {}
    assert two.items() == {"o-1": "old"}


def test_the_audit_removes_a_ghost_in_the_second_region(two: Two) -> None:
    writer = two.writer()
    old = two.put(writer)
    with ReliableWriteScope(writer) as scope:
        scope.delete_item(f"eu:{TABLE}", Key={"id": "o-1"})
        scope.commit()
    two.far.client.put_item(TableName=TABLE, Item={"id": {"S": "o-1"}, "_rw": {"S": old.stamp}})
    time = SkippingTime()
    auditor = Auditor(two.writer(time=time).engine(), AuditSettings())
    auditor.run_once()
    time.skip(100)
    assert auditor.run_once().ghosts_removed == 1
    assert two.far.items() == {}


def test_a_plan_tells_of_both_places_and_sends_nothing(two: Two) -> None:
    writer = two.writer()
    scope = ReliableWriteScope(writer)
    two.both(scope)
    plans = [FaultPlan(client) for client in (writer.client, at(writer))]
    plan = scope.plan()
    assert [operation.table for operation in plan.operations] == [two.table, f"eu:{TABLE}"]
    assert plan.items == 2
    assert plan.transaction is None
    assert plan.transaction_refused.startswith("'eu' is elsewhere; one transaction stays in the account and Region")
    assert [len(plan.calls) for plan in plans] == [0, 0]
    scope.discard()


# --- one of them is away ----------------------------------------------------------------------------------------------


def test_strict_a_region_that_is_away_before_the_commit_means_not_written(two: Two) -> None:
    """Show 3, its first third: the order leans on what is there, so it must be read."""
    writer = two.writer()
    with ReliableWriteScope(writer) as scope:
        two.both(scope)
        two.far.engine.kill()
        with pytest.raises(CommitFailedError) as caught:
            scope.commit()
    assert caught.value.outcome is Outcome.NOT_WRITTEN
    assert caught.value.retryable
    assert "at destination eu" in caught.value.message
    assert "once destination eu answers, or leave its tables out" in caught.value.message
    assert two.home.records("J#") == []
    assert two.items() == {}
    two.far.engine.restart()
    two.put(writer, v="later")
    assert (two.items(), two.far.items()) == ({"o-1": "later"}, {"o-1": "later"})


def test_strict_a_region_that_goes_away_after_the_witness_means_will_be_written(two: Two) -> None:
    """Show 3: the monitor finishes it once the Region is back, and both agree."""
    writer = two.writer()
    watch = Watch(two)
    plan = kill_with(two, writer)
    with pytest.raises(PropagationPendingError) as caught:
        two.put(writer)
    assert plan.injected == 1
    assert caught.value.outcome is Outcome.WILL_BE_WRITTEN
    assert not caught.value.needs_operator
    assert [failure.table for failure in caught.value.failures] == [f"eu:{TABLE}"]
    assert two.items() == {"o-1": "a"}
    assert watch.sweep() == {"still pending": 1}, "still away: it is waited for"
    two.far.engine.restart()
    assert two.far.items() == {}
    watch.time.skip(600.0)
    watch.finishes()
    assert (two.items(), two.far.items()) == ({"o-1": "a"}, {"o-1": "a"})
    assert two.home.records("J#") == []


def test_clock_order_does_not_wait_for_a_region_that_is_away(two_by_clock: Two) -> None:
    """Show 3: without the witness it is WILL_BE_WRITTEN from the start, for a table this process knows."""
    two = two_by_clock
    writer = two.writer()
    two.put(writer, "before")
    two.far.engine.kill()
    with pytest.raises(PropagationPendingError) as caught:
        two.put(writer)
    assert caught.value.outcome is Outcome.WILL_BE_WRITTEN
    two.far.engine.restart()
    Watch(two).finishes()
    assert two.items() == two.far.items() == {"before": "a", "o-1": "a"}


def test_a_region_that_is_away_while_its_table_is_unknown_is_told_when_recorded(two: Two) -> None:
    two.far.engine.kill()
    with ReliableWriteScope(two.writer()) as scope:
        with pytest.raises(CommitFailedError, match=r"eu:orders.*at destination eu answers") as caught:
            scope.put_item(f"eu:{TABLE}", Item={"id": "o-1"})
        scope.discard()
    assert caught.value.retryable
    assert caught.value.outcome is Outcome.NOT_WRITTEN


def test_writes_at_home_do_not_notice_that_the_second_region_is_away(two: Two) -> None:
    writer = two.writer()
    two.far.engine.kill()
    with ReliableWriteScope(writer) as scope:
        scope.put_item(two.table, Item={"id": "o-1", "v": "a"})
        scope.commit()
    assert two.items() == {"o-1": "a"}


def test_writes_at_home_go_on_while_all_threads_wait_for_the_second_region(two: Two) -> None:
    """The threads are those of the writer, for all places: whoever waits there must not hold up the others."""
    writer = two.writer(propagation_threads=2, time=StandingTime())
    two.put(writer, "before")
    back, waiting = threading.Event(), threading.Semaphore(0)

    def hang(_call: Call) -> None:
        waiting.release()
        back.wait(30)

    FaultPlan(at(writer)).on("PutItem", hang)

    def put_far(number: int) -> None:
        with ReliableWriteScope(writer) as scope:
            scope.put_items(f"eu:{TABLE}", [{"id": f"{number}-{index}"} for index in range(3)])
            scope.commit()

    with ThreadPoolExecutor(3) as pool:
        far = [pool.submit(put_far, number) for number in range(3)]
        for _ in range(5):  # three callers and both threads
            assert waiting.acquire(timeout=20)
        with ReliableWriteScope(writer) as scope:
            scope.put_items(two.table, [{"id": f"h-{number}"} for number in range(5)])
            scope.commit()
        assert not back.is_set()
        assert not any(one.done() for one in far)
        back.set()
        for one in far:
            one.result()
    assert len(two.items()) == 6
    assert len(two.far.items()) == 10


@pytest.mark.parametrize("when", ["before the witness", "after it"])
def test_a_region_that_hangs_is_like_one_that_is_away(two: Two, when: str) -> None:
    """Frozen, it takes requests and answers none; some of them are applied when it goes on."""
    writer, watch = two.writer(**BRISK), Watch(two, **BRISK)
    two.put(writer, "before")
    engine = two.far.engine
    assert isinstance(engine, Dynoxide)
    try:
        if when == "after it":
            entry = f'"{two.home.system_table}"'.encode()
            stop = FaultPlan(writer.client)
            stop.on("PutItem", lambda _call: os.kill(engine.pid, signal.SIGSTOP), times=1, having=entry)
            with pytest.raises(PropagationPendingError):
                two.put(writer)
        else:
            os.kill(engine.pid, signal.SIGSTOP)
            with pytest.raises(CommitFailedError, match="destination eu") as caught:
                two.put(writer)
            assert caught.value.retryable
    finally:
        os.kill(engine.pid, signal.SIGCONT)
    if when == "after it":
        watch.finishes()
    assert two.home.records("J#") == []
    expected = {"before": "a", "o-1": "a"} if when == "after it" else {"before": "a"}
    assert two.items() == two.far.items() == expected


def test_a_daemon_finishes_what_waits_for_the_second_region(two: Two, tmp_path: Path) -> None:
    """In a process of its own that knows the place from `[writer.destinations.eu]`."""
    writer = two.writer()
    kill_with(two, writer)
    with pytest.raises(PropagationPendingError):
        two.put(writer)
    file = tmp_path / "monitor.toml"
    file.write_text(
        f'[writer.destinations.eu]\nregion_name = "eu-west-1"\nendpoint_url = "{two.far.engine.endpoint_url}"\n'
    )
    daemon = Monitor(two.home.environment(), "--config", str(file))
    try:
        daemon.answers("/readyz", 200)
        two.far.engine.restart()
        until(lambda: two.home.records("J#") == [])
    finally:
        daemon.close()
    assert two.items() == two.far.items() == {"o-1": "a"}
