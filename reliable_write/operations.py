"""What a scope records: puts and deletes of single items, checked against their tables before anything is written.

Everything here is pure. A journal entry, once committed, is applied for ever or until an operator gives it up, so all
that can be known to be impossible is refused here, naming the operation, the table and the limit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

from reliable_write import limits
from reliable_write.clock import STAMP_CHARACTERS, is_stamp
from reliable_write.errors import (
    ForeignStampError,
    InvalidItemError,
    InvalidKeyError,
    WriteTooLargeError,
)
from reliable_write.values import AttributeValue, WireItem, canonical_value, encode_item, item_bytes, value_bytes

T = TypeVar("T")
KeyType = Literal["S", "N", "B"]

_TYPE_NAMES: Final = {"S": "a string", "N": "a number", "B": "bytes"}
_ANY_STAMP: Final = {"S": "0" * STAMP_CHARACTERS}
_NAME_CHARACTERS_MAX: Final = 200
"""Of an attribute name in a message."""


@dataclass(frozen=True, slots=True)
class KeyAttribute:
    """A key attribute as the table declares it."""

    name: str
    type: KeyType
    bytes_max: int = limits.HASH_KEY_BYTES_MAX
    """The smallest bound of all its roles: hash or range key of the table, of an index."""


@dataclass(frozen=True, slots=True)
class LocalIndex:
    """A local secondary index, whose entry counts against the item's own size limit."""

    range_key: str
    projected: frozenset[str] | None
    """Attributes copied into it; None for all."""


@dataclass(frozen=True, slots=True)
class Index:
    """A secondary index, as one reads it."""

    name: str
    hash_key: str
    range_key: str | None
    local: bool
    projected: frozenset[str] | None
    """Attributes that are in it, keys included; None for all."""


@dataclass(frozen=True, slots=True)
class TableSchema:
    """What must be known of a table to write to it: its key, and the keys of its indexes."""

    table: str
    hash_key: KeyAttribute
    range_key: KeyAttribute | None = None
    index_keys: tuple[KeyAttribute, ...] = ()
    """Keys of secondary indexes that are no keys of the table."""
    local_indexes: tuple[LocalIndex, ...] = ()
    indexes: tuple[Index, ...] = ()
    """All secondary indexes, local ones included."""

    def index(self, name: str) -> Index | None:
        """The secondary index called so."""
        return next((index for index in self.indexes if index.name == name), None)

    @property
    def key(self) -> tuple[KeyAttribute, ...]:
        """Hash key, then range key where there is one."""
        return (self.hash_key,) if self.range_key is None else (self.hash_key, self.range_key)

    @property
    def key_names(self) -> tuple[str, ...]:
        """Names of the key attributes, hash key first."""
        return tuple(attribute.name for attribute in self.key)


@dataclass(frozen=True, slots=True)
class StampNames:
    """The attributes that carry stamps; one pair for all processes of an installation."""

    full: str = "_rw"
    """Set by puts: the item as a whole is from this write."""
    update: str = "_rwu"
    """Set by updates, which leave `full` alone."""


@dataclass(frozen=True, slots=True)
class Put:
    """Replace the item. `item` has no stamp: that is put on when it is sent."""

    table: str
    key_names: tuple[str, ...]
    item: WireItem

    @property
    def key(self) -> WireItem:
        """The item's key as the wire has it."""
        return {name: self.item[name] for name in self.key_names}


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the item, whether it exists or not."""

    table: str
    key_names: tuple[str, ...]
    key: WireItem


@dataclass(frozen=True, slots=True)
class Update:
    """Change attributes of the item, or make it. `expression` is the caller's, without the stamp."""

    table: str
    key_names: tuple[str, ...]
    key: WireItem
    expression: str


@dataclass(frozen=True, slots=True)
class Check:
    """Change nothing; only the condition counts."""

    table: str
    key_names: tuple[str, ...]
    key: WireItem


Action = Put | Delete
"""One item of one replayable operation: the unit that is propagated."""

AnyAction = Put | Delete | Update | Check

