from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from typing import NoReturn

import pytest

from reliable_write.workers import ThreadWorkers

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


@pytest.fixture
def workers() -> Iterator[ThreadWorkers]:
    made = ThreadWorkers(4)
    yield made
    made.close()


def test_results_come_in_the_order_of_the_tasks(workers: ThreadWorkers) -> None:
    second_first = threading.Event()

    def first() -> int:
        assert second_first.wait(10)
        return 1

    def second() -> int:
        second_first.set()
        return 2

    assert workers.run_all([first, second]) == [1, 2]


def test_tasks_run_at_the_same_time(workers: ThreadWorkers) -> None:
    together = threading.Barrier(4)
    workers.run_all([lambda: together.wait(10)] * 4)


def test_one_failure_does_not_keep_the_others_from_their_end(workers: ThreadWorkers) -> None:
    ended: list[int] = []

    def fail(number: int) -> None:
        raise ValueError(number)

    with pytest.raises(ValueError, match="1"):
        workers.run_all([lambda: ended.append(0), lambda: fail(1), lambda: fail(2), lambda: ended.append(3)])
    assert sorted(ended) == [0, 3]


def test_the_callers_context_is_seen_and_kept_apart(workers: ThreadWorkers) -> None:
    token = who.set("caller")

    def look() -> str:
        seen = who.get()
        who.set("task")
        return seen

    assert workers.run_all([look] * 8) == ["caller"] * 8
    assert who.get() == "caller"
    who.reset(token)


def test_no_tasks_give_no_results(workers: ThreadWorkers) -> None:
    assert workers.run_all([]) == []


def test_more_tasks_than_threads_wait_their_turn(workers: ThreadWorkers) -> None:
    assert workers.run_all([lambda number=number: number for number in range(100)]) == list(range(100))  # type: ignore[misc]


def test_a_background_loop_does_not_keep_the_process_alive(workers: ThreadWorkers) -> None:
    seen: list[threading.Thread] = []
    done = threading.Event()

    def loop() -> None:
        seen.append(threading.current_thread())
        done.set()

    workers.background("a-name", loop)
    assert done.wait(10)
    assert seen[0].daemon
    assert seen[0].name == "a-name"


def no_thread(_thread: threading.Thread) -> NoReturn:
    raise RuntimeError("can't start new thread")


def test_a_closed_pool_runs_its_tasks_in_the_caller(workers: ThreadWorkers) -> None:
    """A write that is past its commit point must still be propagated."""
    workers.close()
    ended: list[threading.Thread] = []
    workers.run_all([lambda: ended.append(threading.current_thread())] * 3)
    assert ended == [threading.current_thread()] * 3


def test_tasks_run_in_the_caller_keep_the_rules(workers: ThreadWorkers) -> None:
    """All to their end, then the first error; each in a context of its own."""
    workers.close()
    token = who.set("caller")
    ended: list[str] = []

    def look() -> None:
        ended.append(who.get())
        who.set("task")

    def fail(number: int) -> None:
        look()
        raise ValueError(number)

    with pytest.raises(ValueError, match="1"):
        workers.run_all([look, lambda: fail(1), lambda: fail(2), look])
    assert ended == ["caller"] * 4
    assert who.get() == "caller"
    who.reset(token)


def test_where_no_thread_can_be_started_tasks_run_in_the_caller(
    workers: ThreadWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert workers.run_all([lambda number=number: number for number in range(3)]) == [0, 1, 2]  # type: ignore[misc]


def test_a_task_that_found_no_thread_is_not_run_again_by_one_that_gets_free(
    workers: ThreadWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool queues a task before it tries to start a thread for it."""
    ended: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        workers.run_all([lambda number=number: ended.append(number) for number in range(3)])  # type: ignore[misc]
    workers.run_all([lambda: None] * 8)
    workers.close()
    assert ended == [0, 1, 2]
