"""Where a counter lies, and what its attribute holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import cached_property
from typing import Any, Final

from reliable_write import limits
from reliable_write.clock import Deadline
from reliable_write.dynamodb import CallFailed
from reliable_write.engine import Engine
from reliable_write.errors import (
    CommitFailedError,
    CounterTypeError,
    InvalidKeyError,
    Outcome,
    ReadFailedError,
    ReliableWriteError,
    UnknownTableError,
)
from reliable_write.operations import TableSchema, make_key
from reliable_write.policy import FailureKind
from reliable_write.recording import HasEngine, schema_of
from reliable_write.values import AttributeValue, WireItem

RESERVED: Final = "#_rw"
"""In an item's key what follows is one of the counter's own further items: a shard, a block of ids."""
_NAME_CHARACTERS_MAX: Final = 100
"""Of a counter's name in a message."""
_SPELLED: Final = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)


class Place:
    """One item of a table whose key is a name, and the attribute in it that counts."""

    def __init__(self, writer: HasEngine, table: str, name: str, attribute: str) -> None:
        if not hasattr(writer, "engine"):
            raise TypeError(f"A counter takes a ReliableWriter, not {type(writer).__name__}.")
        if not isinstance(name, str) or not name:  # type: ignore[redundant-expr]  # callers may not type-check
            raise InvalidKeyError("A counter's name is a string that is not empty.", table=table)
        if RESERVED in name:
            raise InvalidKeyError(f"A counter's name must not hold {RESERVED!r}: the counters' own items do.")
        if not isinstance(attribute, str) or not attribute or attribute.startswith("_rw"):  # type: ignore[redundant-expr]
            raise InvalidKeyError("A counter's attribute is a name that does not begin with _rw.", table=table)
        self.writer = writer
        self.table = table
        self.counter = name
        self.attribute = attribute
        self.item_name = name

    def part(self, suffix: str) -> Place:
        """Another item of the same counter."""
        part = Place(self.writer, self.table, self.counter, self.attribute)
        part.item_name = f"{self.counter}{RESERVED}{suffix}"
        return part

    def __str__(self) -> str:
        return f"Counter {self.counter[:_NAME_CHARACTERS_MAX]!r} in table {self.table!r}"

    @property
    def engine(self) -> Engine:
        """The writer's parts."""
        return self.writer.engine()

    @property
    def facts(self) -> dict[str, Any]:
        """What every error tells."""
        return {"table": self.table, "counter": self.counter}

    @cached_property
    def _schema(self) -> TableSchema:
        """Asked for when first needed. Keys never change while a table lives."""
        schema = schema_of(self.engine, self.table)
        if schema.range_key is not None or schema.hash_key.type != "S":
            raise InvalidKeyError(
                f"{self}: a counter's table has one key attribute, of type string; this one has "
                f"{', '.join(f'{key.name} ({key.type})' for key in schema.key)}. Give counters a table of their own.",
                table=self.table,
            )
        if schema.hash_key.name == self.attribute:
            raise InvalidKeyError(f"{self}: {self.attribute!r} is the table's key.", table=self.table)
        return schema

    @property
    def hash_name(self) -> str:
        """Of the table's key attribute."""
        return self._schema.hash_key.name

    @property
    def python_key(self) -> dict[str, str]:
        """Of the item, as scopes take it."""
        return {self.hash_name: self.item_name}

    @cached_property
    def key(self) -> WireItem:
        """Of the item. Raises `InvalidKeyError`, `UnknownTableError`, `CommitFailedError`."""
        return make_key(self._schema, self.python_key, str(self))

    # --- what is there ------------------------------------------------------------------------------------------

    def read(self, *, consistent: bool = True) -> WireItem:
        """The item; empty where there is none. Raises `ReadFailedError` or `UnknownTableError`."""
        key, engine = self.key, self.engine
        try:
            found = engine.reader.get(self.table, key, engine.attempt_deadline(), consistent=consistent)
        except CallFailed as failure:
            raise self.read_failed(failure) from failure
        return found or {}

    def value_in(self, item: Mapping[str, AttributeValue], initial: int) -> int:
        """What the counter shows in this item. Raises `CounterTypeError`."""
        value = item.get(self.attribute)
        return initial if value is None else self.number(value)

    def number(self, value: AttributeValue) -> int:
        """A whole number as the wire has it. Raises `CounterTypeError`."""
        kind, text = next(iter(value.items()))
        number = Decimal(text) if kind == "N" else None
        if number is None or number != number.to_integral_value():
            raise self._wrong_type(kind, text)
        return int(number)

    def _wrong_type(self, kind: str, content: Any) -> CounterTypeError:
        repairable = kind == "S" and whole_number(content) is not None
        advice = "Find out who wrote it."
        if repairable:
            advice = "It spells a whole number: repair() makes it one, and so does repair=True by itself."
        what = "a number with a fraction" if kind == "N" else f"a value of type {kind}"
        return CounterTypeError(
            f"{self}: attribute {self.attribute!r} holds {what}, not a whole number (N). {advice}",
            **self.facts,
            attribute=self.attribute,
            found=kind,
            repairable=repairable,
        )

    # --- failures -----------------------------------------------------------------------------------------------

    def refused(self, failure: CallFailed) -> ReliableWriteError:
        """The error for a request that was certainly not applied."""
        if failure.kind is FailureKind.TABLE_MISSING:
            self.engine.schemas.forget(self.table)
            return UnknownTableError(f"Table {self.table!r} does not exist here.", table=self.table)
        return CommitFailedError(
            f"{self} was not changed: {failure}. Nothing was written. {_advice(failure.kind)}",
            retryable=failure.kind.retryable or failure.kind is FailureKind.DEADLINE,
        )

    def unanswered(self, failure: CallFailed) -> ReliableWriteError:
        """The error for a request that is no step, and does no harm however often it is sent: it may be applied."""
        if not failure.ambiguous:
            return self.refused(failure)
        return CommitFailedError(
            f"{self}: a request got no answer ({failure}) and may have been applied. It does no harm to say it again.",
            outcome=Outcome.UNKNOWN,
            retryable=True,
        )

    def read_failed(self, failure: CallFailed) -> ReliableWriteError:
        """The error for a read without an answer."""
        if failure.kind is FailureKind.TABLE_MISSING:
            return self.refused(failure)
        return ReadFailedError(
            f"{self} could not be read: {failure}. {_advice(failure.kind)}",
            table=self.table,
            retryable=failure.kind.retryable or failure.kind is FailureKind.DEADLINE,
        )

    def invalid(self, failure: CallFailed, deadline: Deadline) -> ReliableWriteError:
        """The error for a request that DynamoDB finds invalid: mostly, that there is no number to add to."""
        try:
            item = self.engine.store.get(self.table, self.key, deadline) or {}
            self.value_in(item, 0)
        except CallFailed:
            pass
        except CounterTypeError as wrong:
            return wrong
        return self.refused(failure)


