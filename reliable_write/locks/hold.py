"""One holding of a lock, from its acquisition to its end: what the lease and its heartbeat have in common.

A holding ends once. After that no answer that comes late brings it back: neither a renewal that was under way when the
lock was released, nor one whose lease had run out.
"""

from __future__ import annotations

import enum
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reliable_write.clock import Deadline
from reliable_write.engine import Engine
from reliable_write.errors import LockLostError, Outcome, ReadFailedError
from reliable_write.events import Event
from reliable_write.locks.items import FREE, Holding, LockItem, LockState, is_held_by
from reliable_write.locks.rhythm import Rhythm
from reliable_write.values import AttributeValue


class End(enum.Enum):
    """How it ended; the words follow "The lock in <table> (token 7)"."""

    RELEASED = "was released."
    EXPIRED = "may be held by somebody else: its lease ran out before it was renewed."
    TAKEN = "is not held any more: somebody took it over, or an operator released it."


@dataclass(frozen=True, slots=True)
class Terms:
    """What all holdings of one lock have in common."""

    engine: Engine
    item: LockItem
    key: dict[str, Any]
    owner: str
    rhythm: Rhythm
    delete: bool


class Hold:
    """Safe for threads."""

    def __init__(self, terms: Terms, taken: LockState, ends: Deadline) -> None:
        """`ends` was begun before the request that took it."""
        assert taken.lease_id is not None
        assert taken.token is not None
        self.terms = terms
        self.holding = Holding(taken.lease_id, taken.token)
        self.data = taken.data
        self.pid = os.getpid()
        self.end: End | None = None
        self.taken_by: str | None = None
        self.on_danger: Callable[[], object] | None = None
        self.on_lost: Callable[[], object] | None = None
        self.let_go = threading.Event()
        """Set once it is to be released: wakes the heartbeat, which ends."""
        self._ends = ends
        self._beat = taken.beat
        self._in_time = False
        """Whether the lease had time left when its release began."""
        self._state = threading.Lock()
        self._renewing = threading.Lock()

    @property
    def over(self) -> bool:
        """Whether it has ended, as far as is known; a forked child does not have it."""
        return self.end is not None or self.pid != os.getpid()

    def remaining_seconds(self) -> float:
        """Until somebody else may take over; 0 where it is over."""
        return 0.0 if self.over else max(0.0, self._ends.remaining_seconds())

    def age_seconds(self) -> float:
        """Since it was taken or last renewed, counted from before that request."""
        return self._ends.seconds - self._ends.remaining_seconds()

    def renew(self, deadline: Deadline, data: AttributeValue | None = None) -> bool:
        """Show a sign of life; False where it has ended. Raises `CallFailed` where there is no answer."""
        with self._renewing:
            ends = Deadline.after(self.terms.rhythm.lease_seconds, self.terms.engine.time)
            self._beat += 1
            try:
                state = self.terms.item.renew(self.holding, self._beat, data, deadline)
            except ReadFailedError:  # somebody wrote something else in its place
                state = FREE
            if not is_held_by(state, self.holding):
                self.lose(state)
                return False
            with self._state:
                if self.end is None:
                    self._ends, self.data = ends, state.data
                return self.end is None

    def lose(self, found: LockState | None) -> None:
        """Learn that it is lost: refused by what was found, or out of time (None). Told once, by whoever finds out."""
        with self._state:
            if self.end is not None:
                return
            end = self._end_as(found)
        self.tell(Event.LOCK_LOST, reason=end.name.lower(), taken_by=self.taken_by)
        self._call(self.on_lost)

    def warn(self) -> None:
        """Tell that it could not be renewed for too long."""
        self.tell(Event.LOCK_IN_DANGER, remaining_seconds=round(self.remaining_seconds(), 3))
        self._call(self.on_danger)

    def begin_release(self) -> bool:
        """End it, as far as this process goes, before anything is sent; False where that was done already."""
        in_time = self.remaining_seconds() > 0
        with self._state:
            if self.let_go.is_set():
                return False
            self.let_go.set()
            self._in_time = in_time
            if self.end is None:
                self.end = End.RELEASED if in_time else End.EXPIRED
            return True

    def release(self, *, delete: bool) -> bool:
        """Let it go; whether nobody else had it until then. Raises `CallFailed` where there is no answer.

        Asked also where the lease ran out: if nobody has taken over, others need not wait, and it was held alone after
        all. Where an answer was lost and somebody has it since, our clock tells whether he could have had it before.
        """
        released = self.terms.item.release(self.holding, self.terms.engine.attempt_deadline(), delete=delete)
        kept = released.done or (released.unclear and self._in_time)
        with self._state:
            if kept:
                self.end = End.RELEASED
            else:
                self._end_as(released.state)
        return kept

    def lost(self, *, by_scope: bool = False, at_exit: bool = False) -> LockLostError:
        """The error that says how it ended."""
        end = self.end or End.EXPIRED
        by = f" {self.taken_by} holds it now." if self.taken_by is not None else ""
        more = " Nothing of this scope was written." if by_scope else ""
        if at_exit:
            more = (
                " What its block wrote by guarded scopes is as their commits said; whatever else it did may have met "
                "another holder."
            )
        return LockLostError(
            f"The lock in {self.terms.item.table} (token {self.holding.token}) {end.value}{by}{more}",
            outcome=Outcome.UNKNOWN if at_exit else Outcome.NOT_WRITTEN,
            table=self.terms.item.table,
            key=dict(self.terms.key),
            token=self.holding.token,
            owner=self.taken_by,
        )

    def tell(self, event: Event, **facts: object) -> None:
        """Say it to whoever reads the log."""
        self.terms.engine.events.warning(
            event, table=self.terms.item.table, owner=self.terms.owner, token=self.holding.token, **facts
        )

    def _end_as(self, found: LockState | None) -> End:
        self.end = end = End.EXPIRED if found is None else End.TAKEN
        self.taken_by = None if found is None else found.owner
        return end

    def _call(self, callback: Callable[[], object] | None) -> None:
        """A callback's own defect must not hide what it was to tell."""
        try:
            if callback is not None:
                callback()
        except Exception as error:  # noqa: BLE001 - told, and not ours to handle
            self.tell(Event.LOCK_CALLBACK_FAILED, error=type(error).__name__)
