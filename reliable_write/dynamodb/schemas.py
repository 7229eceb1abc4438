"""What tables look like, asked once: key schemas never change while a table lives."""

from __future__ import annotations

import threading
from typing import Any

from reliable_write import limits
from reliable_write.clock import Deadline, TimeSource
from reliable_write.dynamodb.failures import CallFailed
from reliable_write.dynamodb.store import Store
from reliable_write.errors import CommitFailedError, UnknownTableError
from reliable_write.operations import KeyAttribute, TableSchema
from reliable_write.policy import FailureKind


class Schemas:
    """Table schemas by name, each believed for `limits.SCHEMA_TTL_SECONDS`. Safe for threads."""

    def __init__(self, store: Store, time: TimeSource, call_seconds: float) -> None:
        self._store = store
        self._time = time
        self._call_seconds = call_seconds
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, TableSchema]] = {}

    def get(self, table: str) -> TableSchema:
        """The schema of a table.

        Raises `UnknownTableError` where it does not exist, `CommitFailedError` where it cannot be asked. What is
        missing is not remembered: the table may be created a moment later.
        """
        with self._lock:
            known = self._known.get(table)
        if known is not None and self._time.elapsed_seconds() - known[0] < limits.SCHEMA_TTL_SECONDS:
            return known[1]
        schema = self._ask(table)
        with self._lock:
            self._known[table] = (self._time.elapsed_seconds(), schema)
        return schema

    def forget(self, table: str) -> None:
        """Ask again next time: the table turned out not to be what we thought."""
        with self._lock:
            self._known.pop(table, None)

    def _ask(self, table: str) -> TableSchema:
        try:
            return read_schema(self._store.describe(table, Deadline.after(self._call_seconds, self._time)))
        except CallFailed as failure:
            if failure.kind in (FailureKind.TABLE_MISSING, FailureKind.VALIDATION):
                raise UnknownTableError(
                    f"Table {table!r} does not exist in this account and Region. Check the name, or create it.",
                    table=table,
                ) from failure
            raise CommitFailedError(
                f"Table {table!r} could not be described: {failure}. Nothing was written. "
                "The service needs dynamodb:DescribeTable on every table it writes to.",
                retryable=failure.kind.retryable,
            ) from failure


def read_schema(description: dict[str, Any]) -> TableSchema:
    """The schema from DescribeTable's `Table`."""
    types = {row["AttributeName"]: row["AttributeType"] for row in description["AttributeDefinitions"]}
    keys = _key_attributes(description["KeySchema"], types)
    indexes = [
        *(description.get("GlobalSecondaryIndexes") or []),
        *(description.get("LocalSecondaryIndexes") or []),
    ]
    index_keys = {
        attribute.name: attribute for index in indexes for attribute in _key_attributes(index["KeySchema"], types)
    }
    return TableSchema(
        table=description["TableName"],
        hash_key=keys[0],
        range_key=keys[1] if len(keys) > 1 else None,
        index_keys=tuple(attribute for name, attribute in index_keys.items() if name not in {k.name for k in keys}),
    )


def _key_attributes(rows: list[dict[str, str]], types: dict[str, Any]) -> list[KeyAttribute]:
    ordered = sorted(rows, key=lambda row: row["KeyType"] != "HASH")
    return [KeyAttribute(row["AttributeName"], types[row["AttributeName"]]) for row in ordered]
