"""Every error answers one question first: did the write happen?

    ReliableWriteError(write_id, outcome, retryable)
    |- WriteRejectedError         NOT_WRITTEN      refused before anything was sent
    |  |- TooManyOperationsError                   the 26th sub-operation
    |  |- BatchTooLargeError                       the 26th item of a batch, or an empty batch
    |  |- DuplicateKeyError                        two operations of the scope touch one item
    |  |- WriteTooLargeError                       an item, a key or the whole scope
    |  |- InvalidItemError                         a value DynamoDB cannot hold, with its path
    |  |- InvalidKeyError                          a key that does not fit the table's schema
    |  |- UnknownTableError                        the table does not exist
    |  |- ForeignStampError                        `_rw` holds something this library did not write
    |  |- InvalidExpressionError                   a condition or an update that cannot be meant
    |  |- IdempotencyMismatchError                 the key was used before, for another write
    |  |- ConstraintViolationError                 a record's own constraint refused it
    |  |- UploadRejectedError                      files or a target that cannot be meant
    |  `- UnsupportedOperationError                this installation or engine cannot do it
    |- ConditionFailedError       NOT_WRITTEN      a caller's condition was false; which, and the items found
    |  |- StaleRecordError                         a record's version is not the one in the table
    |  `- LockLostError                            the lock is not held any more
    |- LockNotAcquiredError                        somebody else holds the lock
    |- CommitFailedError          NOT_WRITTEN      the journal refused or was unreachable, for certain
    |- CommitUnknownError         UNKNOWN          commit the same scope again, never a copy
    |- PropagationPendingError    WILL_BE_WRITTEN  durable; a monitor finishes it
    |- ScopeClosedError           (RuntimeError)   misuse: the scope is used up
    |- NestedScopeError           (RuntimeError)   misuse: a scope opened inside another one
    |- WrongThreadError           (RuntimeError)   misuse: a scope used by a second thread or process
    |- RecordDefinitionError      (TypeError)      misuse: a record class that no table can hold
    |- RecordLoadError                             an item that is no record of its class
    |- UploadIncompleteError      UNKNOWN          not all files are in the bucket; which, is in its report
    |- RecordDeletedError                          a shared record that somebody has deleted
    |- CounterOutOfSyncError      (ValueError)     a counter was moved by somebody else since this handle saw it
    |- CounterLimitError                           a counter's bound forbids the step
    |- CounterTypeError           (TypeError)      what a counter's attribute holds is no whole number
    |- CounterUnknownError        UNKNOWN          a step of a counter may be counted: settle() tells
    |- EntryNotFoundError                          no journal entry has this write id
    |- TooLateError                                somebody else moved the entry first
    |- ReadFailedError                             a read got no answer; nothing was written by it
    |- ConsistentReadRefusedError                  a read that cannot be consistent, or not for certain
    |- LookFailedError                             pending writes could not be looked for; nothing was to be written
    `- ConfigurationError                          the installation, not the write

`outcome` is a fact about the tables, not a guess: UNKNOWN is said when it is unknown. Botocore's own error, where there
was one, is `__cause__`. All of them pickle, so they cross process pools and task queues.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class Outcome(enum.StrEnum):
    """What holds in the tables after the error."""

    NOT_WRITTEN = "NOT_WRITTEN"
    """Nothing was applied and nothing will be."""
    WRITTEN = "WRITTEN"
    """Everything is applied."""
    WILL_BE_WRITTEN = "WILL_BE_WRITTEN"
    """Committed: every operation will be applied, or superseded by a later write, without the caller."""
    UNKNOWN = "UNKNOWN"
    """The commit request was sent and its answer lost. Only committing the same scope again can tell."""


@dataclass(frozen=True, slots=True)
class OperationFailure:
    """Why one operation is not applied yet. Holds no item values."""

    operation: str
    """Where it stands in the scope, for instance `operations[3].items[4]`."""
    table: str
    reason: str
    """One sentence for a person."""
    permanent: bool
    """True where trying again cannot help and an operator must decide."""


class ReliableWriteError(Exception):
    """The root of all errors raised by this library.

    `write_id` is the scope's id (36 characters) or None where none was given out yet; `retryable` tells whether the
    same call may succeed later without anybody changing anything.
    """

    outcome: Outcome = Outcome.NOT_WRITTEN
    retryable: bool = False
    write_id: str | None = None

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        for name, value in facts.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Callable[..., ReliableWriteError], tuple[Any, ...]]:
        return _revive, (type(self), self.message, dict(self.__dict__))


def _revive(kind: type[ReliableWriteError], message: str, facts: Mapping[str, Any]) -> ReliableWriteError:
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.__dict__.update(facts)
    return error


def _without(reduced: tuple[Any, tuple[Any, ...]], left_out: str) -> tuple[Any, tuple[Any, ...]]:
    revive, (kind, message, facts) = reduced
    return revive, (kind, message, {name: fact for name, fact in facts.items() if name != left_out})


class WriteRejectedError(ReliableWriteError):
    """Refused before anything was written; the refused operation is not part of the scope.

    `operation` says where it stands (`operations[3].items[4]`), `table` which table it was for, `key` the item's key
    as the caller gave it. The key is not in the message: messages end up in logs.
    """

    operation: str | None = None
    table: str | None = None
    key: Mapping[str, Any] | None = None


class TooManyOperationsError(WriteRejectedError):
    """More sub-operations than a scope takes (`limits.OPERATIONS_MAX`)."""


class BatchTooLargeError(WriteRejectedError):
    """More items than a batch takes (`limits.BATCH_ITEMS_MAX`), or none."""


class DuplicateKeyError(WriteRejectedError):
    """Two operations of one scope touch the same item, so no order between them exists."""


class WriteTooLargeError(WriteRejectedError):
    """An item, a key or the whole scope is over DynamoDB's or the journal's size limit."""


class InvalidItemError(WriteRejectedError):
    """A value that DynamoDB cannot hold. `path` names it, for instance `lines[3].price`."""

    path: str | None = None


class InvalidKeyError(WriteRejectedError):
    """A key attribute is missing, empty, of the wrong type, or not part of the table's key."""


