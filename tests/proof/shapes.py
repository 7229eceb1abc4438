"""The scopes that the enumeration commits, and what each of them finds at its keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reliable_write import ReliableWriteScope

Kind = Literal["put", "delete", "update", "check"]
Start = Literal["fresh", "overwrite", "deleted", "collected", "ghost", "unstamped"]

TABLES = ("people", "orders")
EXISTS, ABSENT = "attribute_exists(id)", "attribute_not_exists(id)"
BLOB = bytes(range(256)) * 2 + bytes(reversed(range(256)))


def table_of(key: str) -> str:
    """Keys with even numbers are in the one table, those with odd numbers in the other."""
    return TABLES[int(key[1:]) % 2]


@dataclass(frozen=True)
class Deed:
    """One operation. What it leaves carries the name of its write, so that it can be told what took effect."""

    kind: Kind
    keys: tuple[str, ...]
    """More than one: a batch, in one table."""
    condition: str | None = None
    at_commit: bool = False
    blob: bool = False

    @property
    def journalled(self) -> bool:
        return self.kind in ("put", "delete") and self.condition is None and not self.at_commit

    def record(self, scope: ReliableWriteScope, name: str) -> None:
        table = table_of(self.keys[0])
        keys = [{"id": key} for key in self.keys]
        items = [{**key, name: 1, **({"blob": BLOB} if self.blob else {})} for key in keys]
        if self.kind == "update":
            scope.update_item(table, keys[0], ConditionExpression=self.condition, add={name: 1})
        elif self.kind == "check":
            scope.condition_check(table, keys[0], ConditionExpression=self.condition or EXISTS)
        elif len(keys) > 1:
            _ = scope.put_items(table, items) if self.kind == "put" else scope.delete_items(table, keys)
        elif self.kind == "put":
            scope.put_item(table, items[0], self.condition, at_commit=self.at_commit)
        else:
            scope.delete_item(table, keys[0], self.condition, at_commit=self.at_commit)


@dataclass(frozen=True)
class Shape:
    """One scope and its beginning."""

    name: str
    deeds: tuple[Deed, ...]
    start: Start = "fresh"
    keyed: bool = False
    chunked: bool = False
    strategy: Literal["journal", "transaction"] = "journal"
    in_vain: bool = False
    """Its condition is false."""

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key for deed in self.deeds for key in deed.keys)

    @property
    def has_entry(self) -> bool:
        """Whether something is left to propagate after the commit point."""
        return self.strategy == "journal" and not self.in_vain and any(deed.journalled for deed in self.deeds)

    @property
    def is_plain(self) -> bool:
        """Whether an older write of the same keys, put late, is superseded everywhere."""
        return all(deed.journalled for deed in self.deeds)

    @property
    def only_deletes(self) -> bool:
        """Plain ones: they need not come after the delete that they repeat."""
        return self.is_plain and all(deed.kind == "delete" for deed in self.deeds)


def _each(kind: Kind, count: int, condition: str | None = None, **more: bool) -> tuple[Deed, ...]:
    return tuple(Deed(kind, (f"k{number}",), condition, **more) for number in range(count))


_PUT, _DELETE, _UPDATE = _each("put", 1), _each("delete", 1), _each("update", 1)
_MIXED_2 = (Deed("put", ("k0",)), Deed("delete", ("k1",)))
_MIXED_3 = (Deed("put", ("k0",)), Deed("delete", ("k1",)), Deed("update", ("k2",)))
_CONDITIONAL_3 = (Deed("put", ("k0",)), Deed("delete", ("k1",), EXISTS), Deed("check", ("k2",), EXISTS))
_MIXED_25 = tuple(
    Deed(("put", "delete", "update", "put", "put")[number % 5], (f"k{number}",), at_commit=number % 5 == 4)
    for number in range(25)
)
_BATCHES = (Deed("put", ("k0", "k2", "k4")), Deed("delete", ("k1", "k3")), Deed("put", ("k5",)))

SHAPES: tuple[Shape, ...] = (
    Shape("one put, fresh", _PUT),
    Shape("one put over an item", _PUT, "overwrite"),
    Shape("one put on a deleted key", _PUT, "deleted"),
    Shape("one put, tombstone collected", _PUT, "collected"),
    Shape("one put over a ghost", _PUT, "ghost"),
    Shape("one put over somebody's item", _PUT, "unstamped"),
    Shape("one put with a key of its own", _PUT, "overwrite", keyed=True),
    Shape("one put in chunks", _each("put", 1, blob=True), "overwrite", chunked=True),
    Shape("one put in chunks with a key of its own", _each("put", 1, blob=True), keyed=True, chunked=True),
    Shape("one put as a transaction", _PUT, "deleted", strategy="transaction"),
    Shape("one delete of nothing", _DELETE),
    Shape("one delete", _DELETE, "overwrite"),
    Shape("one delete of a deleted key", _DELETE, "deleted"),
    Shape("one delete of a ghost", _DELETE, "ghost"),
    Shape("one delete of somebody's item", _DELETE, "unstamped"),
    Shape("one delete with a key of its own", _DELETE, "overwrite", keyed=True),
    Shape("one delete as a transaction", _DELETE, "overwrite", strategy="transaction"),
    Shape("one update, fresh", _UPDATE),
    Shape("one update of an item", _UPDATE, "overwrite"),
    Shape("one update of a deleted key", _UPDATE, "deleted"),
    Shape("one update of a ghost", _UPDATE, "ghost"),
    Shape("one update with a key of its own", _UPDATE, "unstamped", keyed=True),
    Shape("one put if absent", _each("put", 1, ABSENT), "deleted"),
    Shape("one put if there", _each("put", 1, EXISTS), "overwrite"),
    Shape("one put if absent, in vain", _each("put", 1, ABSENT), "overwrite", in_vain=True),
    Shape("one delete if there", _each("delete", 1, EXISTS), "overwrite"),
    Shape("one delete if there, in vain", _each("delete", 1, EXISTS), "ghost", in_vain=True),
    Shape("two puts", _each("put", 2), "overwrite"),
    Shape("two deletes", _each("delete", 2), "overwrite"),
    Shape("two updates", _each("update", 2), "overwrite", keyed=True),
    Shape("a put and a delete", _MIXED_2, "overwrite"),
    Shape("a put and a delete as a transaction", _MIXED_2, "overwrite", strategy="transaction"),
    Shape("a put and a delete, fresh", _MIXED_2, keyed=True),
    Shape("put, delete, update", _MIXED_3, "overwrite"),
    Shape("put, delete, update of deleted keys", _MIXED_3, "deleted", keyed=True),
    Shape("put, delete, update in chunks", (*_each("put", 1, blob=True), *_MIXED_3[1:]), "overwrite", chunked=True),
    Shape("put, delete if there, check", _CONDITIONAL_3, "overwrite"),
    Shape("put, delete if there, check, in vain", _CONDITIONAL_3, "collected", in_vain=True),
    Shape("batches", _BATCHES, "overwrite"),
    Shape("batches in chunks", (Deed("put", ("k0", "k2"), blob=True), *_BATCHES[1:]), "deleted", chunked=True),
    Shape("25 puts", _each("put", 25)),
    Shape("25 deletes", _each("delete", 25), "overwrite"),
    Shape("25 updates", _each("update", 25), "overwrite"),
    Shape("25 mixed", _MIXED_25, "overwrite", keyed=True),
)

assert len({shape.name for shape in SHAPES}) == len(SHAPES) >= 24
SMALL = tuple(shape for shape in SHAPES if len(shape.deeds) <= 3)
