"""One breaker per destination table: a table that takes nothing for now is left alone, so that the others go on.

Closed: everything is sent. After so many attempts in a row in which a table gave no sound answer, it opens: nothing is
sent to it, and entries that need it are held back without a claim, so no attempt is counted. After a pause with jitter
one entry may probe it (half open); a sound answer closes it, silence doubles the pause.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from monitor.settings import MonitorSettings
from reliable_write.clock import Deadline, Stamp, TimeSource
from reliable_write.engine import Engine
from reliable_write.operations import Action
from reliable_write.policy import FailureKind, Trouble
from reliable_write.propagation import Propagation, Result, Status

SILENCE: Final = frozenset(
    {
        FailureKind.THROTTLED,
        FailureKind.UNREACHABLE,
        FailureKind.TIMEOUT,
        FailureKind.SERVER,
        FailureKind.CREDENTIALS,
    }
)
"""Failures that speak of the table. Others speak of one item (a conflict, a refusal), or of us (out of time), or are
quick and judged by the entry's age (a missing table)."""


@dataclass(slots=True)
class _Breaker:
    failures: int = 0
    openings: int = 0
    retry_at: float | None = None
    """Elapsed seconds at which it may be probed; None while closed."""
    probing: bool = False


@dataclass(frozen=True, slots=True)
class Permit:
    """What one attempt may do."""

    held: frozenset[str] = frozenset()
    """Tables to which it sends nothing."""
    probes: frozenset[str] = frozenset()
    """Tables that it, and nobody else for now, tries with one operation first."""


class Breakers:
    """The breakers of all tables. Safe for threads."""

    def __init__(self, time: TimeSource, settings: MonitorSettings, changed: Callable[[str, bool], None]) -> None:
        self._time = time
        self._settings = settings
        self._changed = changed
        self._lock = threading.Lock()
        self._breakers: dict[str, _Breaker] = {}

    def open_tables(self) -> tuple[str, ...]:
        """Tables that are left alone."""
        with self._lock:
            return tuple(sorted(table for table, breaker in self._breakers.items() if breaker.retry_at is not None))

    def probe_tables(self) -> frozenset[str]:
        """Tables whose pause is over and that nobody probes yet."""
        with self._lock:
            return frozenset(table for table in self._breakers if self._wants_probe(table))

    def admitted(self, wishes: Iterable[tuple[frozenset[str] | None, bool]]) -> list[bool]:
        """Which of these entries, given as their tables and whether they are fresh, may hope for a permit now.

        One, the first, for each table to be probed; entries whose tables are not known may all try.
        """
        with self._lock:
            shut = {table for table, breaker in self._breakers.items() if breaker.retry_at is not None}
            free = {table for table in shut if self._wants_probe(table)}
        answers = []
        for tables, fresh in wishes:
            ours = (tables or frozenset()) & shut
            answers.append(not ours or bool(ours & free) or (fresh and ours != tables))
            free -= ours
        return answers

    def permit(self, tables: Iterable[str], *, fresh: bool) -> Permit | None:
        """Leave to try an entry with these tables, or None. Give it back with `release`.

        A fresh entry, which nobody has tried since its writer, may come for the sake of its other tables.
        """
        with self._lock:
            permit = self._judge(frozenset(tables), fresh=fresh)
            for table in permit.probes if permit is not None else ():
                self._breakers[table].probing = True
            return permit

    def release(self, permit: Permit) -> None:
        """The attempt is over; a probe that was never made may be made by another."""
        with self._lock:
            for table in permit.probes & self._breakers.keys():
                self._breakers[table].probing = False

    def note(self, results: Iterable[Result]) -> None:
        """Learn from what became of the operations of one attempt. One sound answer of a table outweighs its rest."""
        signs: dict[str, bool] = {}
        for result in results:
            sign = _sign(result)
            if sign is not None:
                signs[result.table] = signs.get(result.table, False) or sign
        for table, answered in signs.items():
            (self._answered if answered else self._was_silent)(table)

    def _judge(self, tables: frozenset[str], *, fresh: bool) -> Permit | None:
        closed_to_us = frozenset(
            table for table in tables if table in self._breakers and self._breakers[table].retry_at is not None
        )
        probes = frozenset(table for table in closed_to_us if self._wants_probe(table))
        if not closed_to_us or probes or (fresh and closed_to_us != tables):
            return Permit(closed_to_us - probes, probes)
        return None

    def _wants_probe(self, table: str) -> bool:
        breaker = self._breakers[table]
        return breaker.retry_at is not None and not breaker.probing and self._time.elapsed_seconds() >= breaker.retry_at

    def _answered(self, table: str) -> None:
        with self._lock:
            breaker = self._breakers.pop(table, None)
        if breaker is not None and breaker.retry_at is not None:
            self._changed(table, False)

    def _was_silent(self, table: str) -> None:
        with self._lock:
            breaker = self._breakers.setdefault(table, _Breaker())
            breaker.failures += 1
            was_open = breaker.retry_at is not None
            if was_open and not breaker.probing:
                return  # an attempt from before it opened
            if not was_open and breaker.failures < self._settings.breaker_failures:
                return
            breaker.retry_at = self._time.elapsed_seconds() + self._pause_seconds(breaker.openings)
            breaker.openings += 1
            breaker.probing = False
        if not was_open:
            self._changed(table, True)

    def _pause_seconds(self, openings: int) -> float:
        """Half of it fixed, so that a table is really left alone; half jitter: monitors shall not probe at once."""
        settings = self._settings
        half = min(settings.breaker_cap_seconds, settings.breaker_base_seconds * 2.0 ** min(openings, 20)) / 2
        return half + self._time.jitter(half)


