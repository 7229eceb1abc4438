"""Threads of one process that share a `Lock` wait for each other here, and ask the table only one at a time."""

from __future__ import annotations

import threading
from typing import Final

_WAIT_SECONDS_MAX: Final = threading.TIMEOUT_MAX


class Turns:
    """Who has the lock inside of this process, and how often. Of one process; forked children do not use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._count = 0

    @property
    def mine(self) -> bool:
        """Whether this thread took it."""
        return self._thread == threading.get_ident()

    def take(self, seconds: float | None) -> bool:
        """Wait so long for it (None: for ever); whether it was had."""
        timeout = -1.0 if seconds is None else min(max(seconds, 0.0), _WAIT_SECONDS_MAX)
        if not self._lock.acquire(timeout=timeout):
            return False
        self._thread, self._count = threading.get_ident(), 1
        return True

    def again(self) -> None:
        """Once more by the thread that has it."""
        assert self.mine
        self._count += 1

    def less(self) -> bool:
        """Once less; whether that was the last."""
        if self._count > 1:
            self._count -= 1
            return False
        return True

    def free(self) -> None:
        """Let the next one have it."""
        self._thread, self._count = None, 0
        self._lock.release()
