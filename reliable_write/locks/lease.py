"""What the holder of a lock holds: a token, and the time that is left.

The time counts from before the request that took or renewed the lease, on the greater of what the wall clock and the
boot clock say has passed: so it is over here before anybody else may take over. A lease that is over, or was refused,
does not come back. And yet it is a hint: a process may be stopped between a look at the clock and what it does next.
What must not be done by two is written by a guarded scope, where the store looks.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from reliable_write.at_commit import Given
from reliable_write.clock import Deadline
from reliable_write.dynamodb import CallFailed
from reliable_write.errors import FailedCondition, LockLostError, ReadFailedError, WrongThreadError
from reliable_write.events import Event
from reliable_write.intents import Intent
from reliable_write.locks.data import encode_data
from reliable_write.locks.failures import writing
from reliable_write.locks.heartbeat import Heartbeat
from reliable_write.locks.hold import End, Hold
from reliable_write.locks.items import FREE, held_condition, read_state
from reliable_write.scope import ReliableWriteScope

_FREE_LATER = "If it was not, the lock is free once its lease has run out."


class Lease:
    """One holding of a lock. Got from `Lock`; safe for threads; of the process that acquired it.

        with lock.acquire(timeout=30) as lease:
            with ReliableWriteScope(writer) as scope:
                lease.guard(scope)
                scope.put_item("reports", Item=report, at_commit=True)
                scope.commit()

    Leaving the block releases it. What the block raised passes unchanged. If it raised nothing and the lock was lost
    meanwhile, leaving it raises `LockLostError`.
    """

    def __init__(self, hold: Hold, ends_turn: Callable[[], bool], next_turn: Callable[[], None]) -> None:
        """For `Lock`. `ends_turn` tells whether a release is the last one, `next_turn` lets the next thread try."""
        self._hold = hold
        self._ends_turn = ends_turn
        self._next_turn = next_turn

    @property
    def token(self) -> int:
        """The fencing token: greater than that of every holder before. Hand it to whatever can refuse an older one."""
        return self._hold.holding.token

    @property
    def owner(self) -> str:
        """The name under which the lock is held."""
        return self._hold.terms.owner

    @property
    def table(self) -> str:
        """Where the lock's item lies."""
        return self._hold.terms.item.table

    @property
    def key(self) -> dict[str, Any]:
        """The key of its item."""
        return dict(self._hold.terms.key)

    @property
    def data(self) -> Any:
        """What lies beside the lock: what was given, or what an earlier holder left."""
        return self._hold.data

    def __repr__(self) -> str:
        held = f"{self.remaining_seconds():.1f} s left" if self.is_held() else "not held"
        return f"<Lease on {self.table}, token {self.token}, {held}>"

    # --- looking ------------------------------------------------------------------------------------------------

    def is_held(self) -> bool:
        """Whether it can still be relied upon, by this process's clocks. Sends nothing. False in a forked child."""
        return self.remaining_seconds() > 0

    def remaining_seconds(self) -> float:
        """Until somebody else may take over, if nothing renews it; 0 where it is not held."""
        return self._hold.remaining_seconds()

    def in_danger(self) -> bool:
        """Whether it could not be renewed for `safe_seconds` or longer, or is not held."""
        return not self.is_held() or self._hold.age_seconds() >= self._hold.terms.rhythm.safe_seconds

    def check(self) -> None:
        """Raise `LockLostError` if it is not held any more, as far as this process knows. Sends nothing."""
        self._check_process()
        if not self.is_held():
            self._hold.lose(None)
            raise self._hold.lost()

    # --- doing --------------------------------------------------------------------------------------------------

    def guard(self, scope: ReliableWriteScope) -> None:
        """Let a scope commit only if this lease holds the lock then: the store looks, in the commit point itself.

        Counts as one sub-operation. Its commit raises `LockLostError` if somebody has taken over: nothing of it is
        written. Raises the same at once where the lease is known to be lost, and `UnsupportedOperationError` on
        engines without transactions and for tables outside of the system table's account and Region.
        """
        self.check()
        scope.check(self)

    def renew(self, *, data: Any = None) -> None:
        """Renew it now, and put other data beside it where some are given. Heartbeats renew it by themselves.

        Raises `LockLostError`, and `CommitFailedError` where the store gave no answer: the lease goes on for what is
        left of it.
        """
        self.check()
        encoded = None if data is None else encode_data(data)
        with writing(self.table, "renewed", f"The lease has {self.remaining_seconds():.1f} s left."):
            renewed = self._hold.renew(self._patience(), encoded)
        if not renewed:
            raise self._hold.lost()

    def ensure(self, seconds: float) -> None:
        """Renew it unless it lasts so long anyway. Raises as `renew`, and `ValueError` for longer than a lease."""
        lease_seconds = self._hold.terms.rhythm.lease_seconds
        if not seconds <= lease_seconds:  # also what is no number
            raise ValueError(f"A lease of {lease_seconds:g} s never lasts {seconds:g} s.")
        self.check()
        if self.remaining_seconds() < seconds:
            self.renew()

    def release(self, *, delete: bool | None = None) -> bool:
        """Let it go; whether nobody else had it until then. False also where it was released already.

        The item stays, with the token. The data go with `delete`, which is as the lock says where it is not given.
        Heartbeats end first, whatever comes of it. Raises `CommitFailedError` where the store gave no answer.
        """
        with writing(self.table, "released", _FREE_LATER):
            return self._release(delete=delete)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Whether it was lost the store says: where nobody has taken over, the block was alone, however late it is."""
        if error is not None:
            with contextlib.suppress(WrongThreadError):  # a forked child that leaves by an exception
                self._leave()
        elif not self._leave():
            raise self._hold.lost(at_exit=True)

    def _patience(self) -> Deadline:
        """Not beyond the lease: heartbeats wait for this renewal, and have to tell when the lease is lost."""
        terms = self._hold.terms
        seconds = min(terms.engine.settings.attempt_deadline_seconds, self.remaining_seconds())
        return Deadline.after(seconds, terms.engine.time)

    def _leave(self) -> bool:
        """Whether the block had it to itself. Without an answer the clock decides: its lease had not run out."""
        if self._hold.end is End.RELEASED:
            return True
        in_time = self.is_held()
        try:
            return self._release(delete=None)
        except (CallFailed, ReadFailedError) as failure:
            self._hold.tell(Event.LOCK_NOT_RELEASED, reason=str(failure))
            return in_time

    def _release(self, *, delete: bool | None) -> bool:
        self._check_process()
        if self._hold.let_go.is_set():
            return False
        if not self._ends_turn():
            return True
        if not self._hold.begin_release():
            return False  # another thread does it
        try:
            return self._hold.release(delete=self._hold.terms.delete if delete is None else delete)
        finally:
            self._next_turn()

    def _check_process(self) -> None:
        if self._hold.pid != os.getpid():
            raise WrongThreadError(
                f"This lease was acquired by process {self._hold.pid}, and a forked child does not hold it. Make a "
                "Lock in the child, and acquire that."
            )

    def keep_alive(self) -> None:
        """For `Lock`: begin its heartbeats, in a thread of their own. Raises `RuntimeError` where none can be had."""
        engine = self._hold.terms.engine
        engine.workers.background("reliable-write-lock", Heartbeat(self._hold, engine.time).run)

    # --- for a scope --------------------------------------------------------------------------------------------

    def __reliable_check__(self) -> Intent:
        """See `Checkable`."""
        condition, names, values = held_condition(self._hold.holding)
        return Intent(self.table, self.key, Given(condition, names, values), refused=self._refused)

    def _refused(self, failure: FailedCondition) -> LockLostError:
        try:
            found = read_state(failure.item, self.table)
        except ReadFailedError:
            found = FREE
        self._hold.lose(found)
        return self._hold.lost(by_scope=True)
