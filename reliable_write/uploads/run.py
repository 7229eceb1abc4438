"""One upload, from the list of files to the report: what is read, asked of the ledger, sent, waited for and told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from reliable_write import limits
from reliable_write.dynamodb import CallFailed
from reliable_write.uploads.claims import ClaimLost, Watch
from reliable_write.uploads.files import File, FileChanged, Found, part_bytes_for, read_content
from reliable_write.uploads.ledger import Intent, Ledger, Overtaken, State
from reliable_write.uploads.line import Line
from reliable_write.uploads.report import INTERRUPTED, Audience, Ended, FileResult, UploadReport
from reliable_write.uploads.s3 import NoSuchUpload, S3Failed
from reliable_write.uploads.sending import InParts, Sender, Task
from reliable_write.uploads.target import NameRefused, Target
from reliable_write.workers import Workers

PAGE_FILES: Final = limits.BATCH_GET_KEYS_MAX
"""One question to the ledger for so many files,"""
PAGE_BYTES: Final = 64 * limits.MB
"""or for as many as hold so much: what is to be sent should not wait until much else is read."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """How an upload is to be done."""

    parallel: int
    part_bytes: int
    dry_run: bool
    verify: bool


class Run:
    """An upload that is under way. Its jobs are done by several threads."""

    def __init__(
        self,
        target: Target,
        wishes: Wishes,
        sender: Sender,
        ledger: Ledger,
        *,
        audience: Audience,
        stop: threading.Event,
    ) -> None:
        self._target = target
        self._wishes = wishes
        self._sender = sender
        self._ledger = ledger
        self._stop = stop
        self._watch = Watch(ledger.time)
        self._told = _Told(audience)
        self._lock = threading.Lock()
        self._waiting: dict[str, Task] = {}
        self._stopped_because = ""
        self._line = Line((), self._look_again, stop)

    def go(self, found: Found, workers: Workers) -> UploadReport:
        """All of it. What is not S3's, DynamoDB's or a file's fault is a defect, ends the run and passes unchanged."""
        begun_seconds = self._ledger.time.elapsed_seconds()
        self._told.begin(found)
        files = self._with_keys(found.files)
        self._line = Line(self._pages(files), self._look_again, self._stop)
        workers.run_all([self._loop] * self._wishes.parallel)
        results = self._told.results
        not_tried = tuple(file.name for file in found.files if file.name not in results)
        return UploadReport(
            target=self._target.url,
            results=tuple(results[file.name] for file in found.files if file.name in results),
            left_out=found.left_out,
            not_tried=not_tried,
            stopped=self._stopped_because or (INTERRUPTED if not_tried else ""),
            seconds=self._ledger.time.elapsed_seconds() - begun_seconds,
        )

    def _loop(self) -> None:
        try:
            self._line.work()
        except BaseException:
            self._end("a defect")
            raise

    def _end(self, because: str) -> None:
        """Nothing more is begun."""
        with self._lock:
            self._stopped_because = self._stopped_because or because
        self._stop.set()
        self._line.stopped()

    # --- what there is ------------------------------------------------------------------------------------------

    def _with_keys(self, files: Sequence[File]) -> list[tuple[File, str]]:
        """Those that can be kept. The others are refused by name before anything is sent."""
        kept = []
        for file in files:
            try:
                if part_bytes_for(file.size, self._wishes.part_bytes) > limits.UPLOAD_PART_BYTES_MAX:
                    raise NameRefused(f"it has {file.size} bytes, which is more than S3 takes in its parts.")
                kept.append((file, self._target.key(file.name)))
            except NameRefused as refused:
                self._told.ended(FileResult(file.name, Ended.FAILED, file.size, str(refused)), file.size)
        return kept

    def _pages(self, files: Sequence[tuple[File, str]]) -> Iterator[Callable[[], None]]:
        """From some page on, and round: processes that begin together should not meet at every file."""
        pages = list(_paged(files))
        first = int(self._ledger.time.jitter(len(pages)))
        return (partial(self._take_up, page) for page in [*pages[first:], *pages[:first]])

    def _take_up(self, page: Sequence[tuple[File, str]]) -> None:
        tasks = {}
        for file, key in page:
            task = self._read(file, key)
            if self._stop.is_set():
                return
            if task is not None:
                tasks[task.address] = task
        try:
            known = self._ledger.look(list(tasks), consistent=False)
        except CallFailed as failure:
            self._end(f"the ledger gave no answer: {failure}")
            return
        for address, task in tasks.items():
            self._judge(task, known.get(address))

    def _read(self, file: File, key: str) -> Task | None:
        """What is in it; None where it has ended, or all has."""
        try:
            content = read_content(file, self._wishes.part_bytes, self._stop.is_set)
        except (OSError, FileChanged) as error:
            self._told.ended(FileResult(file.name, Ended.FAILED, file.size, _of_file(error)), file.size)
            return None
        return None if content is None else Task(file, key, self._target.address(key), content, None)

    def _judge(self, task: Task, known: Intent | None) -> None:
        """What is to become of it, by what the ledger says."""
        if known is not None and known.state is State.DONE:
            self._judge_done(task, known)
        elif self._wishes.dry_run:
            self._ended(task, task.result(Ended.TO_UPLOAD))
        elif known is None or self._watch.is_over(known):
            self._line.add([partial(self._settle, self._send, replace(task, seen=known))])
        else:
            self._wait_for(task)

    def _judge_done(self, task: Task, known: Intent) -> None:
        if (known.sha256, known.size) != (task.content.sha256, task.content.size):
            told = "an object with other content was sent under this key; it is left as it is"
            self._ended(task, task.result(Ended.DIFFERENT, told))
        elif self._wishes.verify:
            self._line.add([partial(self._settle, self._verify, task)])
        else:
            self._ended(task, task.result(Ended.ALREADY_THERE))

    # --- what others have ---------------------------------------------------------------------------------------

    def _wait_for(self, task: Task) -> None:
        with self._lock:
            self._waiting[task.address] = task
        self._line.wait_for_others(waiting=True)

    def _look_again(self) -> None:
        self._ledger.time.sleep(self._ledger.time.jitter(limits.UPLOAD_LOOK_SECONDS))
        with self._lock:
            tasks, self._waiting = self._waiting, {}
        self._line.wait_for_others(waiting=False)
        try:
            known = self._ledger.look(list(tasks), consistent=True)
        except CallFailed as failure:
            self._end(f"the ledger gave no answer: {failure}")
            return
        for address, task in tasks.items():
            self._judge(task, known.get(address))

    # --- sending ------------------------------------------------------------------------------------------------

    def _send(self, task: Task) -> None:
        self._go_on(task, self._sender.begin(task))

    def _go_on(self, task: Task, began: FileResult | InParts) -> None:
        if isinstance(began, FileResult):
            self._ended(task, began)
        else:
            self._spread(began)

    def _verify(self, task: Task) -> None:
        self._ended(task, self._sender.verify(task))

    def _spread(self, under_way: InParts) -> None:
        """Its parts are jobs of their own, so that all threads send them."""
        missing = under_way.missing
        kept = sum(under_way.task.content.part_size(number) for number in under_way.parts)
        self._told.moved(under_way.task.file.name, kept)
        if not missing:
            self._end_parts(under_way, None)
            return
        under_way.open = len(missing)
        self._line.add([partial(self._send_part, under_way, number) for number in missing])

    def _send_part(self, under_way: InParts, number: int) -> None:
        """The last one to end, however, ends the file."""
        failure: Exception | None = None
        if under_way.failure is None:
            try:
                self._sender.send_part(under_way, number)
                self._told.moved(under_way.task.file.name, under_way.task.content.part_size(number))
            except Exception as error:  # noqa: BLE001 - raised again by whoever ends the file
                failure = error
        with under_way.lock:
            under_way.failure = under_way.failure or failure
            under_way.open -= 1
            last = under_way.open == 0
        if last:
            self._end_parts(under_way, under_way.failure)

    def _end_parts(self, under_way: InParts, failure: Exception | None) -> None:
        self._settle(partial(self._complete, under_way, failure), under_way.task)

    def _complete(self, under_way: InParts, failure: Exception | None, task: Task) -> None:
        try:
            went = self._completed(under_way, failure)
        except BaseException:
            self._sender.leave(under_way.claim)
            raise
        self._go_on(task, went)

    def _completed(self, under_way: InParts, failure: Exception | None) -> FileResult | InParts:
        try:
            if failure is not None:
                raise failure
            return self._sender.complete(under_way)
        except NoSuchUpload:
            self._told.begin_anew(under_way.task.file.name)
            return self._sender.begin_anew(under_way)

    def _settle(self, work: Callable[[Task], None], task: Task) -> None:
        """Do it, and if it fails know what that means: for this file, or for all."""
        try:
            work(task)
        except Overtaken as overtaken:
            self._judge(task, overtaken.found)
        except ClaimLost:
            self._told.begin_anew(task.file.name)
            self._wait_for(task)
        except (OSError, FileChanged) as error:
            self._ended(task, task.result(Ended.FAILED, _of_file(error)))
        except S3Failed as failure:
            self._ended(task, task.result(Ended.FAILED, str(failure)))
            if not failure.trouble.of_one_object:
                self._end(str(failure))
        except CallFailed as failure:
            self._ended(task, task.result(Ended.FAILED, f"the ledger gave no answer: {failure}"))
            self._end(f"the ledger gave no answer: {failure}")

    def _ended(self, task: Task, result: FileResult) -> None:
        self._told.ended(result, task.file.size)


