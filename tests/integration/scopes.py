"""What tests of scopes have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from reliable_write import ReliableWriter
from reliable_write.testing.faults import FaultPlan

WRITES = ("PutItem", "DeleteItem", "UpdateItem", "BatchWriteItem", "TransactWriteItems")


@contextmanager
def nothing_written(writer: ReliableWriter) -> Iterator[FaultPlan]:
    """No write of any kind reaches the wire in this block."""
    with FaultPlan(writer.client) as plan:
        yield plan
    assert [call.operation for call in plan.calls if call.operation in WRITES] == []


def named(table: str) -> bytes:
    return f'"{table}"'.encode()
