"""What this monitor remembers between looks: since when it has seen each pending entry unchanged, by its own clock.

Where there is no room to remember more, a few of the others have their turn with each look: see `Turns`.

Nothing here is about safety: a claim made too early, or by two monitors at once, costs a few requests. Leases keep
monitors out of the way of live writers and of each other.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from reliable_write import limits
from reliable_write.clock import Stamp, TimeSource
from reliable_write.entry import Entry
from reliable_write.recovery import Resumed, ResumeReport

Place = tuple[int, Stamp]
Rank = Callable[[int], int]
"""0 for a shard of our own, 1 for one that another live monitor looks after."""

ONE_SHOT_LEASES = 4
"""Who looks only once cannot see an entry unchanged; one so old, by the wall clock, is taken for left alone."""


@dataclass(slots=True)
class Sighting:
    """One pending entry, as last seen."""

    head: Entry
    since: float
    """Elapsed seconds at which it was first seen like this."""
    tables: frozenset[str] | None = None
    """Where it still writes to, once it was read."""
    hurried_at: float | None = None
    """When one of its tables was taken again: it need not wait any more."""
    not_before: float = 0.0
    """Elapsed seconds; after unexpected exceptions."""
    strikes: int = 0
    unreadable: bool = False
    under_way: bool = False
    untracked: bool = False
    """There was no room to remember it."""

    @property
    def place(self) -> Place:
        """Where it stands in the journal."""
        return self.head.shard, self.head.stamp


class Sightings:
    """All pending entries of the last looks, at most `tracked_max`. Safe for threads."""

    def __init__(self, time: TimeSource, *, lease_seconds: float, tracked_max: int) -> None:
        self._time = time
        self._lease_seconds = lease_seconds
        self._tracked_max = tracked_max
        self._lock = threading.Lock()
        self._shards: dict[int, dict[Stamp, Sighting]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def see(self, head: Entry) -> Sighting | None:
        """Note a pending entry; None where there is no room to remember it."""
        now = self._time.elapsed_seconds()
        head = dataclasses.replace(head, owner=None, last_error=None)  # texts nobody needs here
        with self._lock:
            shard = self._shards.setdefault(head.shard, {})
            known = shard.get(head.stamp)
            if known is not None:
                _update(known, head, now)
            elif self._count < self._tracked_max:
                known = shard[head.stamp] = Sighting(head, now)
                self._count += 1
            return known

    def keep_only(self, shard: int, stamps: Collection[Stamp]) -> None:
        """Forget what a complete look at a shard did not find, but for attempts under way."""
        with self._lock:
            kept = {
                stamp: sighting
                for stamp, sighting in self._shards.get(shard, {}).items()
                if stamp in stamps or sighting.under_way
            }
            self._count += len(kept) - len(self._shards.get(shard, {}))
            self._shards[shard] = kept

    def due(self, rank: Rank, probes: Collection[str], *, one_shot: bool) -> list[Sighting]:
        """The stragglers, best first: own shards, least tried, oldest.

        `probes` are tables of which one entry should find out whether they take writes again: where no straggler
        touches such a table, an entry that still waits for its next attempt is taken.
        """
        with self._lock:
            ready: list[Sighting] = []
            waiting: list[Sighting] = []
            for sighting in self._all():
                if not sighting.under_way and not sighting.unreadable:
                    (ready if self._is_due(sighting, rank, one_shot=one_shot) else waiting).append(sighting)
            ready += _probers(set(probes), ready, waiting, rank)
        ready.sort(key=lambda sighting: (rank(sighting.head.shard), sighting.head.attempts, sighting.head.stamp))
        return ready

    def begin(self, sighting: Sighting) -> bool:
        """Mark an attempt as under way; False where it is gone, has moved, or is in other hands here."""
        with self._lock:
            current = self._shards.get(sighting.head.shard, {}).get(sighting.head.stamp)
            if current is not sighting or sighting.under_way:
                return False
            sighting.under_way = True
            return True

    def end(self, sighting: Sighting, report: ResumeReport | None) -> None:
        """Note how an attempt ended; None for an unexpected exception."""
        with self._lock:
            sighting.under_way = False
            if report is None:
                self._strike(sighting)
                return
            sighting.strikes = 0
            sighting.tables = report.tables or sighting.tables
            if report.resumed in (Resumed.FINISHED, Resumed.QUARANTINED, Resumed.TOO_LATE):
                self._forget(sighting)
            elif report.resumed is Resumed.UNREADABLE:
                sighting.unreadable = True
            elif report.resumed is Resumed.STILL_PENDING:
                # Its epoch in the journal is another one now; until the next look tells it, it is not ours to try.
                sighting.since = self._time.elapsed_seconds()
                sighting.hurried_at = None

    def hurry(self, table: str) -> int:
        """A table is taken again: its entries need not wait for their next attempt. How many there are."""
        now = self._time.elapsed_seconds()
        with self._lock:
            waiting = [sighting for sighting in self._all() if sighting.tables and table in sighting.tables]
            for sighting in waiting:
                sighting.hurried_at = now
            return len(waiting)

    def _all(self) -> Iterable[Sighting]:
        return (sighting for shard in self._shards.values() for sighting in shard.values())

    def _is_due(self, sighting: Sighting, rank: Rank, *, one_shot: bool) -> bool:
        now = self._time.elapsed_seconds()
        if now < sighting.not_before:
            return False
        politeness_seconds = rank(sighting.head.shard) * self._lease_seconds
        if sighting.hurried_at is not None:
            return now - sighting.hurried_at >= politeness_seconds
        wall_seconds = self._time.wall_seconds()
        if not may_be_tried(sighting.head, wall_seconds):
            return False
        if one_shot:
            return is_left_alone(sighting.head, wall_seconds, self._lease_seconds)
        return now - sighting.since >= self._lease_seconds + politeness_seconds

    def _strike(self, sighting: Sighting) -> None:
        pause_seconds = min(limits.BACKOFF_CAP_SECONDS, self._lease_seconds * 2.0**sighting.strikes)
        sighting.strikes = min(sighting.strikes + 1, 20)
        sighting.not_before = self._time.elapsed_seconds() + pause_seconds

    def _forget(self, sighting: Sighting) -> None:
        if self._shards.get(sighting.head.shard, {}).pop(sighting.head.stamp, None) is not None:
            self._count -= 1


@dataclass(slots=True)
class Turns:
    """Whose turn it is among the entries of one shard that there was no room to remember.

    Some of them look the same with every look (their table is left alone, their payload is damaged), so a look goes on
    where the last one ended: always the oldest would be always the same, and those behind them would wait for ever.
    """

    after: str
    """The last one that had its turn; empty for none."""
    most: int
    """How many have it with one look."""
    _beyond: list[Sighting] = field(default_factory=list)
    _from_the_start: list[Sighting] = field(default_factory=list)

    def offer(self, head: Entry) -> None:
        """One that may be tried; they come in order of their stamps."""
        row = self._beyond if head.stamp > self.after else self._from_the_start
        if len(row) < self.most:
            row.append(Sighting(head, 0.0, untracked=True))

    def taken(self) -> list[Sighting]:
        """Those whose turn it is, after the whole shard was seen."""
        return (self._beyond + self._from_the_start)[: self.most]


def may_be_tried(head: Entry, wall_seconds: float) -> bool:
    """Whether the back-off kept in the entry has passed.

    A time further ahead than any back-off was set by a clock that is wrong, and is not waited for.
    """
    ahead_seconds = head.next_at_milliseconds / 1000 - wall_seconds
    return ahead_seconds <= 0 or ahead_seconds > limits.BACKOFF_CAP_SECONDS


def is_left_alone(head: Entry, wall_seconds: float, lease_seconds: float) -> bool:
    """The judgement of one look: so old, or from the future, that no live writer is at it."""
    age_seconds = wall_seconds - head.committed_at_milliseconds / 1000
    return age_seconds >= ONE_SHOT_LEASES * lease_seconds or age_seconds < 0


def _update(known: Sighting, head: Entry, now: float) -> None:
    """Its operations never change, but for those an operator gives up; if anything does, its lease begins anew."""
    if (known.head.epoch, known.head.state) != (head.epoch, head.state):
        known.since = now
        known.hurried_at = None
        known.unreadable = False
    if known.head.skipped != head.skipped:
        known.tables = None
    known.head = head


def _probers(tables: set[str], ready: Iterable[Sighting], waiting: Iterable[Sighting], rank: Rank) -> list[Sighting]:
    """One waiting entry for each table that no ready one touches."""
    for sighting in ready:
        tables -= sighting.tables or frozenset()
    if not tables:
        return []
    chosen: list[Sighting] = []
    for sighting in sorted(waiting, key=lambda one: (rank(one.head.shard), one.head.attempts, one.head.stamp)):
        if sighting.tables and sighting.tables & tables and not sighting.strikes:
            tables -= sighting.tables
            chosen.append(sighting)
    return chosen
