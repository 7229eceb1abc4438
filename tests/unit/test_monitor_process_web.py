"""The endpoints over a real socket, and who is asked behind them."""

from __future__ import annotations

import dataclasses
import http.client
import json
import re
import signal
import socket
import threading
from collections.abc import Iterator
from types import MappingProxyType

import pytest
from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from monitor.auditor import AuditReport
from monitor.health import Watched, summary
from monitor.healthcheck import ask
from monitor.metrics import Metrics
from monitor.pulse import Pulse, stall_seconds
from monitor.settings import MonitorSettings
from monitor.status import MonitorStatus, SweepReport
from monitor.web.app import make_app
from monitor.web.server import WebServer
from reliable_write.clock import SystemTime
from reliable_write.errors import ConfigurationError
from reliable_write.recovery import Resumed, ResumeReport
from reliable_write.settings import Settings

WRITE_ID = "01a200df88440000944ddc6b808190eeece4"
STATUS = MonitorStatus(
    monitor="host:1:aa",
    is_ready=True,
    draining=False,
    pending=7,
    oldest_pending_age_seconds=12.5,
    quarantined=3,
    unreadable=2,
    unread_shards=(),
    held_back=4,
    under_way=5,
    recovered_total=11,
    conflicts_total=6,
    failures_total=1,
    attempts_total=MappingProxyType({Resumed.FINISHED: 11, Resumed.STILL_PENDING: 9}),
    sweeps_total=40,
    last_sweep_at=1_700_000_000.0,
    last_sweep_age_seconds=2.0,
    sweep_seconds=0.25,
    breakers_open=("orders",),
    monitors_alive=3,
    own_shards=21,
    shards=64,
)


