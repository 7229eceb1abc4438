"""What runs in the processes that are killed: imported by them and by the tests, so it holds no test.

They are forked from a warm, single-threaded server (`multiprocessing`'s forkserver, with this module preloaded),
because a fresh interpreter for each of a few hundred kills would cost minutes.
"""

from __future__ import annotations

import functools
import itertools
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import boto3.session
from botocore.config import Config

from reliable_write import ReliableWriter, ReliableWriteScope, Settings
from reliable_write.limits import KB
from reliable_write.testing.faults import Call, Fault, FaultPlan, When, kill
from tests.clocks import SkippingTime


@dataclass(frozen=True, slots=True)
class Home:
    """Where a child finds its world."""

    endpoint_url: str
    system_table: str

    def settings(self, **more: Any) -> Settings:
        return Settings(endpoint_url=self.endpoint_url, region="us-east-1", system_table=self.system_table, **more)

    def client(self, *, connect_timeout: float = 1, read_timeout: float = 4) -> Any:
        config = Config(
            retries={"total_max_attempts": 1},
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            max_pool_connections=40,
        )
        return session().client("dynamodb", endpoint_url=self.endpoint_url, config=config)

    def writer(
        self, client: Any, *, clock_shift_seconds: float = 0.0, logger: Any = None, **settings: Any
    ) -> ReliableWriter:
        time = SkippingTime(ahead=clock_shift_seconds)
        return ReliableWriter(self.settings(**settings), client=client, time=time, logger=logger)


@functools.cache
def session() -> boto3.session.Session:
    """One per process tree: botocore keeps the service's model in it, which takes long to read."""
    return boto3.session.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name="us-east-1")


# --- scopes to crash in -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """One scope, and so what must be in the tables once it is whole."""

    puts: tuple[tuple[str, dict[str, Any]], ...]
    deletes: tuple[tuple[str, str], ...] = ()
    """Table and id."""
    batched: bool = False

    def record(self, scope: ReliableWriteScope) -> None:
        if self.batched:
            for table, rows in itertools.groupby(self.puts, key=lambda row: row[0]):
                scope.put_items(table, [item for _, item in rows])
            for table, keys in itertools.groupby(self.deletes, key=lambda row: row[0]):
                scope.delete_items(table, [{"id": key} for _, key in keys])
            return
        for table, item in self.puts:
            scope.put_item(table, Item=item)
        for table, key in self.deletes:
            scope.delete_item(table, Key={"id": key})


def three_puts(tables: list[str], mark: str) -> Plan:
    return Plan(tuple((table, {"id": mark, "value": "new"}) for table in tables))


def put_and_delete(tables: list[str], mark: str) -> Plan:
    return Plan(((tables[0], {"id": mark, "value": "new"}),), ((tables[1], mark),))


def batches(tables: list[str], mark: str) -> Plan:
    puts = tuple((table, {"id": f"{mark}-{part}", "value": "new"}) for table in tables[:2] for part in "ab")
    return Plan(puts, tuple((tables[2], f"{mark}-{part}") for part in "ab"), batched=True)


def chunked(tables: list[str], mark: str) -> Plan:
    """Over 350 KB after compression, so that the entry is a head and two chunks."""
    noise = random.Random(mark)
    puts = tuple((table, {"id": mark, "value": noise.randbytes(200 * KB)}) for table in tables[:2])
    return Plan(puts, ((tables[2], mark),))


PLANS: dict[str, Callable[[list[str], str], Plan]] = {
    plan.__name__: plan for plan in (three_puts, put_and_delete, batches, chunked)
}


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """The n-th call that reaches the wire; `before`: it is not sent, `after`: it is applied and nobody learns it."""

    number: int
    when: When


@dataclass(frozen=True, slots=True)
class Told:
    """What a child that was not killed saw."""

    operations: list[str] = field(default_factory=list)
    commit_call: int = 0
    """The number of the call that puts the entry: the commit point."""


def write_once(home: Home, plan: Plan, point: CrashPoint | None, told: Connection) -> None:
    """A process that commits one scope, closes its writer and ends, unless it is killed on the way."""
    _act(home, point, told, lambda writer: _commit(writer, plan))


def write_half(home: Home, plan: Plan, told: Connection) -> None:
    """A process that is killed when the first of its puts is applied and no other has been sent."""
    (first, _), *others = plan.puts
    client = home.client()
    faults = FaultPlan(client)
    half_way(faults, first, [table for table, _ in others], kill)
    with home.writer(client) as writer:
        _commit(writer, plan)
    told.send("survived")


def half_way(faults: FaultPlan, first: str, others: list[str], end: Fault) -> None:
    """Let a commit apply its put to the first table, and end before it sends one to another."""
    applied = threading.Event()

    def end_then(call: Call) -> Any:
        assert applied.wait(20)
        return end(call)

    faults.on("PutItem", lambda _call: applied.set(), "after", having=f'"{first}"'.encode())
    for table in others:
        faults.on("PutItem", end_then, having=f'"{table}"'.encode())


def recover_once(home: Home, point: CrashPoint | None, told: Connection) -> None:
    """A process that recovers everything there is and ends, unless it is killed on the way."""
    _act(home, point, told, lambda writer: writer.recovery.resume_all())


def _act(home: Home, point: CrashPoint | None, told: Connection, work: Callable[[ReliableWriter], object]) -> None:
    client = home.client()
    faults = FaultPlan(client)
    if point is not None:
        faults.at(point.number, kill, point.when)
    with home.writer(client) as writer:
        work(writer)
    commits = [call.number for call in faults.calls if call.operation == "PutItem" and b'"J#' in call.body]
    told.send(Told([call.operation for call in faults.calls], commits[0] if commits else 0))


def _commit(writer: ReliableWriter, plan: Plan) -> None:
    with ReliableWriteScope(writer) as scope:
        plan.record(scope)
        scope.commit()
