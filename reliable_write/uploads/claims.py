"""Claims this run holds, renewed while they are held; and those of others, watched by our own clock.

A claim says "somebody is at it", no more. It is over when its holder says so, or when the item has been seen unchanged
for the holder's lease on the monotonic clock of the one who waits: nobody's wall clock is believed, and a holder that
is only slow meets a conditional put.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from reliable_write import limits
from reliable_write.clock import TimeSource
from reliable_write.dynamodb import CallFailed
from reliable_write.uploads.ledger import Intent, Ledger, Overtaken, first_of, new_attempt, next_of


class ClaimLost(Exception):
    """Somebody else has taken this object over, or has finished it."""


class Claim:
    """One object of which this run says that it is at it. Safe for threads."""

    def __init__(self, ledger: Ledger, intent: Intent, *, fresh: bool) -> None:
        self._ledger = ledger
        self._intent = intent
        self._lock = threading.Lock()
        self._lost = False
        self._moved_seconds = ledger.time.elapsed_seconds()
        self.fresh = fresh
        """Whether the ledger knew nothing of the object: nobody has left anything behind."""

    @property
    def intent(self) -> Intent:
        """The item as we wrote it last."""
        return self._intent

    @property
    def lost(self) -> bool:
        """Whether somebody else was seen to have it."""
        return self._lost

    def note(self, **changes: Any) -> None:
        """Change the item. Raises `ClaimLost`, `CallFailed`."""
        with self._lock:
            self._move(**changes)

    def renew_if_due(self) -> None:
        """Say that we are still at it, if it is some time that we did. A failure is found by those who do the work."""
        due_seconds = self._intent.lease_seconds / limits.UPLOAD_RENEWALS
        with self._lock:
            if self._lost or self._ledger.time.elapsed_seconds() - self._moved_seconds < due_seconds:
                return
            with contextlib.suppress(ClaimLost, CallFailed):
                self._move()

    def release(self) -> bool:
        """Let anybody else go on at once. Where that fails the lease ends it; False where nobody answered."""
        with self._lock:
            try:
                if not self._lost:
                    self._move(owner=None)
            except ClaimLost:
                pass
            except CallFailed:
                return False
            return True

    def give_up(self) -> None:
        """As if we had never been here."""
        with self._lock:
            self._lost = True
            self._ledger.give_up(self._intent)

    def _move(self, **changes: Any) -> None:
        if self._lost:
            raise ClaimLost
        wanted = next_of(self._intent, self._ledger.time, **changes)
        try:
            self._ledger.move(self._intent, wanted)
        except Overtaken:
            self._lost = True
            raise ClaimLost from None
        self._intent = wanted
        self._moved_seconds = self._ledger.time.elapsed_seconds()


class Claims:
    """All claims of one run, and the thread that renews them; use with `with`."""

    def __init__(
        self, ledger: Ledger, owner: str, lease_seconds: float, background: Callable[[str, Callable[[], None]], None]
    ) -> None:
        self._ledger = ledger
        self._owner = owner
        self._lease_seconds = lease_seconds
        self._background = background
        self._held: set[Claim] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self._background("reliable-write-upload-claims", self._renew)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        for claim in self._listed():
            if not claim.release():
                break  # each further one would wait as long for no answer

    def take(self, address: str, sha256: str, size: int, seen: Intent | None) -> Claim:
        """Claim an object nobody is at, or whose claim is over. Raises `Overtaken`, `CallFailed`."""
        if seen is None:
            intent = first_of(address, sha256, size, self._owner, self._lease_seconds, self._ledger.time)
            self._ledger.claim(intent)
        else:
            intent = self._taken_over(seen, sha256, size)
            self._ledger.move(seen, intent)
        claim = Claim(self._ledger, intent, fresh=seen is None)
        with self._lock:
            self._held.add(claim)
        return claim

    def drop(self, claim: Claim) -> None:
        """It needs no renewing any more."""
        with self._lock:
            self._held.discard(claim)

    def _taken_over(self, seen: Intent, sha256: str, size: int) -> Intent:
        """A multipart upload goes on under the attempt it was begun with, if it is for the same content."""
        resumed = seen.upload is not None and (seen.sha256, seen.size) == (sha256, size)
        return next_of(
            seen,
            self._ledger.time,
            sha256=sha256,
            size=size,
            owner=self._owner,
            lease_seconds=self._lease_seconds,
            upload=seen.upload if resumed else None,
            attempt=seen.attempt if resumed else new_attempt(self._ledger.time),
        )

    def _listed(self) -> list[Claim]:
        with self._lock:
            return list(self._held)

    def _renew(self) -> None:
        while not self._over.wait(self._lease_seconds / limits.UPLOAD_RENEWALS / 2):
            for claim in self._listed():
                claim.renew_if_due()


class Watch:
    """Tells when somebody else's claim is over, by the time that passes here."""

    def __init__(self, time: TimeSource) -> None:
        self._time = time
        self._seen: dict[str, tuple[int, str, float]] = {}

    def is_over(self, intent: Intent) -> bool:
        """Whether its holder let go of it, or has not moved it for its lease while we looked."""
        if intent.owner is None:
            return True
        now = self._time.elapsed_seconds()
        version, attempt, since = self._seen.get(intent.object, (0, "", now))
        if (version, attempt) != (intent.version, intent.attempt):
            self._seen[intent.object] = (intent.version, intent.attempt, now)
            return False
        return now - since >= intent.lease_seconds
