"""What scheduled audits write down for each other, because none of them lives as long as a wait.

A note stands on the record it is about: on the tombstone itself, where the put of a newer delete wipes it out, and
beside the chunks of a group, where their removal takes it along. So there is nothing to bound or to clean up, and a
note never says anything about another tombstone than the one it was written for. Each is written under the condition
that the record and its note are as they were read: of two runs that race, one writes.

Times are wall seconds of whoever wrote the note; `limits.SCHEDULED_AUDIT_MARGIN_SECONDS` is what clocks may differ by.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from monitor.audits import AuditSettings, Stop
from reliable_write.clock import Stamp
from reliable_write.dynamodb import CallFailed
from reliable_write.engine import Engine
from reliable_write.tombstones import Tombstone

T = TypeVar("T")
_SHAPE = re.compile(r"(\d{1,15})/(\d{1,15})?/(looked)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Note:
    """How far a tombstone's waits, or those of a group of chunks, have come."""

    quiet_since: float
    """When the first wait began; for chunks: when a complete pass had shown no head."""
    clear_at: float | None = None
    """When the second wait began."""
    looked: bool = False
    """Whether the early audit is done."""

    def text(self) -> str:
        """As stored: milliseconds, rounded up, for later is safer."""
        clear = "" if self.clear_at is None else str(_milliseconds(self.clear_at))
        return f"{_milliseconds(self.quiet_since)}/{clear}/{'looked' if self.looked else ''}"


def read_note(text: str | None, believed_until: float) -> Note | None:
    """A note as stored. None where it makes no sense, or tells of times after `believed_until`: whoever wrote it had
    a wrong clock, and waiting for those times might mean for ever.
    """
    found = _SHAPE.fullmatch(text or "")
    if found is None:
        return None
    note = Note(int(found[1]) / 1000, None if found[2] is None else int(found[2]) / 1000, found[3] is not None)
    if note.clear_at is not None and note.clear_at < note.quiet_since:
        return None  # nobody begins the second wait before the first
    return note if max(note.quiet_since, note.clear_at or 0.0) <= believed_until else None


@dataclass(slots=True)
class Watch:
    """What is known of one tombstone."""

    stamp: Stamp
    quiet_since: float
    """First seen, or the last time an older entry was seen: the first wait begins here."""
    audit_at: float | None
    """When the next audit is due; None: the one before the collection is."""
    pause_seconds: float
    """From that audit to the next but one, where nothing is collected."""
    audited_at: float = 0.0
    clear_at: float | None = None
    """When a pass begun after the first wait had shown no older entry: the second wait begins here."""
    seen_in_round: int = 0
    alarmed: bool = False
    noted: str | None = None
    """The note on the tombstone, as last read or written."""

    def note(self) -> str:
        """What a scheduled audit writes on the tombstone."""
        return Note(self.quiet_since, self.clear_at, looked=self.audit_at is None).text()


@dataclass(slots=True)
class Headless:
    """What is known of one group of chunks."""

    headless_since: float | None = None
    """None until a complete pass has shown chunks and no head."""
    seen_in_round: int = 0
    head_in_round: int = 0
    noted: str | None = None
    """The note beside the chunks, as last read or written."""

    def note(self) -> str | None:
        """What a scheduled audit writes beside the chunks."""
        return None if self.headless_since is None else Note(self.headless_since).text()


class Notes:
    """Reads and writes the notes of one system table; for an auditor that is not a scheduled one it does neither."""

    def __init__(self, engine: Engine, settings: AuditSettings) -> None:
        self._engine = engine
        self._settings = settings

    def begin_watch(self, tombstone: Tombstone, now: float) -> Watch:
        """From now on; in a scheduled audit from when the first of them saw it."""
        early_seconds = self._settings.early_audit_after_seconds
        watch = Watch(tombstone.stamp, now, now + early_seconds, self._settings.collection_wait_seconds)
        if self._settings.scheduled:
            watch.noted = tombstone.note
            note = read_note(tombstone.note, now + self._settings.clock_margin_seconds)
            if note is not None:
                watch.quiet_since, watch.clear_at = note.quiet_since, note.clear_at
                watch.audit_at = None if note.looked else note.quiet_since + early_seconds
        return watch

    def take_over(self, group: Headless, text: str, now: float) -> None:
        """What is noted beside chunks."""
        if self._settings.scheduled:
            note = read_note(text, now + self._settings.clock_margin_seconds)
            group.headless_since, group.noted = None if note is None else note.quiet_since, text

    def write(self, watches: Iterable[tuple[str, Watch]], stop: Stop) -> int:
        """Write down what changed on these tombstones; how many could not be. Those wait longer, no more."""
        changed = ((name, watch) for name, watch in watches if watch.note() != watch.noted)
        return self._write((partial(self._annotate, name, watch) for name, watch in changed), stop)

    def write_about_chunks(self, groups: Iterable[tuple[str, Headless]], stop: Stop) -> int:
        """The same beside these groups of chunks."""
        changed = ((name, group) for name, group in groups if group.note() != group.noted)
        return self._write((partial(self._annotate_chunks, name, group) for name, group in changed), stop)

    def _annotate(self, name: str, watch: Watch) -> bool:
        note = watch.note()
        try:
            self._engine.tombstones.annotate(name, watch.stamp, watch.noted, note, self._engine.attempt_deadline())
        except CallFailed:
            return False
        watch.noted = note
        return True

    def _annotate_chunks(self, name: str, group: Headless) -> bool:
        note = group.note()
        try:
            self._engine.journal.annotate_chunks(name, group.noted, note, self._engine.attempt_deadline())
        except CallFailed:
            return False
        group.noted = note
        return True

    def _write(self, tasks: Iterable[Callable[[], bool]], stop: Stop) -> int:
        troubles = 0
        for batch in batches(tasks if self._settings.scheduled else (), self._settings.parallel_max):
            if stop():
                break
            troubles += self._engine.workers.run_all(batch).count(False)
        return troubles


def batches(things: Iterable[T], size: int) -> Iterable[Sequence[T]]:
    """The things, so many at a time."""
    iterator = iter(things)
    while batch := tuple(itertools.islice(iterator, size)):
        yield batch


def _milliseconds(seconds: float) -> int:
    """What was read from a note comes out as it was: floats of our age are exact to a quarter of a microsecond."""
    return math.ceil(round(seconds * 1000, 3))