def _advice(kind: FailureKind) -> str:
    if kind is FailureKind.ACCESS_DENIED:
        return "Counters need dynamodb:DescribeTable, GetItem and UpdateItem on their table."
    if kind is FailureKind.CREDENTIALS:
        return "Check the credentials with: aws sts get-caller-identity"
    if kind is FailureKind.VALIDATION:
        return "The item may be over DynamoDB's 400 KB, or the attribute part of an index of another type."
    return "It may be tried again."


def whole_number(text: Any) -> int | None:
    """The number that a string spells, within bounds; None where it spells none."""
    if not isinstance(text, str) or _SPELLED.fullmatch(text) is None:
        return None
    number = int(text)
    return number if abs(number) <= limits.COUNTER_VALUE_MAX else None


def check_whole(what: str, number: int, limit: int, *, least: int | None = None) -> int:
    """A whole number within bounds. Raises `TypeError` or `ValueError`; nothing was sent."""
    if not isinstance(number, int) or isinstance(number, bool):  # type: ignore[redundant-expr]  # callers may not type-check
        raise TypeError(f"{what} is a whole number (int), not {type(number).__name__}.")
    lowest = -limit if least is None else least
    if not lowest <= number <= limit:
        raise ValueError(f"{what} takes {lowest:,} to {limit:,}; this is outside.")
    return number