class StoppedTime(SystemTime):
    """Moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def elapsed_seconds(self) -> float:
        return self.now


@dataclasses.dataclass
class FakeMonitor:
    told: MonitorStatus = STATUS

    def status(self) -> MonitorStatus:
        return self.told


class Setup:
    def __init__(self) -> None:
        self.time = StoppedTime()
        self.pulse = Pulse(self.time, 100)
        self.watched = Watched(self.pulse)
        self.metrics = Metrics(self.watched)
        self.monitor = FakeMonitor()
        self.server = WebServer(make_app(self.watched, self.metrics), "127.0.0.1", 0).start()

    def runs(self, **changed: object) -> None:
        self.monitor.told = dataclasses.replace(STATUS, **changed)  # type: ignore[arg-type]
        self.watched.runs(self.monitor)

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=5)
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response.status, body

    def reasons(self, path: str) -> list[str]:
        status, body = self.get(path)
        assert status == 503
        told: list[str] = json.loads(body)["reasons"]
        return told

    def samples(self) -> dict[str, float]:
        lines = [line for line in self.get("/metrics")[1].splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


@pytest.fixture
def setup() -> Iterator[Setup]:
    made = Setup()
    yield made
    made.server.stop()


# --- livez --------------------------------------------------------------------------------------------------------


def test_livez_says_yes_while_it_only_waits_for_its_table(setup: Setup) -> None:
    setup.watched.waits("The system table does not exist.")
    assert setup.get("/livez") == (200, '{"ok":true,"reasons":[]}')


def test_livez_says_yes_while_dynamodb_is_away(setup: Setup) -> None:
    """Restarting would not bring it back."""
    setup.runs(is_ready=False, unread_shards=tuple(range(64)), last_sweep_age_seconds=90.0)
    assert setup.get("/livez")[0] == 200


def test_livez_says_no_once_nothing_moves(setup: Setup) -> None:
    setup.runs()
    setup.time.now += 99
    assert setup.get("/livez")[0] == 200
    setup.time.now += 2
    assert setup.reasons("/livez") == ["nothing has moved for 101 s"]
    setup.pulse.sweep_finished(SweepReport())
    assert setup.get("/livez")[0] == 200
    setup.time.now += 101
    assert setup.get("/livez")[0] == 503
    setup.pulse.attempt_finished(ResumeReport(WRITE_ID, Resumed.FINISHED), 0.1)
    assert setup.get("/livez")[0] == 200


def test_livez_says_no_once_the_loop_has_ended(setup: Setup) -> None:
    setup.runs()
    setup.watched.ended()
    assert setup.reasons("/livez") == setup.reasons("/readyz") == ["the loop has ended"]


def test_the_slowest_sweep_is_no_standstill() -> None:
    """Every request of a sweep into its deadline: 64 shards by 8 readers, 8 + 4 s each, is 96 s."""
    assert 96 * 2 < stall_seconds(MonitorSettings(), Settings()) < 600
    assert stall_seconds(MonitorSettings(), Settings(), 1000) > 1500 * 2


# --- readyz -------------------------------------------------------------------------------------------------------


def test_readyz_follows_the_monitor(setup: Setup) -> None:
    assert setup.reasons("/readyz") == ["the monitor is starting"]
    setup.watched.waits("The system table 'x' does not exist. Run: reliable-write init")
    assert setup.reasons("/readyz") == ["The system table 'x' does not exist. Run: reliable-write init"]
    setup.runs()
    assert setup.get("/readyz") == (200, '{"ok":true,"reasons":[]}')


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"last_sweep_age_seconds": None}, "no sweep has ended yet"),
        ({"last_sweep_age_seconds": 45.0}, "the last sweep ended 45 s ago"),
        ({"unread_shards": (1, 2)}, "2 of 64 shards could not be read"),
        ({"draining": True}, "it is draining"),
    ],
)
def test_readyz_gives_its_reason(changed: dict[str, object], reason: str, setup: Setup) -> None:
    setup.runs(is_ready=False, **changed)
    assert setup.reasons("/readyz") == [reason]
    assert summary(setup.watched.status(), setup.watched.ready()) == f"not ready: {reason}"


def test_the_summary_for_systemd_tells_what_counts(setup: Setup) -> None:
    setup.runs()
    told = summary(setup.watched.status(), setup.watched.ready())
    assert told == "pending 7 (oldest 12 s), quarantined 3, recovered 11"


# --- metrics ------------------------------------------------------------------------------------------------------


def test_every_figure_of_the_status_is_a_metric(setup: Setup) -> None:
    setup.runs()
    samples = setup.samples()
    expected = {
        "ready": 1, "live": 1, "pending_entries": 7, "oldest_pending_age_seconds": 12.5, "quarantined_entries": 3,
        "unreadable_entries": 2, "unread_shards": 0, "held_back_entries": 4, "attempts_under_way": 5,
        "recovered_total": 11, "conflicts_total": 6, "failures_total": 1, "sweeps_total": 40, "monitors_alive": 3,
        "own_shards": 21, "last_sweep_timestamp_seconds": 1_700_000_000, 'breaker_open{table="orders"}': 1,
        'attempts_total{result="finished"}': 11, 'attempts_total{result="still_pending"}': 9,
        'attempts_total{result="too_late"}': 0,
    }  # fmt: skip
    assert {name: samples[f"reliable_write_{name}"] for name in expected} == expected


def test_what_the_monitor_does_is_observed(setup: Setup) -> None:
    setup.metrics.sweep_finished(SweepReport(seconds=0.3))
    setup.metrics.attempt_finished(ResumeReport(WRITE_ID, Resumed.STILL_PENDING), 2.0)
    setup.metrics.audit_finished(AuditReport(complete=False, ghosts_removed=2))
    setup.metrics.audit_finished(AuditReport(complete=True, tombstones_collected=3, chunks_collected=4))
    samples = setup.samples()
    expected = {
        "sweep_seconds_sum": 0.3, 'attempt_seconds_sum{result="still_pending"}': 2.0, "audits_total": 2,
        "audits_incomplete_total": 1, "ghosts_removed_total": 2, "tombstones_collected_total": 3,
        "chunks_collected_total": 4,
    }  # fmt: skip
    assert {name: samples[f"reliable_write_{name}"] for name in expected} == expected


def test_a_breaker_that_has_closed_is_shown_as_closed(setup: Setup) -> None:
    """A series that vanishes would leave its alarm hanging."""
    setup.runs(breakers_open=())
    setup.metrics.breaker_changed("orders", is_open=True)
    assert setup.samples()['reliable_write_breaker_open{table="orders"}'] == 0


def test_labels_are_tables_and_results_and_never_an_id(setup: Setup) -> None:
    setup.runs()
    setup.metrics.attempt_finished(ResumeReport(WRITE_ID, Resumed.FINISHED), 0.1)
    text = setup.get("/metrics")[1]
    assert set(re.findall(r'[{,](\w+)="', text)) == {"result", "le", "table", "version"}
    assert WRITE_ID not in text


def test_the_registry_is_the_daemons_own(setup: Setup) -> None:
    """Two monitors in one process do not meet, and an application's registry is left alone."""
    Setup().server.stop()
    assert not [name for metric in REGISTRY.collect() if (name := metric.name).startswith("reliable_write")]
    assert "python_info" not in setup.get("/metrics")[1]


