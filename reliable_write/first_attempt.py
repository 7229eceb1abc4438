"""After the commit point: the first attempt at propagating a write, and what its caller is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reliable_write.clock import Deadline, Stamp
from reliable_write.entry import shard_of
from reliable_write.errors import OperationFailure, PropagationPendingError
from reliable_write.events import Event, Events
from reliable_write.finished import FinishedEntries
from reliable_write.heartbeats import MonitorCheck
from reliable_write.operations import Operation, located_actions
from reliable_write.propagation import Propagation, Result, Status


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a finished commit left behind.

    Every operation is applied, except those in `superseded`: there a write that comes later in order was first. That is
    no error; both writes are durable, and the later one shows.
    """

    write_id: str
    """The id in logs, errors and tools; empty for a scope in which nothing was recorded."""
    stamp: str
    """The write's place in the order of all writes, and what its items carry in `_rw`."""
    operations: int
    """Operations written; a batch counts as one."""
    superseded: tuple[str, ...] = ()
    """Places (`operations[3].items[4]`) whose item a later committed write has replaced already."""
    duplicate: bool = False
    """An earlier scope with the same idempotency key has written this; this one wrote nothing."""


@dataclass(frozen=True, slots=True)
class Committed:
    """A write past its commit point."""

    write_id: str
    stamp: Stamp
    journalled: tuple[Operation, ...]
    """What is left to propagate."""
    operations: int
    """All it had, with those that took effect at the commit point."""
    duplicate: bool = False
    skipped: frozenset[str] = frozenset()
    """Places that an operator gave up."""


class FirstAttempt:
    """Propagates what its own process has just committed, within the commit's deadline."""

    def __init__(
        self,
        *,
        propagation: Propagation,
        finished: FinishedEntries,
        events: Events,
        monitor_check: MonitorCheck,
        shards: int,
    ) -> None:
        self._propagation = propagation
        self._finished = finished
        self._events = events
        self._monitor_check = monitor_check
        self._shards = shards

    def propagate(self, write: Committed, deadline: Deadline, *, late: bool) -> Receipt:
        """Apply everything journalled; `late` as in `Propagation.apply`. Raises `PropagationPendingError`."""
        self._events.debug(Event.WRITE_COMMITTED, write_id=write.write_id, operations=write.operations)
        actions = [located for located in located_actions(write.journalled) if located[0] not in write.skipped]
        results = self._propagation.apply(write.stamp, actions, deadline, late=late)
        failed = [result for result in results if result.status is Status.FAILED]
        if failed:
            raise self.pending(write.write_id, [_failure(result) for result in failed])
        if write.journalled:
            self._finished.add(shard_of(write.stamp, self._shards), write.stamp)
        superseded = tuple(result.place for result in results if result.status is Status.SUPERSEDED)
        self._events.debug(Event.WRITE_APPLIED, write_id=write.write_id, superseded=len(superseded))
        return Receipt(write.write_id, write.stamp, write.operations, superseded, write.duplicate)

    def pending(self, write_id: str, failures: Sequence[OperationFailure]) -> PropagationPendingError:
        """What the caller of a write with open operations is told."""
        needs_operator = any(failure.permanent for failure in failures)
        self._events.warning(
            Event.WRITE_PENDING,
            write_id=write_id,
            open=len(failures),
            needs_operator=needs_operator,
            tables=sorted({failure.table for failure in failures}),
        )
        self._monitor_check.left_behind(write_id)
        first = failures[0]
        ending = (
            "One of them cannot succeed by itself: an operator must decide."
            if needs_operator
            else "A monitor finishes it; do not write it again."
        )
        return PropagationPendingError(
            f"Write {write_id} is committed and durable, but {len(failures)} of its items are not applied yet; the "
            f"first: {first.operation} in {first.table}: {first.reason}. {ending}",
            write_id=write_id,
            failures=tuple(failures),
            needs_operator=needs_operator,
        )


def _failure(result: Result) -> OperationFailure:
    assert result.trouble is not None
    return OperationFailure(result.place, result.table, result.trouble.reason, result.trouble.permanent)
