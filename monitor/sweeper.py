"""One sweep: read every shard, find the stragglers, and set the crew on them.

Nothing an entry or a shard does stops the others: what cannot be read is counted and left alone, what raises is caught,
logged, and tried again later. The crew takes the most urgent entry first, and its list is made anew with every look, so
that it never works through what others have finished.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

from monitor.breaker import Breakers, Guard, GuardedPropagation
from monitor.logs import describe, place
from monitor.settings import MonitorSettings
from monitor.sightings import Rank, Sighting, Sightings, Turns, is_left_alone, may_be_tried
from monitor.status import Observer, SweepReport
from reliable_write.clock import Deadline, Stamp
from reliable_write.dynamodb import CallFailed
from reliable_write.engine import Engine
from reliable_write.entry import Entry, State, UnreadableEntry, check_format, check_state, read_entry, shard_name
from reliable_write.events import Event
from reliable_write.recovery import Recovery, Resumed, ResumeReport
from reliable_write.values import WireItem
from reliable_write.workers import ThreadWorkers

_ALARMS_MAX = 1000
"""Unreadable entries of one shard that are remembered so as to alarm once; all are counted."""


@dataclass(slots=True)
class Totals:
    """Counts from the monitor's start."""

    attempts: Counter[Resumed] = field(default_factory=Counter)
    conflicts: int = 0
    failures: int = 0


@dataclass(slots=True)
class _View:
    """What one shard held at one look."""

    turns: Turns
    """Of old ones there was no room to remember."""
    pending: int = 0
    quarantined: int = 0
    unreadable: int = 0
    oldest_milliseconds: int | None = None
    stamps: set[Stamp] = field(default_factory=set)
    alarms: dict[str, str] = field(default_factory=dict)
    """Why what cannot be read cannot, by sort key."""