def _paged(files: Sequence[tuple[File, str]]) -> Iterator[list[tuple[File, str]]]:
    """In pages that one thread reads before any of it is sent."""
    page: list[tuple[File, str]] = []
    size = 0
    for file, key in files:
        page.append((file, key))
        size += file.size
        if len(page) == PAGE_FILES or size >= PAGE_BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page


class _Told:
    """What was told to the audience, and what became of each file."""

    def __init__(self, audience: Audience) -> None:
        self._audience = audience
        self._lock = threading.Lock()
        self._moved: dict[str, int] = {}
        self.results: dict[str, FileResult] = {}

    def begin(self, found: Found) -> None:
        self._audience.begin(len(found.files), sum(file.size for file in found.files))

    def moved(self, name: str, size: int) -> None:
        with self._lock:
            self._moved[name] = self._moved.get(name, 0) + size
            self._audience.moved(size)

    def begin_anew(self, name: str) -> None:
        """What was sent of it is gone."""
        with self._lock:
            self._audience.moved(-self._moved.pop(name, 0))

    def ended(self, result: FileResult, planned: int) -> None:
        """With the rest of the bytes it was to have."""
        with self._lock:
            self._audience.moved(planned - self._moved.pop(result.name, 0))
            self.results[result.name] = result
            self._audience.ended(result)


def _of_file(error: OSError | FileChanged) -> str:
    """Without the path, which the name tells."""
    if isinstance(error, FileNotFoundError):
        return "it vanished before it was read"
    if isinstance(error, OSError):
        return f"it cannot be read: {error.strerror or type(error).__name__}"
    return f"{error}; it is sent as it is then by the next run"
