"""What stands at keys, item and tombstone together, and whether an operation of a committed write is done there.

The two need not be of one moment: see `reliable_write.pending` for why its answers hold all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from reliable_write import limits
from reliable_write.clock import Deadline, Stamp, TimeSource, is_too_far_ahead
from reliable_write.dynamodb import CallFailed, Store, batch_get_pages
from reliable_write.operations import Action, Delete, Put, StampNames, canonical_place
from reliable_write.policy import FailureKind, Reading, read_stamps, stamp_of
from reliable_write.tombstones import tombstone_key, tombstone_stamp
from reliable_write.transaction import is_ghost
from reliable_write.values import WireItem
from reliable_write.workers import Workers

Place = tuple[str, ...]
"""Table and key in canonical form: see `operations.canonical_place`."""

_DONE: Final = (Reading.MINE, Reading.SUPERSEDED)
_TOMBSTONE: Final = ("pk", "stamp")
_Keys = list[tuple[str, WireItem]]
"""Of items by their tables; or the items."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One key, strongly read."""

    item: WireItem | None = field(default=None, repr=False)
    """What the order of the writes says is there: a ghost, older than its tombstone, is not."""
    tombstone: Stamp | None = None
    """None also for a tombstone that cannot be ours, or is of the far future: no order with it is known."""

    def stamps(self, names: StampNames) -> frozenset[Stamp]:
        """The writes that this key shows: its last put or delete, and its last update."""
        item = self.item or {}
        found = (stamp_of(item, names.full), stamp_of(item, names.update), self.tombstone)
        return frozenset(stamp for stamp in found if stamp is not None)


def make_sight(item: WireItem | None, tombstone: WireItem | None, names: StampNames, time: TimeSource) -> Sight:
    """A sight from what was read."""
    deleted = None if tombstone is None else tombstone_stamp(tombstone)
    if deleted is not None and is_too_far_ahead(deleted, time):
        deleted = None
    if item is not None and deleted is not None and is_ghost(item, deleted, names):
        item = None
    return Sight(item, deleted)


def is_done(action: Action, mine: Stamp, sight: Sight, names: StampNames, time: TimeSource) -> bool:
    """Whether this operation of the write `mine` is applied, or superseded by a write later in order.

    It stays so: stamps at a key only rise, and a tombstone is collected only when nothing older is left to be done. A
    put overtaken by an update alone is not done: that is for an operator to decide.
    """
    if isinstance(action, Put) and sight.tombstone is not None and sight.tombstone > mine:
        return True  # it takes itself back, should it still come
    if sight.item is None:
        return isinstance(action, Delete) and sight.tombstone is not None and sight.tombstone >= mine
    return read_stamps(sight.item, mine, names, time) in _DONE


class SightReader:
    """Reads keys and their tombstones, strongly, all places at once."""

    def __init__(
        self, *, store: Store, system_table: str, workers: Workers, time: TimeSource, names: StampNames
    ) -> None:
        self._store = store
        self._system_table = system_table
        self._workers = workers
        self._time = time
        self._names = names

    def read(
        self, whole: Mapping[Place, Action], in_stamps: Mapping[Place, Action], deadline: Deadline
    ) -> dict[Place, Sight]:
        """The items of `whole`, and of `in_stamps` only the stamps.

        Of the latter those are missing whose tables could not be read within `limits.LOOK_ELSEWHERE_SECONDS`. Raises
        `CallFailed` where anything else could not be read.
        """
        actions = {**whole, **in_stamps}
        tombstones = {place: tombstone_key(action) for place, action in actions.items()}
        strictly = [*_keys_of(whole), *((self._system_table, key) for key in tombstones.values())]
        attributes: dict[str, Sequence[str]] = {table: () for table, _ in strictly}
        attributes[self._system_table] = _TOMBSTONE
        soon = Deadline.after(min(limits.LOOK_ELSEWHERE_SECONDS, deadline.remaining_seconds()), self._time)
        stamps = {action.table: self._stamps_of(action) for action in in_stamps.values()}
        pages = self._workers.run_all(
            [
                *(partial(self._read_strictly, page, attributes, deadline) for page in batch_get_pages(strictly)),
                *(partial(self._read_elsewhere, page, stamps, soon) for page in batch_get_pages(_keys_of(in_stamps))),
            ]
        )
        unread = {table for _, missed in pages for table in missed}
        items, records = self._sorted([row for found, _ in pages for row in found], actions)
        return {
            place: make_sight(items.get(place), records.get(key["pk"]["S"]), self._names, self._time)
            for place, key in tombstones.items()
            if place in whole or actions[place].table not in unread
        }

    def _sorted(
        self, found: _Keys, actions: Mapping[Place, Action]
    ) -> tuple[dict[Place, WireItem], dict[str, WireItem]]:
        """Items by their places, tombstones by their names."""
        key_names = {action.table: action.key_names for action in actions.values()}
        records = {item["pk"]["S"]: item for table, item in found if table == self._system_table}
        items = {
            canonical_place(table, [item[name] for name in key_names[table]]): item
            for table, item in found
            if table != self._system_table
        }
        return items, records

    def _stamps_of(self, action: Action) -> tuple[str, ...]:
        return (*action.key_names, self._names.full, self._names.update)

    def _read_strictly(
        self, page: _Keys, attributes: Mapping[str, Sequence[str]], deadline: Deadline
    ) -> tuple[_Keys, set[str]]:
        return self._store.batch_get(page, attributes, deadline), set()

    def _read_elsewhere(
        self, page: _Keys, attributes: Mapping[str, Sequence[str]], deadline: Deadline
    ) -> tuple[_Keys, set[str]]:
        """What was found, and the tables that could not be read: of several in one request, one is refused for all."""
        try:
            return self._store.batch_get(page, attributes, deadline), set()
        except CallFailed as failure:
            tables = {table for table, _ in page}
            if len(tables) == 1 or failure.kind.retryable or failure.kind is FailureKind.DEADLINE:
                return [], tables
        parts = [[(table, key) for table, key in page if table == one] for one in sorted(tables)]
        read = [self._read_elsewhere(part, attributes, deadline) for part in parts]
        return [row for found, _ in read for row in found], {table for _, missed in read for table in missed}


def _keys_of(actions: Mapping[Place, Action]) -> _Keys:
    return [(action.table, action.key) for action in actions.values()]
