"""Scopes over several Regions, accounts and endpoints; one of them away for a while.

"Home" is where the system table is. The second Region is an engine process of its own, so that it can be killed alone.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from monitor import MonitorSettings, WriteMonitor
from monitor.auditor import Auditor, AuditSettings
from reliable_write import (
    CommitFailedError,
    ConfigurationError,
    Outcome,
    PropagationPendingError,
    Receipt,
    ReliableWriter,
    ReliableWriteScope,
    UnknownTableError,
    UnsupportedOperationError,
)
from reliable_write.cli.app import app
from reliable_write.clock import SystemTime
from reliable_write.dynamodb import open_client
from reliable_write.embedded.server import local_session
from reliable_write.recovery import Resumed
from reliable_write.settings import Destination
from reliable_write.system_table import Installation
from reliable_write.testing.engines import Dynoxide, Engine, MiniStack
from reliable_write.testing.faults import Call, FaultPlan, SimulatedCrash, crash
from tests.chaos.stragglers import Ear, SkippingTime
from tests.integration.stuck_writes import Ran
from tests.integration.test_fork import in_child
from tests.integration.test_monitor_process import Monitor
from tests.world import World, world

__all__ = ["world"]

QUICK = {"attempt_deadline_seconds": 1.5, "read_timeout_seconds": 0.7, "connect_timeout_seconds": 0.3}
TABLE = "orders"
LEASE = 10.0


class Far:
    """A second place with a table of its own."""

    def __init__(self, engine: Engine, **client: Any) -> None:
        self.engine = engine
        self.client = engine.client(**client)
        make_table(self.client)

    @property
    def destination(self) -> Destination:
        return Destination(region_name="eu-west-1", endpoint_url=self.engine.endpoint_url)

    def items(self) -> dict[str, Any]:
        return shown(self.client, TABLE)


def make_table(client: Any, name: str = TABLE) -> None:
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )


def shown(client: Any, table: str) -> dict[str, Any]:
    """What a table shows, by key, without stamps."""
    items = client.scan(TableName=table, ConsistentRead=True)["Items"]
    return {item["id"]["S"]: item.get("v", {}).get("S") for item in items}


class Two:
    """Home, and the second Region `eu`."""

    def __init__(self, home: World, far: Far) -> None:
        self.home = home
        self.far = far
        self.table = home.table("orders")
        self._writers: list[ReliableWriter] = []

    def writer(self, *, alias: str | None = "eu", **more: Any) -> ReliableWriter:
        time, logger = more.pop("time", None), more.pop("logger", None)
        places = {} if alias is None else {alias: self.far.destination}
        settings = self.home.settings(**{**QUICK, "delete_finished_inline": True, **more})
        writer = ReliableWriter(settings, session=local_session(), destinations=places, time=time, logger=logger)
        self._writers.append(writer)
        return writer

    def items(self) -> dict[str, Any]:
        return shown(self.home.client, self.table)

    def environment(self, *, alias: str | None = "eu") -> dict[str, str]:
        if alias is None:
            return self.home.environment()
        places = json.dumps({alias: self.far.destination.model_dump(exclude_none=True)})
        return {**self.home.environment(), "RELIABLE_WRITE_DESTINATIONS": places}

    def cli(self, *arguments: str, alias: str | None = "eu") -> Ran:
        done = CliRunner().invoke(app, list(arguments), env={**self.environment(alias=alias), "COLUMNS": "100"})
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Ran(done.exit_code, done.stdout, done.stderr)

    def both(self, scope: ReliableWriteScope, key: str = "o-1", v: str = "a") -> None:
        for table in (self.table, f"eu:{TABLE}"):
            scope.put_item(table, Item={"id": key, "v": v})

    def put(self, writer: ReliableWriter, key: str = "o-1", v: str = "a") -> Receipt:
        with ReliableWriteScope(writer) as scope:
            self.both(scope, key, v)
            return scope.commit()

    def close(self) -> None:
        while self._writers:
            self._writers.pop().close()


@pytest.fixture
def far() -> Iterator[Far]:
    with Dynoxide() as engine:
        yield Far(engine)


@pytest.fixture
def two(world: World, far: Far) -> Iterator[Two]:
    both = Two(world, far)
    yield both
    both.close()


@pytest.fixture
def two_by_clock(dynoxide: Engine, unique_name: Callable[[str], str], far: Far) -> Iterator[Two]:
    home = World(dynoxide, unique_name, Installation(order="clock"))
    both = Two(home, far)
    yield both
    both.close()
    home.close()


class Watch:
    """A monitor in this process, whose clocks a test moves on."""

    def __init__(self, two: Two, **more: Any) -> None:
        self.time = SkippingTime()
        self.writer = two.writer(time=self.time, **more)
        self.monitor = WriteMonitor(self.writer, MonitorSettings(lease_seconds=LEASE))

    def sweep(self) -> dict[str, int]:
        """One look, and one a lease later; how the attempts ended."""
        self.monitor.run_once()
        self.time.skip(LEASE)
        return {str(resumed): count for resumed, count in self.monitor.run_once().attempts.items()}

    def finishes(self) -> None:
        """Sweep until a write is finished; a busy machine may need an attempt more."""
        for _ in range(10):
            if self.sweep().get("finished"):
                return
            self.time.skip(600.0)
        raise AssertionError(self.writer.recovery.look())


def kill_with(two: Two, writer: ReliableWriter) -> FaultPlan:
    """The second Region dies as the journal entry is on its way: after the witness, before the propagation."""
    entry = f'"{two.home.system_table}"'.encode()
    return FaultPlan(writer.client).on("PutItem", lambda _call: two.far.engine.kill(), times=1, having=entry)


def at(writer: ReliableWriter, table: str = f"eu:{TABLE}") -> Any:
    """The writer's client at a destination."""
    return writer._calls().client_of(table)[0]


