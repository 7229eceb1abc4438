"""Operations that take effect inside the commit point: updates, checks, and whatever has a condition.

They are checked as far as they can be; what only DynamoDB can judge, it judges inside the transaction, where a refusal
means that nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from boto3.dynamodb.conditions import ConditionBase

from reliable_write.errors import InvalidExpressionError
from reliable_write.expressions import (
    Names,
    Written,
    build_update,
    changed_attributes,
    mentions,
    read_condition,
    read_update,
)
from reliable_write.operations import (
    AnyAction,
    AtCommit,
    AtCommitVerb,
    Check,
    StampNames,
    TableSchema,
    Update,
    make_delete,
    make_key,
    make_put,
)

Condition = str | ConditionBase

AN_UPDATE: Final = "an update"
A_CHECK: Final = "a condition check"
A_CONDITION: Final = "a condition"
ASKED_FOR: Final = "at_commit=True"
ONE_TRANSACTION: Final = 'strategy="transaction"'


@dataclass(frozen=True, slots=True)
class Given:
    """What the caller handed over beside the item or key, with boto3's meanings."""

    condition: Condition | None = None
    names: Names | None = None
    values: Mapping[str, Any] | None = field(default=None, repr=False)
    at_commit: bool = False

    @property
    def why(self) -> str | None:
        """What makes a put or delete an operation at commit; None where nothing does."""
        if self.condition is not None:
            return A_CONDITION
        return ASKED_FOR if self.at_commit else None

    def check_alone(self, where: str) -> None:
        """Raise `InvalidExpressionError` for placeholders without a condition."""
        if self.names or self.values:
            raise InvalidExpressionError(f"{where}: placeholders are given, but no ConditionExpression.")


@dataclass(frozen=True, slots=True)
class Change:
    """What an update does: an expression, or `add`, `set` and `remove`."""

    expression: str | None
    add: Mapping[str, Any] = field(repr=False)
    set: Mapping[str, Any] = field(repr=False)
    remove: Iterable[str]


def make_guarded(
    verb: AtCommitVerb,
    schema: TableSchema,
    content: Mapping[str, Any],
    given: Given,
    names: StampNames,
    number: int,
    item: int | None = None,
) -> AtCommit:
    """A put, delete or check at commit, `item` where it stands in a batch. Raises a `WriteRejectedError`."""
    place = f"operations[{number}]" if item is None else f"operations[{number}].items[{item}]"
    written = read_condition(given.condition, given.names, given.values, f"{place} {verb} on {schema.table}")
    action: AnyAction
    if verb == "put_item":
        action = make_put(schema, content, names, place)
    elif verb == "delete_item":
        action = make_delete(schema, content, place)
    else:
        action = Check(schema.table, schema.key_names, make_key(schema, content, f"{place} check in {schema.table}"))
    why = A_CHECK if verb == "condition_check" else given.why or ASKED_FOR
    return replace(_at_commit(verb, action, number, why, written), item=item)


def make_update(
    schema: TableSchema, key: Mapping[str, Any], change: Change, given: Given, names: StampNames, number: int
) -> AtCommit:
    """An update at commit. Raises a `WriteRejectedError`."""
    where = f"operations[{number}] update_item on {schema.table}"
    written = _read_change(change, given, where)
    reserved = mentions(written, (names.full, names.update))
    if reserved is not None:
        raise InvalidExpressionError(f"{where}: attribute {reserved!r} is reserved for the order of writes.")
    assert written.update is not None
    if in_key := sorted(changed_attributes(written.update, written.names) & set(schema.key_names)):
        raise InvalidExpressionError(f"{where}: attribute {in_key[0]!r} is part of the key, which no update changes.")
    action = Update(schema.table, schema.key_names, make_key(schema, key, where), written.update)
    return _at_commit("update_item", action, number, AN_UPDATE, written)


def _read_change(change: Change, given: Given, where: str) -> Written:
    built = bool(change.add or change.set or change.remove)
    if change.expression is not None:
        if built:
            raise InvalidExpressionError(f"{where}: give UpdateExpression, or add=, set= and remove=; not both.")
        return read_update(change.expression, given.condition, given.names, given.values, where)
    condition = read_condition(given.condition, given.names, given.values, where)
    expression, names, values = build_update(change.add, change.set, change.remove, where)
    return Written(condition.condition, expression, {**condition.names, **names}, {**condition.values, **values})


def _at_commit(verb: AtCommitVerb, action: AnyAction, number: int, why: str, written: Written) -> AtCommit:
    return AtCommit(verb, action, number, why, written.condition, written.names, written.values)
