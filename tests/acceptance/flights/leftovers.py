"""What a killed worker left behind, looked at before anybody else has touched it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from reliable_write import ReliableWriter
from reliable_write.clock import Deadline, Stamp, SystemTime
from reliable_write.entry import Entry
from reliable_write.operations import Action
from tests.acceptance.flights.model import FLIGHTS, Delete, Key, Plan, Put, key_of, wire_key

Found = Literal["whole", "half", "journal"]
"""All applied; some of it applied; committed and nothing applied yet."""

_LOOK_SECONDS = 8.0


class Leftovers:
    """Which open flights are committed. The journal is read before the tables: an entry goes only when all of it is
    applied, so a flight that was committed when we began is in the one or, whole, in the others.
    """

    def __init__(self, writer: ReliableWriter, plans: list[Plan]) -> None:
        self._writer = writer
        self._journalled = dict(self._journalled_keys())
        """The greatest stamp of an entry that writes this key."""
        self._present = self._read(plans)

    def find(self, plan: Plan) -> Found | None:
        """How far a flight's scope has come; None if it is not committed, as far as can be seen."""
        put = [(copy.table, copy.key) in self._present for copy in plan.copies]
        # A line that is gone was deleted by this scope only if it was there: before, or in an entry that is late.
        if not any(put) and (FLIGHTS, (plan.flight_id,)) not in self._journalled:
            return None
        standing = [(delete.table, delete.key) in self._present for delete in plan.deletes]
        if all(put) and not any(standing):
            return "whole"
        return "half" if any(put) else "journal"

    def announced(self, plan: Plan) -> bool:
        """Whether the announcement is committed; then its lines may be put at any time, also after the delete."""
        return self.announced_at(plan) is not None or any(
            (put.table, put.key) in self._present for put in plan.announcement
        )

    def announced_at(self, plan: Plan) -> Stamp | None:
        """The stamp of an announcement that still stands in the journal."""
        return max(
            (at for put in plan.announcement if (at := self._journalled.get((put.table, put.key)))), default=None
        )

    def _journalled_keys(self) -> Iterable[tuple[tuple[str, Key], Stamp]]:
        """In order of the stamps."""
        for entry in self._writer.recovery.look().entries:
            for action in self._actions(entry):
                yield (action.table, tuple(action.key[name]["S"] for name in action.key_names)), entry.stamp

    def _actions(self, entry: Entry) -> Iterable[Action]:
        deadline = Deadline.after(_LOOK_SECONDS, SystemTime())
        operations = self._writer.engine().journal.operations(entry, deadline)
        return (action for operation in operations for action in operation.actions)

    def _read(self, plans: list[Plan]) -> frozenset[tuple[str, Key]]:
        """Which of the flights' own items are there."""
        wanted: dict[tuple[str, Key], None] = {}
        for plan in plans:
            items: tuple[Put | Delete, ...] = (*plan.copies, *plan.announcement, *plan.deletes)
            wanted.update({(item.table, item.key): None for item in items})
        keys = list(wanted)
        found: set[tuple[str, Key]] = set()
        for start in range(0, len(keys), 100):
            found |= self._read_page(keys[start : start + 100])
        return frozenset(found)

    def _read_page(self, keys: list[tuple[str, Key]]) -> set[tuple[str, Key]]:
        request: dict[str, dict[str, object]] = {}
        for table, key in keys:
            request.setdefault(table, {"Keys": [], "ConsistentRead": True})
            keys_of_table = request[table]["Keys"]
            assert isinstance(keys_of_table, list)
            keys_of_table.append(wire_key(table, key))
        found: set[tuple[str, Key]] = set()
        while request:
            answer = self._writer.client.batch_get_item(RequestItems=request)
            found |= {(table, key_of(table, item)) for table, items in answer["Responses"].items() for item in items}
            request = answer.get("UnprocessedKeys") or {}
        return found
