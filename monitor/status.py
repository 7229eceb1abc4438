"""What a monitor tells about itself: frozen values, for the page, the metrics and the tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from monitor.auditor import AuditReport
from reliable_write.recovery import Resumed, ResumeReport


@dataclass(frozen=True, slots=True)
class SweepReport:
    """One sweep: a look at all shards, and what was done about the stragglers."""

    pending: int = 0
    """Pending entries seen, stragglers and fresh ones."""
    oldest_pending_age_seconds: float = 0.0
    """Of the oldest pending entry, by the wall clock; 0 where there is none."""
    quarantined: int = 0
    unreadable: int = 0
    """Items left alone because this version cannot read them: unknown formats, damaged ones."""
    unread_shards: tuple[int, ...] = ()
    """Shards that could not be read in this sweep."""
    started: int = 0
    """Attempts begun by this sweep. A sweep of `run()` does not wait for them."""
    held_back: int = 0
    """Stragglers not tried because their tables are left alone for a while."""
    attempts: Mapping[Resumed, int] = field(default_factory=lambda: MappingProxyType({}))
    """Attempts that ended since the last report, by result."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class MonitorStatus:
    """How a monitor stands. Totals count from its start."""

    monitor: str
    """Its name among the heartbeats."""
    is_ready: bool
    """It has read the whole journal lately and is not draining."""
    draining: bool
    pending: int
    oldest_pending_age_seconds: float
    quarantined: int
    unreadable: int
    unread_shards: tuple[int, ...]
    held_back: int
    under_way: int
    """Attempts begun or queued."""
    recovered_total: int
    conflicts_total: int
    """Operations whose item an update had overtaken, or that held a foreign stamp: for an operator."""
    failures_total: int
    """Attempts, sweeps and heartbeats that ended in an unexpected exception; each is logged."""
    attempts_total: Mapping[Resumed, int]
    sweeps_total: int
    last_sweep_at: float | None
    """Wall seconds since 1970 at the end of the last sweep; None before the first."""
    last_sweep_age_seconds: float | None
    """The same on the elapsed clock, which never jumps."""
    sweep_seconds: float
    breakers_open: tuple[str, ...]
    """Tables that are left alone for a while."""
    monitors_alive: int
    """Heartbeats seen at the last sweep, this monitor's own among them."""
    own_shards: int
    shards: int


class Observer(Protocol):
    """Hears what a monitor does, from its threads; must be quick. An exception of it is logged and goes no further."""

    def sweep_finished(self, report: SweepReport) -> None:
        """A sweep has ended."""

    def attempt_finished(self, report: ResumeReport, seconds: float) -> None:
        """An attempt on an entry has ended."""

    def attempt_failed(self, write_id: str, error: Exception) -> None:
        """An attempt ended in an exception nobody expected. The entry is tried again after a lease."""

    def breaker_changed(self, table: str, *, is_open: bool) -> None:
        """A table is left alone for a while, or taken again."""

    def audit_finished(self, report: AuditReport) -> None:
        """A round of the auditor has ended."""


class SilentObserver:
    """An `Observer` that does nothing: a base for those that want some of it."""

    def sweep_finished(self, report: SweepReport) -> None:
        """See `Observer`."""

    def attempt_finished(self, report: ResumeReport, seconds: float) -> None:
        """See `Observer`."""

    def attempt_failed(self, write_id: str, error: Exception) -> None:
        """See `Observer`."""

    def breaker_changed(self, table: str, *, is_open: bool) -> None:
        """See `Observer`."""

    def audit_finished(self, report: AuditReport) -> None:
        """See `Observer`."""
