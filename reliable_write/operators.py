"""What people may do about a stuck write: look, explain, retry, skip, set aside, give up.

The command line, the page and the monitor call these same functions. Each deed is recorded first (who, why), then done
under the condition that the entry is as it was seen; `TooLateError` is an answer, and its record is withdrawn, unless a
lost answer leaves open whether the deed was done: then the record stays.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from reliable_write import limits
from reliable_write.audit_log import AuditLog
from reliable_write.clock import Deadline, Stamp, TimeSource
from reliable_write.dynamodb import CallFailed, Store
from reliable_write.entry import Entry, State, UnreadableEntry, check_format, check_state
from reliable_write.errors import TooLateError, UnsupportedOperationError, WriteRejectedError
from reliable_write.journal import Journal
from reliable_write.operations import Action, Delete, Operation, Put, StampNames, located_actions
from reliable_write.policy import Reading, read_stamps, stamp_of
from reliable_write.tombstones import ForeignTombstone, Tombstones
from reliable_write.values import WireItem
from reliable_write.workers import Workers

T = TypeVar("T")


_BY_PERSON = "set aside by "


class Found(enum.StrEnum):
    """What the tables say, now, about one operation of a write."""

    APPLIED = "applied"
    SUPERSEDED = "superseded"
    """A full write later in order is there."""
    DELETED_LATER = "deleted later"
    """The item is absent, and its tombstone is later in order than this put."""
    NOT_APPLIED = "not applied"
    OVERTAKEN = "overtaken by an update"
    FOREIGN = "foreign stamp"
    SKIPPED = "skipped"
    """Given up by an operator."""
    UNREACHABLE = "could not be read"


_FOUND = {
    Reading.OLDER: Found.NOT_APPLIED,
    Reading.MINE: Found.APPLIED,
    Reading.SUPERSEDED: Found.SUPERSEDED,
    Reading.OVERTAKEN: Found.OVERTAKEN,
    Reading.FOREIGN: Found.FOREIGN,
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One operation of a write beside what is in its table."""

    place: str
    action: Action
    found: Found
    by: Stamp | None = None
    """The later write, where there is one."""
    item: WireItem | None = None
    """What is there; never shown unless asked for."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """A write as the journal and the tables have it at one look."""

    entry: Entry
    comparisons: tuple[Comparison, ...]
    unreadable: str | None = None
    """Why its operations cannot be had, where they cannot."""


class Operators:
    """Looks at single writes and changes them on a person's word."""

    def __init__(
        self,
        *,
        journal: Journal,
        store: Store,
        tombstones: Tombstones,
        audit_log: AuditLog,
        workers: Workers,
        time: TimeSource,
        names: StampNames,
        attempt_seconds: float,
    ) -> None:
        self._journal = journal
        self._store = store
        self._tombstones = tombstones
        self._audit_log = audit_log
        self._workers = workers
        self._time = time
        self._names = names
        self._attempt_seconds = attempt_seconds

    # --- looking ------------------------------------------------------------------------------------------------

    def examine(self, write_id: str) -> Examination:
        """The write's operations compared with the tables now. Raises `EntryNotFoundError`, or `CallFailed` where the
        journal cannot be read; a table that cannot be read is told per operation.
        """
        entry = self._find(write_id)
        try:
            check_state(entry)
            operations = self._journal.operations(entry, self._deadline())
        except UnreadableEntry as error:
            return Examination(entry, (), error.reason)
        located = located_actions(operations)
        compared = self._workers.run_all([partial(self._compare, entry, place, action) for place, action in located])
        return Examination(entry, tuple(compared))

    def operations(self, entry: Entry) -> tuple[Operation, ...]:
        """The operations of an entry. Raises `UnreadableEntry`."""
        return self._journal.operations(entry, self._deadline())

    def _compare(self, entry: Entry, place: str, action: Action) -> Comparison:
        if place in entry.skipped:
            return Comparison(place, action, Found.SKIPPED)
        try:
            item = self._store.get(action.table, action.key, self._deadline())
            if item is None:
                return self._compare_absent(entry, place, action)
        except CallFailed as failure:
            return Comparison(place, action, Found.UNREACHABLE, reason=str(failure))
        found = _FOUND[read_stamps(item, entry.stamp, self._names, self._time)]
        if found is Found.NOT_APPLIED and isinstance(action, Delete) and _is_bare(item, self._names):
            return Comparison(place, action, found, item=item, reason="the item there carries no stamp")
        return Comparison(place, action, found, self._later_stamp(item, entry.stamp), item)

    def _compare_absent(self, entry: Entry, place: str, action: Action) -> Comparison:
        try:
            tombstone = self._tombstones.stamp(action, self._deadline())
        except ForeignTombstone:
            return Comparison(place, action, Found.FOREIGN, reason="its tombstone cannot be read")
        if isinstance(action, Put):
            later = tombstone is not None and tombstone > entry.stamp
            return Comparison(place, action, Found.DELETED_LATER if later else Found.NOT_APPLIED, tombstone)
        applied = tombstone is not None and tombstone >= entry.stamp
        return Comparison(place, action, Found.APPLIED if applied else Found.NOT_APPLIED, tombstone)

    def _later_stamp(self, item: WireItem, mine: Stamp) -> Stamp | None:
        stamps = [stamp_of(item, self._names.full), stamp_of(item, self._names.update)]
        return max((stamp for stamp in stamps if stamp is not None and stamp > mine), default=None)

    # --- doing --------------------------------------------------------------------------------------------------

    def retry(self, write_id: str, *, operator: str, reason: str, seen_epoch: int | None = None) -> Entry:
        """Make it pending and due at once; a monitor, or `resume`, does the rest."""
        entry = _known(self._find(write_id, seen_epoch))
        return self._deed("retry", entry, operator, reason, {}, partial(self._journal.retry, entry))

    def skip(
        self, write_id: str, places: Sequence[str], *, operator: str, reason: str, seen_epoch: int | None = None
    ) -> Entry:
        """Give up single operations, by their places; the others go on."""
        if not places:
            raise WriteRejectedError(f"No operation of write {write_id} was named: say which.", write_id=write_id)
        entry = _known(self._find(write_id, seen_epoch))
        try:
            known = {place for place, _ in located_actions(self.operations(entry))}
        except UnreadableEntry as error:
            raise UnsupportedOperationError(
                f"No operation of write {write_id} can be skipped, because none can be read: {error.reason}.",
                write_id=write_id,
            ) from error
        if unknown := sorted(set(places) - known):
            raise WriteRejectedError(f"Write {write_id} has no {unknown[0]}.", write_id=write_id)
        facts: WireItem = {"skipped": {"SS": sorted(set(places))}}
        return self._deed("skip", entry, operator, reason, facts, partial(self._journal.skip, entry, places))

    def quarantine(self, write_id: str, *, operator: str, reason: str, seen_epoch: int | None = None) -> Entry:
        """Set it aside: no monitor tries it until somebody retries it."""
        entry = _known(self._find(write_id, seen_epoch))
        told = _after_cause(entry, f"{_BY_PERSON}{operator}: {reason}")
        return self._deed("quarantine", entry, operator, reason, {}, partial(self._journal.quarantine, entry, told))

    def discard(
        self,
        write_id: str,
        *,
        operator: str,
        reason: str,
        seen_epoch: int | None = None,
        attempts_over: bool = False,
    ) -> None:
        """Stop trying, for good. Not an undo: what was applied stays.

        Takes a lease (`limits.LEASE_SECONDS`): see `_give_up`. `attempts_over`: the caller saw it quarantined under
        `seen_epoch` at least a lease ago; for many, who wait once.
        """
        entry = _known(self._find(write_id, seen_epoch))
        attempts_over = attempts_over and seen_epoch is not None and entry.state == State.QUARANTINED
        give_up = partial(self._give_up, entry, operator, attempts_over)
        self._deed("discard", entry, operator, reason, {}, give_up)

    def _give_up(self, entry: Entry, operator: str, attempts_over: bool, deadline: Deadline) -> None:
        """Remove the entry once nobody can be working on it.

        An attempt under way does not look at the entry again before it has written everything: removed under it, the
        write would be both discarded and finished. So it is set aside first, which no new attempt gets past, and the
        time of any earlier attempt is awaited; if one of them finished the write, the entry is gone and this is late.
        One that is quarantined already may have been set aside a moment ago, under an attempt: nothing in it tells.
        """
        if entry.state == State.PENDING:
            told = _after_cause(entry, f"{_BY_PERSON}{operator}: being discarded")
            entry = self._journal.quarantine(entry, told, deadline)
        if not attempts_over:
            self._time.sleep(limits.LEASE_SECONDS)
            deadline = self._deadline()
        self._journal.discard(entry, deadline)

    def _deed(
        self,
        action: str,
        entry: Entry,
        operator: str,
        reason: str,
        facts: WireItem,
        do: Callable[[Deadline], T],
    ) -> T:
        if not reason.strip():
            raise WriteRejectedError(f"{action} of {entry.write_id} wants a reason: say why.", write_id=entry.write_id)
        facts = {**facts, "write_id": {"S": entry.write_id}, "epoch": {"N": str(entry.epoch)}}
        key = self._audit_log.record(action, operator=operator, reason=reason, facts=facts, deadline=self._deadline())
        try:
            return do(self._deadline())
        except (TooLateError, CallFailed) as error:
            if not error.ambiguous:
                self._audit_log.withdraw(key)
            raise

    def _find(self, write_id: str, seen_epoch: int | None = None) -> Entry:
        try:
            entry = self._journal.find(write_id, self._deadline())
        except UnreadableEntry as error:
            raise UnsupportedOperationError(
                f"The entry of write {write_id} is there and cannot be read: {error.reason}. Nothing was changed.",
                write_id=write_id,
            ) from error
        if seen_epoch is not None and entry.epoch != seen_epoch:
            raise TooLateError(
                f"Write {write_id} has moved since it was reviewed (epoch {seen_epoch}, now {entry.epoch}). "
                "Look again.",
                write_id=write_id,
            )
        return entry

    def _deadline(self) -> Deadline:
        return Deadline.after(self._attempt_seconds, self._time)


def _known(entry: Entry) -> Entry:
    """A newer version's entry is not ours to change: we cannot tell what the change would mean to it."""
    try:
        check_format(entry)
        check_state(entry)
    except UnreadableEntry as error:
        raise UnsupportedOperationError(
            f"Write {entry.write_id} was left as it is: its {error.reason}. Use the newer reliable-write for it.",
            write_id=entry.write_id,
        ) from error
    return entry


def _after_cause(entry: Entry, told: str) -> str:
    """The reason a person gives stands behind the error that was there: without that, nobody could mend the cause."""
    cause = (entry.last_error or "").partition(_BY_PERSON)[0].rstrip("; ")
    return f"{cause}; {told}" if cause else told


def _is_bare(item: WireItem, names: StampNames) -> bool:
    return names.full not in item and names.update not in item


def is_stuck(entry: Entry) -> bool:
    """Whether it waits for a person."""
    return entry.state == State.QUARANTINED
