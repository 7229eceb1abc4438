"""`SharedRecord`: an object that threads and processes hold together, and that knows when it is stale.

A read compares the version with the one in the table, and reads anew where it has moved. What follows is no promise:
the record may change a moment after it was read. So a write is checked by the store, in the write itself. (The system
this goes back to looked at the serial first and wrote then; what came in between was lost.)
"""

from __future__ import annotations

import itertools
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, cast

from reliable_write import limits
from reliable_write.clock import Deadline
from reliable_write.errors import (
    CommitFailedError,
    CommitUnknownError,
    ConfigurationError,
    InvalidItemError,
    NestedScopeError,
    RecordDeletedError,
    ReliableWriteError,
    StaleRecordError,
)
from reliable_write.first_attempt import Receipt
from reliable_write.intents import Writable
from reliable_write.policy import retry_pause_seconds
from reliable_write.records.lifecycle import Deletion, Expecting
from reliable_write.records.marks import is_told
from reliable_write.records.model import Record
from reliable_write.records.places import Place
from reliable_write.records.reading import key_of, layout_of_kind
from reliable_write.records.store import RecordStore
from reliable_write.records.turns import Turn
from reliable_write.records.watch import Sight, Watch
from reliable_write.scope import ReliableWriteScope

R = TypeVar("R", bound=Record)


