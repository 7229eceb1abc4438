"""Calls with patience and meaning: the verbs in which the journal, the tombstones and propagation are written.

Every verb takes the deadline of the attempt it belongs to, sends the same bytes again while that makes sense, and tells
apart "refused", "not applied" and "perhaps applied".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reliable_write import limits
from reliable_write.clock import Deadline
from reliable_write.dynamodb.calls import CallName
from reliable_write.dynamodb.failures import CallFailed, ConditionRefused, TransactionCancelled
from reliable_write.dynamodb.patience import PatientCalls
from reliable_write.expressions import Condition
from reliable_write.policy import FailureKind
from reliable_write.settings import split_alias
from reliable_write.values import WireItem


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a Query, and where the next one starts."""

    items: list[WireItem]
    next_key: WireItem | None


class Store(PatientCalls):
    """The verbs the engine needs, each one logical call."""

    def get(self, table: str, key: WireItem, deadline: Deadline) -> WireItem | None:
        """Strongly consistent read of one item; None if absent."""
        answer = self._send("get_item", {"TableName": table, "Key": key, "ConsistentRead": True}, deadline)
        return answer.get("Item") or None

    def put(
        self, table: str, item: WireItem, condition: Condition, deadline: Deadline, *, look: WireItem | None = None
    ) -> int:
        """Put under a condition; how many requests it took. Raises `ConditionRefused`.

        With `look`, the item's key, the refusal holds the item found; it is read anew where the engine does not give
        it with its refusal (then it may be None: gone in between).
        """
        return self._write("put_item", {"TableName": table, "Item": item}, condition, deadline, look)[1]

    def delete(self, table: str, key: WireItem, condition: Condition, deadline: Deadline) -> None:
        """Delete under a condition; an absent item is no failure unless the condition says so. Refusals as in `put`."""
        self._write("delete_item", {"TableName": table, "Key": key}, condition, deadline, key)

    def update(self, table: str, key: WireItem, update: str, condition: Condition, deadline: Deadline) -> WireItem:
        """Update under a condition, names and values of both in `condition`; the whole item as it is afterwards."""
        request = {
            "TableName": table,
            "Key": key,
            "UpdateExpression": update,
            "ReturnValues": "ALL_NEW",
            **_expression(condition),
        }
        attributes: WireItem = self._send("update_item", request, deadline).get("Attributes", {})
        return attributes

    def change(
        self, table: str, key: WireItem, update: str, condition: Condition, deadline: Deadline, *, whole: bool = False
    ) -> WireItem:
        """Update under a condition, names and values of both in `condition`; the changed attributes, or the whole item.

        A refusal holds the item found; it is read anew where the engine does not give it with its refusal.
        """
        request = {
            "TableName": table,
            "Key": key,
            "UpdateExpression": update,
            "ReturnValues": "ALL_NEW" if whole else "UPDATED_NEW",
        }
        attributes: WireItem = self._write("update_item", request, condition, deadline, key)[0].get("Attributes", {})
        return attributes

    def query(
        self,
        table: str,
        partition: str,
        deadline: Deadline,
        *,
        start: WireItem | None = None,
        limit: int | None = None,
        attributes: Sequence[str] = (),
    ) -> Page:
        """One strongly consistent page of a partition of the system table, in order of `sk`.

        With `attributes`, only those come back; the read units are those of the whole items all the same.
        """
        request: dict[str, Any] = {
            "TableName": table,
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": {"S": partition}},
            "ConsistentRead": True,
        }
        if start is not None:
            request["ExclusiveStartKey"] = start
        if limit is not None:
            request["Limit"] = limit
        if attributes:
            request |= _projection(attributes)
        answer = self._send("query", request, deadline)
        return Page(answer.get("Items", []), answer.get("LastEvaluatedKey") or None)

    def scan(
        self, table: str, deadline: Deadline, *, start: WireItem | None = None, attributes: Sequence[str] = ()
    ) -> Page:
        """One strongly consistent page of a whole table, in no order."""
        request: dict[str, Any] = {"TableName": table, "ConsistentRead": True}
        if start is not None:
            request["ExclusiveStartKey"] = start
        if attributes:
            request |= _projection(attributes)
        answer = self._send("scan", request, deadline)
        return Page(answer.get("Items", []), answer.get("LastEvaluatedKey") or None)

    def batch_get(
        self,
        keys: Sequence[tuple[str, WireItem]],
        attributes: Mapping[str, Sequence[str]],
        deadline: Deadline,
    ) -> list[tuple[str, WireItem]]:
        """Strong read of up to 100 keys, only the named attributes per table; found items with their tables.

        Where none are named for a table, its items come whole. What comes back unprocessed is asked for again until the
        deadline.
        """
        assert len(keys) <= limits.BATCH_GET_KEYS_MAX
        pending = _batch_get_request(keys, attributes)
        found: list[tuple[str, WireItem]] = []
        for tries in itertools.count(1):
            answer = self._send("batch_get_item", {"RequestItems": pending}, deadline)
            found += [(table, item) for table, items in answer.get("Responses", {}).items() for item in items]
            pending = answer.get("UnprocessedKeys") or {}
            if not pending:
                return found
            self._pause(tries, deadline, CallFailed(FailureKind.THROTTLED, "UnprocessedKeys", next(iter(pending))))
        raise AssertionError

    def delete_many(self, table: str, keys: Iterable[WireItem], deadline: Deadline) -> None:
        """Delete up to 25 items without a condition, in one call where the engine takes them all."""
        pending: dict[str, Any] = {table: [{"DeleteRequest": {"Key": key}} for key in keys]}
        for tries in itertools.count(1):
            answer = self._send("batch_write_item", {"RequestItems": pending}, deadline)
            pending = answer.get("UnprocessedItems") or {}
            if not pending:
                return
            self._pause(tries, deadline, CallFailed(FailureKind.THROTTLED, "UnprocessedItems", table))

    def transact(self, actions: Sequence[Mapping[str, Any]], token: str, deadline: Deadline) -> None:
        """All of these writes and checks, or none; `token` (36 characters at most) is the same for the same bytes.

        Conflicts with other transactions and throttling are waited out until the deadline. Raises
        `TransactionCancelled` where an action objects for good, or still objects at the deadline.
        """
        request = {"TransactItems": list(actions), "ClientRequestToken": token}
        ambiguous = False
        for tries in itertools.count(1):
            try:
                self._send("transact_write_items", request, deadline)
            except TransactionCancelled as cancelled:
                ambiguous = cancelled.ambiguous = ambiguous or cancelled.ambiguous
                if cancelled.passing is None:
                    raise
                self._pause(tries, deadline, CallFailed(cancelled.passing, "cancelled", None, ambiguous=ambiguous))
            except CallFailed as failure:
                raise failure.with_ambiguity(ambiguous=ambiguous) from failure.__cause__
            else:
                return

    def describe(self, table: str, deadline: Deadline) -> dict[str, Any]:
        """The `Table` member of DescribeTable."""
        description: dict[str, Any] = self._send("describe_table", {"TableName": table}, deadline)["Table"]
        return description

    def tags(self, arn: str, deadline: Deadline) -> dict[str, str]:
        """The tags of a table, first page; 50 at most are allowed."""
        answer = self._send("list_tags_of_resource", {"ResourceArn": arn}, deadline)
        return {tag["Key"]: tag["Value"] for tag in answer.get("Tags") or []}

    def _write(
        self, call: CallName, request: dict[str, Any], condition: Condition, deadline: Deadline, look: WireItem | None
    ) -> tuple[dict[str, Any], int]:
        """The answer, and how many requests it took."""
        full = {**request, **_expression(condition), "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        try:
            return self._send_counting(call, full, deadline)
        except ConditionRefused as refused:
            if refused.found is None and look is not None:
                found = self._found(request["TableName"], look, refused, deadline)
                raise ConditionRefused(found, ambiguous=refused.ambiguous) from refused
            raise

    def _found(self, table: str, key: WireItem, refused: ConditionRefused, deadline: Deadline) -> WireItem | None:
        """The item that refused a write; where it cannot be read, an earlier try may be what it was refused by."""
        try:
            return self.get(table, key, deadline)
        except CallFailed as failure:
            raise failure.with_ambiguity(ambiguous=refused.ambiguous) from failure.__cause__


def batch_get_pages(keys: Iterable[tuple[str, WireItem]]) -> list[list[tuple[str, WireItem]]]:
    """The keys in parts for `Store.batch_get`, each for one place: to be read at once, they do not wait for each other.

    A far Region costs its own round trip, and a dead one does not make the others repeat.
    """
    by_place: dict[str | None, list[tuple[str, WireItem]]] = {}
    for table, key in keys:
        by_place.setdefault(split_alias(table)[0], []).append((table, key))
    size = limits.BATCH_GET_KEYS_MAX
    return [part[at : at + size] for part in by_place.values() for at in range(0, len(part), size)]


def _expression(condition: Condition) -> dict[str, Any]:
    members: dict[str, Any] = {"ConditionExpression": condition.expression}
    if condition.names:
        members["ExpressionAttributeNames"] = dict(condition.names)
    if condition.values:
        members["ExpressionAttributeValues"] = dict(condition.values)
    return members


def _batch_get_request(keys: Sequence[tuple[str, WireItem]], attributes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    by_table: dict[str, list[WireItem]] = {}
    for table, key in keys:
        by_table.setdefault(table, []).append(key)
    return {table: _table_request(table_keys, attributes[table]) for table, table_keys in by_table.items()}


def _table_request(keys: list[WireItem], attributes: Sequence[str]) -> dict[str, Any]:
    return {"Keys": keys, "ConsistentRead": True, **(_projection(attributes) if attributes else {})}


def _projection(attributes: Sequence[str]) -> dict[str, Any]:
    names = {f"#a{index}": name for index, name in enumerate(attributes)}
    return {"ProjectionExpression": ", ".join(names), "ExpressionAttributeNames": names}
