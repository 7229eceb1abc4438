"""What a scope would take, told before it is committed: requests, bytes and write units of both strategies.

Write units are AWS's: one for each KB begun of an item that is written, twice that in a transaction, where a check
costs as a write (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html). What is
not known before counts as absent: the items that are there now, and what an update makes of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reliable_write import limits
from reliable_write.at_commit import ONE_TRANSACTION
from reliable_write.clock import STAMP_CHARACTERS, Stamp
from reliable_write.entry import encode_operations
from reliable_write.expressions import changed_attributes
from reliable_write.operations import AtCommit, AtCommitVerb, Delete, Operation, Put, Update
from reliable_write.settings import split_alias
from reliable_write.transaction import transaction_bytes
from reliable_write.values import item_bytes, value_bytes

Recorded = Operation | AtCommit
_ANY_STAMP = Stamp("0" * STAMP_CHARACTERS)
_RECORD_BYTES = 256
"""Of a journal entry beside its payload, a tombstone, a receipt: each is under a KB."""
_CHUNK_OVERHEAD_BYTES = 52
"""Key and names of a chunk."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one strategy, where nothing fails and no item is there yet."""

    requests: int
    write_units: int
    read_units: int


@dataclass(frozen=True, slots=True)
class PlannedOperation:
    """One operation, and why it takes effect at the commit, if it does."""

    operation: str
    verb: str
    table: str
    items: int
    bytes: int
    at_commit: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a scope would take."""

    operations: tuple[PlannedOperation, ...]
    items: int
    bytes: int
    journal: Cost
    """Of `commit()`."""
    transaction: Cost | None
    """Of `commit(strategy="transaction")`; None where it does not fit."""
    transaction_refused: str
    """Why it does not."""


def as_at_commit(operations: Sequence[Recorded]) -> tuple[AtCommit, ...]:
    """The whole scope as operations at commit, batches item by item."""
    return tuple(single for operation in operations for single in _singles(operation))


def _singles(operation: Recorded) -> list[AtCommit]:
    if isinstance(operation, AtCommit):
        return [operation]
    assert operation.number is not None
    verb: AtCommitVerb = "put_item" if operation.verb.startswith("put") else "delete_item"
    batch = operation.verb.endswith("s")
    return [
        AtCommit(verb, action, operation.number, ONE_TRANSACTION, item=index if batch else None)
        for index, action in enumerate(operation.actions)
    ]


def operation_bytes(operation: Recorded) -> int:
    """What it writes, as DynamoDB counts it, without stamps."""
    if isinstance(operation, AtCommit) and isinstance(operation.action, Update):
        return item_bytes(operation.action.key) + item_bytes(operation.values) + len(operation.action.expression)
    return sum(item_bytes(action.item if isinstance(action, Put) else action.key) for action in operation.actions)


def make_plan(operations: Sequence[Recorded], *, keyed: bool, strict: bool) -> Plan:
    """The plan of a scope; `keyed` where it has an idempotency key, `strict` where journalled keys are looked at."""
    single = as_at_commit(operations)
    refused = transaction_refused(single)
    return Plan(
        operations=tuple(_planned(operation) for operation in operations),
        items=len(single),
        bytes=sum(operation_bytes(operation) for operation in operations),
        journal=_journal_cost(operations, keyed=keyed, strict=strict) if operations else Cost(0, 0, 0),
        transaction=None if refused else _transaction_cost(single),
        transaction_refused=refused,
    )


def _planned(operation: Recorded) -> PlannedOperation:
    assert operation.number is not None
    why = operation.why if isinstance(operation, AtCommit) else None
    place = operation.place if isinstance(operation, AtCommit) else f"operations[{operation.number}]"
    return PlannedOperation(
        place, operation.verb, operation.table, len(operation.actions), operation_bytes(operation), why
    )


def transaction_refused(operations: Sequence[AtCommit]) -> str:
    """Why these do not fit into one transaction; empty where they do."""
    if len(operations) > limits.AT_COMMIT_KEYS_MAX:
        return f"{len(operations)} items; one transaction takes {limits.AT_COMMIT_KEYS_MAX} with their guards"
    elsewhere = next(filter(None, (split_alias(operation.table)[0] for operation in operations)), None)
    if elsewhere is not None:
        return f"{elsewhere!r} is elsewhere; one transaction stays in the account and Region of the journal"
    size = transaction_bytes(operations, None)
    if size > limits.TRANSACTION_BYTES_MAX:
        return f"{size} bytes; one transaction takes {limits.TRANSACTION_BYTES_MAX}"
    return ""


def _journal_cost(operations: Sequence[Recorded], *, keyed: bool, strict: bool) -> Cost:
    journalled = [operation for operation in operations if isinstance(operation, Operation)]
    at_commit = [operation for operation in operations if isinstance(operation, AtCommit)]
    actions = [action for operation in journalled for action in operation.actions]
    deletes = sum(isinstance(action, Delete) for action in actions)
    head, chunks = _entry_units(journalled)
    propagated = sum(_units(_sent_bytes(action)) for action in actions) + deletes
    keys = 2 * len(at_commit) + (2 * len(actions) - deletes if strict else 0)
    commit_units = 2 * (head + 1) + _at_commit_units(at_commit) if at_commit or keyed else head
    return Cost(
        requests=_pages(keys) + len(chunks) + 1 + len(actions) + deletes,
        write_units=sum(chunks) + commit_units + propagated + head,
        read_units=keys,
    )


def _entry_units(journalled: Sequence[Operation]) -> tuple[int, list[int]]:
    """Of the journal entry, which is put once and deleted once; and of each of its chunks."""
    if not journalled:
        return 0, []
    size = len(encode_operations(journalled, _ANY_STAMP, _ANY_STAMP))
    if size <= limits.CHUNK_BYTES_MAX:
        return _units(size + _RECORD_BYTES), []
    starts = range(0, size, limits.CHUNK_BYTES_MAX)
    return 1, [_units(min(limits.CHUNK_BYTES_MAX, size - start) + _CHUNK_OVERHEAD_BYTES) for start in starts]


def _transaction_cost(operations: Sequence[AtCommit]) -> Cost:
    if not operations:
        return Cost(0, 0, 0)
    keys = 2 * len(operations)
    return Cost(_pages(keys) + 1, 2 + _at_commit_units(operations), keys)


def _at_commit_units(operations: Sequence[AtCommit]) -> int:
    """The operation and the look at its tombstone, each at twice the units."""
    return sum(2 * _units(_written_bytes(operation)) + 2 for operation in operations)


def _written_bytes(operation: AtCommit) -> int:
    """The item that it leaves where none was; a delete and a check are billed one unit then."""
    action = operation.action
    if isinstance(action, Put):
        return _sent_bytes(action)
    if not isinstance(action, Update):
        return 1
    names = sum(len(name.encode()) for name in changed_attributes(action.expression, operation.names))
    values = sum(value_bytes(value) for value in operation.values.values())
    return item_bytes(action.key) + names + values + STAMP_CHARACTERS + len("_rwu")


def _sent_bytes(action: Put | Delete) -> int:
    return item_bytes(action.item) + STAMP_CHARACTERS + len("_rw") if isinstance(action, Put) else 1


def _pages(keys: int) -> int:
    return -(-keys // limits.BATCH_GET_KEYS_MAX)


def _units(size: int) -> int:
    return -(-size // limits.KB)
