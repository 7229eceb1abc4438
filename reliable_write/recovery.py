"""Finishing what a writer left behind: one function, `resume`, for monitors, operators and demos alike.

Recovery and normal work meet in the claim: a conditional update that admits one runner per epoch. It saves work and
keeps attempts counted; safety does not lean on it, because every write it leads to may be repeated.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from reliable_write.clock import Deadline, Stamp, TimeSource
from reliable_write.dynamodb import CallFailed
from reliable_write.entry import Entry, State, UnreadableEntry, check_state, read_entry, shard_name
from reliable_write.errors import EntryNotFoundError, TooLateError
from reliable_write.events import Event, Events
from reliable_write.journal import Journal
from reliable_write.operations import Action, Operation, located_actions
from reliable_write.policy import Fate, backoff_seconds, decide
from reliable_write.propagation import Propagation, Result
from reliable_write.values import WireItem
from reliable_write.workers import Workers

Gate = Callable[[frozenset[str]], bool]
"""Whether writes to all of these tables may be tried now."""


class Resumed(enum.StrEnum):
    """How an attempt to finish an entry ended."""

    FINISHED = "finished"
    STILL_PENDING = "still pending"
    QUARANTINED = "quarantined"
    UNREADABLE = "unreadable"
    """Of an unknown format, or damaged: left exactly as it was."""
    TOO_LATE = "too late"
    """Somebody else moved it, or finished it, first."""
    HELD_BACK = "held back"
    """Not tried: the caller's gate keeps one of its tables closed. No attempt was counted."""


@dataclass(frozen=True, slots=True)
class ResumeReport:
    """What an attempt did."""

    write_id: str
    resumed: Resumed
    results: tuple[Result, ...] = ()
    reason: str = ""
    tables: frozenset[str] = frozenset()
    """The tables it still writes to, where its operations could be read."""
    next_at_milliseconds: int = 0
    """When the next attempt is due, where one is; wall time."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An item in the journal that is no entry this version can read, or a shard that could not be read at all.

    It is never changed.
    """

    partition: str
    sort_key: str
    """Empty for a whole shard."""
    reason: str


class WriteState(enum.StrEnum):
    """What is known of a write by its id."""

    APPLIED = "applied"
    """Committed, and nothing is left to do, unless an operator gave a part of it up: `reliable-write audit list`."""
    PENDING = "pending"
    """Committed; a monitor finishes it."""
    QUARANTINED = "quarantined"
    """Committed; an operator must decide about what is left."""
    NOT_WRITTEN = "not written"
    """Given up before its commit point: it can never take effect."""
    UNKNOWN = "unknown"
    """Nothing is there: finished, discarded, never committed, or its receipt is no longer kept. Only writes with a
    receipt (an idempotency key, an operation at commit) can be told apart then, and only for as long as it is kept."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the journal holds at one look."""

    entries: tuple[Entry, ...]
    """Oldest first."""
    unreadable: tuple[Unreadable, ...]


