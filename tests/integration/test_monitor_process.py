"""`python -m monitor` for real: against an engine, beside writers that die, under signals."""

from __future__ import annotations

import http.client
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from reliable_write import ReliableWriter, ReliableWriteScope, Settings
from reliable_write.testing.engines import Dynoxide, Engine
from reliable_write.testing.faults import FaultPlan, SimulatedCrash, crash
from tests.world import World

WAIT_SECONDS_MAX = 40.0
QUICK = {
    "RELIABLE_WRITE_ATTEMPT_DEADLINE_SECONDS": "1.0",
    "RELIABLE_WRITE_READ_TIMEOUT_SECONDS": "0.5",
    "RELIABLE_WRITE_CONNECT_TIMEOUT_SECONDS": "0.2",
    "RELIABLE_WRITE_MONITOR_LEASE_SECONDS": "1.2",
    "RELIABLE_WRITE_MONITOR_POLL_SECONDS": "0.3",
    "RELIABLE_WRITE_MONITOR_READERS": "64",
}
"""A compressed time line: the shares between deadline, lease and poll stay as they are."""


class Monitor:
    """A daemon of its own, with what it logs."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        self.port = free_port()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RELIABLE_WRITE_"))},
            **QUICK,
            "RELIABLE_WRITE_MONITOR_HTTP_PORT": str(self.port),
            **environment,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "monitor", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.log: list[str] = []
        """All lines so far."""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            self._lines.put(line)

    def logged(self, event: str, **facts: object) -> dict[str, Any]:
        """Wait for this event; everything before it is passed over."""
        until = time.monotonic() + WAIT_SECONDS_MAX
        while True:
            line = self._lines.get(timeout=max(0.01, until - time.monotonic()))
            told: dict[str, Any] = json.loads(line)
            if told["event"] == event and facts.items() <= told.items():
                return told

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def answers(self, path: str, status: int) -> str:
        """Wait until it says so; the body."""

        def asked() -> str | None:
            try:
                found, body = self.get(path)
            except ConnectionRefusedError:  # it is still starting
                return None
            return body if found == status else None

        return eventually(asked)

    def metric(self, name: str) -> float:
        lines = self.get("/metrics")[1].splitlines()
        (value,) = [line.rpartition(" ")[2] for line in lines if line.startswith(f"reliable_write_{name} ")]
        return float(value)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "monitor", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def ends(self) -> int:
        return self.process.wait(WAIT_SECONDS_MAX)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT_SECONDS_MAX)
        self._reader.join(WAIT_SECONDS_MAX)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


T = TypeVar("T")


def eventually(look: Callable[[], T | None]) -> T:
    """Ask until there is an answer, as a probe does."""
    until = time.monotonic() + WAIT_SECONDS_MAX
    pause = threading.Event()
    while time.monotonic() < until:
        found = look()
        if found is not None:
            return found
        pause.wait(0.05)
    raise AssertionError("it did not come about")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Notified:
    """systemd's end of the socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(WAIT_SECONDS_MAX)

    def hears(self, beginning: str) -> str:
        while True:
            message = self._socket.recv(4096).decode()
            if message.startswith(beginning):
                return message

    def close(self) -> None:
        self._socket.close()


Start = Callable[..., Monitor]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[Monitor] = []

    def begin(*arguments: str, **environment: str) -> Monitor:
        running.append(Monitor(environment, *arguments))
        return running[-1]

    yield begin
    for monitor in running:
        monitor.close()


def leave_half_a_write(world: World, tables: list[str], key: str) -> str:
    """Commit a write whose writer is gone before its second put: the id of what is left."""
    writer = world.writer(propagation_threads=1)
    with FaultPlan(writer.client) as plan:
        plan.on("PutItem", crash, "before", having=f'"{tables[1]}"'.encode())
        with pytest.raises(SimulatedCrash):
            write(writer, tables, key)
        assert plan.injected
    (entry,) = [one for one in world.writer().recovery.look().entries if one.write_id not in _left]
    _left.add(entry.write_id)
    return entry.write_id


def write(writer: ReliableWriter, tables: list[str], key: str) -> None:
    with ReliableWriteScope(writer) as scope:
        for table in tables:
            scope.put_item(table, Item={"id": key})
        scope.commit()


_left: set[str] = set()


# --- its work -----------------------------------------------------------------------------------------------------


