"""The first attempt at a write: witness, stamp, commit point, propagation.

The order of these steps is the protocol. Before the commit point nothing is visible anywhere; everything that must be
known is learnt before it, because after it neither the operations nor the stamp may change (CE1: a write re-stamped
after its commit point overwrites newer ones).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from reliable_write import limits
from reliable_write.clock import Deadline, HybridClock, TimeSource, is_too_far_ahead
from reliable_write.dynamodb import CallFailed, Schemas, Store
from reliable_write.entry import FORMAT, Entry, encode_operations, shard_of
from reliable_write.errors import (
    CommitFailedError,
    CommitUnknownError,
    ForeignStampError,
    OperationFailure,
    PropagationPendingError,
    UnknownTableError,
)
from reliable_write.events import Event, Events
from reliable_write.finished import FinishedEntries
from reliable_write.heartbeats import MonitorCheck
from reliable_write.journal import Journal
from reliable_write.operations import Action, Operation, Put, located_actions
from reliable_write.policy import FailureKind, is_foreign, stamp_of
from reliable_write.propagation import Propagation, Result, Status
from reliable_write.system_table import Installation
from reliable_write.tombstones import tombstone_key, tombstone_stamp
from reliable_write.values import WireItem
from reliable_write.workers import Workers


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a finished commit left behind.

    Every operation is applied, except those in `superseded`: there a write that comes later in order was first. That is
    no error; both writes are durable, and the later one shows.
    """

    write_id: str
    """The id in logs, errors and tools; empty for a scope in which nothing was recorded."""
    stamp: str
    """The write's place in the order of all writes, and what its items carry in `_rw`."""
    operations: int
    """Operations written; a batch counts as one."""
    superseded: tuple[str, ...] = ()
    """Places (`operations[3].items[4]`) whose item a later committed write has replaced already."""


@dataclass(slots=True)
class Prepared:
    """A write with its stamp and bytes fixed; committing it again repeats exactly this."""

    entry: Entry
    operations: tuple[Operation, ...]
    begun: Deadline
    """How long it may be committed again, from before the first request."""
    tries: int = 0
    perhaps_committed: bool = False


