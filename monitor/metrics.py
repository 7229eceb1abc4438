"""The daemon's metrics, in a registry of its own. Labels are tables and results, whose number is bounded; never ids.

Gauges and totals are read from the monitor's status when somebody asks; what has a distribution is observed as it
happens.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from monitor.auditor import AuditReport
from monitor.health import Watched
from monitor.status import MonitorStatus, SilentObserver, SweepReport
from reliable_write import __version__
from reliable_write.recovery import Resumed, ResumeReport

PREFIX: Final = "reliable_write"
_SWEEP_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_ATTEMPT_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics(SilentObserver):
    """Everything `/metrics` shows."""

    def __init__(self, watched: Watched) -> None:
        self._registry = CollectorRegistry(auto_describe=True)
        self._sweeps = Histogram(
            f"{PREFIX}_sweep_seconds", "One look at all shards.", buckets=_SWEEP_BUCKETS, registry=self._registry
        )
        self._attempts = Histogram(
            f"{PREFIX}_attempt_seconds",
            "One attempt on one entry, by result.",
            ["result"],
            buckets=_ATTEMPT_BUCKETS,
            registry=self._registry,
        )
        self._audits = _AuditCounters(self._registry)
        self._standing = _Standing(watched)
        self._registry.register(self._standing)

    def render(self) -> bytes:
        """The text format of Prometheus, version 0.0.4."""
        return generate_latest(self._registry)

    def sweep_finished(self, report: SweepReport) -> None:
        """See `Observer`."""
        self._sweeps.observe(report.seconds)

    def attempt_finished(self, report: ResumeReport, seconds: float) -> None:
        """See `Observer`."""
        self._attempts.labels(_label(report.resumed)).observe(seconds)

    def breaker_changed(self, table: str, *, is_open: bool) -> None:
        """See `Observer`."""
        del is_open
        self._standing.remember_table(table)

    def audit_finished(self, report: AuditReport) -> None:
        """See `Observer`."""
        self._audits.add(report)


class _AuditCounters:
    """What audits did, as totals."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, told: str) -> Counter:
            return Counter(f"{PREFIX}_{name}", told, registry=registry)

        self._rounds = counter("audits", "Rounds of the auditor.")
        self._incomplete = counter("audits_incomplete", "Rounds that did not see the whole system table.")
        self._ghosts = counter("ghosts_removed", "Items removed that were older than their tombstone.")
        self._tombstones = counter("tombstones_collected", "Tombstones nobody can need any more.")
        self._chunks = counter("chunks_collected", "Chunks without a head, collected.")
        self._receipts = counter("receipts_collected", "Receipts older than their retention, collected.")

    def add(self, report: AuditReport) -> None:
        self._rounds.inc()
        self._incomplete.inc(not report.complete)
        self._ghosts.inc(report.ghosts_removed)
        self._tombstones.inc(report.tombstones_collected)
        self._chunks.inc(report.chunks_collected)
        self._receipts.inc(report.receipts_collected)


class _Standing:
    """A collector over the monitor's status."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._lock = threading.Lock()
        self._tables: set[str] = set()

    def remember_table(self, table: str) -> None:
        """A table whose breaker was open once is shown from then on, so that an alarm sees it close."""
        with self._lock:
            self._tables.add(table)

    def describe(self) -> list[Metric]:
        """Nothing in advance: registering must not ask a monitor that is not there yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Asked by the registry."""
        yield _gauge("ready", "1 if the journal was read lately and the monitor works.", self._watched.ready().ok)
        yield _gauge("live", "1 while the process moves.", self._watched.live().ok)
        info = GaugeMetricFamily(f"{PREFIX}_monitor_info", "The version that runs.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        status = self._watched.status()
        if status is not None:
            yield from _gauges(status)
            yield from _totals(status)
            yield self._breakers(status)

    def _breakers(self, status: MonitorStatus) -> Metric:
        family = GaugeMetricFamily(f"{PREFIX}_breaker_open", "1 while a table is left alone.", labels=["table"])
        with self._lock:
            tables = sorted(self._tables | set(status.breakers_open))
        for table in tables:
            family.add_metric([table], table in status.breakers_open)
        return family


def _gauges(status: MonitorStatus) -> Iterator[Metric]:
    yield _gauge("pending_entries", "Entries of the journal that are not finished.", status.pending)
    yield _gauge(
        "oldest_pending_age_seconds", "Age of the oldest of them; 0 for none.", status.oldest_pending_age_seconds
    )
    yield _gauge("quarantined_entries", "Entries that wait for an operator.", status.quarantined)
    yield _gauge("unreadable_entries", "Entries of unknown formats, and damaged ones.", status.unreadable)
    yield _gauge("unread_shards", "Shards the last sweep could not read.", len(status.unread_shards))
    yield _gauge("held_back_entries", "Stragglers whose tables are left alone for a while.", status.held_back)
    yield _gauge("attempts_under_way", "Attempts begun or queued.", status.under_way)
    yield _gauge("monitors_alive", "Monitors with a fresh heartbeat.", status.monitors_alive)
    yield _gauge("own_shards", "Shards this monitor looks at first.", status.own_shards)
    if status.last_sweep_at is not None:
        yield _gauge("last_sweep_timestamp_seconds", "When the last sweep ended.", status.last_sweep_at)


def _totals(status: MonitorStatus) -> Iterator[Metric]:
    yield _counter("recovered", "Entries finished by this monitor.", status.recovered_total)
    yield _counter("conflicts", "Operations left to an operator.", status.conflicts_total)
    yield _counter("failures", "Attempts, sweeps and heartbeats that ended unexpectedly.", status.failures_total)
    yield _counter("sweeps", "Looks at the journal.", status.sweeps_total)
    attempts = CounterMetricFamily(f"{PREFIX}_attempts", "Attempts on entries, by result.", labels=["result"])
    for resumed in Resumed:
        attempts.add_metric([_label(resumed)], status.attempts_total.get(resumed, 0))
    yield attempts


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", told, value=value)


def _counter(name: str, told: str, value: float) -> Metric:
    return CounterMetricFamily(f"{PREFIX}_{name}", told, value=value)


def _label(resumed: Resumed) -> str:
    return resumed.value.replace(" ", "_")
