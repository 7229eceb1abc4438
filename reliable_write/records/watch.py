"""What lies under the key of a shared record, as one process has seen it last, and how it looks again.

A look is a strongly consistent read, and costs one read unit for each 4 KB of the item, whatever part of it is asked
for. Asking for the serial alone saves what would be sent and made into a record, so that readers of a record which is
seldom written are served from here, and still never take an old one for the newest.

Threads share looks. One that asks while a look is under way cannot use that one, which may have been answered before it
asked; but all that wait are served by the next. So looks follow each other, and none brings back what was before.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from reliable_write.errors import ReliableWriteError

R = TypeVar("R")

Serial = tuple[Any, ...]
"""The version and both stamps of an item, as it holds them. One of them changes with every write of this library, also
with one that leaves the version alone, and where the item was deleted for good and made anew."""


@dataclass(frozen=True, slots=True)
class Sight(Generic[R]):
    """What was there at one moment: a record, a deletion mark, or nothing."""

    serial: Serial | None = None
    """None where there was no item."""
    record: R | None = field(default=None, repr=False)
    """Handed out as copies only."""
    mark: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The item, as Python values, where it is a deletion mark."""

    @property
    def version(self) -> Any:
        """As the item holds it."""
        return self.serial[0] if self.serial is not None else None

    def is_later_than(self, other: Sight[R]) -> bool:
        """By their versions, where both have one; they only grow."""
        if self.version is None or other.version is None:
            return False
        return bool(self.version > other.version)


class Watch(Generic[R]):
    """One key, as all threads of a process see it. In a forked child it goes on from what the parent had seen."""

    def __init__(self, read_serial: Callable[[], Serial | None], read: Callable[[], Sight[R]]) -> None:
        self._read_serial = read_serial
        self._read = read
        self._seen: Sight[R] = Sight()
        self._process = _Process()

    @property
    def seen(self) -> Sight[R]:
        """The last look; sends nothing."""
        return self._seen

    @property
    def begun(self) -> int:
        """How many looks have begun. To be noted before a write whose outcome will be shown to `learn`."""
        return self._here().begun

    def look(self, *, whole: bool = False) -> Sight[R]:
        """What is there, as of some moment after this was called.

        With `whole` the item is read at once, else only where its serial has moved. Raises what reading raises.
        """
        process = self._here()
        asked = process.begun
        with process.looking:
            if process.ended > asked:
                process.raise_failure()
            else:
                with process.one_look():
                    self._seen = self._look(whole=whole)
            return self._seen

    def learn(self, seen: Sight[R], begun: int) -> None:
        """What a write has shown, unless a look that has `begun` since has shown what is later."""
        process = self._here()
        with process.looking:
            if process.begun == begun or not self._seen.is_later_than(seen):
                self._seen = seen

    def _look(self, *, whole: bool) -> Sight[R]:
        known = self._seen.serial
        if not whole and known is not None and self._read_serial() == known:
            return self._seen
        return self._read()

    def _here(self) -> _Process:
        if self._process.pid != os.getpid():
            # No lock: one taken over the fork may be held for ever. Two threads that come first at once look twice.
            self._process = _Process()
        return self._process


class _Process:
    """What must not be carried over a fork."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.looking = threading.Lock()
        self.begun = 0
        self.ended = 0
        """The number of the last look that was answered or refused."""
        self._failure: ReliableWriteError | None = None

    @contextmanager
    def one_look(self) -> Iterator[None]:
        """Count it; an interrupted one (Ctrl-C) serves nobody but fails nobody else either."""
        self.begun += 1
        self._failure = None
        try:
            yield
        except ReliableWriteError as error:
            self._failure, self.ended = _detached(error), self.begun
            raise
        self.ended = self.begun

    def raise_failure(self) -> None:
        """Where the look that would have served failed: those who waited share that, and do not wait for one each."""
        if self._failure is not None:
            raise copy.copy(self._failure) from self._failure.__cause__


def _detached(error: ReliableWriteError) -> ReliableWriteError:
    """The same without its frames, which would keep alive what they hold."""
    again = copy.copy(error)
    again.__cause__ = error.__cause__
    return again
