"""Whose turn it is: threads of one process write one shared record one after the other.

Two of them at once could only make each other stale. A turn is never waited for inside of another one: what holds a
turn may be done again, and two threads that hold one each would wait for each other.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from reliable_write.clock import Deadline
from reliable_write.errors import CommitFailedError, NestedScopeError

_inside: ContextVar[tuple[int, str] | None] = ContextVar("reliable_write_inside_a_turn", default=None)
"""The process, and what is written, while a turn is held. A context variable, so that a thread that was given the
context of a holder is refused as well: the holder may be waiting for it."""

_WAIT_SECONDS_MAX: Final = threading.TIMEOUT_MAX


class Turn:
    """One lock for one record, in one process; a forked child has its own."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, name: str, deadline: Deadline) -> Iterator[None]:
        """Hold it for a block.

        Raises `NestedScopeError` inside of a turn, this one or another, and `CommitFailedError` where others held it
        until the deadline. Nothing is written then.
        """
        _refuse_inside(name)
        lock = self._here()
        if not lock.acquire(timeout=min(max(deadline.remaining_seconds(), 0.0), _WAIT_SECONDS_MAX)):
            raise CommitFailedError(
                f"{name}: other threads of this process were writing the same record for {deadline.seconds:g} s. "
                "Nothing was written; try again, or allow more time.",
                retryable=True,
            )
        try:
            token = _inside.set((os.getpid(), name))
            try:
                yield
            finally:
                _inside.reset(token)
        finally:
            lock.release()

    def _here(self) -> threading.Lock:
        if self._pid != os.getpid():
            # A lock taken over the fork may be held for ever. Two threads that come first at once may take a turn each,
            # which costs them a try and nothing else.
            self._lock, self._pid = threading.Lock(), os.getpid()  # in this order: who sees the new number has the lock
        return self._lock


def _refuse_inside(name: str) -> None:
    outer = _inside.get()
    if outer is not None and outer[0] == os.getpid():
        raise NestedScopeError(
            f"{name} was to be written inside an update of {outer[1]}, whose function may be called several times: "
            "this write would be done as often, and waiting for it could be for ever. Change both in one scope, or one "
            "after the other."
        )