class SharedRecord(Generic[R]):
    """One record, held by many. Got from `SharedRecords`; safe for threads; goes on in a forked child.

        account = shared.get(Account, "a-1")
        account.read().balance                        # as it is now
        account.update(lambda record: deposit(record, 100))

    What it gives are copies: changing one changes nothing for others until it is put. A deleted record raises
    `RecordDeletedError`; if somebody makes a new one under its key, that is shown from then on, with a later version.
    """

    def __init__(self, place: Place[R], deleted_kept_seconds: float) -> None:
        """For `SharedRecords`."""
        self._place = place
        self._deleted_kept_seconds = deleted_kept_seconds
        self._watch: Watch[R] = Watch(place.serial, place.read)
        self._turn = Turn()

    def __repr__(self) -> str:
        return f"<SharedRecord of {self._place.name}, version {self._watch.seen.version}>"

    # --- reading ------------------------------------------------------------------------------------------------

    def read(self) -> R:
        """The record as it is now: one strongly consistent read, and another one only where it has changed.

        Raises `RecordDeletedError`, and `ReadFailedError` where there is no answer.
        """
        return self._shown(self._watch.look())

    def refresh(self) -> R:
        """The same by one read of the whole item, whether it has changed or not."""
        return self._shown(self._watch.look(whole=True))

    def peek(self) -> R:
        """The record as this process saw it last; sends nothing. Raises `RecordDeletedError` where it saw that."""
        return self._shown(self._watch.seen)

    # --- writing ------------------------------------------------------------------------------------------------

    def put(
        self, record: R, *, timeout_seconds: float = limits.SHARED_WRITE_SECONDS, independent: bool = False
    ) -> None:
        """Write a changed copy, unless somebody was quicker. The copy moves on to its new version.

        Raises `StaleRecordError` or `RecordDeletedError`: nothing is written, and the handle shows what is there.
        Otherwise as `ReliableWriteScope.commit`. Where the answer is lost, the same write is asked for again within
        `timeout_seconds`, so that it happens once.

        Inside an open scope it raises `NestedScopeError`, since it would hold whatever becomes of that one, unless
        `independent=True`. To write it with other things: `scope.put(record)`.
        """
        self._place.check_own(record)
        with self._by_itself(timeout_seconds, independent=independent) as deadline:
            self._commit(record, deadline)

    def update(
        self,
        change: Callable[[R], R | None],
        *,
        timeout_seconds: float = limits.SHARED_WRITE_SECONDS,
        tries: int | None = None,
        independent: bool = False,
    ) -> R:
        """Read, let `change` change a copy, and write that; from the start where somebody was quicker.

        `change` changes the copy it is given, or returns a record to write in its stead. It is called once for each
        try, so it should do nothing else. What it raises passes unchanged, and nothing is written.

        Returns the record as it was written: exactly once. Tries are separated by random pauses, longer each time; no
        try begins after `timeout_seconds`, nor more than `tries` of them. Then the last try's `StaleRecordError` or
        `CommitFailedError` is raised. Otherwise as `put`.
        """
        if tries is not None and tries < 1:
            raise ValueError(f"tries is {tries}; it takes at least one to write anything.")
        with self._by_itself(timeout_seconds, independent=independent) as deadline:
            for tried in itertools.count(1):
                given = self.read() if tried == 1 else self.refresh()
                changed = self._changed(change, given)
                try:
                    written = self._commit(changed, deadline)
                except (StaleRecordError, CommitFailedError) as failure:
                    if not self._goes_on(failure, tried, tries, deadline):
                        raise
                else:
                    return changed if written is None else written.model_copy(deep=True)
        raise AssertionError

    def delete(
        self,
        record: R | None = None,
        *,
        timeout_seconds: float = limits.SHARED_WRITE_SECONDS,
        independent: bool = False,
    ) -> None:
        """Delete it, and leave a mark by which others hear of it for as long as `SharedRecords` was told.

        Only what was seen is deleted: the given copy, or what this process saw last. Raises as `put`.
        """
        doomed = self.peek() if record is None else record
        self._place.check_own(doomed)
        with self._by_itself(timeout_seconds, independent=independent) as deadline:
            self._commit(Deletion(doomed, self._place.version, self._deleted_kept_seconds), deadline)

    # --- inside -------------------------------------------------------------------------------------------------

    def _found(self) -> bool:
        """For `SharedRecords.get`: whether there is a record. Raises `RecordDeletedError` while that is told."""
        seen = self._watch.look()
        if seen.record is None and is_told(seen.mark, self._place.time.wall_seconds()):
            raise self._deleted()
        return seen.record is not None

    def _create(self, record: R, seconds: float, *, independent: bool) -> None:
        """For `SharedRecords.create`."""
        with self._by_itself(seconds, independent=independent) as deadline:
            while True:
                made = self._place.over_mark(record, self._watch.look(whole=True))
                try:
                    self._commit(made or record, deadline, there=made is not None)
                except RecordDeletedError:
                    # The mark that was seen has gone, or a record that was not seen has come and gone.
                    if deadline.passed():
                        raise
                else:
                    break
        if made is not None and not record.model_config.get("frozen"):
            vars(record).update(vars(made))

    def _shown(self, seen: Sight[R]) -> R:
        if seen.record is None:
            raise self._deleted()
        return seen.record.model_copy(deep=True)

    def _deleted(self) -> RecordDeletedError:
        place = self._place
        return RecordDeletedError(
            f"This {place.name} was deleted by somebody. Nothing was written. Let go of it; SharedRecords.create makes "
            "a new one.",
            table=place.table,
            key=place.key,
        )

    @contextmanager
    def _by_itself(self, seconds: float, *, independent: bool) -> Iterator[Deadline]:
        """A turn, in which to write until the deadline."""
        try:
            with ReliableWriteScope(self._place.writer, independent=independent):
                pass
        except NestedScopeError:
            raise NestedScopeError(
                f"A shared {self._place.name} is written by itself, and a scope is open here: this would hold whatever "
                "becomes of the scope. Use scope.put(record), or say independent=True."
            ) from None
        deadline = Deadline.after(seconds, self._place.time)
        with self._turn.taken(f"A shared {self._place.name}", deadline):
            yield deadline

    def _changed(self, change: Callable[[R], R | None], given: R) -> R:
        field = self._place.version.field
        version = getattr(given, field)
        returned = change(given)
        changed = given if returned is None else returned
        self._place.check_own(changed)
        if getattr(changed, field) != version:
            raise InvalidItemError(
                f"{self._place.name}: the record to write has another {field} than the one that was read. Change the "
                "record that is given, or return a copy of it, and leave its version alone.",
                path=field,
            )
        return changed

    def _goes_on(self, failure: ReliableWriteError, tried: int, tries: int | None, deadline: Deadline) -> bool:
        """Wait for the next try; False where there will be none."""
        time = self._place.time
        longest = limits.SHARED_RETRY_BASE_SECONDS * 2.0 ** min(tried, 10)
        seconds = time.jitter(min(limits.SHARED_RETRY_CAP_SECONDS, longest))
        if isinstance(failure, StaleRecordError):
            failure.retryable = True
        if not failure.retryable or tried == tries or seconds >= deadline.remaining_seconds():
            failure.add_note(f"reliable-write: the update gave up at its try number {tried}.")
            return False
        time.sleep(seconds)
        return True

    def _commit(self, writable: Writable, deadline: Deadline, *, there: bool = True) -> R | None:
        """Write it by a scope of its own and learn from what becomes of it; the record as a read would show it."""
        begun = self._watch.begun
        expecting = Expecting(writable, self._place, there=there)
        scope = ReliableWriteScope(self._place.writer, independent=True)
        scope.put(expecting)
        try:
            receipt = self._settle(scope, deadline)
        except StaleRecordError as stale:
            found = self._learn(stale.failures[0].item, begun)
            if found is not None and found.record is None:
                raise self._deleted() from stale
            raise
        written = self._learn(self._place.stamped(expecting.content, receipt.stamp), begun)
        return None if written is None else written.record

    def _settle(self, scope: ReliableWriteScope, deadline: Deadline) -> Receipt:
        """Commit; where the outcome is unknown the same scope again, so that it counts once."""
        time = self._place.time
        for tries in itertools.count(1):
            try:
                return scope.commit()
            except CommitUnknownError as unknown:
                seconds = retry_pause_seconds(tries, time)
                if not unknown.retryable or seconds >= deadline.remaining_seconds():
                    raise
                time.sleep(seconds)
        raise AssertionError

    def _learn(self, item: Mapping[str, Any] | None, begun: int) -> Sight[R] | None:
        """None where what is there cannot be loaded: that is for those to hear who read it. A write has its outcome."""
        try:
            seen = self._place.sight_of(item)
        except Exception:  # noqa: BLE001 - a constraint or a validator of the caller's raises what it likes
            return None
        self._watch.learn(seen, begun)
        return seen


