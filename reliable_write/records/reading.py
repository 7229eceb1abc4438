"""Items to records: what the record store reads, with the consistency that holds where it is asked for."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from boto3.dynamodb.conditions import ConditionBase

from reliable_write import limits
from reliable_write.dynamodb import CallFailed, Page, Reading
from reliable_write.engine import Engine
from reliable_write.errors import (
    ConsistentReadRefusedError,
    InvalidKeyError,
    ReadFailedError,
    UnknownTableError,
)
from reliable_write.looking import PendingChange, look_many
from reliable_write.operations import Index
from reliable_write.policy import FailureKind
from reliable_write.reads import OnIndex, consistent_here
from reliable_write.recording import schema_of
from reliable_write.records.constraints import after_load
from reliable_write.records.layout import Layout
from reliable_write.records.marks import is_marked
from reliable_write.records.model import Record
from reliable_write.records.queries import Asked, check_whole
from reliable_write.values import WireItem, canonical_value, decode_item, encode_item

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class RecordLook(Generic[R]):
    """A record, strongly read, and the committed writes that touch it and are not finished, as by `writer.look`."""

    record: R | None
    """As it is now; None where there is none."""
    pending: tuple[PendingChange, ...] = field(repr=False)
    """Oldest first; their items are plain values."""
    fractured: bool
    """Whether a write that touches it is done in part: other items may not fit to this record."""
    settled: bool
    """Whether the record holds every write that was committed before the look began."""


@dataclass(frozen=True, slots=True)
class Walk:
    """How a query or a scan is to be walked."""

    filter: ConditionBase | None
    index: str | None
    limit: int | None
    """Of records yielded."""
    consistent: bool | None
    page_items: int | None
    fetch: bool
    descending: bool = False

    def check(self) -> None:
        """Raise `ValueError`."""
        for name, value in (("limit", self.limit), ("page_size", self.page_items)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it takes 1 or more, or None.")

    @property
    def request_items(self) -> int | None:
        """Without a filter nothing is left out, so a request need not examine more than the limit."""
        if self.filter is not None or self.limit is None:
            return self.page_items
        return self.limit if self.page_items is None else min(self.limit, self.page_items)


class RecordReader(Generic[R]):
    """Reads records of one class, through the parts of a writer."""

    def __init__(self, engine: Engine, kind: type[R], on_index: OnIndex) -> None:
        self._engine = engine
        self._kind = kind
        self._layout = layout_of_kind(kind)
        self._on_index = on_index

    def get(self, key: Sequence[Any], consistent: bool | None) -> R | None:
        """See `RecordStore.get`."""
        wire = self._wire_key(key)
        with self._told():
            item = self._engine.reader.get(
                self._layout.table, wire, self._engine.attempt_deadline(), consistent=self._consistent(consistent)
            )
        return self._loaded(item)

    def look(self, key: Sequence[Any], wait: float) -> RecordLook[R]:
        """See `RecordStore.get`, with `pending=True`."""
        (look,) = look_many(self._engine, [(self._layout.table, key_of(self._layout, key))], wait)
        record = None if look.item is None or is_marked(look.item) else self._record(look.item)
        return RecordLook(record, look.pending, fractured=look.fractured, settled=look.settled)

    def batch_get(self, keys: Iterable[Any], consistent: bool | None) -> list[R | None]:
        """See `RecordStore.batch_get`."""
        wires = [self._wire_key(key if isinstance(key, tuple) else (key,)) for key in keys]
        found = self._fetched(wires, consistent=self._consistent(consistent))
        return [self._loaded(item) for item in found]

    def query(self, hash_value: Any, range_condition: Any, walk: Walk) -> Iterator[R]:
        """See `RecordStore.query`."""
        index = self._index(walk)
        asked = Asked(self._layout, index)
        asked.by_key(hash_value, range_condition)
        return self._walked(asked, index, walk)

    def scan(self, walk: Walk) -> Iterator[R]:
        """See `RecordStore.scan`."""
        index = self._index(walk)
        return self._walked(Asked(self._layout, index), index, walk)

    # --- page by page -----------------------------------------------------------------------------------------------

    def _walked(self, asked: Asked, index: Index | None, walk: Walk) -> Iterator[R]:
        """Everything is checked, and consistency decided, before the first page: a generator would do it then."""
        walk.check()
        if walk.filter is not None:
            asked.filtered(walk.filter)
        consistent = self._consistent(walk.consistent)
        reading = asked.reading(
            consistent=self._consistent_by(index, walk.consistent, decided=consistent),
            descending=walk.descending,
            page_items=walk.request_items,
        )
        items = self._items(reading)
        if walk.fetch:
            items = self._in_whole(items, consistent=consistent)
        return itertools.islice(self._records(items), walk.limit)

    def _records(self, pages: Iterator[Sequence[WireItem]]) -> Iterator[R]:
        for items in pages:
            for record in map(self._loaded, items):
                if record is not None:
                    yield record

    def _items(self, reading: Reading) -> Iterator[Sequence[WireItem]]:
        start: WireItem | None = None
        while True:
            page = self._page(reading, start)
            yield page.items
            start = page.next_key
            if start is None:
                return

    def _page(self, reading: Reading, start: WireItem | None) -> Page:
        """With a deadline of its own: what the caller does between two pages does not count."""
        with self._told():
            return self._engine.reader.page(reading, start, self._engine.attempt_deadline())

    def _in_whole(self, pages: Iterator[Sequence[WireItem]], *, consistent: bool) -> Iterator[Sequence[WireItem]]:
        """The items of the table in place of those of an index; those that are gone by now are left out."""
        names = [key.attribute for key in self._layout.keys]
        for items in pages:
            found = self._fetched([{name: item[name] for name in names} for item in items], consistent=consistent)
            yield [item for item in found if item is not None]

    # --- many at once -----------------------------------------------------------------------------------------------

    def _fetched(self, keys: Sequence[WireItem], *, consistent: bool) -> list[WireItem | None]:
        """The items at these keys in their order; a key that stands there twice is asked for once."""
        distinct = list({_canonical(key): key for key in keys}.values())
        size = limits.BATCH_GET_KEYS_MAX
        parts = [distinct[at : at + size] for at in range(0, len(distinct), size)]
        names = [key.attribute for key in self._layout.keys]
        with self._told():
            found = self._engine.workers.run_all([partial(self._batch, part, consistent=consistent) for part in parts])
        items = {
            _canonical({name: item[name] for name in names}): item for item in itertools.chain.from_iterable(found)
        }
        return [items.get(_canonical(key)) for key in keys]

    def _batch(self, keys: Sequence[WireItem], *, consistent: bool) -> list[WireItem]:
        deadline = self._engine.attempt_deadline()
        return self._engine.reader.batch_get(self._layout.table, keys, deadline, consistent=consistent)

    # --- consistency ------------------------------------------------------------------------------------------------

    def _consistent(self, asked: bool | None) -> bool:
        return consistent_here(self._engine.settings.consistent_reads) if asked is None else asked

    def _consistent_by(self, index: Index | None, asked: bool | None, *, decided: bool) -> bool:
        """As decided, where it is not a global index that is read."""
        if index is None or index.local or not decided:
            return decided
        if asked or self._on_index == "refuse":
            raise ConsistentReadRefusedError(
                f"Index {index.name!r} of {self._layout.table} is a global one, which DynamoDB reads eventually "
                "consistently only. The read was not sent. Read the table or a local index, or say consistent=False.",
                table=self._layout.table,
                index=index.name,
            )
        return False

    def _index(self, walk: Walk) -> Index | None:
        """The index as the table has it; the table is asked once more where it is not known, for it may be new."""
        if walk.index is None:
            return None
        table, schemas = self._layout.table, self._engine.schemas
        index = schema_of(self._engine, table).index(walk.index)
        if index is None:
            schemas.forget(table)
            schema = schemas.get(table)
            index = schema.index(walk.index)
        if index is None:
            there = ", ".join(sorted(one.name for one in schema.indexes)) or "none"
            raise UnknownTableError(f"Table {table!r} has no index {walk.index!r}; it has: {there}.", table=table)
        if not walk.fetch:
            check_whole(self._kind, index)
        return index

    # --- keys, items, errors ----------------------------------------------------------------------------------------

    def _wire_key(self, key: Sequence[Any]) -> WireItem:
        return encode_item(key_of(self._layout, key), f"a key of {self._layout.table}")

    def _loaded(self, item: WireItem | None) -> R | None:
        """None where there is no item, and where it is the mark of a deleted shared record."""
        if item is None or is_marked(item):
            return None
        names = self._engine.installation.names
        return self._record(
            decode_item({name: value for name, value in item.items() if name not in (names.full, names.update)})
        )

    def _record(self, item: dict[str, Any]) -> R:
        return after_load(self._kind.from_item(item))

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Failures of calls as errors of the library."""
        try:
            yield
        except CallFailed as failure:
            raise read_failed(failure, self._layout.table) from failure


