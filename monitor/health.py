"""What the daemon tells about itself, in one place for `/livez`, `/readyz`, the metrics and `systemctl status`."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol

from monitor.pulse import Pulse
from monitor.status import MonitorStatus


class StatusSource(Protocol):
    """`WriteMonitor` is one."""

    def status(self) -> MonitorStatus:
        """How it stands now; never touches DynamoDB."""
        ...


@dataclass(frozen=True, slots=True)
class Health:
    """Whether something holds, and why not."""

    ok: bool
    reasons: tuple[str, ...] = ()


class Watched:
    """What a monitor can be asked from other threads; the daemon sets it as it comes up."""

    def __init__(self, pulse: Pulse) -> None:
        self.pulse = pulse
        self._lock = threading.Lock()
        self._source: StatusSource | None = None
        self._waiting_for = "the monitor is starting"
        self._ended = False

    def waits(self, reason: str) -> None:
        """There is no monitor yet, and this is why."""
        self.pulse.touch()
        with self._lock:
            self._waiting_for = reason

    def runs(self, source: StatusSource) -> None:
        """From here on it can tell by itself."""
        self.pulse.touch()
        with self._lock:
            self._source = source

    def ended(self) -> None:
        """Its loop has ended; meant to or not, nobody works any more."""
        with self._lock:
            self._ended = True

    def status(self) -> MonitorStatus | None:
        """How the monitor stands; None while there is none yet."""
        with self._lock:
            source = self._source
        return source.status() if source is not None else None

    def live(self) -> Health:
        """Whether the process moves. False means: restart it."""
        with self._lock:
            ended = self._ended
        if ended:
            return Health(ok=False, reasons=("the loop has ended",))
        if not self.pulse.beats():
            return Health(ok=False, reasons=(f"nothing has moved for {self.pulse.age_seconds():.0f} s",))
        return Health(ok=True)

    def ready(self) -> Health:
        """Whether it does its work. False means: wait, or look at the reasons."""
        live, status = self.live(), self.status()
        if not live.ok:
            return live
        if status is None:
            with self._lock:
                return Health(ok=False, reasons=(self._waiting_for,))
        return Health(ok=True) if status.is_ready else Health(ok=False, reasons=_reasons(status))


def _reasons(status: MonitorStatus) -> tuple[str, ...]:
    told = []
    if status.draining:
        told.append("it is draining")
    if status.last_sweep_age_seconds is None:
        told.append("no sweep has ended yet")
    elif status.unread_shards:
        told.append(f"{len(status.unread_shards)} of {status.shards} shards could not be read")
    elif not status.draining:
        told.append(f"the last sweep ended {status.last_sweep_age_seconds:.0f} s ago")
    return tuple(told)


def summary(status: MonitorStatus | None, health: Health) -> str:
    """One line for `systemctl status`."""
    if status is None or not health.ok:
        return f"not ready: {'; '.join(health.reasons)}"
    age_seconds = status.oldest_pending_age_seconds
    return (
        f"pending {status.pending} (oldest {age_seconds:.0f} s), quarantined {status.quarantined}, "
        f"recovered {status.recovered_total}"
    )