class Sweeper:
    """Looks, judges and acts for one monitor. One sweep at a time; the attempts it starts may outlast it."""

    def __init__(
        self, engine: Engine, settings: MonitorSettings, monitor: str, observers: Sequence[Observer] = ()
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._monitor = monitor
        self._observers = observers
        self._sightings = Sightings(engine.time, lease_seconds=settings.lease_seconds, tracked_max=settings.tracked_max)
        self.breakers = Breakers(engine.time, settings, self._breaker_changed)
        self._readers = ThreadWorkers(settings.readers)
        self._crew = ThreadPoolExecutor(settings.workers, thread_name_prefix="write-monitor")
        self._alarmed: dict[int, set[str]] = {}
        self._last_turns: dict[int, str] = {}
        self._unread: frozenset[int] = frozenset()
        self._changed = threading.Condition()
        self._waiting: deque[Sighting] = deque()
        self._running = 0
        self._until: Deadline | None = None
        """When the crew begins no more attempts; None: never."""
        self._closed = False
        self._totals = Totals()
        self._told: Counter[Resumed] = Counter()

    # --- one sweep ----------------------------------------------------------------------------------------------

    def sweep(
        self, monitors: Iterable[str], *, one_shot: bool, wait: bool, seconds_max: float | None = None
    ) -> SweepReport:
        """Look at all shards and set the crew on the stragglers.

        `monitors` are the live ones, of which this is one. With `wait`, return when the crew is done. After
        `seconds_max` no look at a shard and no attempt is begun any more; shards not looked at count as unread.
        """
        begun = self._engine.time.elapsed_seconds()
        budget = None if seconds_max is None else Deadline.after(seconds_max, self._engine.time)
        among = frozenset({*monitors, self._monitor})
        # Asked for each entry, several times; the answer is the shard's.
        rank = functools.cache(partial(_rank, self._monitor, among, one_shot=one_shot))
        views = self._look(budget)
        started, held_back = self._set_to_work(rank, views.values(), budget, one_shot=one_shot)
        if wait:
            started -= self._see_through(budget)
        report = self._report(views, started, held_back, self._engine.time.elapsed_seconds() - begun)
        self._tell(lambda observer: observer.sweep_finished(report))
        return report

    def drain(self, seconds: float) -> bool:
        """Begin nothing more and wait for what is under way; whether it ended in time."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
        done = self._wait_for_crew(seconds)
        self._crew.shutdown(wait=done, cancel_futures=True)
        self._readers.close()
        return done

    @property
    def totals(self) -> Totals:
        """A copy of the counts."""
        with self._changed:
            return Totals(Counter(self._totals.attempts), self._totals.conflicts, self._totals.failures)

    @property
    def under_way(self) -> int:
        """Attempts begun or queued."""
        with self._changed:
            return self._running + len(self._waiting)

    @property
    def tracked(self) -> int:
        """Entries remembered."""
        return len(self._sightings)

    @property
    def shards(self) -> int:
        """How many there are."""
        return self._engine.journal.shards

    def own_shards(self, monitors: Iterable[str]) -> int:
        """How many shards are this monitor's to look after first."""
        among = frozenset({*monitors, self._monitor})
        return sum(_rank(self._monitor, among, shard) == 0 for shard in range(self._engine.journal.shards))

    # --- looking ------------------------------------------------------------------------------------------------

    def _look(self, budget: Deadline | None) -> Mapping[int, _View]:
        shards = range(self._engine.journal.shards)
        views = self._readers.run_all([partial(self._look_at, shard, budget) for shard in shards])
        seen = {shard: view for shard, view in zip(shards, views, strict=True) if view is not None}
        self._unread = frozenset(shards) - seen.keys()
        return seen

    def _look_at(self, shard: int, budget: Deadline | None) -> _View | None:
        """One shard, page by page; None where it could not be read to its end: then nothing of it is forgotten."""
        view = _View(Turns(self._last_turns.get(shard, ""), self._settings.workers))
        start: WireItem | None = None
        try:
            while True:
                if _is_over(budget):
                    return None
                page = self._engine.journal.heads(shard, self._deadline(), start)
                for item in page.items:
                    self._see(item, view)
                start = page.next_key
                if start is None:
                    break
        except CallFailed as failure:
            self._shard_failed(shard, str(failure))
            return None
        except Exception as error:  # noqa: BLE001 - a shard nobody foresaw must not hide the others
            self._shard_failed(shard, f"{describe(error)}, {place(error)}")
            self._count_failure()
            return None
        self._sightings.keep_only(shard, view.stamps)
        self._alarm(shard, view.alarms)
        return view

    def _see(self, item: WireItem, view: _View) -> None:
        try:
            head = read_entry(item)
            check_format(head)
            check_state(head)
        except UnreadableEntry as error:
            view.unreadable += 1
            if len(view.alarms) < _ALARMS_MAX:
                view.alarms[item["sk"]["S"]] = error.reason
            return
        if head.state == State.QUARANTINED:
            view.quarantined += 1
            return
        sighting = self._sightings.see(head)
        if sighting is not None:
            view.stamps.add(head.stamp)
        elif self._is_old(head):
            view.turns.offer(head)
        if sighting is not None and sighting.unreadable:
            view.unreadable += 1
            return
        view.pending += 1
        view.oldest_milliseconds = min(
            view.oldest_milliseconds or head.committed_at_milliseconds, head.committed_at_milliseconds
        )

    def _is_old(self, head: Entry) -> bool:
        wall_seconds = self._engine.time.wall_seconds()
        return may_be_tried(head, wall_seconds) and is_left_alone(head, wall_seconds, self._settings.lease_seconds)

    def _alarm(self, shard: int, alarms: Mapping[str, str]) -> None:
        """Once for each, for as long as it stands there."""
        known = self._alarmed.get(shard, set())
        for sort_key in alarms.keys() - known:
            self._engine.events.error(Event.ENTRY_UNREADABLE, write_id=sort_key, reason=alarms[sort_key])
        self._alarmed[shard] = set(alarms)

    def _shard_failed(self, shard: int, reason: str) -> None:
        if shard not in self._unread:
            self._engine.events.warning(Event.SHARD_UNREAD, shard=shard_name(shard), reason=reason)

    # --- acting -------------------------------------------------------------------------------------------------

    def _set_to_work(
        self, rank: Rank, views: Iterable[_View], budget: Deadline | None, *, one_shot: bool
    ) -> tuple[int, int]:
        """Make the crew's list anew; how many attempts are begun by it, and how many entries are held back."""
        due = self._sightings.due(rank, self.breakers.probe_tables(), one_shot=one_shot)
        due += self._turns(views)
        # What is held back does not even cost a read: its tables are known from an earlier one.
        answers = self.breakers.admitted((sighting.tables, _is_fresh(sighting)) for sighting in due)
        admitted = list(itertools.compress(due, answers))
        with self._changed:
            if self._closed:
                return 0, 0
            self._until = budget
            self._waiting = deque(admitted)
            for _ in range(min(len(admitted), self._settings.workers - self._running)):
                self._running += 1
                self._crew.submit(self._work)
        return len(admitted), len(due) - len(admitted)

    def _turns(self, views: Iterable[_View]) -> list[Sighting]:
        """A few of those that are not remembered, of each shard."""
        taken = [view.turns.taken() for view in views]
        self._last_turns |= {turn[-1].head.shard: turn[-1].head.stamp for turn in taken if turn}
        return list(itertools.chain.from_iterable(taken))

    def _work(self) -> None:
        """One of the crew: take the most urgent entry until there is none."""
        while True:
            with self._changed:
                if not self._waiting or _is_over(self._until):
                    self._running -= 1
                    self._changed.notify_all()
                    return
                sighting = self._waiting.popleft()
            try:
                self._try(sighting)
            except BaseException:
                with self._changed:
                    self._running -= 1
                    self._changed.notify_all()
                raise

    def _try(self, sighting: Sighting) -> None:
        if not sighting.untracked and not self._sightings.begin(sighting):
            return
        begun = self._engine.time.elapsed_seconds()
        report: ResumeReport | None = None
        try:
            report = self._attempt(sighting)
        except Exception as error:  # noqa: BLE001 - whatever one entry brings about, the others go on
            self._attempt_failed(sighting.head.write_id, error)
        finally:
            self._sightings.end(sighting, report)
        if report is not None:
            self._count(report)
            seconds = self._engine.time.elapsed_seconds() - begun
            self._tell(lambda observer: observer.attempt_finished(report, seconds))

    def _attempt(self, sighting: Sighting) -> ResumeReport:
        guard = Guard(self.breakers, fresh=_is_fresh(sighting))
        try:
            if sighting.tables is not None and not guard.gate(sighting.tables):
                return ResumeReport(sighting.head.write_id, Resumed.HELD_BACK, tables=sighting.tables)
            return self._recovery(guard).resume_head(sighting.head, guard.gate)
        finally:
            guard.close()

    def _recovery(self, guard: Guard) -> Recovery:
        engine = self._engine
        return Recovery(
            journal=engine.journal,
            propagation=GuardedPropagation(engine, guard),
            workers=engine.workers,
            time=engine.time,
            events=engine.events,
            owner=self._monitor,
            attempt_seconds=engine.settings.attempt_deadline_seconds,
        )

    def _see_through(self, budget: Deadline | None) -> int:
        """Wait for the crew; how many entries it did not come to. What it has begun ends by deadlines of its own."""
        self._wait_for_crew(None if budget is None else max(0.0, budget.remaining_seconds()))
        with self._changed:
            left = len(self._waiting)
            self._waiting.clear()
        if budget is not None:
            self._wait_for_crew(self._engine.settings.attempt_seconds_max)
        return left

    def _wait_for_crew(self, seconds: float | None) -> bool:
        with self._changed:
            return self._changed.wait_for(self._is_at_rest, timeout=seconds)

    def _is_at_rest(self) -> bool:
        return not self._running and (not self._waiting or _is_over(self._until))

    # --- telling ------------------------------------------------------------------------------------------------

    def _report(self, views: Mapping[int, _View], started: int, held_back: int, seconds: float) -> SweepReport:
        oldest = [view.oldest_milliseconds for view in views.values() if view.oldest_milliseconds is not None]
        age_seconds = self._engine.time.wall_seconds() - min(oldest) / 1000 if oldest else 0.0
        with self._changed:
            attempts = self._totals.attempts - self._told
            self._told = Counter(self._totals.attempts)
        return SweepReport(
            pending=sum(view.pending for view in views.values()),
            oldest_pending_age_seconds=max(0.0, age_seconds),
            quarantined=sum(view.quarantined for view in views.values()),
            unreadable=sum(view.unreadable for view in views.values()),
            unread_shards=tuple(sorted(self._unread)),
            started=started,
            held_back=held_back,
            attempts=MappingProxyType(dict(attempts)),
            seconds=seconds,
        )

    def _count(self, report: ResumeReport) -> None:
        troubles = [result.trouble for result in report.results if result.trouble is not None]
        with self._changed:
            self._totals.attempts[report.resumed] += 1
            if report.resumed is Resumed.QUARANTINED:
                self._totals.conflicts += sum(trouble.permanent and trouble.kind is None for trouble in troubles)

    def _attempt_failed(self, write_id: str, error: Exception) -> None:
        self._engine.events.error(Event.MONITOR_FAILED, write_id=write_id, reason=describe(error), where=place(error))
        self._count_failure()
        self._tell(lambda observer: observer.attempt_failed(write_id, error))

    def _count_failure(self) -> None:
        with self._changed:
            self._totals.failures += 1

    def _breaker_changed(self, table: str, is_open: bool) -> None:
        if is_open:
            self._engine.events.warning(Event.TABLE_HELD_BACK, table=table)
        else:
            waiting = self._sightings.hurry(table)
            self._engine.events.info(Event.TABLE_TAKEN_AGAIN, table=table, entries=waiting)
        self._tell(lambda observer: observer.breaker_changed(table, is_open=is_open))

    def _tell(self, what: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                what(observer)
            except Exception as error:  # noqa: BLE001 - who listens must not stop who works
                self._engine.events.error(
                    Event.MONITOR_FAILED, reason=f"observer: {describe(error)}", where=place(error)
                )

    def _deadline(self) -> Deadline:
        return Deadline.after(self._engine.settings.attempt_deadline_seconds, self._engine.time)


def _is_over(budget: Deadline | None) -> bool:
    return budget is not None and budget.passed()


def _is_fresh(sighting: Sighting) -> bool:
    return sighting.head.attempts == 0


def _rank(monitor: str, monitors: frozenset[str], shard: int, *, one_shot: bool = False) -> int:
    """0 where this monitor is the one that rendezvous hashing gives the shard to; so also for who looks only once.

    When a monitor comes or goes, only the shards that it gets or had change hands.
    """
    return int(not one_shot and monitor != max(monitors, key=lambda name: _weight(name, shard)))


def _weight(monitor: str, shard: int) -> bytes:
    return hashlib.blake2b(f"{shard}\0{monitor}".encode(), digest_size=16).digest()