def layout_of_kind(kind: type[Record]) -> Layout:
    """The layout of a record class. Raises `TypeError`, or `RecordDefinitionError` for one without a table."""
    if not isinstance(kind, type) or not issubclass(kind, Record):  # type: ignore[redundant-expr]  # callers may not type-check
        raise TypeError(f"A class derived from Record is needed, not {kind!r}.")
    return kind.__layout__


def key_of(layout: Layout, key: Sequence[Any]) -> dict[str, Any]:
    """The key of an item from its one or two values. Raises `InvalidKeyError`."""
    fields = [one.field for one in layout.keys]
    if len(key) != len(fields):
        raise InvalidKeyError(
            f"The key of {layout.model.__name__} is {', '.join(fields)}; {len(key)} values were given.",
            table=layout.table,
        )
    return layout.key_of(*key)


def _canonical(key: WireItem) -> tuple[str, ...]:
    return tuple(canonical_value(key[name]) for name in sorted(key))


def read_failed(failure: CallFailed, table: str) -> ReadFailedError | UnknownTableError:
    """A call that failed, as an error of the library."""
    if failure.kind is FailureKind.TABLE_MISSING:
        return UnknownTableError(f"Table {table!r} does not exist here. Check the name, or create it.", table=table)
    advice = "Read again."
    if failure.kind is FailureKind.ACCESS_DENIED:
        advice = "Reading needs dynamodb:GetItem, BatchGetItem, Query or Scan on the table and its indexes."
    elif failure.kind is FailureKind.VALIDATION:
        advice = "Check that the class's keys and types are those of the table, and the conditions."
    elif failure.kind is FailureKind.CREDENTIALS:
        advice = "Check the credentials with: aws sts get-caller-identity"
    return ReadFailedError(
        f"Table {table!r} could not be read: {failure}. {advice}",
        table=table,
        retryable=failure.kind.retryable or failure.kind is FailureKind.DEADLINE,
    )
