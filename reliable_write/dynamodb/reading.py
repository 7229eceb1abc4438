"""Reading the application's items: what the record store asks for, a page or a batch at a time.

The engine's own reads are strongly consistent without exception and stand in `store`; here the caller says.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reliable_write import limits
from reliable_write.clock import Deadline
from reliable_write.dynamodb.calls import CallName
from reliable_write.dynamodb.failures import CallFailed
from reliable_write.dynamodb.patience import PatientCalls
from reliable_write.dynamodb.store import Page
from reliable_write.policy import FailureKind
from reliable_write.values import WireItem


@dataclass(frozen=True, slots=True)
class Reading:
    """A Query, or a Scan where it has no key condition: everything but the page it begins with."""

    table: str
    consistent: bool
    key_condition: str | None = None
    filter: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    values: WireItem = field(default_factory=dict, repr=False)
    """Placeholders of both expressions."""
    index: str | None = None
    descending: bool = False
    page_items: int | None = None
    """Items examined by one request at most; None for 1 MB."""

    @property
    def call(self) -> CallName:
        """Which of the two it is."""
        return "scan" if self.key_condition is None else "query"

    def request(self, start: WireItem | None) -> dict[str, Any]:
        """As boto3's low-level client takes it."""
        members = {
            "KeyConditionExpression": self.key_condition,
            "FilterExpression": self.filter,
            "ExpressionAttributeNames": dict(self.names) or None,
            "ExpressionAttributeValues": dict(self.values) or None,
            "IndexName": self.index,
            "ScanIndexForward": False if self.descending else None,
            "Limit": self.page_items,
            "ExclusiveStartKey": start,
        }
        given = {name: value for name, value in members.items() if value is not None}
        return {"TableName": self.table, "ConsistentRead": self.consistent, **given}


class Reader(PatientCalls):
    """Reads of any table. Each raises `CallFailed` where there is no answer until the deadline."""

    def get(self, table: str, key: WireItem, deadline: Deadline, *, consistent: bool) -> WireItem | None:
        """One item; None if absent."""
        answer = self._send("get_item", {"TableName": table, "Key": key, "ConsistentRead": consistent}, deadline)
        return answer.get("Item") or None

    def batch_get(
        self, table: str, keys: Sequence[WireItem], deadline: Deadline, *, consistent: bool
    ) -> list[WireItem]:
        """Those of up to 100 distinct keys that are there, in no order.

        What comes back unprocessed is asked for again until the deadline.
        """
        assert len(keys) <= limits.BATCH_GET_KEYS_MAX
        pending: Mapping[str, Any] = {table: {"Keys": list(keys), "ConsistentRead": consistent}}
        found: list[WireItem] = []
        for tries in itertools.count(1):
            answer = self._send("batch_get_item", {"RequestItems": pending}, deadline)
            found += answer.get("Responses", {}).get(table, [])
            pending = answer.get("UnprocessedKeys") or {}
            if not pending:
                return found
            self._pause(tries, deadline, CallFailed(FailureKind.THROTTLED, "UnprocessedKeys", table))
        raise AssertionError

    def page(self, reading: Reading, start: WireItem | None, deadline: Deadline) -> Page:
        """One page of a Query or a Scan."""
        answer = self._send(reading.call, reading.request(start), deadline)
        return Page(answer.get("Items", []), answer.get("LastEvaluatedKey") or None)