# --- both are there -----------------------------------------------------------------------------------------------


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
    writer = two.writer(attempt_deadline_seconds=9.0, read_timeout_seconds=4.0)  # 251 writes, on a slow machine too
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


# --- one of them is away ------------------------------------------------------------------------------------------


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

    class Standing(SystemTime):
        """No deadline passes."""

        def wall_seconds(self) -> float:
            return 1_900_000_000.0

        def elapsed_seconds(self) -> float:
            return 0.0

    writer = two.writer(propagation_threads=2, time=Standing())
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
    writer, watch = two.writer(), Watch(two)
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


def until(true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(800):
        if true():
            return
        pause.wait(0.05)
    raise AssertionError("it never came true")


# --- a process that does not know the alias -----------------------------------------------------------------------


def left_to_others(two: Two, alias: str = "eu") -> str:
    """A write that is committed and whose process is gone. Returns its id."""
    writer = two.writer(alias=alias)
    scope = ReliableWriteScope(writer)
    for table in (two.table, f"{alias}:{TABLE}"):
        scope.put_item(table, Item={"id": "o-1", "v": "a"})
    FaultPlan(writer.client).on("PutItem", crash, having=f'"{two.table}"'.encode())
    FaultPlan(at(writer, f"{alias}:{TABLE}")).on("PutItem", crash)
    with pytest.raises(SimulatedCrash):
        scope.commit()
    assert scope.write_id is not None
    return scope.write_id


def test_a_monitor_that_does_not_know_the_alias_sets_the_write_aside_by_name(two: Two) -> None:
    write_id = left_to_others(two)
    assert Watch(two, alias=None).sweep() == {"quarantined": 1}
    assert two.items() == {"o-1": "a"}, "what it can reach, it finishes"
    assert two.far.items() == {}
    (entry,) = two.writer().recovery.look().entries
    assert entry.last_error == "unknown destination (eu)"
    told = two.cli("writes", "explain", write_id).out
    assert "unknown destination (eu)" in told
    assert "RELIABLE_WRITE_DESTINATIONS" in told
    assert two.cli("writes", "retry", write_id, "--reason", "the alias is known now", "--yes").code == 0
    second = Watch(two)
    second.time.skip(60.0)  # the first one counts as gone by then, and its shards are nobody's
    second.finishes()
    assert two.items() == two.far.items() == {"o-1": "a"}


def test_show_compares_in_the_second_region_where_it_knows_it_and_says_so_where_not(two: Two) -> None:
    write_id = left_to_others(two)
    known = two.cli("writes", "show", write_id, "--json").facts
    assert [operation["found"] for operation in known["operations"]] == ["not applied", "not applied"]
    unknown = two.cli("writes", "show", write_id, "--json", alias=None).facts
    assert [operation["found"] for operation in unknown["operations"]] == ["not applied", "could not be read"]
    assert "unknown destination (eu)" in two.cli("writes", "show", write_id, alias=None).out


def test_tombstones_under_a_forgotten_alias_are_kept_and_told(two: Two) -> None:
    """A renamed alias: what was deleted under the old one cannot be looked after any more, nor let go."""
    with ReliableWriteScope(two.writer()) as scope:
        scope.delete_item(f"eu:{TABLE}", Key={"id": "o-1"})
        scope.commit()
    time, ear = SkippingTime(), Ear()
    settings = AuditSettings(table_troubles_max=1)
    auditor = Auditor(two.writer(alias="europe", time=time, logger=ear).engine(), settings)
    for _ in range(4):
        time.skip(10_000)
        auditor.run_once()
    assert len(two.home.records("T#")) == 1
    assert ear.of("audit_skipped_table")[0]["table"] == f"eu:{TABLE}"
    assert "unknown destination (eu)" in ear.of("audit_skipped_table")[0]["reason"]


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (lambda scope, table: scope.update_item(table, Key={"id": "o-1"}, add={"n": 1}), "an update"),
        (lambda scope, table: scope.condition_check(table, {"id": "o-1"}, "attribute_exists(id)"), "a condition check"),
        (lambda scope, table: scope.put_item(table, {"id": "o-1"}, "attribute_not_exists(id)"), "a condition"),
        (lambda scope, table: scope.delete_item(table, {"id": "o-1"}, at_commit=True), "asked for"),
    ],
)
def test_operations_at_commit_are_refused_elsewhere_when_recorded(
    two: Two, record: Callable[[ReliableWriteScope, str], None], why: str
) -> None:
    assert why
    with ReliableWriteScope(two.writer()) as scope:
        with pytest.raises(UnsupportedOperationError, match=r"'eu' is elsewhere") as caught:
            record(scope, f"eu:{TABLE}")
        assert caught.value.operation == "operations[0]"
        assert caught.value.table == f"eu:{TABLE}"
        assert len(scope) == 0