class Committer:
    """Brings one write through its commit point and makes the first attempt at propagating it."""

    def __init__(
        self,
        *,
        store: Store,
        schemas: Schemas,
        journal: Journal,
        propagation: Propagation,
        finished: FinishedEntries,
        workers: Workers,
        clock: HybridClock,
        time: TimeSource,
        events: Events,
        installation: Installation,
        monitor_check: MonitorCheck,
    ) -> None:
        self._store = store
        self._schemas = schemas
        self._journal = journal
        self._propagation = propagation
        self._finished = finished
        self._workers = workers
        self._clock = clock
        self._time = time
        self._events = events
        self._installation = installation
        self._monitor_check = monitor_check

    def prepare(self, operations: Sequence[Operation], deadline: Deadline) -> Prepared:
        """Witness what is there, take a stamp above it, and fix the bytes. Nothing is written.

        Raises `UnknownTableError`, `ForeignStampError` or `CommitFailedError`.
        """
        begun = Deadline.after(limits.COMMIT_REPEAT_SECONDS, self._time)
        actions = [action for operation in operations for action in operation.actions]
        if self._installation.order == "strict":
            self._witness(actions, deadline)
        stamp = self._clock.stamp()
        entry = Entry(
            shard=shard_of(stamp, self._journal.shards),
            stamp=stamp,
            write_id=stamp,
            format=FORMAT,
            committed_at_milliseconds=int(self._time.wall_seconds() * 1000),
            payload=encode_operations(operations, stamp, stamp),
        )
        return Prepared(entry, tuple(operations), begun)

    def commit(self, prepared: Prepared, deadline: Deadline) -> Receipt:
        """Reach the commit point and propagate.

        Raises `CommitFailedError`, `CommitUnknownError` (commit the same again) or `PropagationPendingError`.
        """
        late = prepared.tries > 0
        prepared.tries += 1
        self._reach_commit_point(prepared, deadline)
        entry = prepared.entry
        self._events.debug(Event.WRITE_COMMITTED, write_id=entry.write_id, operations=len(prepared.operations))
        actions = located_actions(prepared.operations)
        # A repeated commit comes late: the keys may have been deleted, and the tombstones left, in between.
        results = self._propagation.apply(entry.stamp, actions, deadline, late=late)
        failed = [result for result in results if result.status is Status.FAILED]
        if failed:
            raise self._pending(entry, failed)
        self._finished.add(entry.shard, entry.stamp)
        return self._receipt(prepared, results)

    # --- before the commit point --------------------------------------------------------------------------------

    def _witness(self, actions: Sequence[Action], deadline: Deadline) -> None:
        """Show the clock every stamp at the keys of this write, read strongly.

        Tombstones are witnessed for puts only: a delete need not come after the delete it repeats.
        """
        keys: list[tuple[str, WireItem]] = []
        attributes: dict[str, tuple[str, ...]] = {self._journal.table: ("pk", "stamp")}
        names = self._installation.names
        for action in actions:
            attributes[action.table] = (*action.key_names, names.full, names.update)
            keys.append((action.table, action.key))
            if isinstance(action, Put):
                keys.append((self._journal.table, tombstone_key(action)))
        pages = [keys[at : at + limits.BATCH_GET_KEYS_MAX] for at in range(0, len(keys), limits.BATCH_GET_KEYS_MAX)]
        try:
            found = self._workers.run_all(
                [partial(self._store.batch_get, page, attributes, deadline) for page in pages]
            )
        except CallFailed as failure:
            raise self._not_witnessed(failure, sorted({action.table for action in actions})) from failure
        for table, item in itertools.chain.from_iterable(found):
            self._see(table, item)

    def _see(self, table: str, item: WireItem) -> None:
        names = self._installation.names
        if table == self._journal.table:
            self._see_tombstone(item)
            return
        if is_foreign(item, names, self._time):
            raise _foreign(table, names.full)
        for stamp in (stamp_of(item, names.full), stamp_of(item, names.update)):
            if stamp is not None:
                self._clock.witness(stamp)

    def _see_tombstone(self, item: WireItem) -> None:
        """A clock that followed one from the far future would make stamps that everybody else refuses."""
        stamp = tombstone_stamp(item)
        if stamp is None or is_too_far_ahead(stamp, self._time):
            raise ForeignStampError(
                "A key of this write was deleted by a machine whose clock was more than a day ahead, or its tombstone "
                f"in {self._journal.table} is damaged. Nothing was written. Set that machine's clock; the key takes "
                "puts again once the tombstone is less than a day ahead.",
                table=self._journal.table,
            )
        self._clock.witness(stamp)

    def _not_witnessed(self, failure: CallFailed, tables: list[str]) -> CommitFailedError | UnknownTableError:
        among = ", ".join(tables)
        if failure.kind is FailureKind.TABLE_MISSING:
            for table in tables:
                self._schemas.forget(table)
            return UnknownTableError(f"One of the tables {among} does not exist any more. Nothing was written.")
        advice = "A new scope may be tried."
        if failure.kind is FailureKind.ACCESS_DENIED:
            advice = "The service needs dynamodb:BatchGetItem on these tables and on the system table."
        elif failure.kind is FailureKind.CREDENTIALS:
            advice = "Check the credentials with: aws sts get-caller-identity"
        return CommitFailedError(
            f"The stamps in {among} could not be read: {failure}. Nothing was written. {advice}",
            retryable=failure.kind.retryable or failure.kind is FailureKind.DEADLINE,
        )

    # --- the commit point ---------------------------------------------------------------------------------------

    def _reach_commit_point(self, prepared: Prepared, deadline: Deadline) -> None:
        write_id = prepared.entry.write_id
        # Until an answer says otherwise: an exception of any kind from here on may leave a committed write behind.
        earlier, prepared.perhaps_committed = prepared.perhaps_committed, True
        try:
            self._journal.commit(prepared.entry, deadline)
        except CallFailed as failure:
            if earlier or failure.ambiguous:
                self._events.warning(Event.WRITE_UNKNOWN, write_id=write_id, reason=str(failure))
                raise self._unknown(write_id, failure) from failure.__cause__
            prepared.perhaps_committed = False
            self._events.info(Event.WRITE_REFUSED, write_id=write_id, reason=str(failure))
            raise CommitFailedError(
                f"Write {write_id} was not committed: the journal gave {failure}. Nothing was written, and nothing "
                "will "
                "be; a new scope may be tried.",
                write_id=write_id,
                retryable=failure.kind.retryable or failure.kind is FailureKind.DEADLINE,
            ) from failure.__cause__

    def _unknown(self, write_id: str, failure: CallFailed) -> CommitUnknownError:
        return CommitUnknownError(
            f"Write {write_id} may or may not be committed: {failure}, and an answer was lost. Call commit() again "
            "on the "
            f"same scope within {limits.COMMIT_REPEAT_SECONDS:.0f} s; never record it in a new scope. If it is "
            "committed, "
            "it will be finished without you.",
            write_id=write_id,
        )

    # --- after it -----------------------------------------------------------------------------------------------

    def _pending(self, entry: Entry, failed: list[Result]) -> PropagationPendingError:
        failures = tuple(_failure(result) for result in failed)
        needs_operator = any(failure.permanent for failure in failures)
        self._events.warning(
            Event.WRITE_PENDING,
            write_id=entry.write_id,
            open=len(failures),
            needs_operator=needs_operator,
            tables=sorted({failure.table for failure in failures}),
        )
        self._monitor_check.left_behind(entry.write_id)
        first = failures[0]
        ending = (
            "One of them cannot succeed by itself: an operator must decide."
            if needs_operator
            else "A monitor finishes it; do not write it again."
        )
        return PropagationPendingError(
            f"Write {entry.write_id} is committed and durable, but {len(failures)} of its items are not applied yet; "
            "the "
            f"first: {first.operation} in {first.table}: {first.reason}. {ending}",
            write_id=entry.write_id,
            failures=failures,
            needs_operator=needs_operator,
        )

    def _receipt(self, prepared: Prepared, results: list[Result]) -> Receipt:
        superseded = tuple(result.place for result in results if result.status is Status.SUPERSEDED)
        entry = prepared.entry
        self._events.debug(Event.WRITE_APPLIED, write_id=entry.write_id, superseded=len(superseded))
        return Receipt(entry.write_id, entry.stamp, len(prepared.operations), superseded)


def _failure(result: Result) -> OperationFailure:
    assert result.trouble is not None
    return OperationFailure(result.place, result.table, result.trouble.reason, result.trouble.permanent)


def _foreign(table: str, attribute: str) -> ForeignStampError:
    return ForeignStampError(
        f"An item in {table} that this write touches carries a stamp this library did not write ({attribute!r} of "
        "another "
        "type or shape, or more than a day in the future). Nothing was written. To take it off: "
        f"reliable-write repair-stamp {table} --key '<the item's key as JSON>'",
        table=table,
    )