class SharedRecords:
    """The shared records of one process: all its threads get the same object for the same record.

        shared = SharedRecords(store)
        account = shared.get(Account, "a-1")

    A record is kept for as long as somebody holds it. Deleted ones are told of for `deleted_kept_seconds`, by the
    clocks of those who delete and who ask; processes should agree on it, but nothing breaks where they do not.
    """

    def __init__(self, store: RecordStore, *, deleted_kept_seconds: float = limits.DELETED_KEPT_SECONDS) -> None:
        if not isinstance(store, RecordStore):
            raise TypeError(f"SharedRecords takes a RecordStore, not {type(store).__name__}: RecordStore(writer).")
        if not 0 <= deleted_kept_seconds < math.inf:
            raise ConfigurationError(f"deleted_kept_seconds is {deleted_kept_seconds}; it takes 0 or more.")
        self._writer = store.writer
        self._deleted_kept_seconds = deleted_kept_seconds
        self._held = _Held({})

    def get(self, kind: type[R], *key: Any) -> SharedRecord[R] | None:
        """The record at a key (hash key, and range key where the table has one); None where there is none.

        One strongly consistent read. Hold what it gives: its `read()` looks for itself. Raises `RecordDeletedError`
        for one that was deleted a short while ago, `RecordDefinitionError` for a class without a checked version,
        `InvalidKeyError`, and as `SharedRecord.read`.
        """
        handle = self._handle(kind, key_of(layout_of_kind(kind), key))
        return handle if handle._found() else None  # noqa: SLF001 - the same room

    def create(
        self, record: R, *, timeout_seconds: float = limits.SHARED_WRITE_SECONDS, independent: bool = False
    ) -> SharedRecord[R]:
        """Write a record that is not there yet, also where one was deleted. The local object gets its version.

        After a deleted one the version goes on: what somebody still holds of that one is stale, and cannot be written
        over this one. Raises `StaleRecordError` where there is one already; otherwise as `SharedRecord.put`.
        """
        handle = self._handle(type(record), record.key())
        handle._create(record, timeout_seconds, independent=independent)  # noqa: SLF001 - the same room
        return handle

    def _handle(self, kind: type[R], key: Mapping[str, Any]) -> SharedRecord[R]:
        place = Place(self._writer, kind, key)
        return cast(
            "SharedRecord[R]", self._here().one(place.identity, SharedRecord(place, self._deleted_kept_seconds))
        )

    def _here(self) -> _Held:
        if self._held.pid != os.getpid():
            # No lock: one taken over the fork may be held for ever.
            self._held = _Held(self._held.records)
        return self._held


class _Held:
    """What the threads of one process hold. In a forked child it begins with what the parent held."""

    def __init__(self, records: Mapping[Any, SharedRecord[Any]]) -> None:
        self.pid = os.getpid()
        self.records: weakref.WeakValueDictionary[Any, SharedRecord[Any]] = weakref.WeakValueDictionary(records)
        # Re-entrant: between any two steps the collector may run somebody's finalizer, which may ask for a record.
        self._lock = threading.RLock()

    def one(self, identity: Any, fresh: SharedRecord[Any]) -> SharedRecord[Any]:
        """The one that is held, or from now on this one."""
        with self._lock:
            return self.records.setdefault(identity, fresh)
