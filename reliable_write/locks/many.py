"""Several locks at once, all or none.

They are taken in one fixed order, the same in all processes, so that no two can each hold what the other waits for.
That holds for those who take all their locks here, at once: a process that waits here while it holds other locks may
wait for ever, or until its timeout.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from reliable_write.clock import Deadline
from reliable_write.locks.lease import Lease
from reliable_write.locks.lock import Lock
from reliable_write.scope import ReliableWriteScope


class Leases(Sequence[Lease]):
    """The leases of `acquire_all`, in the order in which the locks were given. Leaving its block releases them."""

    def __init__(self, taken: Sequence[Lease], given: Sequence[Lease]) -> None:
        """For `acquire_all`: as they were taken, and as they were given."""
        self._taken = tuple(taken)
        self._given = tuple(given)

    def __len__(self) -> int:
        return len(self._given)

    def __getitem__(self, index: Any) -> Any:
        return self._given[index]

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._given)

    def check(self) -> None:
        """Raise `LockLostError` if one of them is not held any more, as far as this process knows."""
        for lease in self._given:
            lease.check()

    def guard(self, scope: ReliableWriteScope) -> None:
        """Let a scope commit only if all of them are held then. One sub-operation each. See `Lease.guard`."""
        for lease in self._given:
            lease.guard(scope)

    def release(self) -> bool:
        """Let all go, the last taken first; whether nobody else had any of them until then.

        Where one cannot be released the others are all the same, and then its `CommitFailedError` is raised.
        """
        kept: list[bool] = []
        with contextlib.ExitStack() as stack:
            for lease in self._taken:
                stack.callback(_release, lease, kept)
        return all(kept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """As `Lease`, for each: the last taken first."""
        stack = contextlib.ExitStack()
        for lease in self._taken:
            stack.push(lease)
        stack.__exit__(kind, error, traceback)


def acquire_all(locks: Sequence[Lock], *, timeout: float | None = None) -> Leases:
    """Take all of these locks, or none.

        with acquire_all([Lock(writer, "locks", "a"), Lock(writer, "locks", "b")], timeout=30) as leases:
            ...

    `timeout` in seconds is for all together. Raises as `Lock.acquire`; then none is held, those that were had are
    released. `ValueError` where two of them are for one item, or none is given.
    """
    ordered = sorted(locks, key=_place)
    if not ordered:
        raise ValueError("acquire_all takes at least one lock.")
    for first, second in itertools.pairwise(ordered):
        if _place(first) == _place(second):
            raise ValueError(
                f"Two of the locks are for one item of table {first.table!r}, and would wait for each other."
            )
    deadline = None if timeout is None else Deadline.after(timeout, ordered[0].time)
    taken: dict[int, Lease] = {}
    with contextlib.ExitStack() as undo:
        for lock in ordered:
            left = None if deadline is None else max(0.0, deadline.remaining_seconds())
            taken[id(lock)] = lock.acquire(timeout=left)
            undo.push(taken[id(lock)])
        undo.pop_all()
    return Leases(list(taken.values()), [taken[id(lock)] for lock in locks])


def _release(lease: Lease, kept: list[bool]) -> None:
    kept.append(lease.release())


def _place(lock: Lock) -> tuple[str, ...]:
    """The order in which all processes take locks."""
    return lock.table, *(f"{type(part).__name__} {part!r}" for part in lock.key)
