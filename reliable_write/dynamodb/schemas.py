"""What tables look like, asked once: key schemas never change while a table lives."""

from __future__ import annotations

import itertools
import threading
from typing import Any, Final

from reliable_write import limits
from reliable_write.clock import Deadline, TimeSource
from reliable_write.dynamodb.failures import CallFailed
from reliable_write.dynamodb.store import Store
from reliable_write.errors import CommitFailedError, UnknownTableError, UnsupportedOperationError
from reliable_write.operations import Index, KeyAttribute, LocalIndex, TableSchema
from reliable_write.policy import FailureKind
from reliable_write.settings import split_alias


class Schemas:
    """Table schemas by name, each believed for `limits.SCHEMA_TTL_SECONDS`. Safe for threads."""

    def __init__(self, store: Store, time: TimeSource, call_seconds: float, *, system_table: str | None = None) -> None:
        self._store = store
        self._unchecked_system_table = system_table
        """None also once it was found to be in order."""
        self._time = time
        self._call_seconds = call_seconds
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, TableSchema]] = {}

    def get(self, table: str) -> TableSchema:
        """The schema of a table.

        Raises `UnknownTableError` where it does not exist, `CommitFailedError` where it cannot be asked. What is
        missing is not remembered: the table may be created a moment later. A schema known from before outlives a
        control plane that does not answer.
        """
        with self._lock:
            known = self._known.get(table)
        now = self._time.elapsed_seconds()
        if known is not None and now < known[0]:
            return known[1]
        try:
            schema, seconds = self._ask(table, patient=known is None), limits.SCHEMA_TTL_SECONDS
        except CommitFailedError:
            if known is None:
                raise
            schema, seconds = known[1], limits.SCHEMA_RETRY_SECONDS
        with self._lock:
            self._known[table] = (now + seconds, schema)
        return schema

    def forget(self, table: str) -> None:
        """Ask again next time: the table turned out not to be what we thought."""
        with self._lock:
            self._known.pop(table, None)

    def _ask(self, table: str, *, patient: bool) -> TableSchema:
        seconds = self._call_seconds if patient else min(self._call_seconds, limits.SCHEMA_REFRESH_SECONDS)
        deadline = Deadline.after(seconds, self._time)
        try:
            description = self._store.describe(table, deadline)
            if _is_on_alternator(description):
                self._check_isolation(table, description["TableArn"], deadline)
                if split_alias(table)[0] is None:
                    self._check_system_table(deadline)
            return read_schema(description)
        except CallFailed as failure:
            raise _not_described(table, failure) from failure

    def _check_system_table(self, deadline: Deadline) -> None:
        """Journal and tombstones lean on conditions as well. Once in a process: the tag is set once and stays."""
        table = self._unchecked_system_table
        if table is not None:
            self._check_isolation(table, self._store.describe(table, deadline)["TableArn"], deadline)
            self._unchecked_system_table = None

    def _check_isolation(self, table: str, arn: str, deadline: Deadline) -> None:
        """ScyllaDB's Alternator keeps conditional writes apart from others only where every write is a transaction."""
        isolation = self._store.tags(arn, deadline).get(_ISOLATION_TAG)
        if isolation not in _SAFE_ISOLATIONS:
            found = f"it is {isolation!r}" if isolation else "the tag is missing"
            raise UnsupportedOperationError(
                f"Table {table!r} is on ScyllaDB Alternator, where conditions hold only under the write isolation "
                f"always_use_lwt; {found}. Set it on every table of these writes and on the system table: aws dynamodb "
                f"tag-resource --resource-arn {split_alias(arn)[1]} --tags Key={_ISOLATION_TAG},Value=always_use_lwt",
                table=table,
            )


def _is_on_alternator(description: dict[str, Any]) -> bool:
    return split_alias(description.get("TableArn", ""))[1].startswith(_ALTERNATOR_ARN)


