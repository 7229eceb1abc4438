"""Processes that hold shared records: they count on one, or do as they are told."""

from __future__ import annotations

import itertools
import types
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Annotated, Any, cast

from reliable_write import HashKey, Record, RecordStore, ReliableWriteError, SharedRecord, SharedRecords, Version
from reliable_write.testing.faults import Call, FaultPlan, When, kill
from tests.chaos.victims import Home

KEY = "shared"
PATIENT_SECONDS = 300.0
"""Of one update: where many count as fast as they can, one of them may have to wait for long."""


class Tally(Record):
    """Without a table; `tally_in` gives it one."""

    id: Annotated[str, HashKey()]
    count: int = 0
    version: Annotated[int, Version()] = 0


def tally_in(table: str) -> type[Tally]:
    return cast("type[Tally]", types.new_class("Tally", (Tally,), {"table": table}))


@dataclass(slots=True)
class Report:
    """What one process did."""

    written: int = 0
    tries: int = 0
    calls: Counter[str] = field(default_factory=Counter)


def held(home: Home, table: str, client: Any) -> SharedRecord[Tally]:
    shared = SharedRecords(RecordStore(home.writer(client, attempt_deadline_seconds=4, read_timeout_seconds=2)))
    tally = shared.get(tally_in(table), KEY)
    assert tally is not None
    return tally


# --- counting -----------------------------------------------------------------------------------------------------


def count_shared(home: Home, table: str, updates: int, pipe: Connection) -> None:
    """So many updates as fast as it can, from when it is told; what it took."""
    client = home.client()
    tally, report = held(home, table, client), Report()
    client.meta.events.register("before-send.dynamodb", _counter(report))

    def count(record: Tally) -> None:
        report.tries += 1
        record.count += 1

    pipe.send("ready")
    pipe.recv()
    for _ in range(updates):
        tally.update(count, timeout_seconds=PATIENT_SECONDS)
        report.written += 1
    pipe.send(report)


def count_until_killed(home: Home, table: str, number: int, when: When, pipe: Connection) -> None:
    """Says `begun` before each update and `written` after it, until SIGKILL strikes at its commit with this number."""
    client = home.client()
    tally, commits = held(home, table, client), itertools.count(1)
    pipe.send("ready")
    pipe.recv()

    def strike(call: Call) -> None:
        if next(commits) == number:
            kill(call)

    with FaultPlan(client) as plan:
        plan.on("TransactWriteItems", strike, when, having=b'"R#')
        while True:
            pipe.send("begun")
            tally.update(_one_more, timeout_seconds=PATIENT_SECONDS)
            pipe.send("written")


def count_as_of_old(home: Home, table: str, updates: int, pipe: Connection) -> None:
    """The algorithm of the system this goes back to: look at the serial, and if it is the one we know, write.

    What it holds is refreshed where the look shows that it is stale; what comes between the look and the write is lost.
    """
    client, report = home.client(), Report()
    client.meta.events.register("before-send.dynamodb", _counter(report))
    key = {"id": {"S": KEY}}
    known = client.get_item(TableName=table, Key=key, ConsistentRead=True)["Item"]
    pipe.send("ready")
    pipe.recv()
    while report.written < updates:
        report.tries += 1
        changed = {**known, "count": _raised(known["count"]), "version": _raised(known["version"])}
        serial = client.get_item(TableName=table, Key=key, ConsistentRead=True, ProjectionExpression="version")["Item"]
        if serial["version"] == known["version"]:
            client.put_item(TableName=table, Item=changed)
            known = changed
            report.written += 1
        else:
            known = client.get_item(TableName=table, Key=key, ConsistentRead=True)["Item"]
    pipe.send(report)


def _one_more(record: Tally) -> None:
    record.count += 1


def _raised(number: dict[str, str]) -> dict[str, str]:
    return {"N": str(int(number["N"]) + 1)}


def _counter(report: Report) -> Callable[..., None]:
    def count(event_name: str, **_: Any) -> None:
        report.calls[event_name.rpartition(".")[2]] += 1

    return count


# --- as they are told ---------------------------------------------------------------------------------------------


def share(home: Home, table: str, pipe: Connection) -> None:
    """Do to the record what it is told, and say what came of it: the count and the version, or an error's name."""
    tally = held(home, table, home.client())
    mine = tally.read()
    pipe.send("ready")
    while (order := pipe.recv()) is not None:
        deeds: dict[str, Callable[[], Tally | None]] = {
            "read": tally.read,
            "peek": tally.peek,
            "put": lambda: tally.put(mine),
            "update": lambda: tally.update(_one_more),
            "delete": tally.delete,
        }
        try:
            shown = deeds[order]()
        except ReliableWriteError as error:
            pipe.send(type(error).__name__)
        else:
            pipe.send(None if shown is None else (shown.count, shown.version))