def test_one_transaction_does_not_reach_elsewhere(two: Two) -> None:
    with ReliableWriteScope(two.writer()) as scope:
        two.both(scope)
        with pytest.raises(UnsupportedOperationError, match=r"operations\[1\].*'eu' is elsewhere"):
            scope.commit(strategy="transaction")
        scope.commit()
    assert two.items() == two.far.items() == {"o-1": "a"}


def test_updates_at_home_and_an_idempotency_key_go_with_puts_elsewhere(two: Two) -> None:
    def commit(writer: ReliableWriter) -> Receipt:
        with ReliableWriteScope(writer, idempotency_key="order-1") as scope:
            scope.put_item(f"eu:{TABLE}", Item={"id": "o-1", "v": "a"})
            scope.update_item(two.table, Key={"id": "sum"}, add={"n": 1})
            return scope.commit()

    first, again = commit(two.writer()), commit(two.writer())
    assert (first.duplicate, again.duplicate) == (False, True)
    assert two.far.items() == {"o-1": "a"}
    assert two.home.item(two.table, id={"S": "sum"})["n"] == {"N": "1"}  # type: ignore[index]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("us:orders", "no destination 'us' is registered"),
        ("arn:aws:dynamodb:eu-west-1:123456789012:table/orders", "not its ARN"),
        ("eu:arn:aws:dynamodb:eu-west-1:123456789012:table/orders", "not its ARN"),
        ("eu:", "does not exist at destination eu"),
        ("eu:nowhere", "does not exist at destination eu"),
    ],
)
def test_names_that_lead_nowhere_are_refused_when_recorded(two: Two, table: str, told: str) -> None:
    with ReliableWriteScope(two.writer()) as scope, pytest.raises(UnknownTableError, match=told):
        scope.put_item(table, Item={"id": "o-1"})


def test_a_destination_that_is_home_is_found_when_the_homes_region_is_known(two: Two) -> None:
    """The settings name no Region here, so they alone cannot tell."""
    client = two.home.engine.client(region_name="us-east-1")
    settings = two.home.settings().model_copy(update={"region": None, "endpoint_url": None})
    place = Destination(region_name="us-east-1", endpoint_url=two.home.engine.endpoint_url)
    writer = ReliableWriter(settings, client=client, destinations={"same": place})
    with pytest.raises(ConfigurationError, match="'same' leads to where the system table is"):
        writer.engine()


# --- accounts -----------------------------------------------------------------------------------------------------

ROLE = "arn:aws:iam::222222222222:role/writer"


@pytest.fixture
def accounts(ministack: Engine, unique_name: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world in one account of an engine that has several, and STS."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", ministack.endpoint_url)
    home = World(ministack, unique_name)
    yield home
    home.close()


