"""Every setting of the monitor does something, and the place that shows it is named here."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from monitor import MonitorSettings, WriteMonitor
from monitor.breaker import Breakers
from monitor.process import Daemon
from monitor.settings import load
from reliable_write import limits
from reliable_write.errors import ConfigurationError
from reliable_write.heartbeats import SCHEDULE, Heartbeat
from reliable_write.policy import FailureKind
from reliable_write.recovery import Resumed
from tests.chaos.stragglers import Bench, Left
from tests.clocks import SkippingTime
from tests.unit.fakes import ManualTime
from tests.unit.test_monitor_breaker import DEAD, failed
from tests.world import World, world

__all__ = ["world"]

ROOT = Path(__file__).parents[2]
HERE = "tests/unit/test_monitor_settings.py"
SWEEPS = "tests/chaos/test_monitor_sweeps.py"
SHOWN_BY = {
    "poll_seconds": f"{HERE}::test_sweeps_begin_within_the_poll_of_each_other",
    "lease_seconds": f"{HERE}::test_a_straggler_is_what_was_left_alone_for_the_lease_that_is_set",
    "workers": f"{SWEEPS}::test_a_crew_out_of_time_begins_no_more_attempts_and_ends_those_it_has_begun",
    "readers": f"{SWEEPS}::test_a_look_out_of_time_reads_no_more_shards_and_begins_no_attempt",
    "tracked_max": f"{HERE}::test_no_more_entries_are_remembered_than_set",
    "drain_seconds": "tests/integration/test_monitor_process.py::test_a_drain_that_cannot_end_is_ended_by_its_deadline",
    "heartbeat_seconds": f"{HERE}::test_heartbeats_are_sent_as_often_as_set",
    "breaker_failures": f"{HERE}::test_breakers_open_and_pause_as_set",
    "breaker_base_seconds": f"{HERE}::test_breakers_open_and_pause_as_set",
    "breaker_cap_seconds": f"{HERE}::test_breakers_open_and_pause_as_set",
    "one_shot": f"{HERE}::test_one_shot_goes_by_age_without_being_asked",
    "schedule_seconds": f"{HERE}::test_a_scheduled_run_counts_as_a_monitor_until_two_runs_have_not_come",
    "audit": "tests/unit/test_monitor_process_lambda.py::test_it_audits_only_where_audits_are_wanted",
    "audit_seconds": "tests/integration/test_monitor_process.py::test_audits_are_counted",
    "receipt_retention_seconds": "tests/unit/test_receipt_collection.py::test_the_retention_set_is_the_auditors",
    "gc": "tests/unit/test_monitor_collects.py::test_what_is_set_holds_and_else_the_endpoint_decides",
    "http_host": f"{HERE}::test_the_endpoints_answer_where_set",
    "http_port": f"{HERE}::test_the_endpoints_answer_where_set",
    "log_format": f"{HERE}::test_log_lines_look_as_set",
    "log_level": f"{HERE}::test_no_more_is_logged_than_set",
}


def test_the_effect_of_every_setting_is_tested() -> None:
    assert SHOWN_BY.keys() == MonitorSettings.model_fields.keys()
    for place in SHOWN_BY.values():
        file, _, name = place.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text(), place


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in MonitorSettings.model_fields.values())


class Waits:
    """A bell that is waited for in no time, and rings after a while."""

    def __init__(self, waits: int) -> None:
        self.left = waits
        self.seconds: list[float] = []

    def has_rung(self) -> bool:
        return not self.left

    def ring(self) -> None:
        self.left = 0

    def wait(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.left -= 1


def test_sweeps_begin_within_the_poll_of_each_other(world: World) -> None:
    monitor = WriteMonitor(world.writer(), MonitorSettings(poll_seconds=900.0, audit=False))
    bell = Waits(3)
    monitor._bell = bell  # type: ignore[assignment]
    monitor.run()
    assert monitor.status().sweeps_total == len(bell.seconds) == 3
    assert all(450 < seconds <= 900 for seconds in bell.seconds)


def straggling(world: World, **settings: Any) -> tuple[WriteMonitor, SkippingTime, Left]:
    left, time = Left(world), SkippingTime()
    left.leave(*left.puts(3, world.table("people")))
    return WriteMonitor(world.writer(time=time), MonitorSettings(**settings)), time, left


def test_a_straggler_is_what_was_left_alone_for_the_lease_that_is_set(world: World) -> None:
    monitor, time, _ = straggling(world, lease_seconds=100.0)
    monitor.run_once()
    time.skip(90)
    assert monitor.run_once().attempts == {}
    time.skip(10)
    assert monitor.run_once().attempts == {Resumed.FINISHED: 3}


def test_no_more_entries_are_remembered_than_set(world: World) -> None:
    monitor, _, _ = straggling(world, tracked_max=2)
    monitor.run_once()
    assert monitor._make_sweeper().tracked == 2


def test_one_shot_goes_by_age_without_being_asked(world: World) -> None:
    monitor, time, _ = straggling(world, one_shot=True)
    time.skip(4 * limits.LEASE_SECONDS)
    assert monitor.run_once().attempts == {Resumed.FINISHED: 3}


def test_heartbeats_are_sent_as_often_as_set(world: World) -> None:
    bench = Bench(world, heartbeat_seconds=15.0)
    beats = []
    for _ in range(4):
        bench.sweep_after(8)
        beats.append(sum(call.operation == "PutItem" for call in bench.faults.calls))
    assert beats == [1, 1, 2, 2]


def test_a_scheduled_run_counts_as_a_monitor_until_two_runs_have_not_come(world: World) -> None:
    bench = Bench(world, schedule_seconds=600.0)
    bench.monitor.run_once(one_shot=True)
    engine = bench.writer.engine()

    def beats() -> list[Heartbeat]:
        return engine.heartbeats.all(engine.attempt_deadline())

    assert [(beat.monitor, beat.stays, beat.alive) for beat in beats()] == [(SCHEDULE, False, True)]
    bench.time.skip(1190)
    assert beats()[0].alive
    bench.time.skip(20)
    assert not beats()[0].alive


def test_breakers_open_and_pause_as_set() -> None:
    """A pause is half jitter, here the longest."""
    settings = MonitorSettings(breaker_failures=2, breaker_base_seconds=40.0, breaker_cap_seconds=100.0)
    time = ManualTime()
    breakers = Breakers(time, settings, lambda _table, _is_open: None)
    breakers.note([failed(FailureKind.THROTTLED)])
    assert breakers.open_tables() == ()
    breakers.note([failed(FailureKind.THROTTLED)])
    assert breakers.open_tables() == (DEAD,)
    for pause_seconds in (40.0, 80.0, 100.0, 100.0):
        time.pass_seconds(pause_seconds - 0.1)
        assert breakers.permit({DEAD}, fresh=False) is None
        time.pass_seconds(0.1)
        permit = breakers.permit({DEAD}, fresh=False)
        assert permit is not None
        breakers.note([failed(FailureKind.THROTTLED)])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.1 is the only address of this machine")
def test_the_endpoints_answer_where_set() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        port = free.getsockname()[1]
    environment = {"RELIABLE_WRITE_REGION": "us-east-1", "RELIABLE_WRITE_ENDPOINT_URL": "http://127.0.0.1:1"}
    flags = {"monitor.http_host": "127.0.0.2", "monitor.http_port": port}
    server = Daemon(load(flags, environment=environment))._serve()
    assert server is not None
    with socket.create_connection(("127.0.0.2", port), timeout=5):
        pass
    server.stop()


def test_log_lines_look_as_set(world: World) -> None:
    assert all(json.loads(line)["event"] for line in logged(world))
    for line in logged(world, "log_format=console"):
        with pytest.raises(json.JSONDecodeError):
            json.loads(line)


def test_no_more_is_logged_than_set(world: World) -> None:
    levels = {json.loads(line)["level"] for line in logged(world)}
    assert levels == {"info", "warning"}, "it started; nothing is collected on this engine"
    assert {json.loads(line)["level"] for line in logged(world, "log_level=warning")} == {"warning"}


def logged(world: World, *settings: str) -> list[str]:
    """What one scheduled run says."""
    given = [word for setting in settings for word in ("--set", f"monitor.{setting}")]
    environment = {**world.environment(), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "monitor", "--once", *given]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(ran.stdout)["pending"] == 0
    assert ran.stderr
    return ran.stderr.splitlines()


@pytest.mark.parametrize("host", ["../../etc/passwd", "x" * 70, "a b", "a\0b", "\x1b[31m"])
def test_a_host_that_no_socket_takes_is_refused_by_name(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"monitor\.http_host: .* is no host name and no address"):
        load({"monitor.http_host": host}, environment={})
