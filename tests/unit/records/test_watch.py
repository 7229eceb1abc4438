"""What a process has seen of a shared record: threads share looks, and none brings back what was before."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from reliable_write import ReadFailedError
from reliable_write.records.watch import Serial, Sight, Watch

THREADS = 12
SECONDS_MAX = 30.0


class Table:
    """One item, and how often it is looked at. A look may be held up."""

    def __init__(self) -> None:
        self.version = 1
        self.serials = 0
        self.reads = 0
        self.failure: ReadFailedError | KeyboardInterrupt | None = None
        self.before: Callable[[], None] = lambda: None
        self.watch: Watch[str] = Watch(self.serial, self.read)

    @property
    def looks(self) -> int:
        return self.serials + self.reads

    def serial(self) -> Serial:
        self.serials += 1
        return self._answer()

    def read(self) -> Sight[str]:
        self.reads += 1
        return self.sight(self._answer()[0])

    def _answer(self) -> Serial:
        self.before()
        if self.failure is not None:
            raise copy.copy(self.failure)
        return (self.version, f"stamp {self.version}")

    @staticmethod
    def sight(version: int) -> Sight[str]:
        return Sight((version, f"stamp {version}"), f"record {version}")


class Crowd:
    """A lock that tells when so many stand before it."""

    def __init__(self, lock: Any, size: int) -> None:
        self._lock, self._waiting, self._size = lock, 0, size
        self._count = threading.Lock()
        self.is_there = threading.Event()

    def __enter__(self) -> None:
        with self._count:
            self._waiting += 1
            if self._waiting == self._size:
                self.is_there.set()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@contextmanager
def crowded(table: Table) -> Iterator[tuple[Future[Sight[str]], list[Future[Sight[str]]], threading.Event]]:
    """While one look is held up, so many others ask for one; what they get."""
    crowd = Crowd(table.watch._process.looking, THREADS)
    table.watch._process.looking = crowd  # type: ignore[assignment]
    under_way, go_on = threading.Event(), threading.Event()

    def hold_up() -> None:
        table.before = lambda: None
        under_way.set()
        assert go_on.wait(SECONDS_MAX)

    table.before = hold_up
    with ThreadPoolExecutor(THREADS) as pool:
        first = pool.submit(table.watch.look)
        assert under_way.wait(SECONDS_MAX)
        others = [pool.submit(table.watch.look) for _ in range(THREADS - 1)]
        assert crowd.is_there.wait(SECONDS_MAX)
        yield first, others, go_on
        go_on.set()


def test_all_that_wait_for_a_look_are_served_by_the_next_one() -> None:
    table = Table()
    table.watch.look()
    table.reads = 0
    with crowded(table) as (first, others, go_on):
        go_on.set()
        assert {future.result(SECONDS_MAX).record for future in (first, *others)} == {"record 1"}
    assert table.looks == 2


def test_a_look_under_way_serves_nobody_who_asked_after_it_began() -> None:
    """It may have been answered before they asked."""
    table = Table()
    with crowded(table) as (first, others, go_on):
        table.watch._read = lambda: table.sight(2)  # those who wait ask after this was written
        table.watch._read_serial = lambda: (2, "stamp 2")
        go_on.set()
        assert first.result(SECONDS_MAX).record == "record 1"
        assert {future.result(SECONDS_MAX).record for future in others} == {"record 2"}


def test_a_failure_is_shared_too_and_the_next_look_is_made() -> None:
    """Or the last of so many would wait for as many time-outs."""
    table = Table()
    with crowded(table) as (first, others, go_on):
        table.failure = ReadFailedError("No answer.", table="accounts", retryable=True)
        go_on.set()
        errors = [future.exception(SECONDS_MAX) for future in (first, *others)]
    assert {type(error) for error in errors} == {ReadFailedError}
    assert len({id(error) for error in errors}) == len(errors), "each raises its own"
    assert {(vars(error)["table"], vars(error)["retryable"]) for error in errors} == {("accounts", True)}
    assert table.reads == 2
    table.failure = None
    assert table.watch.look().record == "record 1"


def test_an_interrupted_look_serves_nobody_and_fails_nobody_else() -> None:
    table = Table()
    with crowded(table) as (first, others, go_on):
        read = table.watch._read

        def interrupted_once() -> Sight[str]:
            table.watch._read = read
            raise KeyboardInterrupt

        table.watch._read = interrupted_once  # the second look: the first one is under way
        table.watch._read_serial = lambda: (0, "moved")
        go_on.set()
        assert first.result(SECONDS_MAX).record == "record 1"
        errors = [future.exception(SECONDS_MAX) for future in others]
    assert sorted(map(repr, filter(None, errors))) == ["KeyboardInterrupt()"]
    assert {future.result().record for future in others if not future.exception()} == {"record 1"}


def test_only_what_has_moved_is_read() -> None:
    table = Table()
    assert table.watch.look().record == "record 1"
    assert table.watch.look().record == "record 1"
    assert (table.serials, table.reads) == (1, 1)
    table.version = 2
    assert table.watch.look().record == "record 2"
    assert (table.serials, table.reads) == (2, 2)
    table.watch.look(whole=True)
    assert (table.serials, table.reads) == (2, 3)


def test_what_a_write_has_shown_is_learnt() -> None:
    table = Table()
    table.watch.look()
    table.watch.learn(table.sight(2), table.watch.begun)
    assert table.watch.seen.record == "record 2"


def test_a_write_does_not_bring_back_what_a_later_look_has_seen_gone() -> None:
    table = Table()
    table.watch.look()
    begun = table.watch.begun
    table.version = 3  # somebody wrote after our write, and it was seen before our write was answered
    table.watch.look()
    table.watch.learn(table.sight(2), begun)
    assert table.watch.seen.record == "record 3"


def test_a_look_from_before_a_write_does_not_hide_it() -> None:
    table = Table()
    table.watch.look()
    begun = table.watch.begun
    table.watch.look()  # answered before our write took effect
    table.watch.learn(table.sight(2), begun)
    assert table.watch.seen.record == "record 2"


@pytest.mark.parametrize("seen", [Sight(), Sight((None, "stamp"), "record without a version")])
def test_what_has_no_version_is_learnt_as_it_comes(seen: Sight[str]) -> None:
    table = Table()
    table.watch.look()
    begun = table.watch.begun
    table.watch.look()
    table.watch.learn(seen, begun)
    assert table.watch.seen == seen
    table.watch.learn(table.sight(2), begun)
    assert table.watch.seen.record == "record 2"