class UnknownTableError(WriteRejectedError):
    """The table, or the destination's name, does not exist for this writer."""


class ForeignStampError(WriteRejectedError):
    """The stamp attribute holds something this library did not write, so no order can be known.

    Raised for an item given to `put_item` and for an item found in a table; nothing was written in either case.
    """


class InvalidExpressionError(WriteRejectedError):
    """A condition or update expression that is empty, too long, or does not fit its placeholders."""


class IdempotencyMismatchError(WriteRejectedError):
    """The idempotency key was used before, for other operations. Nothing was written now; the first write holds."""


class ConstraintViolationError(WriteRejectedError):
    """A constraint of the record's type refused it; it is no part of the scope.

    `loc` is where, as pydantic tells places (`("lines", 3, "price")`); `constraint` the name of the constraint's class.
    """

    loc: tuple[int | str, ...] = ()
    constraint: str = ""


class UploadRejectedError(WriteRejectedError):
    """A folder, a list of files, a target or an option of an upload that cannot be meant; nothing was sent."""


class UnsupportedOperationError(WriteRejectedError):
    """This installation or engine lacks what the operation needs; the message names it."""


@dataclass(frozen=True, slots=True)
class FailedCondition:
    """One operation whose condition was false."""

    operation: str
    """Where it stands in the scope, for instance `operations[3]`."""
    table: str
    item: Mapping[str, Any] | None = field(repr=False)
    """The item found there, as Python values; None where there was none."""


class ConditionFailedError(ReliableWriteError):
    """A condition of the caller's was false, so nothing of the scope is written.

    `failures` lists every operation that was found refused, in the caller's order, each with the item it met. Values
    are in the attributes only, never in the message.
    """

    failures: Sequence[FailedCondition] = ()


