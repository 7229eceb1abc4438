"""The narrow protocol between the protocol's engine and whatever speaks DynamoDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from reliable_write.clock import Deadline

CallName = Literal[
    "get_item",
    "put_item",
    "update_item",
    "delete_item",
    "query",
    "scan",
    "batch_get_item",
    "batch_write_item",
    "describe_table",
    "transact_write_items",
    "list_tags_of_resource",
]


class Calls(Protocol):
    """One request, one answer, with boto3's low-level shapes (attribute values as the wire has them)."""

    def send(self, call: CallName, request: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        """Send one request, once.

        The deadline is checked at the last moment before bytes leave; past it nothing is sent. Raises
        `ConditionRefused`, `TransactionCancelled` or `CallFailed`, never anything of the transport's own.
        """
        ...