def writer_with_role(home: World, **more: Any) -> ReliableWriter:
    time = more.pop("time", None)
    place = Destination(role_arn=ROLE, endpoint_url=home.engine.endpoint_url)
    settings = home.settings(delete_finished_inline=True, **{**QUICK, **more})
    return ReliableWriter(settings, session=local_session(), destinations={"their": place}, time=time)


def table_of_theirs(home: World, account: str = "222222222222") -> tuple[Any, str]:
    client = home.engine.client(access_key_id=account)
    name = home._unique_name("theirs")
    make_table(client, name)
    return client, name


def test_a_role_leads_to_another_account(accounts: World) -> None:
    theirs, name = table_of_theirs(accounts)
    ours = accounts.table("orders")
    with writer_with_role(accounts) as writer, ReliableWriteScope(writer) as scope:
        for table in (ours, f"their:{name}"):
            scope.put_item(table, Item={"id": "o-1", "v": "a"})
        scope.commit()
    assert shown(accounts.client, ours) == shown(theirs, name) == {"o-1": "a"}
    assert name not in accounts.client.list_tables()["TableNames"]


class Sts:
    """STS for one role: denies, or gives credentials for an account that last so long."""

    def __init__(self) -> None:
        self.denies = False
        self.lasts = timedelta(hours=1)
        self.asked = 0
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                owner.asked += 1
                status, body = owner.answer()
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint_url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def answer(self) -> tuple[int, str]:
        if self.denies:
            return 403, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
        until = (datetime.now(UTC) + self.lasts).isoformat()
        return 200, (
            '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
            "<AccessKeyId>222222222222</AccessKeyId><SecretAccessKey>local</SecretAccessKey>"
            f"<SessionToken>token</SessionToken><Expiration>{until}</Expiration>"
            "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
        )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def sts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sts]:
    """Asked for after `accounts`, in whose place it comes."""
    found = Sts()
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", found.endpoint_url)
    yield found
    found.close()


def put_theirs(writer: ReliableWriter, name: str, key: str = "o-1") -> Receipt:
    with ReliableWriteScope(writer) as scope:
        scope.put_item(f"their:{name}", Item={"id": key, "v": "a"})
        return scope.commit()


def test_credentials_of_a_role_are_asked_for_once_and_renewed_before_they_expire(accounts: World, sts: Sts) -> None:
    """Botocore renews in the last ten minutes, with the request that needs it."""
    theirs, name = table_of_theirs(accounts)
    with writer_with_role(accounts) as writer:
        sts.lasts = timedelta(minutes=5)
        put_theirs(writer, name, "o-1")
        short = sts.asked
        assert short > 1
        sts.lasts = timedelta(hours=1)
        put_theirs(writer, name, "o-2")
        renewed = sts.asked
        put_theirs(writer, name, "o-3")
        assert sts.asked == renewed == short + 1
    assert set(shown(theirs, name)) == {"o-1", "o-2", "o-3"}


def test_a_role_that_cannot_be_assumed_is_waited_for_and_never_quarantined(accounts: World, sts: Sts) -> None:
    theirs, name = table_of_theirs(accounts)
    with writer_with_role(accounts) as dead:
        scope = ReliableWriteScope(dead)
        scope.put_item(f"their:{name}", Item={"id": "o-1", "v": "a"})
        FaultPlan(at(dead, f"their:{name}")).on("PutItem", crash)
        with pytest.raises(SimulatedCrash):
            scope.commit()
    sts.denies = True
    time = SkippingTime()
    with writer_with_role(accounts, time=time) as writer:
        (report,) = writer.recovery.resume_all()
        assert report.resumed is Resumed.STILL_PENDING
        assert report.reason == f"credentials (RoleNotAssumed) on table their:{name}"
        sts.denies = False
        time.skip(60.0)
        (report,) = writer.recovery.resume_all()
        assert report.resumed is Resumed.FINISHED
    assert shown(theirs, name) == {"o-1": "a"}


def test_a_role_that_cannot_be_assumed_is_told_when_recorded_and_asked_for_once(accounts: World, sts: Sts) -> None:
    """However many threads wait for it: in turn they would take a timeout each."""
    _, name = table_of_theirs(accounts)
    sts.denies = True
    with writer_with_role(accounts) as writer:

        def record(_number: int) -> str:
            with ReliableWriteScope(writer) as scope, pytest.raises(CommitFailedError) as caught:
                scope.put_item(f"their:{name}", Item={"id": "o-1"})
            return caught.value.message

        with ThreadPoolExecutor(8) as pool:
            told = set(pool.map(record, range(8)))
        assert sts.asked == 1
    (message,) = told
    assert "credentials (RoleNotAssumed)" in message
    assert "Check the role and credentials of destination their (RELIABLE_WRITE_DESTINATIONS)" in message