def _sign(result: Result) -> bool | None:
    """True: the table answered soundly; False: it did not; None: says nothing about it."""
    if result.trouble is None:
        return True
    if result.trouble.permanent or result.trouble.kind in (FailureKind.CONFLICT, FailureKind.TABLE_MISSING):
        return True
    return False if result.trouble.kind in SILENCE else None


class Guard:
    """The breakers' side of one attempt on one entry: asked before the claim, obeyed while operations are sent."""

    def __init__(self, breakers: Breakers, *, fresh: bool) -> None:
        self._breakers = breakers
        self._fresh = fresh
        self._permit: Permit | None = None

    @property
    def permit(self) -> Permit:
        """What was allowed."""
        assert self._permit is not None, "asked before the gate was"
        return self._permit

    def gate(self, tables: frozenset[str]) -> bool:
        """Whether the entry may be claimed."""
        if self._permit is None:
            self._permit = self._breakers.permit(tables, fresh=self._fresh)
        return self._permit is not None

    def note(self, results: Iterable[Result]) -> None:
        """See `Breakers.note`."""
        self._breakers.note(results)

    def close(self) -> None:
        """The attempt is over, however it ended."""
        if self._permit is not None:
            self._breakers.release(self._permit)


class GuardedPropagation(Propagation):
    """Sends nothing to tables that are left alone, and one operation first to those it probes."""

    def __init__(self, engine: Engine, guard: Guard) -> None:
        super().__init__(engine.store, engine.tombstones, engine.workers, engine.time, engine.installation.names)
        self._guard = guard

    def apply(
        self, stamp: Stamp, actions: Sequence[tuple[str, Action]], deadline: Deadline, *, late: bool
    ) -> list[Result]:
        """See `Propagation.apply`; what is not sent has failed, for now."""
        held = set(self._guard.permit.held)
        results: dict[str, Result] = {}
        first = _first_of_each(actions, self._guard.permit.probes)
        if first:
            probed = super().apply(stamp, first, deadline, late=late)
            self._guard.note(probed)
            held |= {result.table for result in probed if _sign(result) is not True}
            results |= {result.place: result for result in probed}
        rest = [located for located in actions if located[0] not in results]
        sent = [located for located in rest if located[1].table not in held]
        applied = super().apply(stamp, sent, deadline, late=late) if sent else []
        self._guard.note(applied)
        results |= {result.place: result for result in applied}
        return [results.get(place) or _held_back(place, action) for place, action in actions]


def _first_of_each(actions: Sequence[tuple[str, Action]], tables: frozenset[str]) -> list[tuple[str, Action]]:
    first: dict[str, tuple[str, Action]] = {}
    for place, action in actions:
        if action.table in tables:
            first.setdefault(action.table, (place, action))
    return list(first.values())


def _held_back(place: str, action: Action) -> Result:
    reason = f"table {action.table} took nothing lately and is left alone for a while"
    return Result(place, action.table, Status.FAILED, Trouble(reason, permanent=False))
