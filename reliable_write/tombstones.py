"""Tombstones: one per key that a scope deleted, so that an older put arriving late is known to be late.

A tombstone is put before the item is deleted, under the condition that it is absent or older. It is a plain record
without TTL: removing one while an older entry is still alive would bring a deleted item back (ScyllaDB shipped that).
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from typing import Final

from reliable_write.clock import Deadline, Stamp, TimeSource, is_too_far_ahead
from reliable_write.dynamodb import Condition, ConditionRefused, Store
from reliable_write.entry import NOTE_ATTRIBUTE
from reliable_write.operations import Action, AnyAction, Delete, key_hash
from reliable_write.policy import stamp_of
from reliable_write.values import WireItem

TOMBSTONE_PREFIX: Final = "T#"
_SORT_KEY: Final = {"S": "T"}
_KEY_ATTRIBUTES_MAX: Final = 2


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A tombstone as stored."""

    name: str
    """Its partition: one for each deleted key."""
    stamp: Stamp
    table: str
    key: WireItem
    """The deleted item's key."""
    note: str | None = None
    """What a scheduled audit wrote on it."""


def tombstone_key(action: AnyAction) -> WireItem:
    """Where the tombstone of the touched item lives."""
    return {"pk": {"S": f"{TOMBSTONE_PREFIX}{key_hash(action)}"}, "sk": _SORT_KEY}


def tombstone_item(delete: Delete, stamp: Stamp) -> WireItem:
    """The tombstone a delete leaves."""
    return {**tombstone_key(delete), "stamp": {"S": stamp}, "table": {"S": delete.table}, "key": {"M": delete.key}}


def tombstone_stamp(item: WireItem) -> Stamp | None:
    """The stamp of a tombstone as stored."""
    return stamp_of(item, "stamp")


def read_tombstone(item: WireItem) -> Tombstone | None:
    """A tombstone from its item; None where it holds no stamp, or not the table and key it is named after: it then
    stays as it is. An audit removes items at that key.
    """
    stamp = tombstone_stamp(item)
    table, key = item.get("table", {}).get("S"), item.get("key", {}).get("M")
    if stamp is None or not table or not key or not _is_named_after(item["pk"]["S"], table, key):
        return None
    return Tombstone(item["pk"]["S"], stamp, table, key, item.get(NOTE_ATTRIBUTE, {}).get("S"))


def _is_named_after(name: str, table: str, key: WireItem) -> bool:
    """A stored map has no order, so a key of two attributes is tried both ways."""
    if len(key) > _KEY_ATTRIBUTES_MAX:
        return False
    try:
        hashes = [key_hash(Delete(table, names, key)) for names in itertools.permutations(key)]
    except (ValueError, TypeError, AttributeError, ArithmeticError):  # no key value
        return False
    return name.removeprefix(TOMBSTONE_PREFIX) in hashes


class ForeignTombstone(Exception):
    """A tombstone that cannot be ours, or was left by a machine whose clock was more than a day ahead."""


class Tombstones:
    """The tombstones of one system table."""

    def __init__(self, store: Store, table: str, time: TimeSource) -> None:
        self._store = store
        self._time = time
        self.table = table

    def mark(self, delete: Delete, stamp: Stamp, deadline: Deadline) -> None:
        """Leave a tombstone with this stamp, unless one as new or newer is there."""
        item = tombstone_item(delete, stamp)
        older = Condition("attribute_not_exists(#s) OR #s < :mine", {"#s": "stamp"}, {":mine": {"S": stamp}})
        try:
            self._store.put(self.table, item, older, deadline)
        except ConditionRefused:
            return

    def stamp(self, action: Action, deadline: Deadline) -> Stamp | None:
        """The stamp of the tombstone on the touched item, read strongly; None if there is none.

        Raises `ForeignTombstone` where it holds no stamp, or one from the far future: no order with it is known.
        """
        item = self._store.get(self.table, tombstone_key(action), deadline)
        if item is None:
            return None
        stamp = tombstone_stamp(item)
        if stamp is None or is_too_far_ahead(stamp, self._time):
            raise ForeignTombstone
        return stamp

    def reread(self, tombstone: Tombstone, deadline: Deadline) -> Tombstone | None:
        """The tombstone itself if it is still there as it was; None if it is gone or a newer delete renewed it."""
        item = self._store.get(self.table, _place(tombstone), deadline)
        return tombstone if item is not None and tombstone_stamp(item) == tombstone.stamp else None

    def annotate(self, name: str, stamp: Stamp, seen: str | None, note: str, deadline: Deadline) -> None:
        """Write a note on the tombstone of this name, if its stamp and its note still are those given; else nothing.

        The put of a newer delete wipes notes out; `mark` with the same stamp again, or an older one, leaves them.
        """
        as_seen = Condition(
            f"#s = :stamp AND {'attribute_not_exists(#n)' if seen is None else '#n = :seen'}",
            {"#s": "stamp", "#n": NOTE_ATTRIBUTE},
            {":stamp": {"S": stamp}, ":note": {"S": note}, **({} if seen is None else {":seen": {"S": seen}})},
        )
        key: WireItem = {"pk": {"S": name}, "sk": _SORT_KEY}
        with contextlib.suppress(ConditionRefused):
            self._store.update(self.table, key, "SET #n = :note", as_seen, deadline)

    def collect(self, tombstone: Tombstone, deadline: Deadline) -> bool:
        """Remove it unless a newer delete renewed it; whether it was this call that removed it.

        Whoever calls has proved that nothing with an older stamp can be applied any more.
        """
        as_audited = Condition("#s = :audited", {"#s": "stamp"}, {":audited": {"S": tombstone.stamp}})
        try:
            self._store.delete(self.table, _place(tombstone), as_audited, deadline)
        except ConditionRefused as refused:
            return refused.found is None and refused.ambiguous
        return True


def _place(tombstone: Tombstone) -> WireItem:
    return {"pk": {"S": tombstone.name}, "sk": _SORT_KEY}
