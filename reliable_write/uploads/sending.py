"""How one file gets there: claimed, sent under `If-None-Match`, noted as done. Killed anywhere, the next one goes on.

Of a large file: the multipart upload's id is in the ledger before the first part is sent. One that was begun and not
yet noted when its process was killed is found by its key, and aborted, by whoever takes the object over.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from reliable_write import limits
from reliable_write.clock import Deadline, TimeSource
from reliable_write.uploads.claims import Claim, ClaimLost, Claims
from reliable_write.uploads.files import Content, File, read_part
from reliable_write.uploads.ledger import By, Intent, Ledger, done_of
from reliable_write.uploads.objects import ObjectFound, Objects, PartFound
from reliable_write.uploads.report import Ended, FileResult
from reliable_write.uploads.s3 import NoSuchUpload, ObjectThere, S3Failed, Trouble

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Task:
    """One file that is to be sent."""

    file: File
    key: str
    address: str
    content: Content
    seen: Intent | None
    """What the ledger had of it: nothing, or a claim that is over."""

    def result(self, ended: Ended, told: str = "") -> FileResult:
        """How it ended."""
        return FileResult(self.file.name, ended, self.content.size, told)


class Patience:
    """The same request again while S3 may still take it; with full jitter, and no longer than it makes sense."""

    def __init__(
        self, time: TimeSource, stop: threading.Event, seconds: float = limits.UPLOAD_PATIENCE_SECONDS
    ) -> None:
        self._time = time
        self._stop = stop
        self._seconds = seconds

    def run(self, request: Callable[[], T]) -> T:
        """Its answer. Raises its last failure, and whatever else it raises at once."""
        return self.counting(request)[0]

    def counting(self, request: Callable[[], T]) -> tuple[T, int]:
        """The same, and how many tries it took."""
        deadline = Deadline.after(self._seconds, self._time)
        tries = 0
        while True:
            tries += 1
            try:
                return request(), tries
            except S3Failed as failure:
                pause = self._time.jitter(min(limits.UPLOAD_RETRY_CAP_SECONDS, limits.RETRY_BASE_SECONDS * 2.0**tries))
                if not failure.trouble.retryable or self._stop.is_set() or pause >= deadline.remaining_seconds():
                    raise
                self._time.sleep(pause)


@dataclass(slots=True, eq=False)
class InParts:
    """A large file under way: parts may be sent by several threads."""

    task: Task
    claim: Claim
    upload: str
    """Its id."""
    parts: dict[int, PartFound]
    """What S3 has, and is what it should be."""
    restarts: int = 0
    open: int = 0
    """Parts that are being sent, or wait for it."""
    failure: Exception | None = None
    """Of the first part that failed: the others are not to be sent."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def missing(self) -> list[int]:
        """Numbers of the parts to be sent."""
        return [number for number in range(1, len(self.task.content.parts) + 1) if number not in self.parts]


