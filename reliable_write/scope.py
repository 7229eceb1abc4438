"""The scope: what services hold. It records, checks, and commits once; thread-confined, single-use and cheap.

recording --commit()--> done | pending | refused
    |                      unknown --commit()--> ...
    `--discard(), or leaving the block--> dropped
"""

from __future__ import annotations

import contextlib
import enum
import os
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Literal, Self, overload

from reliable_write import limits
from reliable_write.at_commit import Change, Condition, Given
from reliable_write.clock import Deadline
from reliable_write.commit import Prepared
from reliable_write.engine import Engine
from reliable_write.errors import (
    CommitUnknownError,
    ConditionFailedError,
    InvalidExpressionError,
    NestedScopeError,
    Outcome,
    ReliableWriteError,
    ScopeClosedError,
    WriteRejectedError,
    WrongThreadError,
)
from reliable_write.events import Event
from reliable_write.first_attempt import Receipt
from reliable_write.intents import Checkable, Writable
from reliable_write.operations import (
    Operation,
)
from reliable_write.plan import Plan, make_plan
from reliable_write.receipts import check_key
from reliable_write.recording import HasEngine, Recorded, Recording
from reliable_write.transacted import Transacted

_entered: ContextVar[ReliableWriteScope | None] = ContextVar("reliable_write_entered_scope", default=None)


class UncommittedScopeWarning(UserWarning):
    """A scope was left without `commit()`: what it had recorded was dropped."""


class _State(enum.Enum):
    """The words follow "This scope"."""

    RECORDING = "is still recording."
    DONE = "is committed: nothing is left to do, and its write must not be recorded again."
    PENDING = "is committed and will be finished by recovery: its write must not be recorded again."
    REFUSED = "was not committed, and nothing was written. Record the write in a new scope."
    UNKNOWN = "may or may not be committed. Only commit() may be called on it; it settles the question."
    DROPPED = "was dropped, and nothing was written. Record the write in a new scope."


_OUTCOMES = {
    _State.DONE: Outcome.WRITTEN,
    _State.PENDING: Outcome.WILL_BE_WRITTEN,
    _State.UNKNOWN: Outcome.UNKNOWN,
}
_STATES = {outcome: state for state, outcome in _OUTCOMES.items()} | {Outcome.NOT_WRITTEN: _State.REFUSED}

Strategy = Literal["journal", "transaction"]