Verb = Literal["put_item", "put_items", "delete_item", "delete_items"]
AtCommitVerb = Literal["put_item", "delete_item", "update_item", "condition_check"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One replayable sub-operation as the caller recorded it: one item, or a batch. It is journalled and propagated."""

    verb: Verb
    actions: tuple[Action, ...]
    number: int | None = None
    """Its place in the scope, where operations that are not journalled stand between."""

    @property
    def table(self) -> str:
        """The table all its items are for."""
        return self.actions[0].table


@dataclass(frozen=True, slots=True)
class AtCommit:
    """One sub-operation that takes effect inside the commit point itself, so that nobody ever replays it."""

    verb: AtCommitVerb
    action: AnyAction
    number: int
    """Its place in the scope."""
    why: str
    """What makes it so: an update, a condition, the caller's wish."""
    condition: str | None = None
    """The caller's; None where there is none."""
    names: Mapping[str, str] = field(default_factory=dict)
    values: WireItem = field(default_factory=dict)
    """Placeholders of the caller's condition and update."""
    item: int | None = None
    """Its place in a batch, where it was recorded in one."""

    @property
    def actions(self) -> tuple[AnyAction, ...]:
        """Its one item, as a batch of one."""
        return (self.action,)

    @property
    def table(self) -> str:
        """The table of its item."""
        return self.action.table

    @property
    def place(self) -> str:
        """Where it stands in its scope: `operations[3]`, or `operations[3].items[4]`."""
        place = f"operations[{self.number}]"
        return place if self.item is None else f"{place}.items[{self.item}]"


def action_path(operation: Operation | AtCommit, operation_index: int, item_index: int) -> str:
    """Where an action stands in its scope: `operations[3]`, or `operations[3].items[4]` for a batch."""
    place = f"operations[{operation_index if operation.number is None else operation.number}]"
    return f"{place}.items[{item_index}]" if operation.verb in ("put_items", "delete_items") else place


def located_actions(operations: Iterable[Operation]) -> list[tuple[str, Action]]:
    """All actions of a scope in the caller's order, each with its place."""
    return [
        (action_path(operation, index, item_index), action)
        for index, operation in enumerate(operations)
        for item_index, action in enumerate(operation.actions)
    ]


def canonical_key(action: AnyAction) -> tuple[str, ...]:
    """Table and key in the one form that is equal exactly when two actions touch the same item."""
    return canonical_place(action.table, [action.key[name] for name in action.key_names])


def canonical_place(table: str, key: Sequence[AttributeValue]) -> tuple[str, ...]:
    """The same, of a key's values in the order of the table's key."""
    return (table, *map(canonical_value, key))


def key_hash(action: AnyAction) -> str:
    """A short name of the touched item for the system table: 40 hexadecimal digits. Never changes between versions."""
    joined = json.dumps(canonical_key(action), ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(joined.encode(), digest_size=20).hexdigest()


def make_put(schema: TableSchema, item: Mapping[str, Any], names: StampNames, where: str) -> Put:
    """A checked put. Stamps that boto3 read back with the item are taken off; ours is put on when it is sent.

    Raises `InvalidItemError`, `InvalidKeyError`, `ForeignStampError` or `WriteTooLargeError`.
    """
    where = f"{where} put into {schema.table}"
    wire = encode_item(item, where)
    _take_stamps_off(wire, names, where)
    for attribute in schema.key:
        _check_key_attribute(schema, attribute, wire, where, item)
    for attribute in schema.index_keys:
        _check_index_attribute(attribute, wire, where)
    _check_item_size(schema, wire, names, where)
    return Put(schema.table, schema.key_names, wire)


def make_delete(schema: TableSchema, key: Mapping[str, Any], where: str) -> Delete:
    """A checked delete; `key` holds exactly the table's key attributes. Raises `InvalidKeyError`."""
    return Delete(schema.table, schema.key_names, make_key(schema, key, f"{where} delete at {schema.table}"))


def make_key(schema: TableSchema, key: Mapping[str, Any], where: str) -> WireItem:
    """A checked key of the table, which holds its key attributes and nothing else. Raises `InvalidKeyError`."""
    wire = encode_item(key, where)
    for attribute in schema.key:
        _check_key_attribute(schema, attribute, wire, where, key)
    if surplus := sorted(set(wire) - set(schema.key_names)):
        raise InvalidKeyError(
            f"{where}: Key holds {surplus[0][:_NAME_CHARACTERS_MAX]!r}, which is not part of the table's key "
            f"({_key_text(schema)}).",
            operation=where,
            table=schema.table,
            key=_key_of(schema, key),
        )
    return wire


def _take_stamps_off(wire: WireItem, names: StampNames, where: str) -> None:
    for name in (names.full, names.update):
        found = wire.pop(name, None)
        if found is not None and not is_stamp(found.get("S")):
            raise ForeignStampError(
                f"{where}: attribute {name!r} is reserved for the order of writes and holds something else "
                f"(type {next(iter(found))}). Rename your attribute, or choose other names for the whole "
                "installation with `reliable-write init --stamp-attribute NAME`.",
                operation=where,
            )


def _check_key_attribute(
    schema: TableSchema, attribute: KeyAttribute, wire: WireItem, where: str, given: Mapping[str, Any]
) -> None:
    value = wire.get(attribute.name)
    if value is None:
        raise InvalidKeyError(
            f"{where}: key attribute {attribute.name!r} is missing; the table wants {_TYPE_NAMES[attribute.type]}.",
            operation=where,
            key=_key_of(schema, given),
        )
    _check_key_value(attribute, value, where, "key attribute")


def _check_index_attribute(attribute: KeyAttribute, wire: WireItem, where: str) -> None:
    """An index key may be absent (the item is then not in the index), but never of another type or empty."""
    value = wire.get(attribute.name)
    if value is not None:
        _check_key_value(attribute, value, where, "index key attribute")


def _check_key_value(attribute: KeyAttribute, value: dict[str, Any], where: str, role: str) -> None:
    ((kind, content),) = value.items()
    if kind != attribute.type:
        raise InvalidKeyError(
            f"{where}: {role} {attribute.name!r} is of type {kind}; the table wants {_TYPE_NAMES[attribute.type]}.",
            operation=where,
        )
    if kind != "N" and len(content) == 0:
        raise InvalidKeyError(f"{where}: {role} {attribute.name!r} is empty; keys are not.", operation=where)
    size = value_bytes(value)
    if kind != "N" and size > attribute.bytes_max:
        raise WriteTooLargeError(
            f"{where}: {role} {attribute.name!r} has {size} bytes; DynamoDB takes {attribute.bytes_max}.",
            operation=where,
        )


def _check_item_size(schema: TableSchema, wire: WireItem, names: StampNames, where: str) -> None:
    """With its stamp, and with its entry in each local index, which the stamp is copied into as well.

    Source: the Developer Guide's quotas, "Item size for tables with local secondary indexes".
    """
    sent = {**wire, names.full: _ANY_STAMP}
    copies = [_local_entry_bytes(schema, index, sent) for index in schema.local_indexes if index.range_key in sent]
    total = item_bytes(sent) + max(copies, default=0)
    if total > limits.ITEM_BYTES_MAX:
        with_index = " and its entry in a local index" if copies else ""
        raise WriteTooLargeError(
            f"{where}: the item has {total} bytes with names, stamp{with_index}; DynamoDB takes "
            f"{limits.ITEM_BYTES_MAX}. Put large parts into an object store and keep their names here.",
            operation=where,
        )


def _local_entry_bytes(schema: TableSchema, index: LocalIndex, wire: WireItem) -> int:
    if index.projected is None:
        return item_bytes(wire)
    copied = index.projected | {index.range_key, *schema.key_names}
    return item_bytes({name: value for name, value in wire.items() if name in copied})


def check_batch(items: Iterable[T], where: str) -> list[T]:
    """A batch as a list; raises `InvalidItemError` for something that is not a collection of mappings."""
    if isinstance(items, str | bytes | Mapping) or not isinstance(items, Iterable):
        raise InvalidItemError(f"{where}: a batch is a list of mappings, not {type(items).__name__}.", operation=where)
    return list(items)


def _key_of(schema: TableSchema, given: Mapping[str, Any]) -> dict[str, Any]:
    """What an error may show: people hand over whole items as keys."""
    return {name: given[name] for name in schema.key_names if name in given}


def _key_text(schema: TableSchema) -> str:
    return ", ".join(schema.key_names)
