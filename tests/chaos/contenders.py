"""Long-lived writer processes driven over pipes: they commit when told, and stall where told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from reliable_write import Receipt, ReliableWriteScope
from reliable_write.testing.faults import Call, FaultPlan, When
from tests.chaos.victims import Home

STALL_SECONDS_MAX = 20.0


@dataclass(frozen=True, slots=True)
class Stall:
    """Where in a commit a process stands still until it is told to go on."""

    number: int
    when: When


@dataclass(frozen=True, slots=True)
class Order:
    """One scope to commit. Rows are (table, id); all puts carry `value`."""

    value: str
    puts: Sequence[tuple[str, str]] = ()
    deletes: Sequence[tuple[str, str]] = ()
    stall: Stall | None = None


STALLED = "stalled"


def contend(home: Home, clock_shift_seconds: float, pipe: Connection) -> None:
    """Commit every order that comes and answer with its receipt, until the pipe is closed.

    The finished entry is deleted before the receipt is sent, so that each commit makes the same calls.
    """
    client = home.client()
    with home.writer(client, clock_shift_seconds=clock_shift_seconds, delete_finished_inline=True) as writer:
        writer.engine()
        pipe.send("ready")
        while (order := _next(pipe)) is not None:
            with FaultPlan(client) as faults:
                if order.stall is not None:
                    faults.at(order.stall.number, _stall(pipe), order.stall.when)
                with ReliableWriteScope(writer) as scope:
                    pipe.send(_commit(scope, order))


def _next(pipe: Connection) -> Order | None:
    try:
        order: Order | None = pipe.recv()
    except EOFError:
        return None
    return order


def _commit(scope: ReliableWriteScope, order: Order) -> Receipt:
    for table, key in order.puts:
        scope.put_item(table, Item={"id": key, "value": order.value})
    for table, key in order.deletes:
        scope.delete_item(table, Key={"id": key})
    return scope.commit()


def _stall(pipe: Connection) -> Any:
    """Say so and wait. One call of an order stalls, and its main thread is inside commit(): the pipe has one user."""

    def fault(_call: Call) -> None:
        pipe.send(STALLED)
        if pipe.poll(STALL_SECONDS_MAX):
            pipe.recv()

    return fault
