"""The monitor: sweeps, heartbeats and audits beside each other, until it is told to stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from monitor.settings import MonitorSettings
from monitor.status import MonitorStatus, Observer, SweepReport
from reliable_write.writer import ReliableWriter


class Chore(Protocol):
    """Work done now and then beside the sweeps, such as `monitor.auditor.Auditor`."""

    def run_once(self) -> object:
        """One round."""


class WriteMonitor:
    """Finishes what writers leave behind. Any number may run; each in one process, or one thread, of its own."""

    def __init__(
        self,
        writer: ReliableWriter,
        settings: MonitorSettings | None = None,
        *,
        observers: Sequence[Observer] = (),
        auditor: Chore | None = None,
    ) -> None:
        raise NotImplementedError

    def run_once(self, *, one_shot: bool | None = None) -> SweepReport:
        """One sweep, waiting for the attempts it starts. `one_shot`: see `MonitorSettings.one_shot`."""
        raise NotImplementedError

    def run(self) -> None:
        """Sweep until `stop()`, then drain. Errors of DynamoDB never end it."""
        raise NotImplementedError

    def stop(self) -> None:
        """Make `run()` end: returns at once; callable from any thread and from a signal handler."""
        raise NotImplementedError

    def drain(self) -> bool:
        """Start no more attempts, wait for those under way at most `drain_seconds`, retire the heartbeat.

        Whether all were finished. What is not is finished by another monitor.
        """
        raise NotImplementedError

    def status(self) -> MonitorStatus:
        """How it stands now; never touches DynamoDB."""
        raise NotImplementedError
