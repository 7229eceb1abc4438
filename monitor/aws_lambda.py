"""The monitor on a schedule: `monitor.aws_lambda.handler` for AWS Lambda, with the time the invocation has left.

The same sweeps as the daemon's, one-shot: an entry is a straggler by its age, because there is no earlier look to
compare with. Settings come from the environment. The client is made by the first invocation and kept for the warm
ones; a failure to make it is not kept. Then, in the time left, one audit: those of scheduled runs keep what they have
seen in the table, so that waits of hours pass between runs of seconds.
"""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any, Protocol

import structlog

from monitor.loop import WriteMonitor
from monitor.reports import facts_of_audit
from monitor.settings import Configuration, load
from reliable_write.clock import Deadline, SystemTime, TimeSource
from reliable_write.recovery import Resumed
from reliable_write.writer import ReliableWriter

_MILLISECONDS = 1000.0


class LambdaContext(Protocol):
    """What we use of the context of an invocation."""

    def get_remaining_time_in_millis(self) -> int:
        """Until Lambda ends the invocation."""
        ...


def handler(event: object, context: LambdaContext) -> dict[str, Any]:
    """One invocation: sweeps while they finish something and time is left; returns counts.

    Raises where nothing is installed or a setting is wrong, so that the invocation counts as failed.
    """
    del event
    return _warm().run(context.get_remaining_time_in_millis() / _MILLISECONDS)


@functools.cache
def _warm() -> ScheduledRuns:
    from monitor.logs import configure_logs  # noqa: PLC0415 - a handler imported for a test leaves logging alone

    configuration = load()
    configure_logs(configuration.monitor.log_format, configuration.monitor.log_level)
    return ScheduledRuns(configuration)


class ScheduledRuns:
    """Runs of one process; each gets a budget of seconds."""

    def __init__(self, configuration: Configuration, *, time: TimeSource | None = None) -> None:
        self._time = time if time is not None else SystemTime()
        self._writer = ReliableWriter(configuration.writer, time=self._time)
        self._monitor = WriteMonitor(self._writer, configuration.monitor)
        self._log = structlog.get_logger("write_monitor")
        self._settings = configuration.monitor
        self._audit_at: float | None = None
        """Elapsed seconds from which another audit is due."""
        self.reserve_seconds = configuration.writer.attempt_seconds_max
        """For what has begun at the last moment."""

    def run(self, budget_seconds: float) -> dict[str, Any]:
        """Sweep until a sweep finishes nothing, audit, and begin nothing more once only the reserve is left."""
        budget = Deadline.after(budget_seconds - self.reserve_seconds, self._time)
        attempts: Counter[Resumed] = Counter()
        facts: dict[str, Any] = {"sweeps": 0, "started": 0}
        while not budget.passed():
            report = self._monitor.run_once(one_shot=True, seconds_max=budget.remaining_seconds())
            attempts.update(report.attempts)
            facts |= {
                "sweeps": facts["sweeps"] + 1,
                "started": facts["started"] + report.started,
                "pending": report.pending,
                "oldest_pending_age_seconds": report.oldest_pending_age_seconds,
                "quarantined": report.quarantined,
                "unreadable": report.unreadable,
                "unread_shards": len(report.unread_shards),
                "held_back": report.held_back,
            }
            if not report.attempts.get(Resumed.FINISHED, 0):
                break
        if facts["sweeps"] and not budget.passed() and self._audit_is_due():
            facts["audit"] = facts_of_audit(self._monitor.audit_once(seconds_max=budget.remaining_seconds()))
        facts["attempts"] = {result.value.replace(" ", "_"): count for result, count in attempts.items()}
        facts["out_of_time"] = budget.passed()
        self._tell(facts, budget_seconds)
        return facts

    def _audit_is_due(self) -> bool:
        """Warm invocations keep to `audit_seconds`; a cold one knows of no earlier audit."""
        now = self._time.elapsed_seconds()
        if not self._settings.audit or (self._audit_at is not None and now < self._audit_at):
            return False
        self._audit_at = now + self._settings.audit_seconds
        return True

    def _tell(self, facts: dict[str, Any], budget_seconds: float) -> None:
        if not facts["sweeps"]:
            self._log.error(
                "scheduled_run_too_short",
                budget_seconds=budget_seconds,
                told=f"give the function more than {self.reserve_seconds:.0f} s; nothing was done",
            )
            return
        self._log.info("scheduled_run_finished", **facts)
