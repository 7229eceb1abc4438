"""The monitor: sweeps, heartbeats and audits beside each other, until it is told to stop."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType

from monitor.auditor import Auditor
from monitor.audits import AuditReport, AuditSettings, Stop
from monitor.logs import describe, place
from monitor.settings import MonitorSettings
from monitor.status import MonitorStatus, Observer, SweepReport
from monitor.sweeper import Sweeper, Totals
from reliable_write import __version__
from reliable_write.clock import Deadline
from reliable_write.dynamodb import CallFailed, is_aws
from reliable_write.errors import ConfigurationError
from reliable_write.events import Event
from reliable_write.heartbeats import SCHEDULE
from reliable_write.recovery import Resumed
from reliable_write.writer import ReliableWriter

_LATE_SWEEPS = 3
_AUDIT_PAUSES = 50
"""The pause after an audit is at least so many times as long as the audit was."""
_READY_SECONDS_MIN = 30.0
_SCHEDULED_RUNS = 2
"""A schedule counts as dead when this many runs have not come."""


class WriteMonitor:
    """Finishes what writers leave behind. Any number may run, in one process or in many.

    Making one sends nothing. The first sweep, or `run()`, reads the installation's config record.
    """

    def __init__(
        self,
        writer: ReliableWriter,
        settings: MonitorSettings | None = None,
        *,
        observers: Sequence[Observer] = (),
        audit: AuditSettings | None = None,
    ) -> None:
        self.settings = settings if settings is not None else MonitorSettings()
        if self.settings.lease_seconds <= writer.settings.attempt_deadline_seconds:
            raise ConfigurationError(
                f"lease_seconds ({self.settings.lease_seconds}) must be longer than attempt_deadline_seconds "
                f"({writer.settings.attempt_deadline_seconds}), or the monitor would race every slow first attempt."
            )
        self.name = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"
        self._writer = writer
        self._observers = tuple(observers)
        self._audit = audit
        self._sweeper: Sweeper | None = None
        self._auditor: Auditor | None = None
        self._scheduled: Auditor | None = None
        self._making = threading.Lock()
        self._bell = _Bell()
        self._side_bells: list[_Bell] = []
        self._draining = False
        self._beating = threading.Lock()
        self._beaten_at: float | None = None
        self._schedule_beaten_at: float | None = None
        self._monitors: frozenset[str] = frozenset({self.name})
        self._last = SweepReport()
        self._sweeps = 0
        self._failures = 0
        self._hindered: set[str] = set()
        """Rounds that DynamoDB did not let happen, last time."""
        self._swept_wall: float | None = None
        self._swept_elapsed: float | None = None

    # --- one round ----------------------------------------------------------------------------------------------

    def run_once(self, *, one_shot: bool | None = None, seconds_max: float | None = None) -> SweepReport:
        """One sweep, waiting for the attempts it starts; no more are begun once `seconds_max` have passed.

        `one_shot`: see `MonitorSettings.one_shot`; without it a straggler must have been seen by an earlier sweep of
        this monitor. Raises `ConfigurationError` where nothing is installed.
        """
        one_shot = self.settings.one_shot if one_shot is None else one_shot
        self._beat_when_due(one_shot=one_shot)
        return self._sweep(one_shot=one_shot, wait=True, seconds_max=seconds_max)

    def audit_once(self, *, seconds_max: float | None = None) -> AuditReport:
        """One audit of a scheduled run: early audits, and what the waits of earlier runs allow to be collected.

        Nothing more is begun once `seconds_max` have passed; a later run goes on. Raises `ConfigurationError` where
        nothing is installed.
        """
        budget = Deadline.after(seconds_max, self._writer.time) if seconds_max is not None else None
        if self._scheduled is None:
            self._scheduled = self._make_auditor(scheduled=True)
        return self._audit_with(self._scheduled, lambda: budget is not None and budget.passed())

    def run(self) -> None:
        """Sweep until `stop()`, then drain. Errors of DynamoDB never end it."""
        self._beside("heartbeat", self._beat_for_long)
        if self.settings.audit:
            self._beside("audit", self._audit_for_long)
        try:
            while not self._bell.has_rung():
                begun = self._elapsed()
                self._guarded("sweep", lambda: self._sweep(one_shot=False, wait=False))
                self._bell.wait(self._pause_seconds() - (self._elapsed() - begun))
        finally:
            self.drain()

    def stop(self) -> None:
        """Make `run()` end: returns at once, takes no lock; callable from any thread and from a signal handler."""
        self._bell.ring()
        for bell in self._side_bells:
            bell.ring()

    def drain(self) -> bool:
        """Start no more attempts, wait for those under way at most `drain_seconds`, retire the heartbeat.

        Whether all were finished. What is not is finished by another monitor.
        """
        self.stop()
        self._draining = True
        done = self._sweeper is None or self._sweeper.drain(self.settings.drain_seconds)
        self._guarded("retirement", self._retire)
        if self._sweeper is not None:
            self._writer.events.info(Event.MONITOR_DRAINED, monitor=self.name, complete=done)
        return done

    # --- telling ------------------------------------------------------------------------------------------------

    def status(self) -> MonitorStatus:
        """How it stands now; never touches DynamoDB."""
        sweeper, last = self._sweeper, self._last
        totals = sweeper.totals if sweeper is not None else Totals()
        swept = self._swept_elapsed
        age_seconds = self._elapsed() - swept if swept is not None else None
        return MonitorStatus(
            monitor=self.name,
            is_ready=self._is_ready(age_seconds),
            draining=self._draining,
            pending=last.pending,
            oldest_pending_age_seconds=last.oldest_pending_age_seconds,
            quarantined=last.quarantined,
            unreadable=last.unreadable,
            unread_shards=last.unread_shards,
            held_back=last.held_back,
            under_way=sweeper.under_way if sweeper is not None else 0,
            recovered_total=totals.attempts[Resumed.FINISHED],
            conflicts_total=totals.conflicts,
            failures_total=totals.failures + self._failures,
            attempts_total=MappingProxyType(dict(totals.attempts)),
            sweeps_total=self._sweeps,
            last_sweep_at=self._swept_wall,
            last_sweep_age_seconds=age_seconds,
            sweep_seconds=last.seconds,
            breakers_open=sweeper.breakers.open_tables() if sweeper is not None else (),
            monitors_alive=len(self._monitors),
            own_shards=sweeper.own_shards(self._monitors) if sweeper is not None else 0,
            shards=sweeper.shards if sweeper is not None else 0,
        )

    def _is_ready(self, age_seconds: float | None) -> bool:
        late_seconds = max(_READY_SECONDS_MIN, _LATE_SWEEPS * self.settings.poll_seconds)
        return (
            not self._draining
            and not self._last.unread_shards
            and age_seconds is not None
            and age_seconds < late_seconds
        )

    # --- sweeping -----------------------------------------------------------------------------------------------

    def _sweep(self, *, one_shot: bool, wait: bool, seconds_max: float | None = None) -> SweepReport:
        sweeper = self._make_sweeper()
        if not one_shot:
            self._meet_others()
        report = sweeper.sweep(self._monitors, one_shot=one_shot, wait=wait, seconds_max=seconds_max)
        time = self._writer.time
        self._last, self._sweeps = report, self._sweeps + 1
        self._swept_wall, self._swept_elapsed = time.wall_seconds(), time.elapsed_seconds()
        return report

    def _make_sweeper(self) -> Sweeper:
        with self._making:
            if self._sweeper is None:
                engine = self._writer.engine()
                self._sweeper = Sweeper(engine, self.settings, self.name, self._observers)
                self._writer.events.info(Event.MONITOR_STARTED, monitor=self.name, shards=engine.journal.shards)
            return self._sweeper

    def _meet_others(self) -> None:
        """Who else is alive. Where that cannot be read, what was known holds."""
        engine = self._writer.engine()
        with contextlib.suppress(CallFailed):
            beats = engine.heartbeats.all(engine.attempt_deadline())
            self._monitors = frozenset({self.name, *(beat.monitor for beat in beats if beat.alive and beat.stays)})

    def _pause_seconds(self) -> float:
        """From the beginning of one sweep to that of the next: never more than asked for, and never in step."""
        poll_seconds = self.settings.poll_seconds
        return poll_seconds - self._writer.time.jitter(poll_seconds / 4)

    # --- beside it ----------------------------------------------------------------------------------------------

    def _beat_for_long(self, bell: _Bell) -> None:
        while not bell.has_rung():
            self._guarded("heartbeat", self._beat)
            bell.wait(self.settings.heartbeat_seconds)

    def _beat_when_due(self, *, one_shot: bool) -> None:
        beaten_at = self._schedule_beaten_at if one_shot else self._beaten_at
        if beaten_at is None or self._elapsed() - beaten_at >= self.settings.heartbeat_seconds:
            self._guarded("heartbeat", self._beat_for_schedule if one_shot else self._beat)

    def _beat_for_schedule(self) -> None:
        """Under a name of the schedule's own: who looks only once takes no shards from those that stay."""
        engine, counts_seconds = self._writer.engine(), _SCHEDULED_RUNS * self.settings.schedule_seconds
        engine.heartbeats.beat(SCHEDULE, __version__, engine.attempt_deadline(), counts_seconds=counts_seconds)
        self._schedule_beaten_at = self._elapsed()

    def _beat(self) -> None:
        engine = self._writer.engine()
        with self._beating:
            if not self._draining:
                engine.heartbeats.beat(self.name, __version__, engine.attempt_deadline())
                self._beaten_at = self._elapsed()

    def _retire(self) -> None:
        with self._beating:
            if self._beaten_at is not None:
                engine = self._writer.engine()
                engine.heartbeats.retire(self.name, engine.attempt_deadline())

    def _audit_for_long(self, bell: _Bell) -> None:
        audited_seconds = 0.0
        while not bell.has_rung():
            # Each reads the whole system table: where that takes long, because many receipts are kept, it is done less
            # often, so that reading takes a fiftieth of the time at most.
            bell.wait(max(self.settings.audit_seconds, _AUDIT_PAUSES * audited_seconds))
            if bell.has_rung():
                return
            begun = self._elapsed()
            self._guarded("audit", partial(self._audit_beside, bell))
            audited_seconds = self._elapsed() - begun

    def _audit_beside(self, bell: _Bell) -> None:
        if self._auditor is None:
            with contextlib.suppress(ConfigurationError):  # not installed yet, or away
                self._auditor = self._make_auditor(scheduled=False)
        if self._auditor is not None:
            self._audit_with(self._auditor, bell.has_rung)

    def _make_auditor(self, *, scheduled: bool) -> Auditor:
        settings = self._audit if self._audit is not None else self._audit_settings()
        return Auditor(self._writer.engine(), replace(settings, scheduled=scheduled))

    def _audit_settings(self) -> AuditSettings:
        return AuditSettings(gc=self._collects(), receipt_retention_seconds=self.settings.receipt_retention_seconds)

    def _collects(self) -> bool:
        """Where nobody has said, only AWS is trusted to refuse a request signed long ago."""
        given = self.settings.gc
        return given if given is not None else is_aws(self._writer.client.meta.endpoint_url)

    def _audit_with(self, auditor: Auditor, stop: Stop) -> AuditReport:
        report = auditor.run_once(stop)
        for observer in self._observers:
            observer.audit_finished(report)
        return report

    def _beside(self, name: str, loop: Callable[[_Bell], None]) -> None:
        bell = _Bell()
        self._side_bells.append(bell)
        if self._bell.has_rung():
            bell.ring()
        threading.Thread(target=loop, args=(bell,), name=f"write-monitor-{name}", daemon=True).start()

    def _guarded(self, name: str, work: Callable[[], object]) -> None:
        """The daemon lives through whatever one round brings about.

        That DynamoDB is away, or nothing is installed yet, is no failure of ours: it is told once, until it is over.
        """
        try:
            work()
        except (CallFailed, ConfigurationError) as error:
            if name not in self._hindered:
                self._hindered.add(name)
                self._writer.events.warning(Event.MONITOR_HINDERED, monitor=self.name, hindered=name, reason=str(error))
        except Exception as error:  # noqa: BLE001 - told, counted, and tried again with the next round
            self._failures += 1
            self._writer.events.error(
                Event.MONITOR_FAILED, monitor=self.name, reason=describe(error), where=place(error)
            )
        else:
            self._hindered.discard(name)

    def _elapsed(self) -> float:
        return self._writer.time.elapsed_seconds()


class _Bell:
    """Rung once. Unlike `threading.Event`, it takes no lock that the thread a signal interrupts may hold."""

    def __init__(self) -> None:
        self._rung = False
        self._strokes: queue.SimpleQueue[None] = queue.SimpleQueue()

    def has_rung(self) -> bool:
        """Whether it is time to end."""
        return self._rung

    def ring(self) -> None:
        """Wake who waits, now and from now on."""
        self._rung = True
        self._strokes.put(None)

    def wait(self, seconds: float) -> None:
        """So long at most."""
        if not self._rung and seconds > 0:
            with contextlib.suppress(queue.Empty):
                self._strokes.get(timeout=seconds)
