"""Processes that take one lock again and again, and write under it what they have read under it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from botocore.config import Config

from reliable_write import (
    CommitFailedError,
    CommitUnknownError,
    Lease,
    Lock,
    LockLostError,
    ReadFailedError,
    ReliableWriter,
    ReliableWriteScope,
)
from reliable_write.testing.faults import Call, FaultPlan
from tests.chaos.victims import Home, session

KEY = "the-lock"
COUNTER = "counter"
LEASE_SECONDS = 1.5
HEARTBEAT_SECONDS = 0.3
POLL_SECONDS = 0.1
READ_TIMEOUT_SECONDS = 0.6
CONNECT_TIMEOUT_SECONDS = 0.4


@dataclass(frozen=True, slots=True)
class Site:
    """Where they work."""

    home: Home
    locks: str
    counters: str
    ledger: str

    def client(self) -> Any:
        config = Config(
            retries={"total_max_attempts": 1},
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            max_pool_connections=40,
        )
        return session().client("dynamodb", endpoint_url=self.home.endpoint_url, config=config)

    def lock(self, writer: ReliableWriter, **more: Any) -> Lock:
        spans = {
            "lease_seconds": LEASE_SECONDS,
            "heartbeat_seconds": HEARTBEAT_SECONDS,
            "poll_seconds": POLL_SECONDS,
        }
        return Lock(writer, self.locks, KEY, **{**spans, **more})


def owner_of(pid: int) -> str:
    return f"process {pid}"


class _Quiet:
    """A log that nobody reads."""

    def __getattr__(self, _level: str) -> Any:
        return lambda *_args, **_facts: None


# --- sections -----------------------------------------------------------------------------------------------------


def work(site: Site, sections: int, stop_each: int, pipe: Connection) -> None:
    """So many sections, each said as `done`, and each that was refused by its reason; then `finished`.

    Every so many sections it says `stopping` and stops itself by SIGSTOP, at the last moment before the section's
    commit leaves: the worst one for whoever believes in clocks.
    """
    client = site.client()
    writer = site.home.writer(client, read_timeout_seconds=READ_TIMEOUT_SECONDS, logger=_Quiet())
    lock = site.lock(writer, owner=owner_of(os.getpid()))
    pipe.send(("ready", 0))
    pipe.recv()
    done = tried = 0
    while done < sections:
        tried += 1
        with _stopping(client, pipe, wanted=tried % stop_each == 0):
            said, token = _section(site, writer, lock, client)
        pipe.send((said, token))
        done += said == "done"
    pipe.send(("finished", 0))


def _section(site: Site, writer: ReliableWriter, lock: Lock, client: Any) -> tuple[str, int]:
    token = 0
    try:
        with lock as lease:
            token = lease.token
            _count(site, writer, lease, client)
    except LockLostError as lost:
        if lost.failures:
            return "refused by the store", token
        return ("lost at the end" if lost.outcome == "UNKNOWN" else "known to be lost"), token
    except (CommitFailedError, ReadFailedError):
        return "no answer", token
    return "done", token


def _count(site: Site, writer: ReliableWriter, lease: Lease, client: Any) -> None:
    """Read, compute, write: what loses counts where two do it at once."""
    found = client.get_item(TableName=site.counters, Key={"id": {"S": COUNTER}}, ConsistentRead=True)["Item"]
    count = int(found["count"]["N"]) + 1
    with ReliableWriteScope(writer) as scope:
        lease.guard(scope)
        scope.put_item(site.counters, {"id": COUNTER, "count": count}, at_commit=True)
        row = {"id": os.urandom(8).hex(), "count": count, "token": lease.token, "holder": lease.owner}
        scope.put_item(site.ledger, row, at_commit=True)
        _settle(scope)


def _settle(scope: ReliableWriteScope) -> None:
    while True:
        try:
            scope.commit()
        except CommitUnknownError:
            continue
        return


@contextmanager
def _stopping(client: Any, pipe: Connection, *, wanted: bool) -> Iterator[None]:
    def stop(_call: Call) -> None:
        pipe.send(("stopping", 0))
        os.kill(os.getpid(), signal.SIGSTOP)

    with FaultPlan(client) as plan:
        if wanted:
            plan.on("TransactWriteItems", stop, times=1, having=b'"R#')
        yield


# --- dying --------------------------------------------------------------------------------------------------------


def hold(site: Site, lease_seconds: float, pipe: Connection) -> None:
    """Take the lock and hold it until the end."""
    writer = site.home.writer(site.client(), read_timeout_seconds=READ_TIMEOUT_SECONDS, logger=_Quiet())
    lock = site.lock(writer, owner=owner_of(os.getpid()), lease_seconds=lease_seconds)
    lease = lock.acquire()
    pipe.send(lease.token)
    pipe.recv()