class Recovery:
    """Looks through the journal and finishes entries."""

    def __init__(
        self,
        *,
        journal: Journal,
        propagation: Propagation,
        workers: Workers,
        time: TimeSource,
        events: Events,
        owner: str,
        attempt_seconds: float,
    ) -> None:
        self._journal = journal
        self._propagation = propagation
        self._workers = workers
        self._time = time
        self._events = events
        self._owner = owner
        self._attempt_seconds = attempt_seconds

    def look(self) -> Standing:
        """All entries of all shards, strongly read; shards that cannot be read are among `unreadable`."""
        shards = range(self._journal.shards)
        return _standing(self._workers.run_all([partial(self._look_at, shard) for shard in shards]))

    def resume_all(self, *, older_than_seconds: float = 0.0) -> list[ResumeReport]:
        """One attempt at every pending entry that was committed at least so long ago, shard by shard, oldest first.

        Zero is safe at any time (operations may be repeated) but takes entries out of the hands of live writers. An
        entry from the future, by a writer whose clock is ahead of ours, is taken as old: better worked on twice than
        passed over in silence. Entries and shards that cannot be read, or stand in a state that this version does not
        know, are reported, left alone and do not stop the others.
        """
        reports: list[ResumeReport] = []
        for shard in range(self._journal.shards):
            try:
                for item in self._journal.partition(shard, self._deadline):
                    reports += self._resume_found(_read(item), older_than_seconds)
            except CallFailed as failure:
                reports.append(_report(Unreadable(shard_name(shard), "", str(failure))))
        return reports

    def status(self, write_id: str) -> WriteState:
        """What is known of a write, by the id in its receipt or error, or by its idempotency key.

        Raises `CallFailed` where the system table cannot be read.
        """
        # The receipt first: it comes with the entry, so if it was there and the entry is gone, the entry is finished.
        deadline = self._deadline()
        receipt = self._journal.receipts.find(write_id, deadline)
        try:
            entry = self._journal.find(write_id, deadline)
        except EntryNotFoundError:
            if receipt is None:
                return WriteState.UNKNOWN
            return WriteState.NOT_WRITTEN if receipt.void else WriteState.APPLIED
        except UnreadableEntry:
            return WriteState.PENDING
        return WriteState.QUARANTINED if entry.state == State.QUARANTINED else WriteState.PENDING

    def _resume_found(self, found: Entry | Unreadable, older_than_seconds: float) -> list[ResumeReport]:
        """Page by page, so that a backlog of large entries is never in memory as a whole."""
        if isinstance(found, Unreadable):
            return [_report(found)]
        if found.state == State.QUARANTINED or not self._is_older(found, older_than_seconds):
            return []
        return [self._resume(found, self._deadline())]

    def resume(self, write_id: str) -> ResumeReport:
        """One attempt to finish the entry with this write id.

        Raises `EntryNotFoundError` where there is none. A quarantined entry is left alone: an operator retries it.
        """
        deadline = self._deadline()
        try:
            entry = self._journal.find(write_id, deadline)
        except UnreadableEntry as error:
            return self._unreadable(write_id, error)
        except CallFailed as failure:
            return ResumeReport(write_id, Resumed.STILL_PENDING, reason=str(failure))
        return self._resume(entry, deadline)

    def resume_head(self, head: Entry, gate: Gate) -> ResumeReport:
        """One attempt at an entry of which only the head was seen, unless `gate` holds its tables back.

        For monitors: `gate(tables)` is asked before the entry is claimed.
        """
        deadline = self._deadline()
        try:
            entry = self._journal.read(head.shard, head.stamp, deadline)
        except UnreadableEntry as error:
            return self._unreadable(head.write_id, error)
        except CallFailed as failure:
            return ResumeReport(head.write_id, Resumed.STILL_PENDING, reason=str(failure))
        if entry is None or entry.epoch != head.epoch:
            return ResumeReport(head.write_id, Resumed.TOO_LATE)
        return self._resume(entry, deadline, gate)

    def _resume(self, entry: Entry, deadline: Deadline, gate: Gate = lambda _tables: True) -> ResumeReport:
        """One attempt at an entry as seen. The claim fails if it has moved since, or is gone.

        The deadline counts from before the claim's request, so that a runner frozen in between cannot act on an old
        sight; operations are decoded before it, so that what cannot be read is not even touched.
        """
        if entry.state == State.QUARANTINED:
            return ResumeReport(entry.write_id, Resumed.QUARANTINED, reason=entry.last_error or "")
        try:
            check_state(entry)
            actions = _not_given_up(entry, self._journal.operations(entry, deadline))
            tables = frozenset(action.table for _, action in actions)
            if not gate(tables):
                return ResumeReport(entry.write_id, Resumed.HELD_BACK, tables=tables)
            claimed = self._journal.claim(entry, self._owner, deadline)
        except UnreadableEntry as error:
            return self._unreadable(entry.write_id, error)
        except TooLateError:
            return ResumeReport(entry.write_id, Resumed.TOO_LATE)
        except CallFailed as failure:
            return ResumeReport(entry.write_id, Resumed.STILL_PENDING, reason=str(failure))
        return self._attempt(claimed, actions, deadline)

    def _unreadable(self, write_id: str, error: UnreadableEntry) -> ResumeReport:
        self._events.error(Event.ENTRY_UNREADABLE, write_id=write_id, reason=error.reason)
        return ResumeReport(write_id, Resumed.UNREADABLE, reason=error.reason)

    def _is_older(self, entry: Entry, seconds: float) -> bool:
        age_seconds = self._time.wall_seconds() - entry.committed_at_milliseconds / 1000
        return age_seconds >= seconds or age_seconds < 0

    def _attempt(self, entry: Entry, actions: Sequence[tuple[str, Action]], deadline: Deadline) -> ResumeReport:
        results = self._propagation.apply(entry.stamp, actions, deadline, late=True)
        troubles = [result.trouble for result in results if result.trouble is not None]
        age_seconds = self._time.wall_seconds() - entry.committed_at_milliseconds / 1000
        fate = decide(troubles, attempts=entry.attempts, age_seconds=age_seconds)
        next_at = int((self._time.wall_seconds() + backoff_seconds(entry.attempts, self._time)) * 1000)
        reason = troubles[0].reason if troubles else ""
        try:
            resumed = self._settle(entry, fate, reason, next_at)
        except TooLateError:
            resumed = Resumed.TOO_LATE
        except CallFailed as failure:
            # Not noted, so it is due again after the lease; nothing is lost by that.
            resumed, reason = Resumed.STILL_PENDING, str(failure)
        tables = frozenset(action.table for _, action in actions)
        return ResumeReport(entry.write_id, resumed, tuple(results), reason, tables, next_at)

    def _settle(self, entry: Entry, fate: Fate, reason: str, next_at_milliseconds: int) -> Resumed:
        """Write down what became of the attempt. Only now may the entry go: effect, then proof, then removal."""
        deadline = self._deadline()
        if fate is Fate.FINISHED:
            self._journal.finish([(entry.shard, Stamp(entry.stamp))], deadline)
            self._events.info(Event.ENTRY_RECOVERED, write_id=entry.write_id, attempts=entry.attempts)
            return Resumed.FINISHED
        if fate is Fate.QUARANTINE:
            self._set_aside(entry, reason, deadline)
            self._events.error(Event.ENTRY_QUARANTINED, write_id=entry.write_id, reason=reason)
            return Resumed.QUARANTINED
        self._journal.postpone(entry, reason, next_at_milliseconds, deadline)
        self._events.warning(Event.ENTRY_STILL_PENDING, write_id=entry.write_id, reason=reason, attempts=entry.attempts)
        return Resumed.STILL_PENDING

    def _set_aside(self, entry: Entry, reason: str, deadline: Deadline) -> None:
        """Quarantine; returns only where it was done, and was our doing as far as can be told: who returns alarms.

        Where an answer was lost, the entry itself is asked. Taken for somebody else's doing, it would wait for a person
        whom nobody has called; in doubt (an operator set it aside at the same moment) there is one call too many.
        """
        try:
            self._journal.quarantine(entry, reason, deadline)
        except (TooLateError, CallFailed) as error:
            if not (error.ambiguous and self._stands_aside(entry)):
                raise

    def _stands_aside(self, entry: Entry) -> bool:
        with contextlib.suppress(CallFailed, UnreadableEntry):
            current = self._journal.read(entry.shard, entry.stamp, self._deadline())
            return current is not None and current.state == State.QUARANTINED and current.epoch == entry.epoch + 1
        return False

    def _look_at(self, shard: int) -> list[Entry | Unreadable]:
        """One shard, page by page, each with a deadline of its own: a long backlog is read for as long as it takes."""
        found: list[Entry | Unreadable] = []
        try:
            found.extend(map(_read, self._journal.partition(shard, self._deadline)))
        except CallFailed as failure:
            found.append(Unreadable(shard_name(shard), "", str(failure)))
        return found

    def _deadline(self) -> Deadline:
        return Deadline.after(self._attempt_seconds, self._time)


def _not_given_up(entry: Entry, operations: Sequence[Operation]) -> list[tuple[str, Action]]:
    return [(place, action) for place, action in located_actions(operations) if place not in entry.skipped]


def _read(item: WireItem) -> Entry | Unreadable:
    try:
        return read_entry(item)
    except UnreadableEntry as error:
        return Unreadable(item["pk"]["S"], item["sk"]["S"], error.reason)


def _standing(shards: Iterable[list[Entry | Unreadable]]) -> Standing:
    found = list(itertools.chain.from_iterable(shards))
    entries = sorted((one for one in found if isinstance(one, Entry)), key=lambda entry: entry.stamp)
    return Standing(tuple(entries), tuple(one for one in found if isinstance(one, Unreadable)))


def _report(unreadable: Unreadable) -> ResumeReport:
    return ResumeReport(unreadable.sort_key, Resumed.UNREADABLE, reason=unreadable.reason)


__all__ = ["EntryNotFoundError", "Recovery", "ResumeReport", "Resumed", "Standing", "Unreadable"]
