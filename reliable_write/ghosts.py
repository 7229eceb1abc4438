"""Ghosts: items at deleted keys that only a first attempt under way while the delete ran can have put there.

A first attempt does not look for tombstones after its puts; it witnessed them before. Where the delete came in between,
the item appears although its tombstone is later in order. It carries a stamp, and none as late as the tombstone.
"""

from __future__ import annotations

import enum

from reliable_write.clock import Deadline, TimeSource
from reliable_write.dynamodb import Condition, ConditionRefused, Store
from reliable_write.operations import StampNames
from reliable_write.policy import Reading, read_stamps, stamp_of
from reliable_write.tombstones import Tombstone, Tombstones
from reliable_write.values import WireItem


class Sight(enum.StrEnum):
    """What stands at a deleted key, or stood there until now."""

    NOTHING = "nothing"
    LATER = "later"
    """A write or an update later in order than the delete."""
    UNSTAMPED = "unstamped"
    """Put by somebody without this library: left alone."""
    FOREIGN = "foreign"
    """Its stamp attribute holds something that cannot be ours: left alone."""
    REMOVED = "removed"
    """A ghost; it is gone."""
    MOVED = "moved"
    """Item or tombstone changed under our eyes: look again."""


class Ghosts:
    """Looks at deleted keys and removes ghosts."""

    def __init__(self, store: Store, tombstones: Tombstones, time: TimeSource, names: StampNames) -> None:
        self._store = store
        self._tombstones = tombstones
        self._time = time
        self._names = names

    def audit(self, tombstone: Tombstone, deadline: Deadline) -> Sight:
        """Look at the key, and remove what is a ghost. Raises `CallFailed`.

        The tombstone is read again after the item and before the removal: it may have been collected since it was
        listed, and then an item with a lower stamp may be a new write by a machine with a slower clock. A tombstone
        that is still there was there when the item was read, so the item's writer cannot have witnessed it.
        """
        item = self._store.get(tombstone.table, tombstone.key, deadline)
        sight = self._judge(item, tombstone)
        if item is None or sight is not Sight.REMOVED:
            return sight
        if self._tombstones.reread(tombstone, deadline) is None:
            return Sight.MOVED
        try:
            self._store.delete(tombstone.table, tombstone.key, self._as_seen(item), deadline)
        except ConditionRefused as refused:
            # Our own earlier try may have removed it, or anybody else; what is there now is judged at the next look.
            return Sight.REMOVED if refused.found is None else Sight.MOVED
        return Sight.REMOVED

    def _judge(self, item: WireItem | None, tombstone: Tombstone) -> Sight:
        if item is None:
            return Sight.NOTHING
        reading = read_stamps(item, tombstone.stamp, self._names, self._time)
        if reading is Reading.FOREIGN:
            return Sight.FOREIGN
        if reading is not Reading.OLDER:
            return Sight.LATER
        stamped = self._names.full in item or self._names.update in item
        return Sight.REMOVED if stamped else Sight.UNSTAMPED

    def _as_seen(self, item: WireItem) -> Condition:
        """Both stamps exactly as read. Stamps are never used twice, so this is the very write that was judged."""
        parts, names, values = [], {}, {}
        for place, name in (("full", self._names.full), ("upd", self._names.update)):
            names[f"#{place}"] = name
            stamp = stamp_of(item, name)
            if stamp is None:
                parts.append(f"attribute_not_exists(#{place})")
            else:
                parts.append(f"#{place} = :{place}")
                values[f":{place}"] = {"S": stamp}
        return Condition(" AND ".join(parts), names, values)
