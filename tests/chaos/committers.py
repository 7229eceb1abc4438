"""Processes that commit one and the same idempotency key, many threads each."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from reliable_write import CommitUnknownError, Outcome, ReliableWriteError, ReliableWriter, ReliableWriteScope
from reliable_write.testing.faults import FaultPlan, When, kill
from tests.chaos.counting import forget_tokens
from tests.chaos.victims import Home

COMMITS_MAX = 10


@dataclass(frozen=True, slots=True)
class Request:
    """The write that everybody wants, under one key."""

    counters: str
    rows: str
    key: str
    amount: int = 1

    def record(self, scope: ReliableWriteScope) -> None:
        scope.update_item(self.counters, Key={"id": self.key}, add={"n": self.amount})
        scope.put_item(self.rows, Item={"id": self.key, "amount": self.amount})


@dataclass(frozen=True, slots=True)
class Death:
    """Where a process is killed: at its n-th transaction, before it is sent or when it is applied."""

    number: int
    when: When


@dataclass(frozen=True, slots=True)
class Answer:
    """What one caller was told."""

    outcome: Outcome
    stamp: str = ""
    duplicate: bool = False
    error: str = ""


def commit_at_once(home: Home, request: Request, threads: int, death: Death | None, pipe: Connection) -> None:
    """Say `ready`; at a word, commit the same write in all threads at once, and tell each answer as it comes."""
    client = home.client()
    forget_tokens(client)
    lock, start = threading.Lock(), threading.Barrier(threads)
    with home.writer(client, attempt_deadline_seconds=5) as writer, FaultPlan(client) as plan:
        writer.engine()
        if death is not None:
            plan.on("TransactWriteItems", _at(death.number), death.when, having=f'"R#{request.key}"'.encode())
        pipe.send("ready")
        pipe.recv()

        def commit(_: int) -> None:
            start.wait(30)
            answer = commit_key(writer, request)
            with lock:
                pipe.send(answer)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(commit, range(threads)))
    pipe.send(None)


def _at(number: int) -> Any:
    calls = iter(range(1, number))
    return lambda call: kill(call) if next(calls, None) is None else None


def commit_key(writer: ReliableWriter, request: Request) -> Answer:
    """One caller; where the outcome is unknown it asks again."""
    with ReliableWriteScope(writer, idempotency_key=request.key) as scope:
        request.record(scope)
        for _ in range(COMMITS_MAX):
            try:
                receipt = scope.commit()
            except CommitUnknownError:
                continue
            except ReliableWriteError as error:
                return Answer(error.outcome, error=type(error).__name__)
            return Answer(Outcome.WRITTEN, receipt.stamp, receipt.duplicate)
    return Answer(Outcome.UNKNOWN)


def commit_once(home: Home, request: Request, pipe: Connection) -> None:
    """A process that commits it once, and tells."""
    with home.writer(home.client()) as writer:
        pipe.send(commit_key(writer, request))
