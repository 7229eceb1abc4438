"""The commit point as one TransactWriteItems: built here and its refusals read here, without I/O.

Its actions, in this order: the journal entry, where something is left to propagate; the receipt, if there is none yet;
and for each item written at commit the operation itself, under the caller's condition and the guards of the protocol,
with a look at the item's tombstone.

The guards keep the order of writes. Stamps at the item must be older than ours (CE9). The tombstone must be as it was
witnessed; where there was one, an item that carries stamps must carry one as late as it, or the operation would build
on a ghost (CE20). An item without any stamp was put by somebody else and may be built upon.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from reliable_write import limits
from reliable_write.clock import Stamp, TimeSource
from reliable_write.dynamodb import TransactionCancelled
from reliable_write.entry import Entry, entry_item
from reliable_write.expressions import bracketed, with_assignments
from reliable_write.operations import AtCommit, Check, Delete, Put, StampNames, Update
from reliable_write.policy import FailureKind, Reading, is_foreign, read_stamps, stamp_of
from reliable_write.receipts import StoredReceipt, read_receipt, receipt_item
from reliable_write.tombstones import tombstone_item, tombstone_key
from reliable_write.values import WireItem, item_bytes

_OLDER: Final = (
    "(attribute_not_exists(#rw_full) OR #rw_full < :rw_mine) AND (attribute_not_exists(#rw_upd) OR #rw_upd < :rw_mine)"
)
_NO_GHOST: Final = (
    "((attribute_not_exists(#rw_full) AND attribute_not_exists(#rw_upd)) "
    "OR #rw_full >= :rw_tomb OR #rw_upd >= :rw_tomb)"
)


@dataclass(frozen=True, slots=True)
class Part:
    """One item written at commit, and the tombstone that was witnessed there."""

    operation: AtCommit
    tombstone: Stamp | None
    item_seen: bool
    """Whether there was an item, other than a ghost."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """One attempt at a commit point: its stamp, and everything that is in it."""

    system_table: str
    names: StampNames
    stamp: Stamp
    receipt: StoredReceipt
    entry: Entry | None
    parts: tuple[Part, ...]

    def actions(self) -> list[dict[str, Any]]:
        """The request's `TransactItems`."""
        actions = [self._fresh(entry_item(self.entry))] if self.entry is not None else []
        actions.append(self._fresh(receipt_item(self.receipt)))
        for part in self.parts:
            actions += [self._operation(part), self._tombstone(part)]
        return actions

    def _fresh(self, item: WireItem) -> dict[str, Any]:
        return {
            "Put": {
                "TableName": self.system_table,
                "Item": item,
                "ConditionExpression": "attribute_not_exists(sk)",
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        }

    def _operation(self, part: Part) -> dict[str, Any]:
        operation = part.operation
        request = {
            "TableName": operation.table,
            **self._expressions(part),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        match operation.action:
            case Put(item=item):
                return {"Put": {**request, "Item": {**item, self.names.full: {"S": self.stamp}}}}
            case Delete(key=key):
                return {"Delete": {**request, "Key": key}}
            case Update(key=key, expression=expression):
                return {"Update": {**request, "Key": key, "UpdateExpression": self._stamped(expression, part)}}
            case Check(key=key):
                return {"ConditionCheck": {**request, "Key": key}}

    def _stamped(self, expression: str, part: Part) -> str:
        """With our stamp; and, where the update makes the item, the witnessed tombstone handed on as its last full
        write, or a re-run of the finished delete would take the update for a conflict (CE24). Not where there was an
        item: one that the delete has not removed, because an update had overtaken it, would say that it had.
        """
        assignments = ["#rw_upd = :rw_mine"]
        if part.tombstone is not None and not part.item_seen:
            assignments.append("#rw_full = if_not_exists(#rw_full, :rw_tomb)")
        return with_assignments(expression, assignments)

    def _expressions(self, part: Part) -> dict[str, Any]:
        operation = part.operation
        conditions = [_OLDER]
        names = {**operation.names, "#rw_full": self.names.full, "#rw_upd": self.names.update}
        values: WireItem = {**operation.values, ":rw_mine": {"S": self.stamp}}
        if part.tombstone is not None:
            conditions.append(_NO_GHOST)
            values[":rw_tomb"] = {"S": part.tombstone}
            if part.item_seen and isinstance(operation.action, Update):
                conditions.append("attribute_exists(#rw_key)")
                names["#rw_key"] = operation.action.key_names[0]
        if operation.condition is not None:
            conditions.append(bracketed(operation.condition))
        return {
            "ConditionExpression": " AND ".join(conditions),
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
        }

    def _tombstone(self, part: Part) -> dict[str, Any]:
        request: dict[str, Any] = {"TableName": self.system_table}
        if part.tombstone is None:
            request["ConditionExpression"] = "attribute_not_exists(pk)"
        else:
            request |= {
                "ConditionExpression": "#s = :seen",
                "ExpressionAttributeNames": {"#s": "stamp"},
                "ExpressionAttributeValues": {":seen": {"S": part.tombstone}},
            }
        action = part.operation.action
        if isinstance(action, Delete):
            return {"Put": {**request, "Item": tombstone_item(action, self.stamp)}}
        return {"ConditionCheck": {**request, "Key": tombstone_key(action)}}


# --- reading a refusal --------------------------------------------------------------------------------------------


class Objection(enum.Enum):
    """Why a transaction was cancelled for good."""

    RECEIPT = "receipt"
    """This write id has taken effect before."""
    GUARDS = "guards"
    """Somebody was later than our stamp, or deleted a key: look again and take a new stamp."""
    FOREIGN = "foreign"
    """An item carries a stamp that cannot be ours."""
    CONDITION = "condition"
    """A condition of the caller's is false."""
    INVALID = "invalid"
    """DynamoDB will not do one of the operations."""
    UNKNOWN = "unknown"
    """No reason that this version understands."""


@dataclass(frozen=True, slots=True)
class Refused:
    """One operation that was refused, and the item that did it."""

    operation: AtCommit
    found: WireItem | None = field(repr=False)
    code: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal, read."""

    objection: Objection
    receipt: StoredReceipt | None = None
    refused: tuple[Refused, ...] = ()


def read_refusal(transaction: Transaction, cancelled: TransactionCancelled, time: TimeSource) -> Refusal:
    """What a cancelled transaction means. The order of the questions is part of the protocol.

    The receipt first: our own lost attempt changes what the others see. Then the guards: what was written in between
    may be what makes the caller's condition false, or true.
    """
    reasons = list(cancelled.reasons)
    if len(reasons) != len(transaction.actions()):  # DynamoDB Local tells the one that is invalid, and not which
        invalid = any(reason.kind is FailureKind.VALIDATION for reason in reasons)
        return Refusal(Objection.INVALID if invalid else Objection.UNKNOWN)
    if transaction.entry is not None:
        reasons = reasons[1:]
    if reasons and reasons[0].refused:
        return Refusal(Objection.RECEIPT, receipt=read_receipt(reasons[0].found or {}))
    pairs = list(zip(reasons[1::2], reasons[2::2], strict=True))
    refused = [
        (part, Refused(part.operation, item.found, item.code))
        for part, (item, _) in zip(transaction.parts, pairs, strict=True)
        if item.refused
    ]
    foreign = tuple(one for _, one in refused if is_foreign(one.found or {}, transaction.names, time))
    if foreign:
        return Refusal(Objection.FOREIGN, refused=foreign)
    if any(tomb.refused for _, tomb in pairs) or any(_guarded(transaction, part, one, time) for part, one in refused):
        return Refusal(Objection.GUARDS)
    if refused:
        return Refusal(Objection.CONDITION, refused=tuple(one for _, one in refused))
    unfit = [
        Refused(part.operation, None, reason.code)
        for part, pair in zip(transaction.parts, pairs, strict=True)
        for reason in pair
        if reason.kind is not None
    ]
    return Refusal(Objection.INVALID if unfit else Objection.UNKNOWN, refused=tuple(unfit))


def _guarded(transaction: Transaction, part: Part, refused: Refused, time: TimeSource) -> bool:
    """Whether it was one of the protocol's guards that refused the item; else it was the caller's condition."""
    if refused.operation.condition is None:
        return True
    found = refused.found or {}
    if read_stamps(found, transaction.stamp, transaction.names, time) is not Reading.OLDER:
        return True
    if part.tombstone is None:
        return False
    return is_ghost(found, part.tombstone, transaction.names) or _has_gone(part, refused)


def _has_gone(part: Part, refused: Refused) -> bool:
    """Whether an update found that the item which was seen is there no more."""
    return part.item_seen and refused.found is None and isinstance(refused.operation.action, Update)


def is_ghost(item: Mapping[str, Any], tombstone: Stamp, names: StampNames) -> bool:
    """Whether an item at a deleted key is what a first attempt left there: stamped, and by nothing later."""
    stamps = [stamp for stamp in (stamp_of(dict(item), names.full), stamp_of(dict(item), names.update)) if stamp]
    return bool(stamps) and all(stamp < tombstone for stamp in stamps)


# --- what fits ----------------------------------------------------------------------------------------------------


def at_commit_bytes(operation: AtCommit) -> int:
    """What an operation takes of the transaction's 4 MB, as far as it is known before: for an update, what it sends."""
    action = operation.action
    content = action.item if isinstance(action, Put) else action.key
    expression = len(action.expression.encode()) if isinstance(action, Update) else 0
    return item_bytes(content) + item_bytes(operation.values) + expression + _STAMPS_BYTES


_STAMPS_BYTES: Final = 2 * (36 + len("_rwu"))
_TOMBSTONE_BYTES: Final = limits.KB


def transaction_bytes(operations: Sequence[AtCommit], entry: Entry | None) -> int:
    """All of a commit point's transaction, its own records included."""
    own = len(entry.payload or b"") + limits.KB if entry is not None else 0
    return sum(at_commit_bytes(operation) for operation in operations) + own + _TOMBSTONE_BYTES
