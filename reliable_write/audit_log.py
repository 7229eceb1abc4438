"""What people did to writes and items: who, what, why, when. Written before the deed, so that no deed goes unrecorded.

Records expire after a year, by TTL: they are the one kind of record, beside heartbeats, that may.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Final

from reliable_write import limits
from reliable_write.clock import Deadline, HybridClock, Stamp, TimeSource, is_stamp, stamp_milliseconds
from reliable_write.dynamodb import CallFailed, Condition, ConditionRefused, Store
from reliable_write.system_table import TTL_ATTRIBUTE
from reliable_write.values import WireItem

_PARTITION: Final = "A"
_FORMAT: Final = 1
_MILLISECONDS_MAX: Final = 0xFFFF_FFFF_FFFF
"""As in a stamp."""
_OWN: Final = frozenset({"pk", "sk", "format", "action", "at", "operator", "reason", TTL_ATTRIBUTE})


@dataclass(frozen=True, slots=True)
class Deed:
    """One record."""

    id: str
    action: str
    operator: str
    reason: str
    at_milliseconds: int
    facts: WireItem
    """What else was written down, for instance `write_id`; as the wire has it."""


class AuditLog:
    """The audit records of one system table."""

    def __init__(self, store: Store, table: str, time: TimeSource) -> None:
        self._store = store
        self._table = table
        self._time = time
        self._clock = HybridClock(time)

    def record(self, action: str, *, operator: str, reason: str, facts: WireItem, deadline: Deadline) -> WireItem:
        """Write down what is about to be done; the record's key, for `withdraw`.

        Raises `CallFailed`; then the deed must not be done.
        """
        now_seconds = self._time.wall_seconds()
        key: WireItem = {"pk": {"S": _PARTITION}, "sk": {"S": self._clock.stamp()}}
        item: WireItem = {
            **facts,
            **key,
            "format": {"N": str(_FORMAT)},
            "action": {"S": action},
            "at": {"N": str(int(now_seconds * 1000))},
            "operator": {"S": operator},
            "reason": {"S": reason},
            TTL_ATTRIBUTE: {"N": str(int(now_seconds + limits.AUDIT_SECONDS))},
        }
        try:
            self._store.put(self._table, item, Condition("attribute_not_exists(sk)"), deadline)
        except ConditionRefused:
            return key  # keys hold a stamp, and nobody else makes ours: an earlier try, whose answer was lost
        except CallFailed as failure:
            if failure.ambiguous:
                self.withdraw(key)
            raise
        return key

    def withdraw(self, key: WireItem) -> None:
        """The deed was refused, so it did not happen.

        Where this fails there is a record too many: that must not hide what became of the deed itself.
        """
        with contextlib.suppress(CallFailed):
            self._store.delete_many(self._table, [key], Deadline.after(limits.ATTEMPT_DEADLINE_SECONDS, self._time))

    def deeds(self, deadline: Deadline) -> list[Deed]:
        """All records, newest first."""
        found: list[WireItem] = []
        start: WireItem | None = None
        while True:
            page = self._store.query(self._table, _PARTITION, deadline, start=start)
            found += page.items
            start = page.next_key
            if start is None:
                return [_deed(item) for item in reversed(found)]


def _deed(item: WireItem) -> Deed:
    return Deed(
        id=item["sk"]["S"],
        action=_text(item, "action"),
        operator=_text(item, "operator"),
        reason=_text(item, "reason"),
        at_milliseconds=_milliseconds(item),
        facts={name: value for name, value in item.items() if name not in _OWN},
    )


def _text(item: WireItem, name: str) -> str:
    """What is garbled is told as such: one bad record must not hide all the others."""
    return str(item.get(name, {}).get("S", "(not readable)"))


def _milliseconds(item: WireItem) -> int:
    """Of the record's own key, whose stamp is from the same moment, where the attribute is garbled."""
    try:
        milliseconds = int(item["at"]["N"])
    except (KeyError, ValueError):
        milliseconds = -1
    if 0 <= milliseconds <= _MILLISECONDS_MAX:
        return milliseconds
    key = item["sk"]["S"]
    return stamp_milliseconds(Stamp(key)) if is_stamp(key) else 0
