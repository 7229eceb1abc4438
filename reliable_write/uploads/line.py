"""What is to be done next, for all threads of one run: first what is begun, then more files, then what others have.

Files are taken up a page at a time, and what a page brings is done before the next one is read, so that what is in
memory is bounded. When there is nothing else, one thread looks from time to time at what other processes are sending.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

Job = Callable[[], None]


class Line:
    """Jobs for threads that take one after the other until there are none, and none can come."""

    def __init__(self, pages: Iterable[Job], look_again: Job, stop: threading.Event) -> None:
        self._begun: deque[Job] = deque()
        self._pages = deque(pages)
        self._look_again = look_again
        self._stop = stop
        self._busy = 0
        self._waiting = False
        self._looking = False
        self._changed = threading.Condition()

    def add(self, jobs: Iterable[Job]) -> None:
        """These before all others."""
        with self._changed:
            self._begun.extendleft(reversed(list(jobs)))
            self._changed.notify_all()

    def wait_for_others(self, *, waiting: bool) -> None:
        """Whether there is something that other processes have."""
        with self._changed:
            self._waiting = waiting
            self._changed.notify_all()

    def stopped(self) -> None:
        """Wake those who wait: they shall see that it is over."""
        with self._changed:
            self._changed.notify_all()

    def work(self) -> None:
        """Do jobs until there are no more; the loop of each thread."""
        job = self._take()
        while job is not None:
            try:
                job()
            finally:
                self._done(job)
            job = self._take()

    def _take(self) -> Job | None:
        with self._changed:
            while not self._stop.is_set():
                job = self._next()
                if job is not None:
                    self._busy += 1
                    return job
                if self._busy == 0:
                    break
                self._changed.wait()
            self._changed.notify_all()
            return None

    def _next(self) -> Job | None:
        if self._begun:
            return self._begun.popleft()
        if self._pages:
            return self._pages.popleft()
        if self._waiting and not self._looking:
            self._looking = True
            return self._look_again
        return None

    def _done(self, job: Job) -> None:
        with self._changed:
            self._busy -= 1
            if job is self._look_again:
                self._looking = False
            self._changed.notify_all()
