"""How far it has come: a bar where a person watches, a line now and then where a file does."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tests.acceptance.flights.run import Show

_BAR_SECONDS = 0.1
_LINE_SECONDS = 5.0


@contextlib.contextmanager
def progress(flights: int, *, quiet: bool) -> Iterator[Show]:
    """A function to call as often as one likes. It starts no thread: the caller forks."""
    console = Console(stderr=True)
    if quiet:
        yield lambda _settled, _kills, _recovered: None
    elif console.is_terminal:
        with _bar(console) as bar:
            yield _Bar(bar, flights)
    else:
        yield _Lines(flights)


def _bar(console: Console) -> Progress:
    columns = (
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} flights"),
        BarColumn(),
        TextColumn("{task.fields[kills]} kills, {task.fields[recovered]} recovered"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, auto_refresh=False)


class _Paced:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


class _Bar:
    def __init__(self, bar: Progress, flights: int) -> None:
        self._bar = bar
        self._flights = flights
        self._task = bar.add_task("flights", total=flights, kills=0, recovered=0)
        self._paced = _Paced(_BAR_SECONDS)

    def __call__(self, settled: int, kills: int, recovered: int) -> None:
        if self._paced.due() or settled == self._flights:
            self._bar.update(self._task, completed=settled, kills=kills, recovered=recovered, refresh=True)


class _Lines:
    def __init__(self, flights: int) -> None:
        self._flights = flights
        self._paced = _Paced(_LINE_SECONDS)

    def __call__(self, settled: int, kills: int, recovered: int) -> None:
        if self._paced.due():
            words = f"{settled:,} of {self._flights:,} flights, {kills} kills, {recovered} recovered"
            print(words, file=sys.stderr, flush=True)