def test_two_ministacks_are_two_regions(ministack: Engine, unique_name: Callable[[str], str]) -> None:
    home = World(ministack, unique_name)
    with MiniStack() as engine:
        two = Two(home, Far(engine, region_name="eu-west-1"))
        two.put(two.writer())
        assert two.items() == two.far.items() == {"o-1": "a"}
        assert shown(engine.client(region_name="eu-west-1"), TABLE) == {"o-1": "a"}
        assert engine.client(region_name="us-east-1").list_tables()["TableNames"] == []
        two.close()
    home.close()


# --- processes, threads -------------------------------------------------------------------------------------------


def test_a_destination_is_opened_once_whatever_number_of_threads_comes_first(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    opening = open_client

    def counted(settings: Any, session: Any = None) -> Any:
        opened.append(settings.region)
        return opening(settings, session)

    monkeypatch.setattr("reliable_write.dynamodb.destinations.open_client", counted)
    writer = two.writer()
    start = threading.Barrier(8)

    def race(number: int) -> None:
        start.wait(20)
        two.put(writer, f"o-{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(race, range(8)))
    assert opened.count("eu-west-1") == 1
    assert two.items() == two.far.items()
    assert len(two.items()) == 8


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_opens_destinations_of_its_own(two: Two) -> None:
    writer = two.writer()
    two.put(writer, "parent")
    ours = id(at(writer))

    def child() -> bool:
        two.put(writer, "child")
        return id(at(writer)) != ours

    assert in_child(child)
    two.put(writer, "parent-again")
    assert set(two.items()) == set(two.far.items()) == {"parent", "child", "parent-again"}


# --- the command line ---------------------------------------------------------------------------------------------


def test_doctor_asks_each_destination_and_tries_permissions_there(two: Two) -> None:
    ran = two.cli("doctor", "--table", f"eu:{TABLE}", "--json")
    checks = {(check["name"], check["action"]): check for check in ran.facts["checks"]}
    assert checks["destination: eu", None]["health"] == "ok"
    assert checks[f"may, on eu:{TABLE}", "DescribeTable"]["health"] == "ok"
    two.far.engine.kill()
    ran = two.cli("doctor", "--json")
    (check,) = [check for check in ran.facts["checks"] if check["name"] == "destination: eu"]
    assert check["health"] == "failed"
    assert two.far.engine.endpoint_url in check["told"]


def test_a_policy_names_the_table_where_it_lies(two: Two) -> None:
    ran = two.cli("iam", "policy", "--role", "app", "--table", f"eu:{TABLE}", "--account", "123456789012")
    resources = [statement["Resource"] for statement in ran.facts["Statement"]]
    assert resources[1] == [f"arn:aws:dynamodb:eu-west-1:123456789012:table/{TABLE}"]
    assert ":us-east-1:" in resources[0][0]


def test_a_foreign_stamp_is_taken_off_in_the_second_region(two: Two) -> None:
    two.far.client.put_item(TableName=TABLE, Item={"id": {"S": "o-1"}, "_rw": {"N": "7"}})
    ran = two.cli("repair-stamp", f"eu:{TABLE}", "--key", '{"id": "o-1"}', "--reason", "test", "--yes")
    assert ran.code == 0, ran.out + ran.err
    assert "_rw" not in two.far.client.get_item(TableName=TABLE, Key={"id": {"S": "o-1"}})["Item"]


def test_config_show_tells_the_destinations_and_where_they_came_from(two: Two, tmp_path: Path) -> None:
    from monitor.cli import app as monitor_app  # noqa: PLC0415 - beside the other command line

    file = tmp_path / "monitor.toml"
    file.write_text('[writer.destinations.eu]\nregion_name = "eu-west-1"\n')
    shown_by_file = CliRunner().invoke(monitor_app, ["config", "show", "--origin", "--config", str(file)])
    (line,) = [line for line in shown_by_file.stdout.splitlines() if line.startswith("writer.destinations")]
    assert '"region_name": "eu-west-1"' in line
    assert line.endswith(f"file {file}")
    by_environment = CliRunner().invoke(monitor_app, ["config", "show", "--origin"], env=two.environment())
    assert two.far.engine.endpoint_url in by_environment.stdout
    assert "environment RELIABLE_WRITE_DESTINATIONS" in by_environment.stdout
