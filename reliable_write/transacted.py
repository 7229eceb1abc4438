"""The commit point of a write with operations at commit or an idempotency key: one transaction, with a receipt.

Unlike a journalled write, one attempt of a transaction may be refused because somebody was later than its stamp; it
then looks again and takes a new stamp, under the same write id. That is no re-stamping after the commit point (CE1):
nothing of the refused attempt is visible anywhere. An attempt whose answer was lost may land at any time, so the
receipt, keyed by the write id, lets only the first one through.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reliable_write import limits
from reliable_write.clock import Deadline, HybridClock, TimeSource
from reliable_write.commit import make_entry, refused, unknown
from reliable_write.dynamodb import CallFailed, Store, TransactionCancelled
from reliable_write.entry import State, UnreadableEntry, shard_of
from reliable_write.errors import (
    CommitFailedError,
    ConditionFailedError,
    FailedCondition,
    IdempotencyMismatchError,
    InvalidExpressionError,
    OperationFailure,
    ReliableWriteError,
    WriteTooLargeError,
)
from reliable_write.events import Event, Events
from reliable_write.first_attempt import Committed, FirstAttempt, Receipt
from reliable_write.journal import Journal
from reliable_write.operations import AtCommit, Operation
from reliable_write.policy import FailureKind, retry_pause_seconds
from reliable_write.receipts import StoredReceipt, request_hash
from reliable_write.transaction import Objection, Refusal, Transaction, read_refusal, transaction_bytes
from reliable_write.values import decode_item
from reliable_write.witness import Witness, foreign_stamp


@dataclass(slots=True)
class Transacted:
    """A write whose commit point is a transaction; committing it again can take effect only once."""

    write_id: str
    operations: tuple[Operation | AtCommit, ...]
    request_hash: str
    begun: Deadline
    """How long it may be committed again, from before the first request."""
    transaction: Transaction
    """The attempt to be sent next, or again."""
    keyed: bool
    """Whether the write id is the caller's idempotency key."""
    tries: int = 0
    perhaps_committed: bool = False
    """An attempt was sent and not answered: it may have landed, or land at any time."""
    cause: BaseException | None = None
    """What botocore said to the last attempt that was refused."""

    @property
    def journalled(self) -> tuple[Operation, ...]:
        """What is left to propagate after the commit point."""
        return tuple(operation for operation in self.operations if isinstance(operation, Operation))

    @property
    def at_commit(self) -> tuple[AtCommit, ...]:
        """What takes effect in it."""
        return tuple(operation for operation in self.operations if isinstance(operation, AtCommit))


