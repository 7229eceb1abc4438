"""Blocks of ids that are given again for the same idempotency key.

A block is taken from the counter first, as by anybody, and then laid down under the key, in an item of its own that is
put only if there is none. Whoever comes second gives away the block that is there, and his own is skipped. (A
transaction over both items could not tell which numbers it takes without naming the value it starts from, and on a
counter that others raise all the time would hardly ever hold.)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Final

from reliable_write import limits
from reliable_write.counters.place import Place
from reliable_write.counters.steps import number
from reliable_write.dynamodb import CallFailed, Condition, ConditionRefused
from reliable_write.errors import CommitFailedError, CounterUnknownError, IdempotencyMismatchError
from reliable_write.receipts import check_key
from reliable_write.values import WireItem

EXPIRES: Final = "_rwe"
"""The second since 1970 from which on it may be removed, by the table's TTL if that is switched on for it."""


def claimed_ids(place: Place, n: int, key: str, fresh: Callable[[int], range]) -> range:
    """The block of this key, made by `fresh` where there is none."""
    block = place.part(f"k{_hash(place.attribute, check_key(key))}")
    found = block.read()
    return _ids(block, found or _claim(block, fresh(n)), n, key)


def _hash(attribute: str, key: str) -> str:
    """One item may hold several counters: the same key gets a block of each of them."""
    return hashlib.sha256(f"{attribute}\0{key}".encode()).hexdigest()[:40]


def _claim(block: Place, ids: range) -> WireItem:
    """Lay the block down; what is there then. Late or lost, only the first one under its key is ever there."""
    engine = block.engine
    expires = math.ceil(engine.time.wall_seconds() + limits.RECEIPT_RETENTION_SECONDS)
    item = {**block.key, "first": number(ids[0]), "count": number(len(ids)), EXPIRES: number(expires)}
    absent = Condition("attribute_not_exists(#key)", {"#key": block.hash_name})
    try:
        engine.store.put(block.table, item, absent, engine.attempt_deadline(), look=block.key)
    except ConditionRefused as refused:
        return refused.found or item
    except CallFailed as failure:
        kind = CounterUnknownError if failure.ambiguous else CommitFailedError
        raise kind(
            f"{block}: a block of ids could not be laid down under its key: {failure}. Say the same again, with the "
            "same key. Numbers may be skipped; none will be given twice.",
            retryable=True,
            **block.facts,
        ) from failure.__cause__
    return item


def _ids(block: Place, item: WireItem, n: int, key: str) -> range:
    first, count = int(item["first"]["N"]), int(item["count"]["N"])
    if count != n:
        raise IdempotencyMismatchError(
            f"{block}: idempotency key {key!r} was used before, for another number of ids. Nothing was written now.",
            write_id=key,
        )
    return range(first, first + count)