def test_a_dead_writers_write_is_finished_and_everything_about_it_is_told(world: World, start: Start) -> None:
    tables = [world.table("a"), world.table("b"), world.table("c")]
    monitor = start(**world.environment())
    monitor.answers("/readyz", 200)
    write_id = leave_half_a_write(world, tables, "x")
    assert world.item(tables[1], id={"S": "x"}) is None, "or there was nothing to finish"
    told = monitor.logged("entry_recovered", write_id=write_id)
    assert told["attempts"] == 1
    assert [world.item(table, id={"S": "x"}) is not None for table in tables] == [True] * 3
    assert world.records() == []
    eventually(lambda: True if monitor.metric("pending_entries") == 0 else None)
    assert monitor.metric("recovered_total") == 1
    assert write_id not in monitor.get("/metrics")[1]
    healthy = monitor.command("healthcheck", "--probe", "readyz")
    assert (healthy.returncode, healthy.stdout) == (0, "readyz: ok\n")
    monitor.process.send_signal(signal.SIGTERM)
    assert monitor.ends() == 0
    assert monitor.command("healthcheck").returncode == 1
    assert world.writer().engine().heartbeats.all(world.writer().engine().attempt_deadline()) == []


def test_audits_are_counted(world: World, start: Start) -> None:
    monitor = start("--set", "monitor.audit_seconds=0.2", **world.environment())
    monitor.answers("/readyz", 200)
    eventually(lambda: True if monitor.metric("audits_total") >= 2 else None)
    assert monitor.metric("audits_incomplete_total") == 0


def test_without_gc_it_says_so_at_once(world: World, start: Start) -> None:
    """Emulators check no signatures; so does Alternator without authorization."""
    monitor = start("--set", "monitor.gc=false", "--set", "monitor.audit_seconds=0.2", **world.environment())
    monitor.logged("collection_off")


def test_once_tells_in_json_what_one_sweep_did(world: World, start: Start) -> None:
    """By age, because one look has no earlier one to compare with: it takes what is four leases old."""
    leave_half_a_write(world, [world.table("a"), world.table("b")], "x")
    told, code = drained(start("--once", **world.environment()))
    assert (code, told["pending"], told["started"], told["attempts"]) == (0, 1, 0, {})

    def sweeps_until_it_is_old() -> dict[str, Any] | None:
        told, code = drained(start("--once", **world.environment()))
        assert code == 0
        return told if told["started"] else None

    assert eventually(sweeps_until_it_is_old)["attempts"] == {"finished": 1}
    assert world.records() == []


def drained(monitor: Monitor) -> tuple[dict[str, Any], int]:
    assert monitor.process.stdout is not None
    told: dict[str, Any] = json.loads(monitor.process.stdout.read())
    return told, monitor.ends()


def test_once_ends_with_1_while_something_is_stuck(world: World, start: Start) -> None:
    tables = [world.table("a"), world.table("b")]
    write_id = leave_half_a_write(world, tables, "x")
    world.writer().engine().operators.quarantine(write_id, operator="me", reason="a test")
    out, code = drained(start("--once", **world.environment()))
    assert (code, out["quarantined"]) == (1, 1)


# --- before and without an installation ---------------------------------------------------------------------------


def test_a_daemon_started_before_init_waits_says_so_and_then_works(
    dynoxide: Engine, unique_name: Callable[[str], str], start: Start
) -> None:
    table = unique_name("late")
    environment = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "RELIABLE_WRITE_REGION": "us-east-1",
        "RELIABLE_WRITE_ENDPOINT_URL": dynoxide.endpoint_url,
        "RELIABLE_WRITE_SYSTEM_TABLE": table,
    }
    monitor = start(**environment)
    assert f"Run: reliable-write init --system-table {table}" in monitor.logged("waiting_for_system_table")["reason"]
    assert f"reliable-write init --system-table {table}" in monitor.answers("/readyz", 503)
    assert monitor.get("/livez")[0] == 200
    settings = Settings(endpoint_url=dynoxide.endpoint_url, region="us-east-1", system_table=table)
    with ReliableWriter(settings, client=dynoxide.client()) as maker:
        maker.init()
    monitor.answers("/readyz", 200)
    monitor.process.send_signal(signal.SIGINT)
    assert monitor.ends() == 0


def test_one_that_waits_ends_at_a_signal_too(world: World, unique_name: Callable[[str], str], start: Start) -> None:
    monitor = start(**{**world.environment(), "RELIABLE_WRITE_SYSTEM_TABLE": unique_name("never")})
    monitor.logged("waiting_for_system_table")
    monitor.process.send_signal(signal.SIGTERM)
    assert monitor.ends() == 0