def _not_described(table: str, failure: CallFailed) -> CommitFailedError | UnknownTableError:
    place = "in this account and Region" if failure.destination is None else f"at destination {failure.destination}"
    if failure.kind in (FailureKind.TABLE_MISSING, FailureKind.VALIDATION):
        return UnknownTableError(f"Table {table!r} does not exist {place}. Check the name, or create it.", table=table)
    advice = "The service needs dynamodb:DescribeTable on every table it writes to."
    if failure.kind is FailureKind.CREDENTIALS and failure.destination is not None:
        advice = f"Check the role and credentials of destination {failure.destination} (RELIABLE_WRITE_DESTINATIONS)."
    elif failure.kind is not FailureKind.ACCESS_DENIED:
        advice = f"Try again once DynamoDB {place} answers; a table this process has written to before needs no answer."
    return CommitFailedError(
        f"Table {table!r} could not be described: {failure}. Nothing was written. {advice}",
        retryable=failure.kind.retryable or failure.kind is FailureKind.DEADLINE,
    )


_ALTERNATOR_ARN: Final = "arn:scylla:"
_ISOLATION_TAG: Final = "system:write_isolation"
_SAFE_ISOLATIONS: Final = frozenset({"a", "always", "always_use_lwt"})
"""Source: ScyllaDB's manual, "Alternator-specific APIs", "Write isolation policies"
(https://docs.scylladb.com/manual/stable/alternator/new-apis.html). A server-wide default shows in no table, so the tag
is asked for."""


def read_schema(description: dict[str, Any]) -> TableSchema:
    """The schema from DescribeTable's `Table`."""
    types = {row["AttributeName"]: row["AttributeType"] for row in description["AttributeDefinitions"]}
    local = description.get("LocalSecondaryIndexes") or []
    indexes = [*(description.get("GlobalSecondaryIndexes") or []), *local]
    bounds = _bounds([description["KeySchema"], *(index["KeySchema"] for index in indexes)])
    attributes = {name: KeyAttribute(name, types[name], bound) for name, bound in bounds.items()}
    names = _key_names(description)
    return TableSchema(
        table=description["TableName"],
        hash_key=attributes[names[0]],
        range_key=attributes[names[1]] if len(names) > 1 else None,
        index_keys=tuple(attribute for name, attribute in attributes.items() if name not in names),
        local_indexes=tuple(_local_index(index) for index in local),
        indexes=tuple(_index(index, names, local=index in local) for index in indexes),
    )


def _key_names(described: dict[str, Any]) -> list[str]:
    """Of a table or an index, hash key first."""
    return [row["AttributeName"] for row in sorted(described["KeySchema"], key=lambda row: row["KeyType"] != "HASH")]


def _bounds(key_schemas: list[list[dict[str, str]]]) -> dict[str, int]:
    """The size each key attribute may have: the smallest over all the keys it is part of."""
    bounds: dict[str, int] = {}
    for row in itertools.chain.from_iterable(key_schemas):
        bound = limits.HASH_KEY_BYTES_MAX if row["KeyType"] == "HASH" else limits.RANGE_KEY_BYTES_MAX
        bounds[row["AttributeName"]] = min(bound, bounds.get(row["AttributeName"], bound))
    return bounds


def _local_index(index: dict[str, Any]) -> LocalIndex:
    return LocalIndex(_key_names(index)[1], _projected(index))


def _projected(index: dict[str, Any]) -> frozenset[str] | None:
    """Attributes copied into an index beside keys; None for all."""
    projection = index.get("Projection", {})
    everything = projection.get("ProjectionType", "ALL") == "ALL"
    return None if everything else frozenset(projection.get("NonKeyAttributes") or ())


def _index(index: dict[str, Any], table_key: list[str], *, local: bool) -> Index:
    key, projected = _key_names(index), _projected(index)
    return Index(
        name=index["IndexName"],
        hash_key=key[0],
        range_key=key[1] if len(key) > 1 else None,
        local=local,
        projected=None if projected is None else projected.union(key, table_key),
    )
