from __future__ import annotations

import threading
from collections.abc import Iterable

import pytest
import structlog

from reliable_write import limits
from reliable_write.clock import Deadline, Stamp, SystemTime
from reliable_write.dynamodb import CallFailed
from reliable_write.events import Events
from reliable_write.finished import FinishedEntries
from reliable_write.policy import FailureKind
from reliable_write.workers import ThreadWorkers, Workers
from tests.unit.fakes import InlineWorkers, ManualTime


class Journal:
    """Counts what it is asked to delete."""

    def __init__(self, failure: CallFailed | None = None) -> None:
        self.batches: list[list[tuple[int, Stamp]]] = []
        self.failure = failure
        self.changed = threading.Condition()

    def finish(self, entries: Iterable[tuple[int, Stamp]], deadline: Deadline) -> None:
        assert not deadline.passed()
        with self.changed:
            self.batches.append(list(entries))
            self.changed.notify_all()
        if self.failure:
            raise self.failure

    def entries(self) -> list[tuple[int, Stamp]]:
        with self.changed:
            return [entry for batch in self.batches for entry in batch]

    def wait_for(self, count: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: sum(map(len, self.batches)) >= count, timeout=20)


def made(
    journal: Journal, *, inline: bool = False, threads: bool = False, workers: Workers | None = None
) -> FinishedEntries:
    workers = workers or (ThreadWorkers(2) if threads else InlineWorkers())
    time = SystemTime() if threads else ManualTime()
    return FinishedEntries(
        journal,  # type: ignore[arg-type]  # of the journal only `finish` is used
        workers,
        time,
        Events(structlog.get_logger()),
        call_seconds=8.0,
        inline=inline,
    )


def entry(number: int) -> tuple[int, Stamp]:
    return number % 64, Stamp(f"{number:036x}")


def test_inline_deletes_before_add_returns() -> None:
    journal = Journal()
    finished = made(journal, inline=True)
    finished.add(*entry(1))
    assert journal.batches == [[entry(1)]]


def test_adding_sends_nothing_in_the_callers_thread() -> None:
    journal = Journal()
    finished = made(journal)
    for number in range(100):
        finished.add(*entry(number))
    assert journal.batches == []
    finished.flush()
    assert [len(batch) for batch in journal.batches] == [25, 25, 25, 25]
    assert journal.entries() == [entry(number) for number in range(100)]


def test_close_flushes_what_waits_and_later_ones_go_at_once() -> None:
    journal = Journal()
    finished = made(journal)
    finished.add(*entry(1))
    finished.close()
    assert journal.entries() == [entry(1)]
    finished.add(*entry(2))
    assert journal.entries() == [entry(1), entry(2)]


def test_under_load_less_than_a_tenth_of_a_call_is_made_for_each_entry() -> None:
    journal, threads, each = Journal(), 8, 250
    finished = made(journal, threads=True)

    def load(start: int) -> None:
        for number in range(each):
            finished.add(*entry(start + number))

    adders = [threading.Thread(target=load, args=(index * each,)) for index in range(threads)]
    for adder in adders:
        adder.start()
    for adder in adders:
        adder.join()
    finished.close()
    assert journal.wait_for(threads * each)
    assert sorted(journal.entries()) == sorted(entry(number) for number in range(threads * each))
    assert len(journal.batches) < threads * each / 10


def test_a_full_batch_does_not_wait() -> None:
    journal = Journal()
    finished = made(journal, threads=True)
    for number in range(limits.BATCH_WRITE_REQUESTS_MAX):
        finished.add(*entry(number))
    assert journal.wait_for(25)
    assert len(journal.batches) == 1
    finished.close()


def test_a_few_entries_do_not_wait_for_a_full_batch() -> None:
    """Also after the first ones are gone: entries that stay are taken for stragglers by every monitor."""
    journal = Journal()
    finished = made(journal, threads=True)
    finished.add(*entry(1))
    assert journal.wait_for(1)
    finished.add(*entry(2))
    assert journal.wait_for(2), "an entry waits for ever while no 24 others come"
    finished.close()


@pytest.mark.parametrize("inline", [True, False])
def test_a_failure_is_told_and_nothing_raised(inline: bool) -> None:
    """A monitor deletes them: it finds everything applied."""
    journal = Journal(CallFailed(FailureKind.THROTTLED, "ThrottlingException", "system"))
    with structlog.testing.capture_logs() as told:
        finished = made(journal, inline=inline)
        finished.add(*entry(1))
        finished.close()
    assert [(line["event"], line["log_level"], line["entries"]) for line in told] == [
        ("finished_entries_not_deleted", "warning", 1)
    ]
    assert journal.entries() == [entry(1)], "it is tried once"


def test_the_loop_goes_on_after_a_failure() -> None:
    journal = Journal(CallFailed(FailureKind.TIMEOUT, "ReadTimeoutError", "system"))
    with structlog.testing.capture_logs():
        finished = made(journal, threads=True)
        for number in range(25):
            finished.add(*entry(number))
        assert journal.wait_for(25)
        for number in range(25, 50):
            finished.add(*entry(number))
        assert journal.wait_for(50)
        finished.close()


def test_where_no_thread_can_be_had_entries_are_deleted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The write is applied: a machine out of threads must not turn its success into an exception."""

    def no_thread(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    journal = Journal()
    finished = made(journal, threads=True)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        finished.add(*entry(1))
        assert journal.batches == [[entry(1)]]
    finished.add(*entry(2))
    assert journal.batches == [[entry(1)]], "there is a loop now"
    finished.close()
    assert journal.entries() == [entry(1), entry(2)]


def test_a_loop_that_died_is_started_again() -> None:
    class BrokenJournal(Journal):
        def finish(self, entries: Iterable[tuple[int, Stamp]], deadline: Deadline) -> None:
            super().finish(entries, deadline)
            if len(self.batches) == 1:
                raise ZeroDivisionError("a defect of ours")

    journal, workers = BrokenJournal(), InlineWorkers()
    finished = made(journal, workers=workers)
    for number in range(limits.BATCH_WRITE_REQUESTS_MAX):
        finished.add(*entry(number))
    (loop,) = workers.loops
    with pytest.raises(ZeroDivisionError):
        loop()
    finished.add(*entry(25))
    assert len(workers.loops) == 2
    finished.add(*entry(26))
    assert len(workers.loops) == 2, "one is enough"
    finished.close()
    assert journal.entries() == [entry(number) for number in range(27)]
