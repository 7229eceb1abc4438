"""One worker: a writer of its own, several threads, and no other memory of its predecessor than the diary."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from reliable_write import (
    CommitFailedError,
    CommitUnknownError,
    PropagationPendingError,
    Receipt,
    ReliableWriter,
    ReliableWriteScope,
    Settings,
)
from reliable_write.clock import Stamp, stamp_milliseconds
from tests.acceptance.flights.diary import Diary, Reading
from tests.acceptance.flights.leftovers import Leftovers
from tests.acceptance.flights.model import SYSTEM_TABLE, Delete, Model, Plan, Put
from tests.clocks import SkippingTime

THREADS = 3
TRIES_MAX = 20
CLOCK_PAUSE_SECONDS = 0.02
RECOVERY_AGE_SECONDS = 3.0
RECOVERY_PAUSE_SECONDS = 0.5
SKEWS_SECONDS = (0.0, -1.5, 1.5, 0.5, -0.7)
"""By slot: the clocks of the workers disagree, as those of machines do. Order must not lean on them."""


def skewed_time(slot: int) -> SkippingTime:
    """The clock of a slot, the same for all its workers."""
    return SkippingTime(ahead=SKEWS_SECONDS[slot % len(SKEWS_SECONDS)])


@dataclass(frozen=True)
class World:
    """What every process of a run needs; made before the first fork and holding no connection and no thread."""

    endpoint_url: str
    session: boto3.session.Session
    """Warm: it has read botocore's models once, for all workers."""
    model: Model

    def writer(self, slot: int = 0) -> ReliableWriter:
        """A writer for this process. Half of the workers delete finished entries behind the caller's back (the
        default), half before they return.
        """
        settings = Settings(
            endpoint_url=self.endpoint_url,
            region="us-east-1",
            system_table=SYSTEM_TABLE,
            propagation_threads=8,
            delete_finished_inline=slot % 2 == 1,
        )
        return ReliableWriter(settings, session=self.session, time=skewed_time(slot))


class Worker:
    """Writes the flights of one slot that the diary does not have as settled."""

    def __init__(self, world: World, slot: int, share: list[int], path: Path) -> None:
        self._world = world
        self._parent = os.getppid()
        self._reading = Reading(path)
        self._reading.look()
        self._diary = Diary(path)
        self._todo = [index for index in share if index not in self._reading.settled]
        self._lock = threading.Lock()
        self._time = skewed_time(slot)
        self._writer = world.writer(slot)

    def run(self) -> None:
        """Look at what the predecessor left open, then write the rest."""
        open_flights = [index for index in self._todo if index in self._reading.open]
        plans = [self._world.model.plan(index) for index in open_flights]
        leftovers = Leftovers(self._writer, plans) if plans else None
        for plan in plans:
            assert leftovers is not None
            self._settle(plan, leftovers)
        rest = (index for index in self._todo if index not in self._reading.open)
        with ThreadPoolExecutor(THREADS) as pool:
            for future in [pool.submit(self._write_all, rest) for _ in range(THREADS)]:
                future.result()
        self._writer.close()

    def _settle(self, plan: Plan, leftovers: Leftovers) -> None:
        """A flight that was under way when the predecessor was killed.

        If it is committed, it is left alone, half written as it may be: to finish it is recovery's promise, and writing
        it again would hide a promise not kept. Otherwise it is written again, under a new id. Its request may still
        have been on the way; then two scopes with the same content are committed, the later one wins on all its keys,
        and there is one row all the same.
        """
        found = leftovers.find(plan)
        if found is not None:
            self._diary.note("found", plan.index, found)
            return
        self._diary.note("again", plan.index)
        self._let_pass(leftovers.announced_at(plan))
        self._write(plan, announced=plan.index in self._reading.announced or leftovers.announced(plan))

    def _let_pass(self, stamp: Stamp | None) -> None:
        """Wait until our clock is past the stamp of an announcement that is committed and that nobody can see yet.

        It was never acknowledged, so nothing but its stamp says where it stands, and the clock of the killed process
        may have been ahead of ours: it had followed others. It is left to recovery, which then puts lines that were
        deleted later in order, and must take them back.
        """
        pause = threading.Event()
        while stamp is not None and stamp_milliseconds(stamp) >= int(self._time.wall_seconds() * 1000):
            pause.wait(CLOCK_PAUSE_SECONDS)

    def _write_all(self, todo: Iterator[int]) -> None:
        while (index := self._next(todo)) is not None:
            self._write(self._world.model.plan(index), announced=False)

    def _next(self, todo: Iterator[int]) -> int | None:
        if os.getppid() != self._parent:
            os._exit(3)  # the parent is gone: nobody will ask
        with self._lock:
            return next(todo, None)

    def _write(self, plan: Plan, *, announced: bool) -> None:
        self._diary.note("begun", plan.index)
        if plan.announcement and not announced:
            receipt = self._commit(plan.announcement)
            if receipt is not None:
                self._diary.note("announced", plan.index, receipt.write_id)
        # Begun anew for the order check: the flight's own scope comes after its announcement.
        self._diary.note("begun", plan.index)
        receipt = self._commit((*plan.puts, *plan.deletes))
        if receipt is None:
            self._diary.note("pending", plan.index)
        else:
            overtaken = "superseded" if receipt.superseded else "last"
            self._diary.note("written", plan.index, f"{receipt.stamp}:{overtaken}")

    def _commit(self, actions: tuple[Put | Delete, ...]) -> Receipt | None:
        """One scope, as a careful caller does it. None: committed, and left to recovery."""
        for _ in range(TRIES_MAX):
            with ReliableWriteScope(self._writer) as scope:
                record(scope, actions)
                try:
                    return commit(scope)
                except PropagationPendingError as error:
                    if error.needs_operator:
                        raise
                    return None
                except CommitFailedError as error:
                    if not error.retryable:
                        raise
        raise RuntimeError(f"no commit in {TRIES_MAX} tries")


def record(scope: ReliableWriteScope, actions: tuple[Put | Delete, ...]) -> None:
    for action in actions:
        if isinstance(action, Put):
            scope.put_item(action.table, Item=action.item)
        else:
            scope.delete_item(action.table, Key=action.named_key)


def commit(scope: ReliableWriteScope) -> Receipt:
    """Unknown is answered by committing the same scope again, never by a copy."""
    for _ in range(TRIES_MAX):
        try:
            return scope.commit()
        except CommitUnknownError as error:
            if not error.retryable:
                raise
    raise RuntimeError(f"write {scope.write_id} is still unknown after {TRIES_MAX} tries")


def recover(world: World, path: Path) -> None:
    """What a monitor does, beside the workers, until it is killed: finish entries that have stood for a while."""
    diary, writer, parent = Diary(path), world.writer(), os.getppid()
    pause = threading.Event()
    while os.getppid() == parent:
        for report in writer.recovery.resume_all(older_than_seconds=RECOVERY_AGE_SECONDS):
            diary.note("recovered", 0, f"{report.resumed.name}:{report.write_id}")
        pause.wait(RECOVERY_PAUSE_SECONDS)


def client(world: World) -> Any:
    """A plain client, for making tables and for reading them."""
    return world.session.client("dynamodb", endpoint_url=world.endpoint_url, region_name="us-east-1")