def test_metrics_answer_before_there_is_a_monitor(setup: Setup) -> None:
    samples = setup.samples()
    assert samples["reliable_write_ready"] == 0
    assert "reliable_write_pending_entries" not in samples, "nothing is known, so nothing is claimed"


# --- the server ---------------------------------------------------------------------------------------------------


def test_there_is_nothing_else_and_nothing_to_write_to(setup: Setup) -> None:
    assert setup.get("/")[0] == 404
    assert setup.get("/livez", "POST")[0] == 405


def test_the_server_leaves_the_signals_alone() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    made = Setup()
    assert made.get("/livez")[0] == 200
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    made.server.stop()


def test_a_stopped_server_is_gone(setup: Setup) -> None:
    assert setup.get("/livez")[0] == 200
    port = setup.server.port
    setup.server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
    assert not [one for one in threading.enumerate() if one.name == "reliable-write-web"]


def test_an_address_that_is_taken_is_a_matter_of_settings(setup: Setup) -> None:
    with pytest.raises(ConfigurationError, match=r"port \d+: Address already in use\. Set monitor\.http_host"):
        WebServer(make_app(setup.watched, setup.metrics), "127.0.0.1", setup.server.port)
    with pytest.raises(ConfigurationError, match=r"cannot listen on no-such-host\.invalid"):
        WebServer(make_app(setup.watched, setup.metrics), "no-such-host.invalid", 0)


# --- healthcheck --------------------------------------------------------------------------------------------------


def test_healthcheck_hears_what_the_endpoints_say(setup: Setup) -> None:
    port = setup.server.port
    live, ready = ask("0.0.0.0", port, "livez", 2), ask("127.0.0.1", port, "readyz", 2)  # noqa: S104
    assert (live.ok, live.told) == (True, "livez: ok")
    assert (ready.ok, ready.told) == (False, "readyz: the monitor is starting")
    setup.runs()
    assert ask("127.0.0.1", port, "readyz", 2).ok


def test_healthcheck_of_nobody_and_of_somebody_else_fails(setup: Setup) -> None:
    port = setup.server.port
    assert not ask("127.0.0.1", port, "metrics", 2).ok, "a service that says 200 to everything is not a monitor"
    setup.server.stop()
    answer = ask("127.0.0.1", port, "livez", 1)
    assert not answer.ok
    assert "no answer" in answer.told


@pytest.mark.parametrize(
    ("status", "ok", "healthy"), [(200, True, True), (200, False, False), (503, True, False), (200, "yes", False)]
)
def test_healthcheck_believes_only_a_yes_in_both_places(status: int, ok: object, *, healthy: bool) -> None:
    async def says(_request: Request) -> Response:
        return JSONResponse({"ok": ok, "reasons": []}, status_code=status)

    server = WebServer(Starlette(routes=[Route("/livez", says)]), "127.0.0.1", 0).start()
    assert ask("127.0.0.1", server.port, "livez", 2).ok is healthy
    server.stop()


def test_healthcheck_of_what_takes_the_connection_and_says_nothing_ends_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        answer = ask("127.0.0.1", deaf.getsockname()[1], "livez", 0.2)
    assert (answer.ok, "timed out" in answer.told) == (False, True)


def test_healthcheck_without_an_endpoint_says_why() -> None:
    with pytest.raises(ConfigurationError, match="http_port is 0"):
        ask("127.0.0.1", 0, "livez", 1)
