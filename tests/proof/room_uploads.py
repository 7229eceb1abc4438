"""Uploads: one version a key, whole and with the file's content; who is told "uploaded" is told so once.

The ledger is a table in memory, the bucket one that keeps every version; faults meet requests to both.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from reliable_write import UploadOnce, UploadReport, limits
from reliable_write.clock import Deadline
from reliable_write.dynamodb import CallName
from reliable_write.uploads import once
from reliable_write.uploads.objects import SHA256_METADATA
from tests.proof.history import check
from tests.proof.memory_bucket import MemoryBucket, MemoryS3
from tests.proof.room_world import READS_OF_S3, MortalWire, RoomCase, RoomPlan, Scenario, Writer
from tests.proof.wire import Died, Wire
from tests.simulation.memory import Request
from tests.unit.fakes import InlineWorkers

LEDGER, URL, KEY = "uploads", "s3://bucket/p", "p/file"
ADDRESS = f"s3://bucket/{KEY}"
PART_BYTES = 8
"""Far below what S3 takes, so that thousands of cases take no hours; the sizes themselves are tried on an engine."""
SMALL, LARGE, OTHER = b"small", bytes(range(2 * PART_BYTES + 3)), b"other"
CHANGED = LARGE[::-1]
LOOK_SECONDS = 5.0
"""Fewer looks at what others are at: each of them is a request, and they are all alike."""
PART_SECONDS = 4.0
"""So long takes a part: claims are renewed meanwhile."""


@functools.cache
def folder_of(data: bytes) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="proof-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "file").write_bytes(data)
    return folder


class DyingWire(MortalWire):
    """Of a process that is killed before it sends its n-th request of this kind."""

    def __init__(self, around: Any, call: str, number: int) -> None:
        super().__init__(around)
        self._call, self._left = call, number

    def send(self, call: CallName, request: Request, deadline: Deadline) -> dict[str, Any]:
        self._left -= call == self._call
        self.dead = self.dead or self._left == 0
        return super().send(call, request, deadline)


class UploadCase(RoomCase):
    """One file, those who upload it, and the bucket."""

    room = "uploads"
    tables_made: ClassVar = {LEDGER: ("object",)}
    stall_seconds = 3 * limits.UPLOAD_LEASE_SECONDS

    def __init__(self, plan: RoomPlan) -> None:
        self.data = SMALL
        self.foreign: bytes | None = None
        """What somebody else has put there before."""
        self.told: Counter[str] = Counter()
        self.workers: list[InlineWorkers] = []
        super().__init__(plan)
        self.bucket = MemoryBucket(self.time)

    def run(self) -> None:
        with (
            mock.patch.object(limits, "UPLOAD_PART_BYTES_MIN", PART_BYTES),
            mock.patch.object(limits, "UPLOAD_LOOK_SECONDS", LOOK_SECONDS),
            mock.patch.object(once, "ThreadWorkers", self._made_workers),
        ):
            super().run()

    def _made_workers(self, _threads: int) -> InlineWorkers:
        self.workers.append(InlineWorkers())
        return self.workers[-1]

    # --- both stores --------------------------------------------------------------------------------------------

    def apply(self, call: Any, request: Request) -> dict[str, Any]:
        if not hasattr(MemoryBucket, f"_{call}"):
            before = self.item(LEDGER, ADDRESS)
            answer = super().apply(call, request)
            self.check_ledger(before, self.item(LEDGER, ADDRESS))
            return answer
        answer = self.bucket.apply(call, request)
        if call not in READS_OF_S3:
            self.effective.append(request)
        check(self.bucket.versions()[KEY] <= 1, "a second version of the object")
        return answer

    @staticmethod
    def check_ledger(before: dict[str, Any], after: dict[str, Any]) -> None:
        """What is done stays so; of two who act on one sight of it one is refused."""
        if before == after or not before:
            return
        check(before["state"] != {"S": "done"}, "what was done is changed")
        if after.get("state") == {"S": "sending"}:
            check(int(after["version"]["N"]) == int(before["version"]["N"]) + 1, "a claim that was not as it was seen")

    def renew(self, call: str) -> None:
        """As the thread does that renews the claims of a run, while parts are sent."""
        if call == "upload_part":
            self.pass_seconds(PART_SECONDS)
            loop: Any = self.workers[-1].loops[-1]
            claims = loop.__self__
            for claim in claims._listed():
                claim.renew_if_due()

    # --- uploading ----------------------------------------------------------------------------------------------

    def uploads(self, writer: Writer, wire: Wire | None = None) -> UploadOnce:
        """Of one process: its requests to both stores go over one wire."""
        ours = wire is self.wire
        client = MemoryS3(wire or Wire(self), writer.time, self.renew if ours else lambda _call: None)
        return UploadOnce(writer, LEDGER, s3=client, parallel=1, part_bytes=PART_BYTES)

    def upload(self, uploads: UploadOnce, **more: Any) -> UploadReport:
        report = uploads.upload(folder_of(self.data), URL, **more)
        for result in report.results:
            self.told[result.ended.value] += 1
            if self.playing:
                self.outcomes["UNKNOWN" if result.ended == "failed" else result.ended.value] += 1
        self.check_report(report)
        return report

    def check_report(self, report: UploadReport) -> None:
        there = [one.data for one in self.bucket.stored[KEY]]
        if report.uploaded or report.already_there:
            check(there == [self.data], "told to be there, and is not")
            right = self.foreign is not None or self.noted() == hashlib.sha256(self.data).hexdigest()
            check(right, "another digest is noted than that of the content")
        if report.uploaded:
            check(self.foreign is None, "told to be uploaded, and is somebody else's")
        if report.different_content:
            check(there != [self.data], "told to be different, and is the same")
        check(self.told["uploaded"] <= 1, "told to be uploaded twice")

    def noted(self) -> str:
        """In the object's metadata: a ledger that was lost is made anew from that."""
        return self.bucket.stored[KEY][-1].metadata[SHA256_METADATA]

    def complete(self) -> None:
        """Another process finishes it, whoever has died."""
        playing, self.playing = self.playing, False
        report = self.upload(self.uploads(self.process()))
        different = self.foreign not in (None, self.data)
        done = report.different_content if different else (*report.uploaded, *report.already_there)
        check(len(done) == 1, f"nothing goes wrong, and it is {report.facts()}")
        self.playing = playing

    def clean(self) -> None:
        self.uploads(self.process()).clean(URL, older_than_seconds=0)

    def interfere(self, kind: str) -> None:
        """Somebody uploads the same; or cleans up; or the ledger is lost."""
        if kind == "put":
            self.complete()
        elif kind == "update":
            self.clean()
        else:
            self.tables.tables[LEDGER].items.clear()

    def go_on(self) -> None:
        self.complete()

    def heal(self) -> None:
        self.complete()

    def find_out(self) -> None:
        """Run it again."""
        report = self.upload(self.uploads(self.me, self.wire))
        different = self.foreign not in (None, self.data)
        check(bool(report.different_content) == different and not report.failed, "nothing goes wrong, and it failed")

    # --- judging ------------------------------------------------------------------------------------------------

    def judge(self) -> None:
        there = [one.data for one in self.bucket.stored[KEY]]
        check(there == [self.data if self.foreign is None else self.foreign], f"the bucket holds {there}")
        self.clean()
        self.pass_seconds(1.0)
        self.check_pending()
        if self.foreign in (None, self.data):
            item = self.item(LEDGER, ADDRESS)
            check(item.get("state") == {"S": "done"}, "it is there, and the ledger does not say so")

    def check_pending(self) -> None:
        """Of what the ledger knows nothing is left; it knows nothing of what was there with other content."""
        if self.foreign in (None, self.data):
            check(not self.bucket.pending, "multipart uploads are left")

    # --- scenarios ----------------------------------------------------------------------------------------------

    def play_upload(self) -> None:
        self.upload(self.uploads(self.me, self.wire))

    def play_twice(self) -> None:
        uploads = self.uploads(self.me, self.wire)
        self.upload(uploads)
        self.upload(uploads, verify=True)
        uploads.close()

    def play_clean(self) -> None:
        self.uploads(self.me, self.wire).clean(URL, older_than_seconds=0)

    # --- beginnings ---------------------------------------------------------------------------------------------

    def begin_large(self) -> None:
        self.data = LARGE

    def begin_dead(self) -> None:
        self.killed("put_object", 1)

    def begin_dead_in_parts(self) -> None:
        self.data = LARGE
        self.killed("upload_part", 3)

    def begin_changed(self) -> None:
        """The file is another one since."""
        self.begin_dead_in_parts()
        self.data = CHANGED

    def begin_dead_at_the_end(self) -> None:
        self.data = LARGE
        self.killed("complete_multipart_upload", 1)

    def begin_dead_unnoted(self) -> None:
        """Its multipart upload is not in the ledger yet."""
        self.data = LARGE
        self.killed("put_item", 2)

    def killed(self, call: str, number: int) -> None:
        wire = DyingWire(self, call, number)
        try:
            self.upload(self.uploads(self.process(wire), wire))
        except Died:
            return
        raise AssertionError(f"it made no {call} number {number}")

    def begin_there(self) -> None:
        self.data = LARGE
        self.complete()

    def begin_foreign(self) -> None:
        self.foreign = self.data
        self._put_foreign()

    def begin_different(self) -> None:
        self.foreign = OTHER
        self._put_foreign()

    def _put_foreign(self) -> None:
        request: Request = {"Key": KEY, "Body": self.foreign, "Metadata": {}}
        with mock.patch("tests.proof.memory_bucket._check_digest"):
            self.bucket.apply("put_object", request)


UploadCase.scenarios = (
    Scenario("one request", UploadCase.play_twice),
    Scenario("in parts", UploadCase.play_upload, UploadCase.begin_large),
    Scenario("one request, taken over", UploadCase.play_upload, UploadCase.begin_dead),
    Scenario("in parts, resumed", UploadCase.play_upload, UploadCase.begin_dead_in_parts),
    Scenario("in parts, changed since", UploadCase.play_upload, UploadCase.begin_changed),
    Scenario("in parts, to be completed", UploadCase.play_upload, UploadCase.begin_dead_at_the_end),
    Scenario("in parts, of an upload that nobody noted", UploadCase.play_upload, UploadCase.begin_dead_unnoted),
    Scenario("there, and verified", UploadCase.play_twice, UploadCase.begin_there),
    Scenario("somebody else's, the same", UploadCase.play_upload, UploadCase.begin_foreign),
    Scenario("somebody else's, different", UploadCase.play_upload, UploadCase.begin_different),
    Scenario("clean up", UploadCase.play_clean, UploadCase.begin_dead_in_parts),
)