class Sender:
    """Sends files of one run. Safe for threads; raises `S3Failed`, `CallFailed`, `FileChanged`, `OSError`."""

    def __init__(self, objects: Objects, ledger: Ledger, claims: Claims, patience: Patience) -> None:
        self._objects = objects
        self._ledger = ledger
        self._claims = claims
        self._patience = patience

    def begin(self, task: Task) -> FileResult | InParts:
        """Claim it and send it, or begin to. Raises `Overtaken` and `ClaimLost` where somebody else is at it."""
        claim = self._claims.take(task.address, task.content.sha256, task.content.size, task.seen)
        try:
            began = self._begin(task, claim)
        except BaseException:
            self.leave(claim)
            raise
        if isinstance(began, FileResult):
            self._claims.drop(claim)
        return began

    def leave(self, claim: Claim) -> None:
        """Let others go on with it."""
        self._claims.drop(claim)
        claim.release()

    def _begin(self, task: Task, claim: Claim) -> FileResult | InParts:
        if task.content.whole and not _may_have_left_parts(task.seen):
            return self._put(task, claim)
        found = self._head(task)
        if not claim.fresh:
            resumed = claim.intent.upload if found is None else None
            self._abort_others(task.key, resumed)
        if found is not None:
            return self._met(task, claim, found, mine=False)
        return self._put(task, claim) if task.content.whole else self._open(task, claim, claim.intent.upload)

    # --- in one request -----------------------------------------------------------------------------------------

    def _put(self, task: Task, claim: Claim) -> FileResult:
        data = read_part(task.file, task.content, 1)
        attempt = claim.intent.attempt
        try:
            self._patience.run(lambda: self._objects.put(task.key, data, task.content.sha256, attempt))
        except ObjectThere:
            return self._met(task, claim, self._head(task))
        return self._finish(task, claim, By.SENT)

    # --- in parts -----------------------------------------------------------------------------------------------

    def _open(self, task: Task, claim: Claim, upload: str | None, restarts: int = 0) -> InParts:
        """Go on with the upload that is noted, if it is there; else begin one and note it."""
        if upload is not None:
            with contextlib.suppress(NoSuchUpload):
                return InParts(task, claim, upload, self._kept(task, upload), restarts)
        id_, tries = self._patience.counting(
            lambda: self._objects.begin(task.key, task.content.sha256, claim.intent.attempt)
        )
        try:
            claim.note(upload=id_)
        except BaseException:
            self._abort(task.key, id_)  # nobody would know of it
            raise
        if tries > 1:
            self._abort_others(task.key, id_)  # a try whose answer was lost may have begun one as well
        return InParts(task, claim, id_, {}, restarts)

    def _kept(self, task: Task, upload: str) -> dict[int, PartFound]:
        """The parts S3 has with the content that is to be sent. Those without a checksum are sent anew."""
        digests = task.content.parts
        found = self._patience.run(lambda: self._objects.parts(task.key, upload))
        return {
            number: part
            for number, part in found.items()
            if number <= len(digests)
            and (part.size, part.sha256) == (task.content.part_size(number), digests[number - 1])
        }

    def send_part(self, under_way: InParts, number: int) -> None:
        """One part. Raises `NoSuchUpload` where somebody has aborted the upload, `ClaimLost`."""
        if under_way.claim.lost:
            raise ClaimLost
        task = under_way.task
        data = read_part(task.file, task.content, number)
        digest = task.content.parts[number - 1]
        under_way.parts[number] = self._patience.run(
            lambda: self._objects.put_part(task.key, under_way.upload, number, data, digest)
        )

    def complete(self, under_way: InParts) -> FileResult:
        """Make it an object. Raises `NoSuchUpload` where the upload is gone and the object is not there."""
        task, claim, id_ = under_way.task, under_way.claim, under_way.upload
        try:
            self._patience.run(lambda: self._objects.complete(task.key, id_, under_way.parts))
        except ObjectThere:
            self._abort(task.key, id_)
            result = self._met(task, claim, self._head(task))
        except NoSuchUpload:
            # Completed by a try of ours whose answer was lost, or by another process; or aborted.
            found = self._head(task)
            if found is None:
                raise
            result = self._met(task, claim, found)
        else:
            result = self._finish(task, claim, By.SENT)
        self._claims.drop(claim)
        return result

    def begin_anew(self, under_way: InParts) -> FileResult | InParts:
        """After `NoSuchUpload`: it is there by now, or gets another upload, a few times. Raises `ClaimLost`."""
        found = self._head(under_way.task)
        if found is not None:
            result = self._met(under_way.task, under_way.claim, found)
            self._claims.drop(under_way.claim)
            return result
        if under_way.restarts >= limits.UPLOAD_RESTARTS_MAX:
            raise S3Failed(Trouble.REFUSED, "upload_part", "NoSuchUpload, again and again")
        return self._open(under_way.task, under_way.claim, None, under_way.restarts + 1)

    # --- what is there ------------------------------------------------------------------------------------------

    def verify(self, task: Task) -> FileResult:
        """Whether what the ledger calls done is there, with this content."""
        found = self._head(task)
        if found is None:
            return task.result(
                Ended.FAILED,
                "it was sent, and is not there any more: somebody has removed it. To send it again remove its item "
                "from the ledger first: docs/uploads.md.",
            )
        if self._sha256_of(task, found) != task.content.sha256:
            return task.result(
                Ended.DIFFERENT, "the object has other content than the ledger says; it is left as it is"
            )
        return task.result(Ended.ALREADY_THERE)

    def _met(self, task: Task, claim: Claim, found: ObjectFound | None, *, mine: bool | None = None) -> FileResult:
        """The object is there: with our content it is done, whoever sent it; with other content it is left alone."""
        sha256 = None if found is None else self._sha256_of(task, found)
        if found is None or sha256 is None:
            raise S3Failed(Trouble.CONFLICT, "put_object", "it was there and is gone")
        if (sha256, found.size) != (task.content.sha256, task.content.size):
            if claim.intent.upload is not None:
                self._abort(task.key, claim.intent.upload)
            claim.give_up()
            return task.result(
                Ended.DIFFERENT, "there is an object with this key and other content; it is left as it is"
            )
        if mine is None:
            mine = found.attempt == claim.intent.attempt
        return self._finish(task, claim, By.SENT if mine else By.FOUND)

    def _sha256_of(self, task: Task, found: ObjectFound) -> str | None:
        if found.sha256 is not None or found.size != task.content.size:
            return found.sha256 or ""
        return self._patience.run(lambda: self._objects.digest(task.key, found.etag))

    def _finish(self, task: Task, claim: Claim, by: By) -> FileResult:
        """Note it. Two may find out at once, or complete one multipart upload both: one of them says "uploaded"."""
        known = self._ledger.finish(done_of(claim.intent, by, self._ledger.time))
        if known is not None and known.sha256 != task.content.sha256:
            return task.result(Ended.DIFFERENT, "the ledger has other content for it; the object is left as it is")
        mine = by is By.SENT and (known is None or known.by is By.FOUND)
        return task.result(Ended.UPLOADED if mine else Ended.ALREADY_THERE)

    def _head(self, task: Task) -> ObjectFound | None:
        return self._patience.run(lambda: self._objects.head(task.key))

    # --- what was left behind -----------------------------------------------------------------------------------

    def _abort_others(self, key: str, kept: str | None) -> None:
        """All multipart uploads for this key but one: they were begun by those whose claim we took."""
        for upload in self._patience.run(lambda: list(self._objects.pending(key))):
            if upload.key == key and upload.id != kept:
                self._abort(key, upload.id)

    def _abort(self, key: str, upload: str) -> None:
        with contextlib.suppress(NoSuchUpload):
            self._patience.run(lambda: self._objects.abort(key, upload))


def _may_have_left_parts(seen: Intent | None) -> bool:
    """Whether whoever had it before us may have begun a multipart upload."""
    return seen is not None and (seen.upload is not None or seen.size > limits.UPLOAD_PART_BYTES_MIN)
