"""The record store: records in and out of their tables, each write a scope of its own.

It holds nothing but the writer, and adds no promise of its own: what a scope of the writer does, and how it fails, is
what `put` and `delete` do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, Self, TypeVar, get_args, overload

from boto3.dynamodb.conditions import ConditionBase

from reliable_write import limits
from reliable_write.errors import ConfigurationError, NestedScopeError, TooManyOperationsError
from reliable_write.first_attempt import Receipt
from reliable_write.intents import WriteVerb
from reliable_write.reads import OnIndex
from reliable_write.recording import HasEngine
from reliable_write.records.model import Record
from reliable_write.records.reading import RecordLook, RecordReader, Walk, key_of, layout_of_kind
from reliable_write.scope import ReliableWriteScope, Strategy

R = TypeVar("R", bound=Record)


class RecordStore:
    """Reads records from their tables, and writes them through scopes of a writer. Safe for threads.

        store = RecordStore(writer)
        employee = store.get(Employee, employee_id)
        store.put(employee)

    Reads are eventually consistent unless `consistent=True` is given, or the code runs in a `ConsistentReadScope`, or
    `Settings.consistent_reads` says so for all. A global secondary index cannot be read consistently: where a scope or
    the setting asks for it, such a read stays as it is, or with `on_index="refuse"` raises
    `ConsistentReadRefusedError`; `consistent=True` given with the read is always refused.

    All reads raise `ReadFailedError`, `UnknownTableError`, `InvalidKeyError`, `RecordLoadError` for an item that is no
    such record, and `ConstraintViolationError` from `after_load`.
    """

    def __init__(self, writer: HasEngine, *, on_index: OnIndex = "skip") -> None:
        if not hasattr(writer, "engine"):
            raise TypeError(f"A RecordStore takes a ReliableWriter, not {type(writer).__name__}.")
        if on_index not in get_args(OnIndex):
            raise ConfigurationError(f"on_index is one of {', '.join(get_args(OnIndex))}, not {on_index!r}.")
        self._writer = writer
        self._on_index = on_index

    @property
    def writer(self) -> HasEngine:
        """The writer it writes by."""
        return self._writer

    # --- writing ----------------------------------------------------------------------------------------------------

    def put(
        self,
        record: Record,
        *,
        idempotency_key: str | None = None,
        strategy: Strategy = "journal",
        independent: bool = False,
    ) -> Receipt:
        """Write one record; returns when it is applied. The local object then has its new version.

        Raises `StaleRecordError` where its version is checked and no longer the latest, `ConstraintViolationError`, and
        what `ReliableWriteScope.commit` raises. After a `CommitUnknownError` commit its scope again:
        `error.scope.commit()`, never this put. Inside an open scope it raises `NestedScopeError`, since it would hold
        whatever becomes of that one, unless `independent=True`.
        """
        return self._write("put", [[record]], idempotency_key, strategy, independent)

    def delete(
        self,
        record: Record,
        *,
        idempotency_key: str | None = None,
        strategy: Strategy = "journal",
        independent: bool = False,
    ) -> Receipt:
        """Delete one record, under the check of its version where it has one. Otherwise as `put`."""
        return self._write("delete", [[record]], idempotency_key, strategy, independent)

    def delete_key(
        self, kind: type[R], *key: Any, idempotency_key: str | None = None, independent: bool = False
    ) -> Receipt:
        """Delete what is at a key, whatever its version, whether it exists or not. No constraint is asked."""
        layout = layout_of_kind(kind)
        with self._scope(idempotency_key, independent=independent) as scope:
            scope.delete_item(layout.table, Key=key_of(layout, key))
            return scope.commit()

    def put_all(
        self,
        records: Iterable[Record],
        *,
        idempotency_key: str | None = None,
        strategy: Strategy = "journal",
        independent: bool = False,
    ) -> Receipt:
        """Write up to 625 records, of any types, in one scope: all of them, or none. Otherwise as `put`.

        Each 25 of a table are one sub-operation of 25; more raise `TooManyOperationsError`. Records with a checked
        version take effect in the commit point, which takes 49.
        """
        return self._write("put", _batches("put_all", records), idempotency_key, strategy, independent)

    def delete_all(
        self,
        records: Iterable[Record],
        *,
        idempotency_key: str | None = None,
        strategy: Strategy = "journal",
        independent: bool = False,
    ) -> Receipt:
        """Delete up to 625 records in one scope. As `put_all`."""
        return self._write("delete", _batches("delete_all", records), idempotency_key, strategy, independent)

    def _write(
        self,
        verb: WriteVerb,
        batches: Sequence[Sequence[Record]],
        idempotency_key: str | None,
        strategy: Strategy,
        independent: bool,
    ) -> Receipt:
        with self._scope(idempotency_key, independent=independent) as scope:
            one, many = (scope.put, scope.put_items) if verb == "put" else (scope.delete, scope.delete_items)
            for batch in batches:
                if len(batch) == 1:
                    one(batch[0])
                else:
                    many(batch)
            return scope.commit(strategy=strategy)

    def _scope(self, idempotency_key: str | None = None, *, independent: bool = False) -> ReliableWriteScope:
        return _OwnScope(self._writer, idempotency_key=idempotency_key, independent=independent)

    # --- reading ----------------------------------------------------------------------------------------------------

    @overload
    def get(
        self, kind: type[R], *key: Any, consistent: bool | None = None, pending: Literal[False] = False
    ) -> R | None: ...

    @overload
    def get(self, kind: type[R], *key: Any, pending: Literal[True], wait: float = 0.0) -> RecordLook[R]: ...

    def get(
        self,
        kind: type[R],
        *key: Any,
        consistent: bool | None = None,
        pending: bool = False,
        wait: float = 0.0,
    ) -> R | RecordLook[R] | None:
        """The record at a key (hash key, and range key where the table has one); None where there is none.

        With `pending=True` a `RecordLook`: the record, strongly read, and the committed writes that touch it and are
        not finished; with `wait` (seconds) it looks again until there are none. It raises `LookFailedError`, and costs
        what `ReliableWriter.look` costs, some 66 reads.
        """
        if pending:
            if consistent is False:
                raise ValueError("A look at what is pending is always consistent: leave consistent= out.")
            return self._reader(kind).look(key, wait)
        if wait:
            raise ValueError("wait= is for pending=True: without it there is nothing to wait for.")
        return self._reader(kind).get(key, consistent)

    def batch_get(self, kind: type[R], keys: Iterable[Any], *, consistent: bool | None = None) -> list[R | None]:
        """The records at these keys, in their order; None in the place of one that is not there.

        A key is its hash value, or a tuple `(hash, range)`. Any number of keys, also the same one twice: each 100 are a
        request, and requests run in parallel, each with a deadline of its own. The batch is no snapshot.
        """
        return self._reader(kind).batch_get(keys, consistent)

    def query(
        self,
        kind: type[R],
        hash: Any,  # noqa: A002 - the word of the field
        range: Any = None,  # noqa: A002
        *,
        filter: ConditionBase | None = None,  # noqa: A002 - boto3's word is FilterExpression
        index: str | None = None,
        limit: int | None = None,
        descending: bool = False,
        consistent: bool | None = None,
        page_size: int | None = None,
        fetch: bool = False,
    ) -> Iterator[R]:
        """The records of one partition in order of the range key, read page by page as they are taken.

            store.query(Employee, employee_id, Key("started").between(date(2020, 1, 1), date(2021, 1, 1)))

        `range` is a condition on the range key, or a value it is equal to. `filter` leaves out records after they were
        read and paid for. `limit` counts records yielded, `page_size` items that one request examines (1 MB at most in
        any case). `index` is a secondary index, whose own keys `hash` and `range` are then. One that does not hold all
        attributes of the record is refused unless `fetch=True` reads the records found from the table; those that are
        gone by then are left out.

        What is wrong is raised here; so is decided here whether the reads are consistent, not when they are made.
        """
        walk = Walk(filter, index, limit, consistent, page_size, fetch=fetch, descending=descending)
        return self._reader(kind).query(hash, range, walk)

    def scan(
        self,
        kind: type[R],
        *,
        filter: ConditionBase | None = None,  # noqa: A002
        index: str | None = None,
        limit: int | None = None,
        consistent: bool | None = None,
        page_size: int | None = None,
        fetch: bool = False,
    ) -> Iterator[R]:
        """All records of a table, or of an index, in no order. Otherwise as `query`."""
        return self._reader(kind).scan(Walk(filter, index, limit, consistent, page_size, fetch=fetch))

    def _reader(self, kind: type[R]) -> RecordReader[R]:
        return RecordReader(self._writer.engine(), kind, self._on_index)


class _OwnScope(ReliableWriteScope):
    """A scope that nobody sees; what it says of itself is said of the store."""

    def __enter__(self) -> Self:
        try:
            return super().__enter__()
        except NestedScopeError:
            raise NestedScopeError(
                "A record store writes by itself, and a scope is open here: this write would hold whatever becomes of "
                "that one. Use scope.put(record) or scope.delete(record), or say independent=True."
            ) from None


def _batches(what: str, records: Iterable[Record]) -> list[list[Record]]:
    """By table, in parts a scope takes, each in the caller's order. Raises `TooManyOperationsError`."""
    by_table: dict[str, list[Record]] = {}
    for record in records:
        by_table.setdefault(layout_of_kind(type(record)).table, []).append(record)
    size = limits.BATCH_ITEMS_MAX
    batches = [part[at : at + size] for part in by_table.values() for at in range(0, len(part), size)]
    if len(batches) > limits.OPERATIONS_MAX:
        count = sum(map(len, batches))
        raise TooManyOperationsError(
            f"{what}: {count} records of {len(by_table)} tables are {len(batches)} batches; a scope takes "
            f"{limits.OPERATIONS_MAX} of {size} records each, {limits.SCOPE_ITEMS_MAX} of one table. Nothing was "
            "written. Write them in several calls, each of which is all or nothing."
        )
    return batches
