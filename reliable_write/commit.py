"""The commit point of a write that is journalled whole: witness, stamp, one put of the entry, propagation.

The order of these steps is the protocol. Before the commit point nothing is visible anywhere; everything that must be
known is learnt before it, because after it neither the operations nor the stamp may change (CE1: a write re-stamped
after its commit point overwrites newer ones).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reliable_write import limits
from reliable_write.clock import Deadline, HybridClock, Stamp, TimeSource
from reliable_write.dynamodb import CallFailed
from reliable_write.entry import FORMAT, Entry, encode_operations, shard_of
from reliable_write.errors import CommitFailedError, CommitUnknownError
from reliable_write.events import Event, Events
from reliable_write.first_attempt import Committed, FirstAttempt, Receipt
from reliable_write.journal import Journal
from reliable_write.operations import Operation
from reliable_write.policy import FailureKind
from reliable_write.witness import Witness


@dataclass(slots=True)
class Prepared:
    """A write with its stamp and bytes fixed; committing it again repeats exactly this."""

    entry: Entry
    operations: tuple[Operation, ...]
    begun: Deadline
    """How long it may be committed again, from before the first request."""
    tries: int = 0
    perhaps_committed: bool = False

    @property
    def write_id(self) -> str:
        """The write's id."""
        return self.entry.write_id


class Committer:
    """Brings one write through its commit point and makes the first attempt at propagating it."""

    def __init__(
        self,
        *,
        journal: Journal,
        witness: Witness,
        first_attempt: FirstAttempt,
        clock: HybridClock,
        time: TimeSource,
        events: Events,
        strict: bool,
    ) -> None:
        self._journal = journal
        self._witness = witness
        self._first_attempt = first_attempt
        self._clock = clock
        self._time = time
        self._events = events
        self._strict = strict

    def prepare(self, operations: Sequence[Operation], deadline: Deadline) -> Prepared:
        """Witness what is there, take a stamp above it, and fix the bytes. Nothing is written.

        Raises `UnknownTableError`, `ForeignStampError` or `CommitFailedError`.
        """
        begun = Deadline.after(limits.COMMIT_REPEAT_SECONDS, self._time)
        if self._strict:
            self._witness.look([action for operation in operations for action in operation.actions], deadline)
        stamp = self._clock.stamp()
        entry = make_entry(operations, stamp, stamp, self._journal.shards, self._time)
        return Prepared(entry, tuple(operations), begun)

    def commit(self, prepared: Prepared, deadline: Deadline) -> Receipt:
        """Reach the commit point and propagate.

        Raises `CommitFailedError`, `CommitUnknownError` (commit the same again) or `PropagationPendingError`.
        """
        late = prepared.tries > 0
        prepared.tries += 1
        self._reach_commit_point(prepared, deadline)
        entry, operations = prepared.entry, prepared.operations
        # A repeated commit comes late: the keys may have been deleted, and the tombstones left, in between.
        write = Committed(entry.write_id, entry.stamp, operations, len(operations))
        return self._first_attempt.propagate(write, deadline, late=late)

    def _reach_commit_point(self, prepared: Prepared, deadline: Deadline) -> None:
        # Until an answer says otherwise: an exception of any kind from here on may leave a committed write behind.
        earlier, prepared.perhaps_committed = prepared.perhaps_committed, True
        try:
            self._journal.commit(prepared.entry, deadline)
        except CallFailed as failure:
            if earlier or failure.ambiguous:
                raise unknown(prepared.write_id, failure, self._events) from failure.__cause__
            prepared.perhaps_committed = False
            raise refused(prepared.write_id, failure, self._events) from failure.__cause__


def make_entry(operations: Sequence[Operation], stamp: Stamp, write_id: str, shards: int, time: TimeSource) -> Entry:
    """A fresh entry. Raises `WriteTooLargeError`."""
    return Entry(
        shard=shard_of(stamp, shards),
        stamp=stamp,
        write_id=write_id,
        format=FORMAT,
        committed_at_milliseconds=int(time.wall_seconds() * 1000),
        payload=encode_operations(operations, stamp, write_id),
    )


def refused(write_id: str, failure: CallFailed, events: Events) -> CommitFailedError:
    """The commit point was not reached, for certain."""
    events.info(Event.WRITE_REFUSED, write_id=write_id, reason=str(failure))
    return CommitFailedError(
        f"Write {write_id} was not committed: the journal gave {failure}. Nothing was written, and nothing will be; a "
        "new scope may be tried.",
        write_id=write_id,
        retryable=failure.kind.retryable or failure.kind is FailureKind.DEADLINE,
    )


def unknown(write_id: str, failure: object, events: Events) -> CommitUnknownError:
    """An answer was lost; the write may be committed, or may come to be."""
    events.warning(Event.WRITE_UNKNOWN, write_id=write_id, reason=str(failure))
    return CommitUnknownError(
        f"Write {write_id} may or may not be committed: {failure}, and an answer was lost. Call commit() again on the "
        f"same scope within {limits.COMMIT_REPEAT_SECONDS:.0f} s; never record it in a new scope. If it is committed, "
        "it will be finished without you.",
        write_id=write_id,
    )
