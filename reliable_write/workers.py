"""The concurrency seam: what runs in parallel goes through here, so that a simulation can schedule it instead.

Nothing else in the library starts a thread, except the one that deletes finished entries (`journal.FinishedEntries`),
which is started through `Workers.background`.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Workers(Protocol):
    """Runs tasks that share nothing but the store."""

    def run_all(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """Run all tasks, at most so many at once, and return their results in the order given.

        Every task is run to its end even when another one raises; then the first error, in that order, is raised.
        """
        ...

    def background(self, name: str, loop: Callable[[], None]) -> None:
        """Run `loop` beside the caller until it returns; it must never keep the process alive."""
        ...

    def close(self) -> None:
        """Wait for what runs, then refuse more."""
        ...


class _Once(Generic[T]):
    """A task that the first caller runs.

    A pool that cannot start a thread has queued the task all the same. Run here and, a while later, once more by a
    thread that got free, a put could undo a delete that was acknowledged in between.
    """

    def __init__(self, task: Callable[[], T]) -> None:
        self._context = contextvars.copy_context()
        self._task = task
        self._taken = threading.Lock()
        self.done: Future[T] = Future()

    def __call__(self) -> None:
        if not self._taken.acquire(blocking=False):
            return
        try:
            self.done.set_result(self._context.run(self._task))
        except BaseException as error:  # noqa: BLE001 - carried to the caller, as by a thread
            self.done.set_exception(error)


class ThreadWorkers:
    """Real threads, started when first needed."""

    def __init__(self, threads_max: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers=threads_max, thread_name_prefix="reliable-write")

    def run_all(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """See `Workers.run_all`. The caller's context variables are visible to the tasks.

        The caller does itself what no thread has begun, last first. Else a few writes that wait for a dead Region would
        hold all threads, and every other write with them.
        """
        if len(tasks) == 1:
            return [tasks[0]()]
        begun = [self._submit(task) for task in tasks]
        for once in reversed(begun):
            once()
        futures = [once.done for once in begun]
        errors = [future.exception() for future in futures]
        for error in errors:
            if error is not None:
                raise error
        return [future.result() for future in futures]

    def _submit(self, task: Callable[[], T]) -> _Once[T]:
        """On a thread of the pool; in the caller where the pool takes no more, or cannot start a thread.

        It takes no more after `close()`, and in threads that outlive the main one (the interpreter closes all pools
        first). A write that has passed its commit point there must still be propagated.
        """
        once = _Once(task)
        try:
            self._pool.submit(once)
        except RuntimeError:
            once()
        return once

    def background(self, name: str, loop: Callable[[], None]) -> None:
        """See `Workers.background`: a daemon thread."""
        threading.Thread(target=loop, name=name, daemon=True).start()

    def close(self) -> None:
        """See `Workers.close`."""
        self._pool.shutdown(wait=True)
