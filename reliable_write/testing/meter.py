"""What a client is billed: requests, write units and read units, as the engine itself tells them.

    with Meter(client) as meter:
        ...
        meter.calls["PutItem"], meter.write_units, meter.read_units

A meter acts on one boto3 client through its public events and is taken off when its block is left. Requests are counted
when they are sent, so those that are refused or retried count too; units are those of answered ones.
"""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType
from typing import Any, Final, Self

_TELL_CAPACITY: Final = (
    "BatchGetItem",
    "BatchWriteItem",
    "DeleteItem",
    "GetItem",
    "PutItem",
    "Query",
    "Scan",
    "TransactGetItems",
    "TransactWriteItems",
    "UpdateItem",
)
_WRITES: Final = frozenset({"BatchWriteItem", "DeleteItem", "PutItem", "TransactWriteItems", "UpdateItem"})


class Meter:
    """Counts what goes over one client while its block is open. Safe for threads."""

    def __init__(self, client: Any) -> None:
        self._events = client.meta.events
        self._lock = threading.Lock()
        self._id = f"reliable-write-meter-{id(self)}"
        self.calls: Counter[str] = Counter()
        """Requests by botocore's operation names."""
        self.units: Counter[str] = Counter()
        """Capacity units by operation: of writes for writing operations, of reads for the others."""

    @property
    def write_units(self) -> float:
        """Write units of all operations."""
        return sum(units for name, units in self.units.items() if name in _WRITES)

    @property
    def read_units(self) -> float:
        """Read units of all operations."""
        return sum(units for name, units in self.units.items() if name not in _WRITES)

    def __enter__(self) -> Self:
        for name in _TELL_CAPACITY:
            self._events.register(
                f"provide-client-params.dynamodb.{name}", _ask_for_capacity, unique_id=f"{self._id}-ask-{name}"
            )
        self._events.register("before-send.dynamodb", self._count, unique_id=f"{self._id}-count")
        self._events.register("after-call.dynamodb", self._add, unique_id=f"{self._id}-add")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for name in _TELL_CAPACITY:
            self._events.unregister(f"provide-client-params.dynamodb.{name}", unique_id=f"{self._id}-ask-{name}")
        self._events.unregister("before-send.dynamodb", unique_id=f"{self._id}-count")
        self._events.unregister("after-call.dynamodb", unique_id=f"{self._id}-add")

    def _count(self, event_name: str, **_: Any) -> None:
        with self._lock:
            self.calls[event_name.rpartition(".")[2]] += 1

    def _add(self, parsed: dict[str, Any], event_name: str, **_: Any) -> None:
        told = parsed.get("ConsumedCapacity") or []
        total = sum(row.get("CapacityUnits", 0.0) for row in (told if isinstance(told, list) else [told]))
        with self._lock:
            self.units[event_name.rpartition(".")[2]] += total


def _ask_for_capacity(params: dict[str, Any], **_: Any) -> dict[str, Any]:
    return {**params, "ReturnConsumedCapacity": "TOTAL"}