class TransactionCommitter:
    """Brings one write through a commit point that is a transaction."""

    def __init__(
        self,
        *,
        store: Store,
        journal: Journal,
        witness: Witness,
        first_attempt: FirstAttempt,
        clock: HybridClock,
        time: TimeSource,
        events: Events,
        strict: bool,
    ) -> None:
        self._store = store
        self._journal = journal
        self._receipts = journal.receipts
        self._witness = witness
        self._first_attempt = first_attempt
        self._clock = clock
        self._time = time
        self._events = events
        self._strict = strict

    def prepare(
        self, operations: Sequence[Operation | AtCommit], deadline: Deadline, idempotency_key: str | None = None
    ) -> Transacted:
        """Witness what is there and take a stamp above it. Nothing is written.

        Raises `UnknownTableError`, `ForeignStampError`, `WriteTooLargeError` or `CommitFailedError`.
        """
        begun = Deadline.after(limits.COMMIT_REPEAT_SECONDS, self._time)
        hashed = request_hash(operations)
        transaction = self._look(tuple(operations), hashed, idempotency_key, None, deadline)
        _check_size(transaction)
        return Transacted(
            write_id=transaction.receipt.write_id,
            operations=tuple(operations),
            request_hash=hashed,
            begun=begun,
            transaction=transaction,
            keyed=idempotency_key is not None,
        )

    def commit(self, prepared: Transacted, deadline: Deadline) -> Receipt:
        """Reach the commit point and propagate what was journalled.

        Raises `ConditionFailedError`, `IdempotencyMismatchError`, `ForeignStampError`, `InvalidExpressionError`,
        `CommitFailedError`, `CommitUnknownError` (commit the same again) or `PropagationPendingError`.
        """
        late = prepared.tries > 0
        prepared.tries += 1
        stored = None
        for looks in itertools.count(1):
            stored = self._attempt(prepared, deadline) or self._look_again(prepared, looks, deadline)
            if stored is not None:
                break
        assert stored is not None
        return self._after(prepared, stored, deadline, late=late)

    # --- looking ------------------------------------------------------------------------------------------------

    def _look(
        self,
        operations: tuple[Operation | AtCommit, ...],
        hashed: str,
        write_id: str | None,
        scope: str | None,
        deadline: Deadline,
    ) -> Transaction:
        """A fresh attempt, with a stamp above everything that is there."""
        journalled = [operation for operation in operations if isinstance(operation, Operation)]
        at_commit = [operation for operation in operations if isinstance(operation, AtCommit)]
        others = [action for operation in journalled for action in operation.actions] if self._strict else []
        parts = self._witness.look_at_commit(at_commit, others, deadline)
        stamp = self._clock.stamp()
        write_id = write_id if write_id is not None else stamp
        shards = self._journal.shards
        entry = make_entry(journalled, stamp, write_id, shards, self._time) if journalled else None
        receipt = StoredReceipt(
            write_id=write_id,
            stamp=stamp,
            request_hash=hashed,
            scope=scope if scope is not None else stamp,
            operations=len(operations),
            at_milliseconds=int(self._time.wall_seconds() * 1000),
            has_entry=entry is not None,
        )
        return Transaction(self._journal.table, self._witness.names, stamp, receipt, entry, parts)

    def _look_again(self, prepared: Transacted, looks: int, deadline: Deadline) -> StoredReceipt | None:
        """Prepare the next attempt, or end the write where no time is left: see `_settle`."""
        pause_seconds = retry_pause_seconds(looks, self._time)
        if pause_seconds >= deadline.remaining_seconds():
            return self._settle(prepared, self._crowded_out(prepared), deadline)
        self._time.sleep(pause_seconds)
        receipt = prepared.transaction.receipt
        try:
            prepared.transaction = self._look(
                prepared.operations, prepared.request_hash, prepared.write_id, receipt.scope, deadline
            )
        except ReliableWriteError as error:
            error.write_id = prepared.write_id
            return self._settle(prepared, error, deadline)
        return None

    def _crowded_out(self, prepared: Transacted) -> CommitFailedError:
        return CommitFailedError(
            f"Write {prepared.write_id} was not committed: other writers kept changing the same items until the "
            "deadline. Nothing was written; a new scope may be tried.",
            write_id=prepared.write_id,
            retryable=True,
        )

    # --- the commit point ---------------------------------------------------------------------------------------

    def _attempt(self, prepared: Transacted, deadline: Deadline) -> StoredReceipt | None:
        """Send the transaction; the receipt that holds, the one sent or that of whoever was first; None: look again."""
        transaction = prepared.transaction
        earlier, prepared.perhaps_committed = prepared.perhaps_committed, True
        try:
            staged = transaction
            if transaction.entry is not None:
                staged = replace(transaction, entry=self._journal.stage(transaction.entry, deadline))
            self._store.transact(staged.actions(), transaction.stamp, deadline)
        except TransactionCancelled as cancelled:
            prepared.perhaps_committed = earlier or cancelled.ambiguous
            prepared.cause = cancelled.__cause__
            return self._read(prepared, read_refusal(transaction, cancelled, self._time), deadline)
        except CallFailed as failure:
            prepared.perhaps_committed = earlier or failure.ambiguous
            if failure.kind is FailureKind.VALIDATION:
                prepared.cause = failure.__cause__
                return self._settle(prepared, self._invalid(prepared, failure), deadline)
            if prepared.perhaps_committed:
                raise unknown(prepared.write_id, failure, self._events) from failure.__cause__
            raise refused(prepared.write_id, failure, self._events) from failure.__cause__
        return transaction.receipt

    def _read(self, prepared: Transacted, refusal: Refusal, deadline: Deadline) -> StoredReceipt | None:
        match refusal.objection:
            case Objection.RECEIPT:
                return self._known(prepared, refusal.receipt)
            case Objection.GUARDS:
                return None
            case Objection.UNKNOWN:
                # A receipt may be among the reasons that were not told.
                prepared.perhaps_committed = True
                error: ReliableWriteError = self._without_reason(prepared)
            case Objection.FOREIGN:
                table = refusal.refused[0].operation.table
                error = foreign_stamp(table, self._witness.names.full)
                error.write_id = prepared.write_id
            case Objection.CONDITION:
                error = self._condition_failed(prepared, refusal)
            case Objection.INVALID:
                one = refusal.refused[0] if refusal.refused else None
                code = one.code if one is not None else "ValidationError"
                error = self._invalid(prepared, code, one.operation.place if one is not None else None)
        return self._settle(prepared, error, deadline)

    def _known(self, prepared: Transacted, receipt: StoredReceipt | None) -> StoredReceipt:
        """This write id has taken effect before: by an attempt of ours that landed, or by another scope."""
        if receipt is None:
            raise unknown(prepared.write_id, "its receipt cannot be read", self._events)
        if receipt.void:
            prepared.perhaps_committed = False
            raise CommitFailedError(
                f"Write {prepared.write_id} was given up by an earlier commit() of this scope. Nothing was written.",
                write_id=prepared.write_id,
            )
        if receipt.request_hash != prepared.request_hash:
            prepared.perhaps_committed = False
            raise IdempotencyMismatchError(
                f"Idempotency key {prepared.write_id!r} was used before, for other operations. Nothing was written "
                "now. Give each write a key of its own, and the same operations whenever it is repeated.",
                write_id=prepared.write_id,
            )
        return receipt

    def _without_reason(self, prepared: Transacted) -> CommitFailedError:
        return CommitFailedError(
            f"Write {prepared.write_id} was not committed: DynamoDB cancelled its transaction without a reason that "
            "this version understands. Nothing was written, and nothing will be; a new scope may be tried.",
            write_id=prepared.write_id,
            retryable=True,
        )

    def _condition_failed(self, prepared: Transacted, refusal: Refusal) -> ConditionFailedError:
        failures = tuple(
            FailedCondition(one.operation.place, one.operation.table, decode_item(one.found) if one.found else None)
            for one in refusal.refused
        )
        self._events.info(Event.WRITE_REFUSED, write_id=prepared.write_id, reason="condition")
        places = ", ".join(f"{failure.operation} on {failure.table}" for failure in failures)
        return ConditionFailedError(
            f"Write {prepared.write_id} was not committed: the condition of {places} is false. Nothing was written.",
            write_id=prepared.write_id,
            failures=failures,
        )

    def _invalid(
        self, prepared: Transacted, code: str | CallFailed, place: str | None = None
    ) -> InvalidExpressionError:
        where = place or "one of " + ", ".join(operation.place for operation in prepared.at_commit)
        return InvalidExpressionError(
            f"Write {prepared.write_id} was not committed: DynamoDB refuses {where} ({code}): an expression that does "
            "not fit the item, or an item that would be too large. Nothing was written.",
            write_id=prepared.write_id,
            operation=place,
        )

    def _settle(self, prepared: Transacted, error: ReliableWriteError, deadline: Deadline) -> StoredReceipt:
        """End a write that was refused: raise the error once it is certain that nothing is written, nor will be.

        Where an earlier attempt was not answered it may still land. A void receipt keeps it from that, or shows that it
        has landed. (An entry alone cannot be fenced so, CE7: it may have come and gone. A receipt stays.) A key of the
        caller's must remain usable, so its fate is unknown for as long as the attempt may land.
        """
        if not prepared.perhaps_committed:
            raise error from prepared.cause
        if prepared.keyed:
            raise unknown(prepared.write_id, error.message, self._events) from error
        try:
            stored = self._receipts.fence(replace(prepared.transaction.receipt, void=True), deadline)
        except CallFailed as failure:
            raise unknown(prepared.write_id, failure, self._events) from error
        if stored is not None:
            return self._known(prepared, stored)
        prepared.perhaps_committed = False
        raise error from prepared.cause

    # --- after it -----------------------------------------------------------------------------------------------

    def _after(self, prepared: Transacted, stored: StoredReceipt, deadline: Deadline, *, late: bool) -> Receipt:
        first = stored.stamp == prepared.transaction.stamp
        write = Committed(
            write_id=prepared.write_id,
            stamp=stored.stamp,
            journalled=prepared.journalled,
            operations=len(prepared.operations),
            duplicate=stored.scope != prepared.transaction.receipt.scope,
        )
        if first and not late:
            return self._first_attempt.propagate(write, deadline, late=False)
        return self._help(write, stored, deadline)

    def _help(self, write: Committed, stored: StoredReceipt, deadline: Deadline) -> Receipt:
        """The write took effect a while ago. What is left of it is in its entry, if that still stands."""
        if not stored.has_entry:
            return self._first_attempt.propagate(replace(write, journalled=()), deadline, late=True)
        try:
            entry = self._journal.read(shard_of(stored.stamp, self._journal.shards), stored.stamp, deadline)
        except CallFailed as failure:
            raise self._not_helped(write, f"its entry could not be read: {failure}") from failure
        except UnreadableEntry as error:
            raise self._not_helped(write, f"its entry cannot be read: {error.reason}", permanent=True) from error
        if entry is None:
            return self._first_attempt.propagate(replace(write, journalled=()), deadline, late=True)
        if entry.state != State.PENDING:
            raise self._not_helped(write, f"it is {entry.state}", permanent=True)
        return self._first_attempt.propagate(replace(write, skipped=entry.skipped), deadline, late=True)

    def _not_helped(self, write: Committed, reason: str, *, permanent: bool = False) -> ReliableWriteError:
        first = write.journalled[0]
        failure = OperationFailure(f"operations[{first.number}]", first.table, reason, permanent)
        return self._first_attempt.pending(write.write_id, [failure])


def _check_size(transaction: Transaction) -> None:
    size = transaction_bytes([part.operation for part in transaction.parts], transaction.entry)
    if transaction.entry is not None and len(transaction.entry.payload or b"") > limits.CHUNK_BYTES_MAX:
        size -= len(transaction.entry.payload or b"")  # it goes to chunks, before the transaction
    if size > limits.TRANSACTION_BYTES_MAX:
        raise WriteTooLargeError(
            f"What is written at commit takes {size} bytes together; DynamoDB takes {limits.TRANSACTION_BYTES_MAX} in "
            "one transaction. Put large items without a condition, so that they are journalled."
        )
