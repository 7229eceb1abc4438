"""Who is monitoring: a record per monitor, renewed while it lives. For politeness and for people, never for safety."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from reliable_write import limits
from reliable_write.clock import Deadline, TimeSource
from reliable_write.dynamodb import Condition, Store
from reliable_write.system_table import TTL_ATTRIBUTE
from reliable_write.values import WireItem

_PARTITION: Final = "M"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One monitor's latest sign of life."""

    monitor: str
    seen_at_milliseconds: int
    age_seconds: float
    """By this machine's wall clock; negative where the monitor's is ahead."""
    version: str

    @property
    def alive(self) -> bool:
        """Whether it was renewed lately enough."""
        return abs(self.age_seconds) < limits.HEARTBEAT_ALIVE_SECONDS


class Heartbeats:
    """The heartbeats of one system table."""

    def __init__(self, store: Store, table: str, time: TimeSource) -> None:
        self._store = store
        self._table = table
        self._time = time

    def beat(self, monitor: str, version: str, deadline: Deadline) -> None:
        """Renew this monitor's record."""
        now_seconds = self._time.wall_seconds()
        item: WireItem = {
            **_key(monitor),
            "seen_at": {"N": str(int(now_seconds * 1000))},
            "version": {"S": version},
            TTL_ATTRIBUTE: {"N": str(int(now_seconds + limits.HEARTBEAT_KEPT_SECONDS))},
        }
        # The condition is always true of a heartbeat; it keeps the rule that no write to this table is unconditional.
        self._store.put(self._table, item, Condition("attribute_not_exists(#state)", {"#state": "state"}), deadline)

    def retire(self, monitor: str, deadline: Deadline) -> None:
        """Take the record away: the monitor has drained."""
        self._store.delete_many(self._table, [_key(monitor)], deadline)

    def all(self, deadline: Deadline) -> list[Heartbeat]:
        """All records that are there, dead monitors' among them, in order of name."""
        now_seconds = self._time.wall_seconds()
        page = self._store.query(self._table, _PARTITION, deadline)
        return [
            Heartbeat(
                monitor=item["sk"]["S"],
                seen_at_milliseconds=int(item["seen_at"]["N"]),
                age_seconds=now_seconds - int(item["seen_at"]["N"]) / 1000,
                version=item.get("version", {}).get("S", ""),
            )
            for item in page.items
            if "seen_at" in item
        ]


def _key(monitor: str) -> WireItem:
    return {"pk": {"S": _PARTITION}, "sk": {"S": monitor}}
