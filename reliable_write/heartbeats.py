"""Who is monitoring: a record per monitor, renewed while it lives. For politeness and for people, never for safety."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import Final

from reliable_write import limits
from reliable_write.clock import Deadline, TimeSource
from reliable_write.dynamodb import Condition, Store
from reliable_write.events import Event, Events
from reliable_write.system_table import TTL_ATTRIBUTE
from reliable_write.values import WireItem
from reliable_write.workers import Workers

SCHEDULE: Final = "schedule"
"""The name under which all scheduled runs leave one heartbeat: each is another process, and gone at once."""
_PARTITION: Final = "M"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One monitor's latest sign of life."""

    monitor: str
    seen_at_milliseconds: int
    age_seconds: float
    """By this machine's wall clock; negative where the monitor's is ahead."""
    version: str
    counts_seconds: float = limits.HEARTBEAT_ALIVE_SECONDS
    """How long this sign counts; longer where runs come on a schedule."""

    @property
    def alive(self) -> bool:
        """Whether it was renewed lately enough."""
        return abs(self.age_seconds) < self.counts_seconds

    @property
    def stays(self) -> bool:
        """Whether it is somebody who looks all the time, and not a schedule."""
        return self.monitor != SCHEDULE


class Heartbeats:
    """The heartbeats of one system table."""

    def __init__(self, store: Store, table: str, time: TimeSource) -> None:
        self._store = store
        self._table = table
        self._time = time

    def beat(
        self,
        monitor: str,
        version: str,
        deadline: Deadline,
        *,
        counts_seconds: float = limits.HEARTBEAT_ALIVE_SECONDS,
    ) -> None:
        """Renew this monitor's record; it counts for so long."""
        now_seconds = self._time.wall_seconds()
        item: WireItem = {
            **_key(monitor),
            "seen_at": {"N": str(int(now_seconds * 1000))},
            "version": {"S": version},
            "counts_seconds": {"N": str(counts_seconds)},
            TTL_ATTRIBUTE: {"N": str(int(now_seconds + limits.HEARTBEAT_KEPT_SECONDS))},
        }
        # The condition is always true of a heartbeat; it keeps the rule that no write to this table is unconditional.
        self._store.put(self._table, item, Condition("attribute_not_exists(#state)", {"#state": "state"}), deadline)

    def retire(self, monitor: str, deadline: Deadline) -> None:
        """Take the record away: the monitor has drained."""
        self._store.delete_many(self._table, [_key(monitor)], deadline)

    def all(self, deadline: Deadline) -> list[Heartbeat]:
        """All records that can be read, dead monitors' among them, in order of name."""
        now_seconds = self._time.wall_seconds()
        items: list[WireItem] = []
        start: WireItem | None = None
        while True:
            page = self._store.query(self._table, _PARTITION, deadline, start=start)
            items += page.items
            start = page.next_key
            if start is None:
                break
        beats = (_read(item, now_seconds) for item in items)
        return [beat for beat in beats if beat is not None]


def _read(item: WireItem, now_seconds: float) -> Heartbeat | None:
    """A heartbeat from its item; None for one that makes no sense: nobody must stop working over another's."""
    try:
        seen_at = int(item["seen_at"]["N"])
        return Heartbeat(
            monitor=item["sk"]["S"],
            seen_at_milliseconds=seen_at,
            age_seconds=now_seconds - seen_at / 1000,
            version=item.get("version", {}).get("S", ""),
            counts_seconds=float(item.get("counts_seconds", {}).get("N", limits.HEARTBEAT_ALIVE_SECONDS)),
        )
    except (KeyError, ValueError, OverflowError):
        return None


class MonitorCheck:
    """Looks, behind the caller's back, whether anybody is there to finish what a writer had to leave. Safe for threads.

    It warns once. Whatever goes wrong with the look is nobody's business: it is tried again with a later write.
    """

    def __init__(self, heartbeats: Heartbeats, workers: Workers, time: TimeSource, events: Events) -> None:
        self._heartbeats = heartbeats
        self._workers = workers
        self._time = time
        self._events = events
        self._lock = threading.Lock()
        self._next_at: float | None = 0.0
        """Elapsed seconds; None once it has warned."""

    def left_behind(self, write_id: str) -> None:
        """A committed write is not finished by its writer. Returns at once and never raises."""
        if self._is_time():
            with contextlib.suppress(RuntimeError):  # no thread can be had
                self._workers.background("reliable-write-monitor-check", lambda: self._check(write_id))

    def _is_time(self) -> bool:
        now = self._time.elapsed_seconds()
        with self._lock:
            if self._next_at is None or now < self._next_at:
                return False
            self._next_at = now + limits.MONITOR_CHECK_EVERY_SECONDS
            return True

    def _check(self, write_id: str) -> None:
        with contextlib.suppress(Exception):
            beats = self._heartbeats.all(Deadline.after(limits.MONITOR_CHECK_SECONDS, self._time))
            if not any(beat.alive for beat in beats):
                with self._lock:
                    self._next_at = None
                self._events.warning(
                    Event.NO_MONITOR,
                    write_id=write_id,
                    last_seen_seconds=min((round(beat.age_seconds) for beat in beats), default=None),
                    told="committed writes wait to be finished and no monitor has a heartbeat: start write-monitor, or "
                    "see why its scheduled runs do not come",
                )


def _key(monitor: str) -> WireItem:
    return {"pk": {"S": _PARTITION}, "sk": {"S": monitor}}
