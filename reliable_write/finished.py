"""Finished entries are deleted behind the caller's back, in batches: they cost a commit no round trip.

An entry that is not deleted (the process died, the call failed) costs nothing but work: a monitor finds every operation
applied and deletes it then.
"""

from __future__ import annotations

import contextlib
import itertools
import threading

from reliable_write import limits
from reliable_write.clock import Deadline, Stamp, TimeSource
from reliable_write.dynamodb import CallFailed
from reliable_write.events import Event, Events
from reliable_write.journal import Journal
from reliable_write.workers import Workers


class FinishedEntries:
    """A queue of finished entries and the one background loop that deletes them. Safe for threads."""

    def __init__(
        self,
        journal: Journal,
        workers: Workers,
        time: TimeSource,
        events: Events,
        *,
        call_seconds: float,
        inline: bool,
    ) -> None:
        self._journal = journal
        self._workers = workers
        self._time = time
        self._events = events
        self._call_seconds = call_seconds
        self._inline = inline
        self._changed = threading.Condition()
        # A batch must not name an entry twice: one that is committed again comes here again.
        self._waiting: dict[tuple[int, Stamp], None] = {}
        self._deleting = 0
        self._looping = False
        self._closed = False

    def add(self, shard: int, stamp: Stamp) -> None:
        """Delete this entry soon; at once where threads are frozen between calls (Lambda)."""
        with self._changed:
            self._waiting[shard, stamp] = None
            if self._has_loop():
                if len(self._waiting) == 1 or len(self._waiting) >= limits.BATCH_WRITE_REQUESTS_MAX:
                    self._changed.notify()  # the first begins the linger, the last of a batch ends it
                return
        self.flush()

    def flush(self) -> None:
        """Delete all that wait, now, in the calling thread. A failure is told and left to a monitor."""
        while batch := self._take():
            self._delete(batch)

    def close(self) -> None:
        """Flush, end the loop, and wait for the batch in its hands: its thread would not keep the process alive."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.flush()
        with self._changed:
            self._changed.wait_for(lambda: not self._deleting, timeout=self._call_seconds)

    def _has_loop(self) -> bool:
        """Whether the loop runs; it is started when first needed. Where no thread can be had, deletions run inline."""
        if not self._looping and not self._inline and not self._closed:
            with contextlib.suppress(RuntimeError):
                self._workers.background("reliable-write-finished", self._loop)
                self._looping = True
        return self._looping and not self._closed

    def _loop(self) -> None:
        try:
            while not self._linger():
                if batch := self._take():
                    self._delete(batch)
        finally:
            with self._changed:
                self._looping = False

    def _linger(self) -> bool:
        """Wait until a batch is full or its oldest entry has waited long enough; True when closed."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            self._changed.wait_for(
                lambda: self._closed or len(self._waiting) >= limits.BATCH_WRITE_REQUESTS_MAX,
                timeout=limits.FLUSH_LINGER_SECONDS,
            )
            return self._closed

    def _take(self) -> list[tuple[int, Stamp]]:
        with self._changed:
            batch = list(itertools.islice(self._waiting, limits.BATCH_WRITE_REQUESTS_MAX))
            for entry in batch:
                del self._waiting[entry]
            self._deleting += bool(batch)
            return batch

    def _delete(self, batch: list[tuple[int, Stamp]]) -> None:
        try:
            self._journal.finish(batch, Deadline.after(self._call_seconds, self._time))
        except CallFailed as failure:
            self._events.warning(Event.FLUSH_FAILED, entries=len(batch), reason=str(failure))
        finally:
            with self._changed:
                self._deleting -= 1
                self._changed.notify_all()
