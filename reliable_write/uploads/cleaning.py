"""What killed runs left behind in S3: multipart uploads that nobody will complete, which are billed until aborted.

Only those of objects the ledger knows are touched, and only when nobody is at them. One whose id the ledger has could
still be resumed: it is first taken out of the ledger, under the version that was seen, and then aborted.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from reliable_write.uploads.claims import Watch
from reliable_write.uploads.ledger import Intent, Ledger, Overtaken, State, next_of
from reliable_write.uploads.objects import Objects, PendingUpload
from reliable_write.uploads.s3 import NoSuchUpload
from reliable_write.uploads.sending import Patience
from reliable_write.uploads.target import Target


@dataclass(frozen=True, slots=True)
class Kept:
    """A multipart upload that was left alone."""

    key: str
    told: str
    """Why."""


@dataclass(frozen=True, slots=True)
class CleanReport:
    """What a cleaning did."""

    target: str
    aborted: tuple[str, ...]
    """Keys; one for each multipart upload."""
    kept: tuple[Kept, ...]


class Cleaner:
    """Aborts what is old, ours and nobody's any more. Raises `S3Failed`, `CallFailed`."""

    def __init__(self, objects: Objects, ledger: Ledger, patience: Patience) -> None:
        self._objects = objects
        self._ledger = ledger
        self._patience = patience
        self._watch = Watch(ledger.time)

    def clean(self, target: Target, older_than_seconds: float) -> CleanReport:
        """All multipart uploads under the target's prefix."""
        found = self._patience.run(lambda: list(self._objects.pending(target.prefix)))
        old = [upload for upload in found if upload.age_seconds >= older_than_seconds]
        addresses = sorted({target.address(upload.key) for upload in old})
        self._wait_a_lease(self._ledger.look(addresses, consistent=True))
        known = self._ledger.look(addresses, consistent=True)
        kept = [Kept(upload.key, "younger than that") for upload in found if upload not in old]
        aborted = []
        for upload in old:
            why = self._why_not(upload, known.get(target.address(upload.key)))
            if why is None:
                aborted.append(upload.key)
            else:
                kept.append(Kept(upload.key, why))
        return CleanReport(target.url, tuple(aborted), tuple(sorted(kept, key=lambda entry: entry.key)))

    def _wait_a_lease(self, known: dict[str, Intent]) -> None:
        """Those who are at it show that by then."""
        held = [intent for intent in known.values() if _is_sending(intent) and not self._watch.is_over(intent)]
        if held:
            self._ledger.time.sleep(max(intent.lease_seconds for intent in held))

    def _why_not(self, upload: PendingUpload, known: Intent | None) -> str | None:
        """Abort it, or tell why it is left alone."""
        if known is None:
            return "the ledger does not know this object: somebody else's"
        if _is_sending(known):
            if not self._watch.is_over(known):
                return f"{known.owner} is at it"
            if known.upload == upload.id:
                try:
                    self._ledger.move(known, next_of(known, self._ledger.time, upload=None, owner=None))
                except Overtaken:
                    return "somebody has just taken it up"
        with contextlib.suppress(NoSuchUpload):
            self._patience.run(lambda: self._objects.abort(upload.key, upload.id))
        return None


def _is_sending(intent: Intent) -> bool:
    return intent.state is State.SENDING
