"""The system table: its one shape, how it is made, and the record all processes must agree on.

On-demand, with point-in-time recovery and deletion protection where the engine has them. TTL is on an attribute that
only heartbeats and audit records carry: entries, chunks, tombstones and receipts must never expire by themselves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from reliable_write import limits
from reliable_write.clock import Deadline, TimeSource
from reliable_write.dynamodb import CallFailed, Condition, ConditionRefused, Store
from reliable_write.errors import ConfigurationError
from reliable_write.operations import StampNames
from reliable_write.policy import FailureKind
from reliable_write.values import WireItem

Order = Literal["strict", "clock"]

CONFIG_KEY: Final[WireItem] = {"pk": {"S": "CONFIG"}, "sk": {"S": "CONFIG"}}
TTL_ATTRIBUTE: Final = "expires_at"
_CONFIG_FORMAT: Final = 1

SHAPE: Final[dict[str, Any]] = {
    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    "AttributeDefinitions": [
        {"AttributeName": "pk", "AttributeType": "S"},
        {"AttributeName": "sk", "AttributeType": "S"},
    ],
    "BillingMode": "PAY_PER_REQUEST",
}
"""Never an LSI: it would cap a partition at 10 GB."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What all writers and monitors of a system table agree on; kept in its config record."""

    shards: int = limits.SHARDS
    order: Order = "strict"
    """`strict`: every commit looks at the stamps that are there, so real-time order never leans on clocks.
    `clock`: one round trip less; the last writer by synchronised clocks wins."""
    names: StampNames = field(default_factory=StampNames)

    def __post_init__(self) -> None:
        if not 1 <= self.shards <= limits.SHARDS_MAX:
            raise ConfigurationError(f"shards is {self.shards}; it takes 1 to {limits.SHARDS_MAX}.")
        if self.order not in ("strict", "clock"):
            raise ConfigurationError(f"order is {self.order!r}; it takes strict or clock.")
        if not self.names.full or not self.names.update or self.names.full == self.names.update:
            raise ConfigurationError("The two stamp attributes need names, and different ones.")


def write_installation(store: Store, table: str, installation: Installation, deadline: Deadline) -> Installation:
    """Store the config record unless there is one; what holds is returned."""
    item: WireItem = {
        **CONFIG_KEY,
        "format": {"N": str(_CONFIG_FORMAT)},
        "shards": {"N": str(installation.shards)},
        "order": {"S": installation.order},
        "stamp_attribute": {"S": installation.names.full},
        "update_stamp_attribute": {"S": installation.names.update},
    }
    try:
        store.put(table, item, Condition("attribute_not_exists(sk)"), deadline, look=CONFIG_KEY)
    except ConditionRefused as refused:
        return _parse(table, refused.found or {})
    return installation


def read_installation(store: Store, table: str, deadline: Deadline) -> Installation:
    """The config record. Raises `ConfigurationError` with the command to run where it or the table is missing."""
    try:
        item = store.get(table, CONFIG_KEY, deadline)
    except CallFailed as failure:
        raise ConfigurationError(_unreachable(table, failure), retryable=failure.kind.retryable) from failure
    if item is None:
        raise ConfigurationError(f"Table {table!r} is not a system table yet: it has no config record. {_init(table)}")
    return _parse(table, item)


def _parse(table: str, item: WireItem) -> Installation:
    try:
        format_ = int(item["format"]["N"])
    except (KeyError, ValueError) as error:
        raise _damaged(table, error) from error
    if format_ != _CONFIG_FORMAT:
        raise ConfigurationError(
            f"The config record of {table!r} is of format {format_}, which this version does not know. "
            "Upgrade reliable-write here."
        )
    try:
        names = StampNames(item["stamp_attribute"]["S"], item["update_stamp_attribute"]["S"])
        order: Any = item["order"]["S"]  # looked at by the installation itself
        return Installation(int(item["shards"]["N"]), order, names)
    except (KeyError, ValueError, ConfigurationError) as error:
        raise _damaged(table, error) from error


def _damaged(table: str, error: Exception) -> ConfigurationError:
    """Never read half: a process that took another order, or other shards, would work past the others."""
    return ConfigurationError(f"The config record of {table!r} is damaged ({error}).")


def _unreachable(table: str, failure: CallFailed) -> str:
    if failure.kind is FailureKind.TABLE_MISSING:
        return f"The system table {table!r} does not exist. {_init(table)}"
    return f"The system table {table!r} cannot be read: {failure}. Nothing was written."


def _init(table: str) -> str:
    return f"Run: reliable-write init --system-table {table}"


# --- making and checking it, for `reliable-write init` ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """One property of the system table, read back after it was set."""

    name: str
    ok: bool
    told: str
    required: bool = True
    """Without a required one the table must not be used; others only make it safer."""


def create_system_table(client: Any, store: Store, table: str, wanted: Installation, time: TimeSource) -> list[Finding]:
    """Create what is missing, change nothing that is there, and report what holds. May be run again at any time.

    `client` is a low-level boto3 client: these calls are made once in a table's life and are not part of the protocol.
    A table of another shape is only reported. Raises `ConfigurationError` for one that holds somebody else's items:
    switching TTL on there would delete them.
    """
    _create(client, table)
    shape = _check_shape(client.describe_table(TableName=table)["Table"])
    if not shape.ok:
        return [shape]
    _refuse_a_table_in_use(client, store, table, Deadline.after(limits.ATTEMPT_DEADLINE_SECONDS, time))
    _switch_on(lambda: _enable_recovery(client, table))
    _switch_on(lambda: _enable_ttl(client, table))
    _switch_on(lambda: _enable_protection(client, table))
    held = write_installation(store, table, wanted, Deadline.after(limits.ATTEMPT_DEADLINE_SECONDS, time))
    return [*check_system_table(client, table), compare_installations(wanted, held)]