class StaleRecordError(ConditionFailedError):
    """A record with a checked version has been changed by somebody else, so nothing of the scope is written.

    `expected` is the local object's version (None where it was never saved), `actual` the one in the table (None where
    the item is gone, or has none), `item` what is there now, as Python values; read it, decide, and try again.
    """

    expected: Any = None
    actual: Any = None
    item: Mapping[str, Any] | None = None


class LockLostError(ConditionFailedError):
    """A lock is not held any more: its lease ran out, somebody took it over, or an operator released it.

    From a guarded scope's commit: nothing of the scope is written. From the end of a `with` block, `outcome` is
    UNKNOWN: what the block wrote by guarded scopes is as their commits said, and what it did otherwise may have met
    another holder. `token` is the one that was held; `owner` who holds the lock now, where that is known. `table` and
    `key` tell which lock; the key is not in the message.
    """

    table: str | None = None
    key: Mapping[str, Any] | None = None
    token: int | None = None
    owner: str | None = None


class LockNotAcquiredError(ReliableWriteError):
    """Somebody else holds the lock, and the time to wait for it was over.

    `owner` is who; `since_milliseconds` since when by the owner's own clock (for people), `seen_seconds` for how long
    this process has seen no sign of life of it, and `until_milliseconds` when, by this process's wall clock, the lock
    may be taken over if there is none. `table` and `key` tell which lock; the key is not in the message.
    """

    table: str | None = None
    key: Mapping[str, Any] | None = None
    owner: str | None = None
    since_milliseconds: int | None = None
    seen_seconds: float = 0.0
    until_milliseconds: int | None = None


@dataclass(frozen=True, slots=True)
class LoadProblem:
    """Why an item could not be loaded, at one place. Holds no value of the item."""

    path: str
    """Where, for instance `lines[3].price`."""
    kind: str
    """What, as pydantic calls it: `missing`, `decimal_parsing`
    (https://docs.pydantic.dev/latest/errors/validation_errors/)."""


class CommitFailedError(ReliableWriteError):
    """The commit point was definitely not reached: nothing is written, and a new scope may be tried."""


class CommitUnknownError(ReliableWriteError):
    """The commit request may or may not have been applied.

    Call `commit()` again on the SAME scope (also after the `with` block) within `limits.COMMIT_REPEAT_SECONDS` of the
    first attempt: same id, same bytes, so nothing can happen twice. Never record the operations in a new scope.
    """

    outcome = Outcome.UNKNOWN
    retryable = True
    scope: Any = None
    """The scope to commit again, in the thread that made it: `error.scope.commit()`. None in other processes."""

    def __reduce__(self) -> tuple[Callable[..., ReliableWriteError], tuple[Any, ...]]:
        """Without the scope, which belongs to its process."""
        return _without(super().__reduce__(), "scope")


class PropagationPendingError(ReliableWriteError):
    """The write is committed and durable, but not all operations were applied within the attempt's deadline.

    A monitor finishes it; the caller must not write it again. `failures` lists what is still open; `needs_operator` is
    True where one of them is permanent and will end in quarantine.
    """

    outcome = Outcome.WILL_BE_WRITTEN
    needs_operator: bool = False
    failures: Sequence[OperationFailure] = ()


class ScopeClosedError(ReliableWriteError, RuntimeError):
    """The scope was committed, discarded or left; scopes are single-use. `outcome` is that of the scope."""


class NestedScopeError(ReliableWriteError, RuntimeError):
    """A scope was entered inside another open scope; the inner one would commit on its own."""


class WrongThreadError(ReliableWriteError, RuntimeError):
    """A scope belongs to the thread and the process that made it."""


class RecordDefinitionError(ReliableWriteError, TypeError):
    """A record class contradicts itself, or holds what no item can. Raised when the class is made."""


