"""Long rows of cases: on several cores, and with little time spent on the rubbish that they leave."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any, Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

CASES_BETWEEN_CLEARINGS: Final = 5
_inherited: list[Any] = []
"""By the processes that are forked: cases are not sent to them, and not made by each of them again."""


def seldom_cleared(cases: Iterable[T]) -> Iterator[T]:
    """The same, one after another. A case leaves cycles by the thousand; looking for them all the time, among all that
    the libraries hold, took a quarter of a simulated life.
    """
    gc.freeze()
    gc.disable()
    try:
        for number, case in enumerate(cases, 1):
            yield case
            if number % CASES_BETWEEN_CLEARINGS == 0:
                gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()


def on_cores(
    cases: Sequence[T], play: Callable[[Sequence[T]], R], *, size: int, jobs: int
) -> Iterator[tuple[range, R]]:
    """What they came to, in order: which of them, and the result of `play` for these, at most `size` at a time."""
    _inherited[:] = cases
    parts = [range(start, min(start + size, len(cases))) for start in range(0, len(cases), size)]
    with ProcessPoolExecutor(jobs, get_context("fork")) as pool:
        yield from zip(parts, pool.map(partial(_play_part, play=play), parts), strict=True)


def _play_part(part: range, *, play: Callable[[Sequence[Any]], R]) -> R:
    return play(_inherited[part.start : part.stop])