def check_system_table(client: Any, table: str) -> list[Finding]:
    """What holds, read back from the engine."""
    description = client.describe_table(TableName=table)["Table"]
    return [
        _check_shape(description),
        _check_mode(description),
        _check_recovery(client, table),
        _check_protection(description),
        _check_ttl(client, table),
    ]


def _create(client: Any, table: str) -> None:
    with contextlib.suppress(client.exceptions.ResourceInUseException):
        client.create_table(TableName=table, **SHAPE)
    client.get_waiter("table_exists").wait(TableName=table, WaiterConfig={"Delay": 1, "MaxAttempts": 120})


def _refuse_a_table_in_use(client: Any, store: Store, table: str, deadline: Deadline) -> None:
    """Looked at in this order, so that another `init` at the same moment, which puts its record first, is no reason."""
    holds_items = bool(client.scan(TableName=table, Limit=1, ConsistentRead=True)["Items"])
    if holds_items and store.get(table, CONFIG_KEY, deadline) is None:
        raise ConfigurationError(
            f"Table {table!r} holds items but no config record, so it is somebody else's. Nothing was changed. "
            "Choose a name of its own for the system table: reliable-write init --system-table NAME"
        )


def _switch_on(enable: Callable[[], object]) -> None:
    """Try; whether it worked is read back, because engines answer such calls with success and forget them."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - init alone needs it

    try:
        enable()
    except (ClientError, BotoCoreError):
        return


def _enable_recovery(client: Any, table: str) -> None:
    client.update_continuous_backups(
        TableName=table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )


def _enable_ttl(client: Any, table: str) -> None:
    client.update_time_to_live(
        TableName=table, TimeToLiveSpecification={"Enabled": True, "AttributeName": TTL_ATTRIBUTE}
    )


def _enable_protection(client: Any, table: str) -> None:
    if not client.describe_table(TableName=table)["Table"].get("DeletionProtectionEnabled"):
        client.update_table(TableName=table, DeletionProtectionEnabled=True)


def _check_shape(description: dict[str, Any]) -> Finding:
    types = {row["AttributeName"]: row["AttributeType"] for row in description["AttributeDefinitions"]}
    shape_ok = (
        description["KeySchema"] == SHAPE["KeySchema"]
        and types["pk"] == types["sk"] == "S"
        and not description.get("LocalSecondaryIndexes")
    )
    told = "pk (S), sk (S), no local index" if shape_ok else "another key or a local index: choose another table name"
    return Finding("key schema", shape_ok, told)


def _check_mode(description: dict[str, Any]) -> Finding:
    mode = description.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED")
    on_demand = mode == "PAY_PER_REQUEST"
    return Finding("on-demand", on_demand, "yes" if on_demand else f"billing mode is {mode}", required=False)


def _check_recovery(client: Any, table: str) -> Finding:
    def read() -> bool:
        answer = client.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]
        status = answer.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus")
        return bool(status == "ENABLED")

    return _asked("point-in-time recovery", read)


def _check_protection(description: dict[str, Any]) -> Finding:
    protected = bool(description.get("DeletionProtectionEnabled"))
    return Finding("deletion protection", protected, "on" if protected else "not on here", required=False)


def _check_ttl(client: Any, table: str) -> Finding:
    def read() -> bool:
        answer = client.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
        return bool(answer.get("AttributeName") == TTL_ATTRIBUTE)

    return _asked(f"TTL on {TTL_ATTRIBUTE}", read)


def _asked(name: str, read: Callable[[], bool]) -> Finding:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - init alone needs it

    try:
        holds = read()
    except ClientError as error:
        # Which one it is decides what to do: an engine that does not know the call, or a permission that is missing.
        return Finding(name, ok=False, told=f"not told: {error.response['Error']['Code']}", required=False)
    except BotoCoreError as error:
        return Finding(name, ok=False, told=f"not told: {type(error).__name__}", required=False)
    return Finding(name, holds, "on" if holds else "not on here", required=False)


def compare_installations(wanted: Installation, held: Installation) -> Finding:
    """Whether the config record says what was asked for; it is never changed once writers may have read it."""
    pairs = [
        ("shards", wanted.shards, held.shards),
        ("order", wanted.order, held.order),
        ("stamp", wanted.names.full, held.names.full),
        ("update stamp", wanted.names.update, held.names.update),
    ]
    changes = [f"{name} {kept} (not {asked})" for name, asked, kept in pairs if asked != kept]
    if not changes:
        holds = ", ".join(f"{name} {kept}" for name, _, kept in pairs)
        return Finding("config record", ok=True, told=holds)
    return Finding(
        "config record",
        ok=False,
        told=f"kept as it was: {', '.join(changes)}. This version cannot change an installation once it is made; "
        "everything works with what is kept.",
        required=False,
    )