class ReliableWriteScope:
    """Records up to 25 sub-operations over several tables and commits all of them, or none.

        with ReliableWriteScope(writer) as scope:
            scope.put_item("employees", Item=employee)
            scope.delete_item("people", Key={"id": person_id})
            receipt = scope.commit()

    Nothing is sent before `commit()` but a DescribeTable for each new table. An exception before `commit()` means
    nothing is written, and passes unchanged. Leaving the block without `commit()` drops everything with a warning;
    `discard()` does so silently.

    A scope belongs to the thread that made it. A scope inside another one would commit by itself, whatever becomes of
    the outer one, so it must say `independent=True`.

    With an `idempotency_key` (1 to 256 bytes) the write happens once: the same key again, from any process and for as
    long as receipts are kept (14 days), writes nothing and returns the first receipt with `duplicate=True`.
    """

    def __init__(
        self,
        writer: HasEngine,
        *,
        idempotency_key: str | None = None,
        independent: bool = False,
        commit_on_exit: bool = False,
    ) -> None:
        if not hasattr(writer, "engine"):
            raise TypeError(
                f"A scope takes a ReliableWriter, not {type(writer).__name__}. For a boto3 client: "
                "ReliableWriter(client=client)."
            )
        self._independent = independent
        self._commit_on_exit = commit_on_exit
        self._home = (os.getpid(), threading.get_ident())
        self._key = None if idempotency_key is None else check_key(idempotency_key)
        self._recording = Recording(writer, keyed=self._key is not None)
        self._state = _State.RECORDING
        self._prepared: Prepared | Transacted | None = None
        self._token: Token[ReliableWriteScope | None] | None = None

    @property
    def write_id(self) -> str | None:
        """The write's id, known from the moment the first commit was tried."""
        return self._prepared.write_id if self._prepared else None

    def __len__(self) -> int:
        """Sub-operations recorded."""
        return self._recording.count

    def __bool__(self) -> bool:
        """A scope is true also when it is empty."""
        return True

    # --- recording ----------------------------------------------------------------------------------------------

    def put_item(
        self,
        table: str,
        Item: Mapping[str, Any],  # noqa: N803 - boto3's keyword
        ConditionExpression: Condition | None = None,  # noqa: N803
        ExpressionAttributeNames: Mapping[str, str] | None = None,  # noqa: N803
        ExpressionAttributeValues: Mapping[str, Any] | None = None,  # noqa: N803
        *,
        at_commit: bool = False,
    ) -> None:
        """Replace one item; counts as one sub-operation.

        `Item` holds Python values as boto3's resources take them (str, int, Decimal, bytes, bool, None, list, dict,
        set). With a condition (a string, or a `boto3.dynamodb.conditions` object) or `at_commit=True`, which is for
        items that are also updated, it takes effect in the commit point itself. Raises a `WriteRejectedError` naming
        the operation and what is wrong; then nothing is recorded.
        """
        given = Given(ConditionExpression, ExpressionAttributeNames, ExpressionAttributeValues, at_commit)
        self._check_recording()
        self._recording.one("put_item", table, Item, given)

    @overload
    def put_items(self, table: str, items: Iterable[Mapping[str, Any]]) -> None: ...

    @overload
    def put_items(self, table: Iterable[Writable], /) -> None: ...

    def put_items(self, table: str | Iterable[Writable], items: Iterable[Mapping[str, Any]] | None = None) -> None:
        """Replace up to 25 items of one table; counts as one sub-operation. Raises as `put_item`.

        `put_items(table, items)`, or `put_items(records)`.
        """
        self._check_recording()
        if items is None and not isinstance(table, str):
            self._recording.writables("put", table)
        else:
            self._recording.batch("put_items", table, items)  # type: ignore[arg-type]  # callers may not type-check

    def put(self, record: Writable) -> None:
        """Put a record, which knows its table and its version; counts as one sub-operation. Raises as `put_item`.

        A record with a checked version takes effect in the commit point. The local object moves to its new version
        once the outcome is known to be WRITTEN or WILL_BE_WRITTEN.
        """
        self._check_recording()
        self._recording.writable("put", record)

    def delete_item(
        self,
        table: str,
        Key: Mapping[str, Any],  # noqa: N803 - boto3's keyword
        ConditionExpression: Condition | None = None,  # noqa: N803
        ExpressionAttributeNames: Mapping[str, str] | None = None,  # noqa: N803
        ExpressionAttributeValues: Mapping[str, Any] | None = None,  # noqa: N803
        *,
        at_commit: bool = False,
    ) -> None:
        """Delete one item, whether it exists or not; counts as one sub-operation. Otherwise as `put_item`."""
        given = Given(ConditionExpression, ExpressionAttributeNames, ExpressionAttributeValues, at_commit)
        self._check_recording()
        self._recording.one("delete_item", table, Key, given)

    @overload
    def delete_items(self, table: str, keys: Iterable[Mapping[str, Any]]) -> None: ...

    @overload
    def delete_items(self, table: Iterable[Writable], /) -> None: ...

    def delete_items(self, table: str | Iterable[Writable], keys: Iterable[Mapping[str, Any]] | None = None) -> None:
        """Delete up to 25 items of one table; counts as one sub-operation. Raises as `put_item`.

        `delete_items(table, keys)`, or `delete_items(records)`.
        """
        self._check_recording()
        if keys is None and not isinstance(table, str):
            self._recording.writables("delete", table)
        else:
            self._recording.batch("delete_items", table, keys)  # type: ignore[arg-type]  # callers may not type-check

    def delete(self, record: Writable) -> None:
        """Delete a record; counts as one sub-operation. As `put`."""
        self._check_recording()
        self._recording.writable("delete", record)

    def update_item(
        self,
        table: str,
        Key: Mapping[str, Any],  # noqa: N803 - boto3's keyword
        UpdateExpression: str | None = None,  # noqa: N803
        ConditionExpression: Condition | None = None,  # noqa: N803
        ExpressionAttributeNames: Mapping[str, str] | None = None,  # noqa: N803
        ExpressionAttributeValues: Mapping[str, Any] | None = None,  # noqa: N803
        *,
        add: Mapping[str, Any] | None = None,
        set: Mapping[str, Any] | None = None,  # noqa: A002 - the verb of update expressions
        remove: Iterable[str] = (),
    ) -> None:
        """Change attributes of one item, or make it, exactly once, in the commit point itself.

        Either an `UpdateExpression` with its placeholders, or `add={"count": 1}`, `set={"state": "paid"}` and
        `remove=["draft"]`, by whole attribute names. Raises as `put_item`.
        """
        given = Given(ConditionExpression, ExpressionAttributeNames, ExpressionAttributeValues)
        change = Change(UpdateExpression, add or {}, set or {}, remove if isinstance(remove, str) else list(remove))
        self._check_recording()
        self._recording.update(table, Key, change, given)

    def condition_check(
        self,
        table: str,
        Key: Mapping[str, Any],  # noqa: N803 - boto3's keyword
        ConditionExpression: Condition,  # noqa: N803
        ExpressionAttributeNames: Mapping[str, str] | None = None,  # noqa: N803
        ExpressionAttributeValues: Mapping[str, Any] | None = None,  # noqa: N803
    ) -> None:
        """Write nothing here, but let the whole scope depend on this condition. Raises as `put_item`."""
        given = Given(ConditionExpression, ExpressionAttributeNames, ExpressionAttributeValues, at_commit=True)
        if ConditionExpression is None:
            raise InvalidExpressionError(f"condition_check on {table}: ConditionExpression is missing.")
        self._check_recording()
        self._recording.one("condition_check", table, Key, given)

    def check(self, checkable: Checkable) -> None:
        """Write nothing here, but let the whole scope depend on what an object says of its item: a lease, that it holds
        its lock. Counts as one sub-operation. Raises as `condition_check`.
        """
        self._check_recording()
        self._recording.writable("check", checkable)

    # --- ending -------------------------------------------------------------------------------------------------

    def commit(self, *, strategy: Strategy = "journal") -> Receipt:
        """Write everything, or nothing; returns when all of it is applied.

        With `strategy="transaction"` the whole scope is one native transaction with a receipt: isolated, up to 49 items
        and 4 MB, at twice the write units. What does not fit is refused by name, and nothing is written.

        Raises, each with `outcome` and `write_id`:

        - `ConditionFailedError`: a condition was false; nothing is written.
        - `IdempotencyMismatchError`: the key was used for another write; nothing is written now.
        - `CommitFailedError`, `ForeignStampError`, `UnknownTableError` and other `WriteRejectedError`s: nothing is
          written.
        - `CommitUnknownError`: call `commit()` again on this scope, also after its block; never make a copy.
        - `PropagationPendingError`: it is committed, and a monitor finishes it; do not write it again.

        Takes at most the attempt's deadline (8 s) plus one read timeout. An empty scope commits without a request.
        """
        self._check_home()
        if self._state is _State.UNKNOWN:
            return self._commit_again()
        self._check_recording()
        if not self._operations:
            self._state = _State.DONE
            return Receipt("", "", 0)
        operations = self._operations
        if strategy == "transaction":
            operations = list(self._recording.in_one_transaction())
        elif strategy != "journal":
            raise ValueError(f"strategy is 'journal' or 'transaction', not {strategy!r}.")
        deadline = self._engine.attempt_deadline()
        try:
            self._prepared = self._prepare(operations, deadline)
        except ReliableWriteError as error:
            self._recording.intents.settle(error.outcome)
            raise
        return self._attempt(self._prepared, deadline)

    def _send(self, prepared: Prepared | Transacted, deadline: Deadline) -> Receipt:
        if isinstance(prepared, Prepared):
            return self._engine.committer.commit(prepared, deadline)
        return self._engine.transaction_committer.commit(prepared, deadline)

    def discard(self) -> None:
        """Drop what was recorded, silently. Does nothing to a scope that has ended."""
        self._check_home()
        if self._state is _State.RECORDING:
            self._state = _State.DROPPED

    def plan(self) -> Plan:
        """What committing would take, as far as it is known before: items, bytes, requests and write units of both
        strategies, and which operations take effect at the commit. Sends nothing.
        """
        self._check_recording()
        strict = self._engine.installation.order == "strict"
        return make_plan(self._operations, keyed=self._key is not None, strict=strict)

    def _prepare(self, operations: Sequence[Recorded], deadline: Deadline) -> Prepared | Transacted:
        self._state = _State.REFUSED  # unless this succeeds
        engine = self._engine
        plain = [operation for operation in operations if isinstance(operation, Operation)]
        if self._key is None and len(plain) == len(operations):
            return engine.committer.prepare(plain, deadline)
        return engine.transaction_committer.prepare(operations, deadline, self._key)

    def _commit_again(self) -> Receipt:
        assert self._prepared is not None
        if self._prepared.begun.passed():
            raise CommitUnknownError(
                f"Write {self.write_id} was first tried more than {limits.COMMIT_REPEAT_SECONDS:.0f} s ago; "
                "committing it again could undo a later delete. If it was committed, a monitor has finished it: look "
                "at the tables.",
                write_id=self.write_id,
                retryable=False,
                scope=self,
            )
        return self._attempt(self._prepared, self._engine.attempt_deadline())

    def _attempt(self, prepared: Prepared | Transacted, deadline: Deadline) -> Receipt:
        self._state = _State.UNKNOWN  # also for KeyboardInterrupt and the like, wherever it strikes
        try:
            receipt = self._send(prepared, deadline)
        except ReliableWriteError as error:
            self._state = _STATES[error.outcome]
            self._recording.intents.settle(error.outcome)
            if isinstance(error, ConditionFailedError):
                raise self._told(error) from error.__cause__
            if isinstance(error, CommitUnknownError):
                error.scope = self
            raise
        except BaseException as interruption:  # Ctrl-C, a signal's timeout: it too answers whether the write happened
            interruption.add_note(
                f"reliable-write: the commit of write {self.write_id} was interrupted; it may be written. commit() on "
                f"the same scope settles it, and so does writer.recovery.resume({self.write_id!r})."
            )
            raise
        self._state = _State.DONE
        self._recording.intents.settle(Outcome.WRITTEN)
        return receipt

    def _told(self, error: ConditionFailedError) -> ConditionFailedError:
        return self._recording.intents.told(error, self._engine.installation.names)

    # --- the block ----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._check_recording()
        outer = _entered.get()
        if self._token is not None:
            raise NestedScopeError("This scope was entered before; scopes are single-use.")
        if outer is not None and outer._is_open_here() and not self._independent:  # noqa: SLF001 - a scope too
            raise NestedScopeError(
                "A scope was opened inside another one. It would commit by itself, whatever becomes of the outer one: "
                "pass the outer scope along, or say ReliableWriteScope(writer, independent=True)."
            )
        self._token = _entered.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._token is not None:
            with contextlib.suppress(ValueError):  # left in another context, as async generators may be
                _entered.reset(self._token)
        if self._state is not _State.RECORDING:
            return
        if error is not None:
            self._abandon(error)
        elif self._commit_on_exit:
            self.commit()
        else:
            self._drop()

    def _abandon(self, error: BaseException) -> None:
        self._state = _State.DROPPED
        if self._operations:
            self._engine.events.info(
                Event.SCOPE_ABANDONED,
                operations=len(self._operations),
                tables=self._tables(),
                error=type(error).__name__,
            )

    def _drop(self) -> None:
        self._state = _State.DROPPED
        if not self._operations:
            return
        tables = self._tables()
        self._engine.events.info(Event.SCOPE_DROPPED, operations=len(self._operations), tables=tables)
        warnings.warn(self._dropped(), UncommittedScopeWarning, stacklevel=3)

    def _dropped(self) -> str:
        verbs = ", ".join(f"{operation.verb} on {operation.table}" for operation in self._operations)
        return (
            f"A scope was left without commit(): nothing was written of what it had recorded ({verbs}). "
            "Call commit(), or discard() to drop it silently."
        )

    def __del__(self) -> None:
        """A scope without a block, forgotten: say so, as asyncio does of a coroutine that was never awaited."""
        if getattr(self, "_token", self) is None and self._is_open_here() and self._operations:
            warnings.warn(self._dropped(), UncommittedScopeWarning, source=self, stacklevel=1)

    def _tables(self) -> list[str]:
        return sorted({operation.table for operation in self._operations})

    # --- misuse -------------------------------------------------------------------------------------------------

    @property
    def _engine(self) -> Engine:
        """Asked for once, when first needed: making a scope sends nothing, and leaving one cannot fail."""
        return self._recording.engine

    @property
    def _operations(self) -> list[Recorded]:
        return self._recording.operations

    def _is_open_here(self) -> bool:
        """Still recording, and in this process: a child forked inside a block inherits its context, not the scope."""
        return self._state is _State.RECORDING and self._home[0] == os.getpid()

    def _check_home(self) -> None:
        here = (os.getpid(), threading.get_ident())
        if here != self._home:
            what = "thread" if here[0] == self._home[0] else "process"
            advice = f"Make one scope in each {what}; the writer may be shared."
            if self._state is _State.UNKNOWN:
                advice = (
                    "Whether it is written is unknown, so do not record it anew: commit() there settles it, and "
                    f"writer.status({self.write_id!r}) tells what is known."
                )
            raise WrongThreadError(
                f"A scope belongs to the {what} that made it. {advice}",
                write_id=self.write_id,
                outcome=_OUTCOMES.get(self._state, Outcome.NOT_WRITTEN),
            )

    def _check_recording(self) -> None:
        self._check_home()
        if self._state is not _State.RECORDING:
            named = f" (write {self.write_id})" if self.write_id else ""
            raise ScopeClosedError(
                f"This scope{named} {self._state.value}",
                write_id=self.write_id,
                outcome=_OUTCOMES.get(self._state, Outcome.NOT_WRITTEN),
            )


__all__ = ["HasEngine", "ReliableWriteScope", "UncommittedScopeWarning", "WriteRejectedError"]
