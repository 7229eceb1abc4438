"""One key of one record class: how shared records read what lies there, and what they make of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from reliable_write.clock import TimeSource
from reliable_write.dynamodb import CallFailed
from reliable_write.errors import InvalidItemError, InvalidKeyError, RecordDefinitionError
from reliable_write.recording import HasEngine
from reliable_write.records.constraints import after_load
from reliable_write.records.fields import VersionMode
from reliable_write.records.layout import Layout, VersionField
from reliable_write.records.marks import is_marked
from reliable_write.records.model import Record
from reliable_write.records.reading import layout_of_kind, read_failed
from reliable_write.records.watch import Serial, Sight
from reliable_write.values import WireItem, canonical_value, decode_item, encode_item

R = TypeVar("R", bound=Record)


class Place(Generic[R]):
    """A key in a table. Raises `RecordDefinitionError` for a class that cannot be shared."""

    def __init__(self, writer: HasEngine, kind: type[R], key: Mapping[str, Any]) -> None:
        """`key` holds Python values as DynamoDB takes them, by attribute name."""
        self.writer = writer
        self.kind = kind
        layout = layout_of_kind(kind)
        self.version = _checked_version(layout)
        self.name = kind.__name__
        self.table = layout.table
        self.hash_attribute = layout.hash_key.attribute
        self.key = key
        self._wire = encode_item(key, self.name)

    @property
    def identity(self) -> tuple[Any, ...]:
        """Equal for two places exactly where they are one."""
        return self.kind, *_canonical(self._wire)

    @property
    def time(self) -> TimeSource:
        """The writer's clocks."""
        return self.writer.engine().time

    def serial(self) -> Serial | None:
        """Strongly read; None where there is no item. Raises `ReadFailedError`."""
        engine = self.writer.engine()
        # With its key, so that an item that has none of the others is there all the same.
        attributes = [*self.key, *self._serial_attributes()]
        with self._reading():
            found = engine.store.batch_get(
                [(self.table, self._wire)], {self.table: attributes}, engine.attempt_deadline()
            )
        return self._serial_of(decode_item(found[0][1])) if found else None

    def read(self) -> Sight[R]:
        """Strongly read. Raises `ReadFailedError`, and what loading a record raises."""
        engine = self.writer.engine()
        with self._reading():
            item = engine.store.get(self.table, self._wire, engine.attempt_deadline())
        return self.sight_of(None if item is None else decode_item(item))

    def sight_of(self, item: Mapping[str, Any] | None) -> Sight[R]:
        """What an item shows, its stamps included. Raises what loading a record raises."""
        if item is None:
            return Sight()
        if is_marked(item):
            return Sight(self._serial_of(item), mark=item)
        names = self.writer.engine().installation.names
        shown = {name: value for name, value in item.items() if name not in (names.full, names.update)}
        return Sight(self._serial_of(item), after_load(self.kind.from_item(shown)))

    def stamped(self, content: Mapping[str, Any], stamp: str) -> dict[str, Any]:
        """What a put of this content has left in the table, as it would be read."""
        item = decode_item(encode_item(content, self.name))
        return {**item, self.writer.engine().installation.names.full: stamp}

    def over_mark(self, record: R, seen: Sight[R]) -> R | None:
        """The record with the version of the mark that lies there, if one does."""
        if not seen.mark:
            return None
        marked = self.kind.from_item({**record.to_item(), self.version.attribute: seen.version})
        return record.model_copy(update={self.version.field: getattr(marked, self.version.field)})

    def check_own(self, record: object) -> None:
        """Raise `InvalidItemError` or `InvalidKeyError` for what is not the record of this place."""
        if type(record) is not self.kind:
            raise InvalidItemError(
                f"A shared {self.name} is written as a {self.name}, not as a {type(record).__name__}. A function given "
                "to update() changes its record and returns nothing, or returns the record to write.",
                table=self.table,
            )
        if not self._is_key(record.key()):
            raise InvalidKeyError(
                f"This {self.name} has another key than the shared one. The key of a record does not change: make a "
                "new one with SharedRecords.create.",
                table=self.table,
            )

    def check_content(self, item: Mapping[str, Any]) -> None:
        """Raise `InvalidKeyError` for an item that would lie elsewhere: nobody who holds this record would find it."""
        if not self._is_key({name: item[name] for name in self.key}):
            raise InvalidKeyError(
                f"Before the save a constraint changed the key of this {self.name}, which is shared under the one it "
                "had. Make the key right before: in a validator of its field.",
                table=self.table,
            )

    def _is_key(self, key: Mapping[str, Any]) -> bool:
        """However its numbers are spelt: a table gives 9 back for 9.00."""
        return _canonical(encode_item(key, self.name)) == _canonical(self._wire)

    def _serial_attributes(self) -> tuple[str, str, str]:
        names = self.writer.engine().installation.names
        return self.version.attribute, names.full, names.update

    def _serial_of(self, item: Mapping[str, Any]) -> Serial:
        return tuple(item.get(name) for name in self._serial_attributes())

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except CallFailed as failure:
            raise read_failed(failure, self.table) from failure


def _canonical(key: WireItem) -> list[tuple[str, str]]:
    return sorted((name, canonical_value(value)) for name, value in key.items())


def _checked_version(layout: Layout) -> VersionField:
    name, version = layout.model.__name__, layout.version
    if version is None or version.mode is not VersionMode.AUTO_INCREMENT_AND_CHECK:
        what = "no version" if version is None else f"a version that is not checked ({version.mode.name})"
        raise RecordDefinitionError(
            f"{name} has {what}, so nobody could tell that a shared one is stale. It takes a field such as "
            "`version: Annotated[int, Version()] = 0`."
        )
    return version
