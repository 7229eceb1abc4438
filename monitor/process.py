"""The daemon as a process: what comes up in which order, and how it ends.

The main thread does nothing but wait for signals and feed the watchdog, so that it always answers both. The monitor
runs on a thread of its own, the HTTP server on another. Before the monitor there is the installation: where the system
table or its config record is missing, the daemon waits for `reliable-write init`, says so, and is not ready; ending
would only make its supervisor start it again, and often give up on it (`--fail-fast` ends it all the same).
"""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from monitor.exits import ExitCode
from monitor.health import Watched, summary
from monitor.loop import WriteMonitor
from monitor.metrics import Metrics
from monitor.notify import Notifier
from monitor.pulse import Pulse, stall_seconds
from monitor.reports import facts_of_audit, facts_of_sweep
from monitor.settings import Configuration
from monitor.signals import StopSignals
from monitor.status import SweepReport
from monitor.web.app import make_app
from monitor.web.server import WebServer
from reliable_write.clock import SystemTime, TimeSource
from reliable_write.engine import Engine
from reliable_write.errors import ConfigurationError
from reliable_write.recovery import Resumed
from reliable_write.writer import ReliableWriter

_TICK_SECONDS: Final = 1.0
"""How often the main thread looks whether the loop still runs."""
_STATUS_SECONDS: Final = 10.0
_WAIT_BASE_SECONDS: Final = 1.0
_WAIT_CAP_SECONDS: Final = 30.0
"""Between looks for a system table that is not there yet."""
_GRACE_SECONDS: Final = 3.0
"""Beyond the drain, for closing the writer and the server, before the process ends whatever hangs."""
_STUCK: Final = (Resumed.STILL_PENDING, Resumed.QUARANTINED, Resumed.UNREADABLE)


@dataclass(slots=True)
class _Loop:
    """What the monitor's thread leaves for the main thread."""

    stop: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


