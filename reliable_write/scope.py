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
from collections.abc import Iterable, Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Protocol, Self

from reliable_write import limits
from reliable_write.clock import Deadline
from reliable_write.commit import Prepared, Receipt
from reliable_write.engine import Engine
from reliable_write.errors import (
    BatchTooLargeError,
    CommitFailedError,
    CommitUnknownError,
    DuplicateKeyError,
    NestedScopeError,
    Outcome,
    PropagationPendingError,
    ReliableWriteError,
    ScopeClosedError,
    TooManyOperationsError,
    UnknownTableError,
    UnsupportedOperationError,
    WriteRejectedError,
    WriteTooLargeError,
    WrongThreadError,
)
from reliable_write.events import Event
from reliable_write.operations import (
    Action,
    Operation,
    Put,
    TableSchema,
    Verb,
    action_path,
    canonical_key,
    check_batch,
    make_delete,
    make_put,
)
from reliable_write.values import decode_item, item_bytes

_entered: ContextVar[ReliableWriteScope | None] = ContextVar("reliable_write_entered_scope", default=None)


class UncommittedScopeWarning(UserWarning):
    """A scope was left without `commit()`: what it had recorded was dropped."""


class HasEngine(Protocol):
    """What a scope needs of a writer."""

    def engine(self) -> Engine:
        """The parts that do the work."""
        ...


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
    """

    def __init__(self, writer: HasEngine, *, independent: bool = False, commit_on_exit: bool = False) -> None:
        if not hasattr(writer, "engine"):
            raise TypeError(
                f"A scope takes a ReliableWriter, not {type(writer).__name__}. For a boto3 client: "
                "ReliableWriter(client=client)."
            )
        self._writer = writer
        self._independent = independent
        self._commit_on_exit = commit_on_exit
        self._home = (os.getpid(), threading.get_ident())
        self._operations: list[Operation] = []
        self._places: dict[tuple[str, ...], str] = {}
        self._bytes = 0
        self._state = _State.RECORDING
        self._prepared: Prepared | None = None
        self._token: Token[ReliableWriteScope | None] | None = None
        self._parts: Engine | None = None

    @property
    def write_id(self) -> str | None:
        """The write's id, known from the moment the first commit was tried."""
        return self._prepared.entry.write_id if self._prepared else None

    def __len__(self) -> int:
        """Sub-operations recorded."""
        return len(self._operations)

    def __bool__(self) -> bool:
        """A scope is true also when it is empty."""
        return True

    # --- recording ----------------------------------------------------------------------------------------------

    def put_item(self, table: str, Item: Mapping[str, Any]) -> None:  # noqa: N803 - boto3's keyword
        """Replace one item; counts as one sub-operation.

        `Item` holds Python values as boto3's resources take them (str, int, Decimal, bytes, bool, None, list, dict,
        set). Raises a `WriteRejectedError` naming the operation and what is wrong; then nothing is recorded.
        """
        self._record("put_item", table, [Item])

    def put_items(self, table: str, items: Iterable[Mapping[str, Any]]) -> None:
        """Replace up to 25 items of one table; counts as one sub-operation. Raises as `put_item`."""
        self._record("put_items", table, self._batch("put_items", table, items))

    def delete_item(self, table: str, Key: Mapping[str, Any]) -> None:  # noqa: N803 - boto3's keyword
        """Delete one item, whether it exists or not; counts as one sub-operation. Raises as `put_item`."""
        self._record("delete_item", table, [Key])

    def delete_items(self, table: str, keys: Iterable[Mapping[str, Any]]) -> None:
        """Delete up to 25 items of one table; counts as one sub-operation. Raises as `put_item`."""
        self._record("delete_items", table, self._batch("delete_items", table, keys))

    def _batch(self, verb: Verb, table: str, items: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        batch = check_batch(items, f"operations[{len(self._operations)}]")
        if not 0 < len(batch) <= limits.BATCH_ITEMS_MAX:
            advice = "Use several batches." if batch else "Leave an empty one out."
            raise BatchTooLargeError(
                f"operations[{len(self._operations)}] {verb} on {table}: {len(batch)} items; a batch takes 1 to "
                f"{limits.BATCH_ITEMS_MAX}. {advice}",
                operation=f"operations[{len(self._operations)}]",
                table=table,
            )
        return batch

    def _record(self, verb: Verb, table: str, contents: list[Mapping[str, Any]]) -> None:
        """Check everything first, then record: what is refused is no part of the scope (Simol journalled it)."""
        self._check_recording()
        if len(self._operations) >= limits.OPERATIONS_MAX:
            raise TooManyOperationsError(
                f"operations[{len(self._operations)}] {verb} on {table}: a scope takes {limits.OPERATIONS_MAX} "
                "sub-operations, and this would be one more. Put items of one table together with put_items.",
                operation=f"operations[{len(self._operations)}]",
                table=table,
            )
        schema = self._schema(table)
        operation = Operation(verb, tuple(self._make(verb, schema, contents)))
        places = self._places_of(operation)
        size = self._bytes + _operation_bytes(operation)
        if size > limits.SCOPE_BYTES_MAX:
            raise WriteTooLargeError(
                f"operations[{len(self._operations)}] {verb} on {table}: the scope would hold {size} bytes; "
                f"it takes {limits.SCOPE_BYTES_MAX}.",
                table=table,
            )
        self._operations.append(operation)
        self._places.update(places)
        self._bytes = size

    def _make(self, verb: Verb, schema: TableSchema, contents: list[Mapping[str, Any]]) -> Iterable[Action]:
        names = self._engine.installation.names
        clashing = [key for key in schema.index_keys if key.type != "S"] + list(schema.key)
        if {key.name for key in clashing} & {names.full, names.update}:
            raise UnsupportedOperationError(
                f"Table {schema.table!r} has a key attribute named like the stamp ({names.full}, {names.update}). "
                "Choose other names for the whole installation: reliable-write init --stamp-attribute NAME.",
                table=schema.table,
            )
        for index, content in enumerate(contents):
            place = f"operations[{len(self._operations)}]" + (f".items[{index}]" if verb.endswith("s") else "")
            try:
                put = verb.startswith("put")
                yield make_put(schema, content, names, place) if put else make_delete(schema, content, place)
            except WriteRejectedError as refusal:
                refusal.operation, refusal.table = place, schema.table
                raise

    def _places_of(self, operation: Operation) -> dict[tuple[str, ...], str]:
        places: dict[tuple[str, ...], str] = {}
        for index, action in enumerate(operation.actions):
            place = action_path(operation, len(self._operations), index)
            key = canonical_key(action)
            earlier = places.get(key) or self._places.get(key)
            if earlier is not None:
                raise DuplicateKeyError(
                    f"{place} in {action.table}: the same item (key {', '.join(action.key_names)}) is written by "
                    f"{earlier}. "
                    "A scope writes each item once: keep the one that should hold.",
                    operation=place,
                    table=action.table,
                    key=decode_item(action.key),
                )
            places[key] = place
        return places

    def _schema(self, table: str) -> TableSchema:
        if not isinstance(table, str) or not table:  # type: ignore[redundant-expr]  # callers may not type-check
            raise UnknownTableError(f"A table is given by its name, a string, not by {type(table).__name__}.")
        if ":" in table:
            alias = table.partition(":")[0]
            raise UnknownTableError(
                f"Table {table!r}: no destination {alias!r} is registered with this writer. Give the plain name of a "
                "table "
                "in the writer's own account and Region.",
                table=table,
            )
        if table == self._engine.settings.system_table:
            raise UnknownTableError(f"Table {table!r} is the journal's own. Choose another table.", table=table)
        return self._engine.schemas.get(table)

    # --- ending -------------------------------------------------------------------------------------------------

    def commit(self) -> Receipt:
        """Write everything, or nothing; returns when all of it is applied.

        Raises, each with `outcome` and `write_id`:

        - `CommitFailedError`, `ForeignStampError`, `UnknownTableError`: nothing is written.
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
        deadline = self._engine.attempt_deadline()
        self._prepared = self._prepare(deadline)
        return self._attempt(self._prepared, deadline)

    def discard(self) -> None:
        """Drop what was recorded, silently. Does nothing to a scope that has ended."""
        self._check_home()
        if self._state is _State.RECORDING:
            self._state = _State.DROPPED

    def _prepare(self, deadline: Deadline) -> Prepared:
        self._state = _State.REFUSED  # unless this succeeds
        return self._engine.committer.prepare(self._operations, deadline)

    def _commit_again(self) -> Receipt:
        assert self._prepared is not None
        if self._prepared.begun.passed():
            raise CommitUnknownError(
                f"Write {self.write_id} was first tried more than {limits.COMMIT_REPEAT_SECONDS:.0f} s ago; "
                "committing it "
                "again could undo a later delete. If it was committed, a monitor has finished it: look at the tables.",
                write_id=self.write_id,
                retryable=False,
            )
        return self._attempt(self._prepared, self._engine.attempt_deadline())

    def _attempt(self, prepared: Prepared, deadline: Deadline) -> Receipt:
        self._state = _State.UNKNOWN  # also for KeyboardInterrupt and the like, wherever it strikes
        try:
            receipt = self._engine.committer.commit(prepared, deadline)
        except CommitFailedError:
            self._state = _State.REFUSED
            raise
        except PropagationPendingError:
            self._state = _State.PENDING
            raise
        except ReliableWriteError:
            raise
        except BaseException as interruption:  # Ctrl-C, a signal's timeout: it too answers whether the write happened
            interruption.add_note(
                f"reliable-write: the commit of write {self.write_id} was interrupted; it may be written. commit() on "
                f"the same scope settles it, and so does writer.recovery.resume({self.write_id!r})."
            )
            raise
        self._state = _State.DONE
        return receipt

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
        if self._parts is None:
            self._parts = self._writer.engine()
        return self._parts

    def _is_open_here(self) -> bool:
        """Still recording, and in this process: a child forked inside a block inherits its context, not the scope."""
        return self._state is _State.RECORDING and self._home[0] == os.getpid()

    def _check_home(self) -> None:
        here = (os.getpid(), threading.get_ident())
        if here != self._home:
            what = "thread" if here[0] == self._home[0] else "process"
            raise WrongThreadError(
                f"A scope belongs to the {what} that made it. Make one scope in each {what}; the writer may be shared.",
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


def _operation_bytes(operation: Operation) -> int:
    return sum(item_bytes(action.item if isinstance(action, Put) else action.key) for action in operation.actions)


__all__ = ["HasEngine", "ReliableWriteScope", "UncommittedScopeWarning", "WriteRejectedError"]