def test_fail_fast_ends_it_with_3_instead(world: World, unique_name: Callable[[str], str], start: Start) -> None:
    environment = {**world.environment(), "RELIABLE_WRITE_SYSTEM_TABLE": unique_name("never")}
    monitor = start("--fail-fast", **environment)
    assert "reliable-write init" in monitor.logged("daemon_cannot_start")["reason"]
    assert monitor.ends() == 3


# --- signals and systemd ------------------------------------------------------------------------------------------


def test_systemd_hears_of_the_whole_life(world: World, start: Start, tmp_path: Path) -> None:
    manager = Notified(tmp_path / "notify")
    monitor = start(**world.environment(), NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="600000")
    manager.hears("READY=1")
    for _ in range(3):
        manager.hears("WATCHDOG=1")
    monitor.process.send_signal(signal.SIGTERM)
    manager.hears("STOPPING=1")
    assert monitor.ends() == 0
    manager.close()


@pytest.fixture
def own_world(unique_name: Callable[[str], str]) -> Iterator[World]:
    """A world on an engine that nobody else uses, so that it may be stopped."""
    engine = Dynoxide().start()
    made = World(engine, unique_name)
    yield made
    os.kill(engine.pid, signal.SIGCONT)
    made.close()
    engine.stop()


def stall(world: World) -> None:
    """The engine takes connections and answers nothing."""
    engine = world.engine
    assert isinstance(engine, Dynoxide)
    os.kill(engine.pid, signal.SIGSTOP)


def test_while_dynamodb_is_away_it_lives_is_not_ready_and_comes_back(own_world: World, start: Start) -> None:
    monitor = start(**own_world.environment())
    monitor.answers("/readyz", 200)
    stall(own_world)
    assert "could not be read" in monitor.answers("/readyz", 503)
    assert monitor.get("/livez")[0] == 200
    assert monitor.command("healthcheck", "--probe", "readyz").returncode == 1
    engine = own_world.engine
    assert isinstance(engine, Dynoxide)
    os.kill(engine.pid, signal.SIGCONT)
    monitor.answers("/readyz", 200)


def test_it_lives_through_kills_of_the_engine_and_tells_them_as_events_only(own_world: World, start: Start) -> None:
    tables = [own_world.table("a"), own_world.table("b")]
    engine = own_world.engine
    monitor = start(
        "--set", "monitor.heartbeat_seconds=0.2", "--set", "monitor.audit_seconds=0.2", **own_world.environment()
    )
    monitor.answers("/readyz", 200)
    for key in ("x", "y"):
        write_id = leave_half_a_write(own_world, tables, key)
        engine.kill()
        eventually(lambda: "could not be read" in monitor.answers("/readyz", 503) or None)
        assert monitor.get("/livez")[0] == 200
        monitor.logged("monitor_hindered", hindered="heartbeat")
        engine.restart()
        monitor.logged("entry_recovered", write_id=write_id)
        monitor.answers("/readyz", 200)
        assert own_world.item(tables[1], id={"S": key}) is not None
    assert monitor.metric("failures_total") == 0
    monitor.process.send_signal(signal.SIGTERM)
    assert monitor.ends() == 0
    levels = {json.loads(line)["level"] for line in monitor.log}
    assert levels == {"info", "warning"}


def test_a_drain_that_cannot_end_is_ended_by_its_deadline(own_world: World, start: Start) -> None:
    """And the second signal ends it without waiting for that."""
    slow = {"RELIABLE_WRITE_ATTEMPT_DEADLINE_SECONDS": "9.9", "RELIABLE_WRITE_READ_TIMEOUT_SECONDS": "9.8"}
    patient = {**own_world.environment(), **slow, "RELIABLE_WRITE_MONITOR_LEASE_SECONDS": "10"}
    bounded = start("--drain-seconds", "0.5", **patient)
    impatient = start("--drain-seconds", "60", **patient)
    for monitor in (bounded, impatient):
        monitor.answers("/readyz", 200)
    stall(own_world)
    for monitor in (bounded, impatient):
        eventually(lambda monitor=monitor: hangs(monitor))  # type: ignore[misc]  # one each
        monitor.process.send_signal(signal.SIGTERM)
        monitor.logged("daemon_draining", signal=15)
    impatient.process.send_signal(signal.SIGTERM)
    assert impatient.process.wait(2) == 143
    assert bounded.process.wait(6) == 1
    assert bounded.logged("daemon_not_drained")["exit_code"] == 1


def hangs(monitor: Monitor) -> bool | None:
    """Whether no sweep has ended for three polls."""
    return True if time.time() - monitor.metric("last_sweep_timestamp_seconds") > 1 else None