class Daemon:
    """One process of the monitor. Raises `ConfigurationError` for settings that contradict each other."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        fail_fast: bool = False,
        time: TimeSource | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self._configuration = configuration
        self._fail_fast = fail_fast
        self._time = time if time is not None else SystemTime()
        self._notifier = notifier if notifier is not None else Notifier.from_environment()
        self._log = structlog.get_logger("write_monitor")
        self._writer = ReliableWriter(configuration.writer, time=self._time)
        self._pulse = Pulse(self._time, stall_seconds(configuration.monitor, configuration.writer))
        self.watched = Watched(self._pulse)
        self._metrics = Metrics(self.watched)
        # Both send nothing and find, before anything is waited for, what waiting would not put right.
        self._monitor = WriteMonitor(self._writer, configuration.monitor, observers=(self._pulse, self._metrics))
        self._writer.client  # noqa: B018
        self._loop = _Loop()
        self._thread = threading.Thread(target=self._work, name="write-monitor", daemon=True)

    def run(self, signals: StopSignals) -> ExitCode:
        """Work until a signal; the exit code. Raises `ConfigurationError` where the address is taken."""
        server = self._serve()
        self._log.info("daemon_started", pid=os.getpid(), address=_address(self._configuration, server))
        self._thread.start()
        self._notifier.ready("started")
        self._watch(signals)
        self._notifier.stopping("draining")
        code = self._end(signals, server)
        self._log.info("daemon_stopped", exit_code=int(code))
        return code

    # --- the main thread ----------------------------------------------------------------------------------------

    def _serve(self) -> WebServer | None:
        settings = self._configuration.monitor
        if settings.http_port == 0:
            return None
        return WebServer(make_app(self.watched, self._metrics), settings.http_host, settings.http_port).start()

    def _watch(self, signals: StopSignals) -> None:
        """Until a signal, or the loop's end. The watchdog is fed only while the loop moves."""
        beat_seconds = self._notifier.beat_seconds or _STATUS_SECONDS
        told_at = fed_at = self._time.elapsed_seconds() - _STATUS_SECONDS - beat_seconds
        while self._thread.is_alive() and not signals.wait(min(_TICK_SECONDS, beat_seconds)):
            now = self._time.elapsed_seconds()
            if now - fed_at >= beat_seconds / 2 and self.watched.live().ok:
                self._notifier.watchdog()
                fed_at = now
            if now - told_at >= _STATUS_SECONDS:
                self._notifier.status(summary(self.watched.status(), self.watched.ready()))
                told_at = now

    def _end(self, signals: StopSignals, server: WebServer | None) -> ExitCode:
        drain_seconds = self._configuration.monitor.drain_seconds
        if signals.received is not None:
            self._log.info("daemon_draining", signal=signals.received, drain_seconds=drain_seconds)
        last_resort = threading.Timer(drain_seconds + _GRACE_SECONDS, self._end_whatever_hangs)
        last_resort.daemon = True
        last_resort.start()
        try:
            return self._close(server)
        finally:
            last_resort.cancel()

    def _close(self, server: WebServer | None) -> ExitCode:
        self._loop.stop.set()
        self._monitor.stop()
        self._thread.join()
        code = self._code()
        if code is ExitCode.PARTLY:
            self._end_whatever_hangs()  # the interpreter would wait for the attempts' threads once more
        if server is not None:
            server.stop()
        self._writer.close()
        return code

    def _code(self) -> ExitCode:
        error = self._loop.error
        if error is not None:
            return _code_of(error)
        status = self.watched.status()
        return ExitCode.PARTLY if status is not None and status.under_way else ExitCode.DONE

    def _end_whatever_hangs(self) -> None:
        """The drain's deadline has passed. Every write may be cut off anywhere, so this is safe."""
        told = "time is up; another monitor, or the next start, goes on"
        self._log.warning("daemon_not_drained", told=told, exit_code=int(ExitCode.PARTLY))
        logging.shutdown()
        os._exit(ExitCode.PARTLY)

    # --- the monitor's thread -----------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            engine = self._wait_for_installation()
            if engine is not None:
                shards = engine.installation.shards
                self._pulse.allow(stall_seconds(self._configuration.monitor, self._configuration.writer, shards))
                self.watched.runs(self._monitor)
                self._monitor.run()
        except Exception as error:  # noqa: BLE001 - the end of a thread: whatever it was decides the exit code
            self._loop.error = error
            self._tell_end(error)
        finally:
            self.watched.ended()

    def _wait_for_installation(self) -> Engine | None:
        """The parts, once the system table can be read; None where the daemon was stopped before."""
        tries = 0
        while not self._loop.stop.is_set():
            try:
                return self._writer.engine()
            except ConfigurationError as error:
                if self._fail_fast:
                    raise
                tries += 1
                pause_seconds = _pause_seconds(tries, self._time)
                self.watched.waits(error.message)
                self._log.warning("waiting_for_system_table", reason=error.message, next_look_seconds=pause_seconds)
                self._loop.stop.wait(pause_seconds)
        return None

    def _tell_end(self, error: Exception) -> None:
        if isinstance(error, ConfigurationError):
            self._log.error("daemon_cannot_start", reason=error.message)
        else:
            self._log.error("daemon_loop_ended", exc_info=error)


def sweep_once(configuration: Configuration) -> tuple[dict[str, Any], ExitCode]:
    """A scheduled run, a sweep and an audit: its facts, and whether anything is stuck. Raises `ConfigurationError`."""
    with ReliableWriter(configuration.writer) as writer:
        monitor = WriteMonitor(writer, configuration.monitor)
        report = monitor.run_once(one_shot=True)
        facts = facts_of_sweep(report)
        if configuration.monitor.audit:
            facts["audit"] = facts_of_audit(monitor.audit_once())
        monitor.drain()
    return facts, ExitCode.PARTLY if _is_stuck(report) else ExitCode.DONE


def _is_stuck(report: SweepReport) -> bool:
    tried = any(report.attempts.get(resumed, 0) for resumed in _STUCK)
    return bool(tried or report.quarantined or report.unreadable or report.unread_shards or report.held_back)


def code_of_configuration_error(error: ConfigurationError) -> ExitCode:
    """A retryable one is DynamoDB's fault, not the settings'."""
    return ExitCode.SERVICE if error.retryable else ExitCode.CONFIGURATION


def _code_of(error: BaseException) -> ExitCode:
    return code_of_configuration_error(error) if isinstance(error, ConfigurationError) else ExitCode.DEFECT


def _pause_seconds(tries: int, time: TimeSource) -> float:
    """Half of it fixed: many daemons that wait for one `init` should neither rush nor fall asleep."""
    seconds = min(_WAIT_CAP_SECONDS, _WAIT_BASE_SECONDS * 2.0 ** min(tries, 10))
    return seconds / 2 + time.jitter(seconds / 2)


def _address(configuration: Configuration, server: WebServer | None) -> str:
    return f"{configuration.monitor.http_host}:{server.port}" if server is not None else "none"
