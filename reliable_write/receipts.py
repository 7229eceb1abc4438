"""Receipts: one per write that committed by a transaction, so that nobody's repetition takes effect a second time.

A receipt is put in the same transaction as the write itself, under the condition that there is none. It is keyed by the
write id, which never changes, and not by the stamp, which a new attempt takes anew: an attempt whose answer was lost
and that lands late is refused by the receipt of the attempt that was first. It has no TTL: expiry is no timer, and what
is collected too early can be done twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from reliable_write import limits
from reliable_write.clock import Deadline, Stamp, is_stamp
from reliable_write.dynamodb import CallFailed, Condition, ConditionRefused, Store
from reliable_write.errors import InvalidKeyError
from reliable_write.operations import AtCommit, Operation, Put, Update
from reliable_write.policy import FailureKind, stamp_of
from reliable_write.values import AttributeValue, WireItem, canonical_number

RECEIPT_PREFIX: Final = "R#"
RECEIPT_ATTRIBUTES: Final = ("request", "scope", "operations", "at", "entry", "void")
"""Beside `pk`, `sk` and `stamp`."""
_SORT_KEY: Final = {"S": "R"}


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """A receipt as stored."""

    write_id: str
    stamp: Stamp
    """The stamp under which the write took effect."""
    request_hash: str
    """Of the operations: the same id with other operations is a mistake."""
    scope: str
    """Which scope it was: the first stamp of the scope that wrote it."""
    operations: int
    at_milliseconds: int
    """Wall time of the commit; for people, and for how long it is kept at least."""
    has_entry: bool
    """Whether something was journalled to be propagated."""
    void: bool = False
    """The write was given up: the receipt keeps attempts that are still under way from taking effect."""


def check_key(key: str) -> str:
    """An idempotency key as given. Raises `InvalidKeyError` for one that cannot be used as a write id."""
    if not isinstance(key, str) or not key or not key.isprintable():  # type: ignore[redundant-expr]  # callers
        raise InvalidKeyError("An idempotency key is a string of printable characters that is not empty.")
    if len(key.encode()) > limits.IDEMPOTENCY_KEY_BYTES_MAX:
        raise InvalidKeyError(
            f"An idempotency key takes {limits.IDEMPOTENCY_KEY_BYTES_MAX} bytes; this has {len(key.encode())}."
        )
    if is_stamp(key):
        raise InvalidKeyError("An idempotency key must not look like a stamp of this library (36 hexadecimal digits).")
    return key


def receipt_key(write_id: str) -> WireItem:
    """Where the receipt of a write lives."""
    return {"pk": {"S": f"{RECEIPT_PREFIX}{write_id}"}, "sk": _SORT_KEY}


def receipt_item(receipt: StoredReceipt) -> WireItem:
    """The receipt as it is put at the commit point."""
    item: WireItem = {
        **receipt_key(receipt.write_id),
        "stamp": {"S": receipt.stamp},
        "request": {"S": receipt.request_hash},
        "scope": {"S": receipt.scope},
        "operations": {"N": str(receipt.operations)},
        "at": {"N": str(receipt.at_milliseconds)},
        "entry": {"BOOL": receipt.has_entry},
    }
    return {**item, "void": {"BOOL": True}} if receipt.void else item


def read_receipt(item: WireItem) -> StoredReceipt | None:
    """A receipt from its item; None where it cannot be ours: it then stays as it is."""
    stamp = stamp_of(item, "stamp")
    if stamp is None:
        return None
    try:
        return StoredReceipt(
            write_id=item["pk"]["S"].removeprefix(RECEIPT_PREFIX),
            stamp=stamp,
            request_hash=item["request"]["S"],
            scope=item["scope"]["S"],
            operations=int(item["operations"]["N"]),
            at_milliseconds=int(item["at"]["N"]),
            has_entry=bool(item["entry"]["BOOL"]),
            void="void" in item,
        )
    except (KeyError, ValueError, TypeError):
        return None


class Receipts:
    """The receipts of one system table."""

    def __init__(self, store: Store, table: str) -> None:
        self._store = store
        self.table = table

    def find(self, write_id: str, deadline: Deadline) -> StoredReceipt | None:
        """The receipt of a write, read strongly; None where there is none, or it cannot be read."""
        item = self._store.get(self.table, receipt_key(write_id), deadline)
        return None if item is None else read_receipt(item)

    def fence(self, receipt: StoredReceipt, deadline: Deadline) -> StoredReceipt | None:
        """Put a void receipt, so that the write cannot take effect any more; the receipt that was first, if one was.

        Raises `CallFailed`, also where the receipt found cannot be read.
        """
        key = receipt_key(receipt.write_id)
        fresh = Condition("attribute_not_exists(sk)")
        try:
            self._store.put(self.table, receipt_item(receipt), fresh, deadline, look=key)
        except ConditionRefused as refused:
            found = read_receipt(refused.found or {})
            if found is None:
                raise CallFailed(FailureKind.UNCLASSIFIED, "UnreadableReceipt", self.table) from refused
            return None if found.void else found
        return None

    def collect(self, write_id: str, stamp: Stamp, deadline: Deadline) -> None:
        """Remove the receipt if it is as seen; whoever calls has waited until no attempt of its write can land."""
        as_seen = Condition("#s = :seen", {"#s": "stamp"}, {":seen": {"S": stamp}})
        with contextlib.suppress(ConditionRefused):
            self._store.delete(self.table, receipt_key(write_id), as_seen, deadline)


def request_hash(operations: Iterable[Operation | AtCommit]) -> str:
    """40 hexadecimal digits, equal in every process for operations that do the same in the same order.

    Attributes may stand in any order, and numbers may be spelled in any way.
    """
    rows = [[operation.verb, [_row(operation, action) for action in operation.actions]] for operation in operations]
    text = json.dumps(rows, separators=(",", ":"), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def _row(operation: Operation | AtCommit, action: Any) -> list[Any]:
    row: list[Any] = [action.table, _canonical_item(action.item if isinstance(action, Put) else action.key)]
    if isinstance(action, Update):
        row.append(action.expression)
    if isinstance(operation, AtCommit):
        row += [operation.condition, dict(operation.names), _canonical_item(operation.values)]
    return row


def _canonical_item(item: WireItem) -> dict[str, Any]:
    return {name: _canonical(value) for name, value in item.items()}


def _canonical(value: AttributeValue) -> Any:
    ((kind, content),) = value.items()
    canonical = _CANONICAL.get(kind)
    return [kind, content if canonical is None else canonical(content)]


_CANONICAL: Final[dict[str, Callable[[Any], Any]]] = {
    "N": canonical_number,
    "NS": lambda texts: sorted(map(canonical_number, texts)),
    "SS": sorted,
    "B": bytes.hex,
    "BS": lambda parts: sorted(part.hex() for part in parts),
    "L": lambda parts: list(map(_canonical, parts)),
    "M": _canonical_item,
}
