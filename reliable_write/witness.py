"""What is at a write's keys before its commit point: stamps and tombstones, read strongly.

The clock is shown all of them, so that the stamp taken next comes after everything that was there, whatever the clocks
of this machine and of others say. A missing table or permission is found here too, while nothing has happened.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from reliable_write.clock import Deadline, HybridClock, Stamp, TimeSource, is_too_far_ahead
from reliable_write.dynamodb import CallFailed, Schemas, Store, batch_get_pages
from reliable_write.errors import CommitFailedError, ForeignStampError, UnknownTableError
from reliable_write.ghosts import Ghosts
from reliable_write.operations import AnyAction, AtCommit, Put, StampNames, canonical_key, canonical_place
from reliable_write.policy import FailureKind, is_foreign, stamp_of
from reliable_write.tombstones import Tombstone, Tombstones, tombstone_key, tombstone_stamp
from reliable_write.transaction import Part, is_ghost
from reliable_write.values import WireItem
from reliable_write.workers import Workers


@dataclass(slots=True)
class _Sight:
    """What was seen at one key."""

    action: AnyAction
    item: WireItem | None = None
    """Its key and its stamps."""
    tombstone: Stamp | None = None


class Witness:
    """Looks at keys and shows the clock what is there."""

    def __init__(
        self,
        *,
        store: Store,
        schemas: Schemas,
        tombstones: Tombstones,
        ghosts: Ghosts,
        workers: Workers,
        clock: HybridClock,
        time: TimeSource,
        names: StampNames,
    ) -> None:
        self._store = store
        self._schemas = schemas
        self._table = tombstones.table
        self._ghosts = ghosts
        self._workers = workers
        self._clock = clock
        self._time = time
        self.names = names

    def look(self, actions: Sequence[AnyAction], deadline: Deadline) -> None:
        """Before journalled operations. Tombstones are witnessed for puts only: a delete need not come after the delete
        it repeats.

        Raises `UnknownTableError`, `ForeignStampError` or `CommitFailedError`.
        """
        self._see([(action, isinstance(action, Put)) for action in actions], deadline)

    def look_at_commit(
        self, operations: Sequence[AtCommit], others: Sequence[AnyAction], deadline: Deadline
    ) -> tuple[Part, ...]:
        """Before a transaction: its operations, each with the tombstone seen at its key; and the journalled `others`.

        A ghost at one of the keys is removed here, so that the operation need not wait for the audit. Raises as `look`.
        """
        wanted: list[tuple[AnyAction, bool]] = [(operation.action, True) for operation in operations]
        wanted += [(action, isinstance(action, Put)) for action in others]
        sights = self._see(wanted, deadline)
        mine = [sights[canonical_key(operation.action)] for operation in operations]
        haunted = [sight for sight in mine if self._is_haunted(sight)]
        self._remove_ghosts(haunted, deadline)
        return tuple(
            Part(operation, sight.tombstone, item_seen=sight.item is not None and sight not in haunted)
            for operation, sight in zip(operations, mine, strict=True)
        )

    # --- reading ------------------------------------------------------------------------------------------------

    def _see(self, wanted: Sequence[tuple[AnyAction, bool]], deadline: Deadline) -> dict[tuple[str, ...], _Sight]:
        sights = {canonical_key(action): _Sight(action) for action, _ in wanted}
        tombstones: dict[str, _Sight] = {}
        keys: list[tuple[str, WireItem]] = []
        attributes: dict[str, tuple[str, ...]] = {self._table: ("pk", "stamp")}
        key_names: dict[str, tuple[str, ...]] = {}
        for action, with_tombstone in wanted:
            key_names[action.table] = action.key_names
            attributes[action.table] = (*action.key_names, self.names.full, self.names.update)
            keys.append((action.table, action.key))
            if with_tombstone:
                key = tombstone_key(action)
                tombstones[key["pk"]["S"]] = sights[canonical_key(action)]
                keys.append((self._table, key))
        for table, item in self._read(keys, attributes, deadline):
            if table == self._table:
                tombstones[item["pk"]["S"]].tombstone = self._seen_tombstone(item)
            else:
                self._seen_item(table, item)
                sight = sights.get(canonical_place(table, [item[name] for name in key_names[table]]))
                if sight is not None:
                    sight.item = item
        return sights

    def _read(
        self, keys: list[tuple[str, WireItem]], attributes: dict[str, tuple[str, ...]], deadline: Deadline
    ) -> list[tuple[str, WireItem]]:
        try:
            found = self._workers.run_all(
                [partial(self._store.batch_get, page, attributes, deadline) for page in batch_get_pages(keys)]
            )
        except CallFailed as failure:
            raise self._not_witnessed(failure, sorted(attributes.keys() - {self._table})) from failure
        return list(itertools.chain.from_iterable(found))

    def _seen_item(self, table: str, item: WireItem) -> None:
        if is_foreign(item, self.names, self._time):
            raise foreign_stamp(table, self.names.full)
        for stamp in (stamp_of(item, self.names.full), stamp_of(item, self.names.update)):
            if stamp is not None:
                self._clock.witness(stamp)

    def _seen_tombstone(self, item: WireItem) -> Stamp:
        """A clock that followed one from the far future would make stamps that everybody else refuses."""
        stamp = tombstone_stamp(item)
        if stamp is None or is_too_far_ahead(stamp, self._time):
            raise ForeignStampError(
                "A key of this write was deleted by a machine whose clock was more than a day ahead, or its tombstone "
                f"in {self._table} is damaged. Nothing was written. Set that machine's clock; the key takes "
                "puts again once the tombstone is less than a day ahead.",
                table=self._table,
            )
        self._clock.witness(stamp)
        return stamp

    def _not_witnessed(self, failure: CallFailed, tables: list[str]) -> CommitFailedError | UnknownTableError:
        among = ", ".join(tables)
        if failure.kind is FailureKind.TABLE_MISSING:
            for table in tables:
                self._schemas.forget(table)
            return UnknownTableError(f"One of the tables {among} does not exist any more. Nothing was written.")
        advice = "A new scope may be tried."
        if failure.destination is not None:
            advice = _advice_about(failure.destination, failure.kind)
        elif failure.kind is FailureKind.ACCESS_DENIED:
            advice = "The service needs dynamodb:BatchGetItem on these tables and on the system table."
        elif failure.kind is FailureKind.CREDENTIALS:
            advice = "Check the credentials with: aws sts get-caller-identity"
        return CommitFailedError(
            f"The stamps in {among} could not be read: {failure}. Nothing was written. {advice}",
            retryable=failure.kind.retryable or failure.kind is FailureKind.DEADLINE,
        )

    # --- ghosts -------------------------------------------------------------------------------------------------

    def _is_haunted(self, sight: _Sight) -> bool:
        if sight.item is None or sight.tombstone is None:
            return False
        return is_ghost(sight.item, sight.tombstone, self.names)

    def _remove_ghosts(self, sights: Sequence[_Sight], deadline: Deadline) -> None:
        haunted = [self._tombstone(sight) for sight in sights]
        try:
            self._workers.run_all([partial(self._ghosts.audit, tombstone, deadline) for tombstone in haunted])
        except CallFailed as failure:
            raise self._not_witnessed(failure, sorted({tombstone.table for tombstone in haunted})) from failure

    def _tombstone(self, sight: _Sight) -> Tombstone:
        assert sight.tombstone is not None
        action = sight.action
        return Tombstone(tombstone_key(action)["pk"]["S"], sight.tombstone, action.table, action.key)


def _advice_about(destination: str, kind: FailureKind) -> str:
    if kind is FailureKind.ACCESS_DENIED:
        return f"What this service is at destination {destination} needs dynamodb:BatchGetItem on these tables there."
    if kind is FailureKind.CREDENTIALS:
        return f"Check the role and the credentials for destination {destination}, in RELIABLE_WRITE_DESTINATIONS."
    return (
        f"In strict order a write waits for all of its places: try a new scope once destination {destination} answers, "
        "or leave its tables out."
    )


def foreign_stamp(table: str, attribute: str) -> ForeignStampError:
    """An item in this table carries a stamp that cannot be ours."""
    return ForeignStampError(
        f"An item in {table} that this write touches carries a stamp this library did not write ({attribute!r} of "
        "another type or shape, or more than a day in the future). Nothing was written. To take it off: "
        f"reliable-write repair-stamp {table} --key '<the item's key as JSON>'",
        table=table,
    )
