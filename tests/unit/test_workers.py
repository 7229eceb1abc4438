from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator

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