class RecordLoadError(ReliableWriteError):
    """An item read from a table is no record of the class it was read for; reading wrote nothing.

    `table` says where it lies and `key` which item it is; neither the key's nor any other value is in the message.
    `problems` are where and what, in pydantic's words for kinds of problem.
    """

    table: str | None = None
    key: Mapping[str, Any] | None = None
    problems: Sequence[LoadProblem] = ()


class RecordDeletedError(ReliableWriteError):
    """A shared record was deleted, by whomever; nothing was written, and nothing old is shown.

    `table` and `key` tell which. The key is not in the message.
    """

    table: str | None = None
    key: Mapping[str, Any] | None = None


class CounterOutOfSyncError(ReliableWriteError, ValueError):
    """Another process moved the counter since this handle saw it. Nothing was written; the handle shows what is there.

    `expected` is what the handle had seen, `actual` what it shows now. `table` and `counter` say which one it is.
    """

    table: str | None = None
    counter: str | None = None
    expected: int | None = None
    actual: int | None = None


class CounterLimitError(ReliableWriteError):
    """The step would take the counter over a bound; nothing was written, and nothing of it will be.

    `value` is what the counter held when the store refused the step, `limit` the bound.
    """

    table: str | None = None
    counter: str | None = None
    value: int | None = None
    limit: int | None = None


class CounterTypeError(ReliableWriteError, TypeError):
    """The counter's attribute holds something else than a whole number. `found` is its type as the wire has it (`S`).

    `repairable` tells whether `repair()` can make a number of it, as of the string "0".
    """

    table: str | None = None
    counter: str | None = None
    attribute: str | None = None
    found: str | None = None
    repairable: bool = False


class CounterUnknownError(ReliableWriteError):
    """A step was sent and not answered: it may be counted, or be counted later.

    `error.settle()` finds out: the value after the step, or None where it is not counted, and then never will be. It
    raises this error again where there is no answer. `settle` is None in other processes, and where it can no longer
    be told.
    """

    outcome = Outcome.UNKNOWN
    table: str | None = None
    counter: str | None = None
    settle: Callable[[], int | None] | None = None

    def __reduce__(self) -> tuple[Callable[..., ReliableWriteError], tuple[Any, ...]]:
        """Without what settles it, which belongs to its process."""
        return _without(super().__reduce__(), "settle")


class UploadIncompleteError(ReliableWriteError):
    """Not all files of an upload are in the bucket with their content; `report` says of each what holds.

    The same upload may be run again at any time: what is there is not sent again. `retryable` is True where that alone
    may help: nothing was found there with other content.
    """

    outcome = Outcome.UNKNOWN
    report: Any = None


class EntryNotFoundError(ReliableWriteError):
    """No journal entry has this write id: finished, never committed, or discarded. It cannot be told which."""

    outcome = Outcome.UNKNOWN


class TooLateError(ReliableWriteError):
    """Another process moved the entry between our look and our change; look again.

    `ambiguous` is True where an answer was lost on the way: then it may have been our own request that moved it.
    """

    outcome = Outcome.WILL_BE_WRITTEN
    retryable = True
    ambiguous: bool = False


class ReadFailedError(ReliableWriteError):
    """A read got no answer, or was refused; it wrote nothing. `retryable` tells whether it may succeed later.

    `table` is where it read. Botocore's own error is the cause.
    """

    table: str | None = None


class ConsistentReadRefusedError(ReliableWriteError):
    """A read of an index that cannot be consistent, or is not known to be; it was not sent. See `ConsistentReadScope`.

    `retryable` is True where the table could not be described for a reason that may pass.
    """

    table: str | None = None
    index: str | None = None


class LookFailedError(ReliableWriteError):
    """What is pending on these keys could not be read, so nothing can be said about them. A look writes nothing."""


class ConfigurationError(ReliableWriteError):
    """The installation is incomplete or contradicts itself; the message ends with the command to run."""
