"""Processes that commit scopes with operations at commit and are killed; imported by them, so it holds no test."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

from boto3.dynamodb.conditions import Attr

from reliable_write import ReliableWriter, ReliableWriteScope
from reliable_write.limits import KB
from reliable_write.testing.faults import FaultPlan, kill
from tests.chaos.victims import CrashPoint, Home, Told


@dataclass(frozen=True, slots=True)
class Shape:
    """One scope: under `mark` in each table; a counter is at 5 before, and every item to be deleted is there."""

    kind: str
    tables: tuple[str, str, str]
    mark: str

    @property
    def idempotency_key(self) -> str | None:
        """Of those that have one."""
        return self.mark if self.kind == "keyed" else None

    def record(self, scope: ReliableWriteScope) -> None:
        _SHAPES[self.kind](self, scope)

    def increment(self, scope: ReliableWriteScope) -> None:
        scope.update_item(self.tables[0], Key={"id": self.mark}, add={"n": 1})


def _update(shape: Shape, scope: ReliableWriteScope) -> None:
    shape.increment(scope)


def _update_and_put(shape: Shape, scope: ReliableWriteScope) -> None:
    scope.put_item(shape.tables[1], Item={"id": shape.mark, "value": "new"})
    shape.increment(scope)
    scope.delete_item(shape.tables[2], Key={"id": shape.mark})


def _conditional(shape: Shape, scope: ReliableWriteScope) -> None:
    """With chunks: over 350 KB after compression."""
    noise = random.Random(shape.mark)
    absent = Attr("id").not_exists()
    scope.put_item(shape.tables[1], Item={"id": shape.mark, "value": "new"}, ConditionExpression=absent)
    scope.delete_item(shape.tables[2], Key={"id": shape.mark}, ConditionExpression=Attr("value").eq("doomed"))
    shape.increment(scope)
    for part in "ab":
        blob = noise.randbytes(200 * KB)
        scope.put_item(shape.tables[1], Item={"id": f"{shape.mark}-{part}", "value": "new", "blob": blob})


_SHAPES: dict[str, Callable[[Shape, ReliableWriteScope], None]] = {
    "update": _update,
    "update_and_put": _update_and_put,
    "conditional": _conditional,
    "keyed": _update_and_put,
}
SHAPES = tuple(_SHAPES)


def commit(writer: ReliableWriter, shape: Shape) -> bool:
    """Commit it; whether it was a duplicate."""
    with ReliableWriteScope(writer, idempotency_key=shape.idempotency_key) as scope:
        shape.record(scope)
        return scope.commit().duplicate


def commit_once(home: Home, shape: Shape, point: CrashPoint | None, told: Connection) -> None:
    """A process that commits one scope, closes its writer and ends, unless it is killed on the way."""
    client = home.client()
    faults = FaultPlan(client)
    if point is not None:
        faults.at(point.number, kill, point.when)
    with home.writer(client) as writer:
        commit(writer, shape)
    commits = [call.number for call in faults.calls if call.operation == "TransactWriteItems" and b'"R#' in call.body]
    told.send(Told([call.operation for call in faults.calls], commits[0]))
