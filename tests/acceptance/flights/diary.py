"""What a worker has done, in a file that outlives it: all that its replacement knows of it, and all the parent sees.

One line for each fact, appended by one `write` system call. What was written so survives SIGKILL: the bytes are the
kernel's, not the process's. (They would not survive a power cut, which is not what happens here.)
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["begun", "announced", "written", "pending", "found", "again", "recovered"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One line."""

    kind: Kind
    flight: int
    at: float
    """Of a clock that all processes of this machine share and that never goes back."""
    detail: str
    """A stamp, or what was found."""


class Diary:
    """The writing end; safe for threads."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(self, kind: Kind, flight: int, detail: str = "-") -> None:
        line = f"{kind} {flight} {time.monotonic():.6f} {detail}\n"
        os.write(self._file, line.encode())


@dataclass
class Reading:
    """The reading end: takes in what was added since the last look. A line cut off by a kill is no fact."""

    path: Path
    _offset: int = 0
    begun: set[int] = field(default_factory=set)
    announced: set[int] = field(default_factory=set)
    settled: set[int] = field(default_factory=set)
    """Flights that need nothing more from a worker: acknowledged, pending, or found committed."""
    facts: list[Fact] = field(default_factory=list)

    def look(self) -> list[Fact]:
        """The new facts."""
        fresh = list(self._new())
        self.facts += fresh
        for fact in fresh:
            self._take(fact)
        return fresh

    @property
    def open(self) -> set[int]:
        """Begun, and nobody knows how it ended."""
        return self.begun - self.settled

    def _take(self, fact: Fact) -> None:
        if fact.kind == "begun":
            self.begun.add(fact.flight)
        elif fact.kind == "announced":
            self.announced.add(fact.flight)
        elif fact.kind in ("written", "pending", "found"):
            self.settled.add(fact.flight)

    def _new(self) -> Iterator[Fact]:
        if not self.path.exists() or self.path.stat().st_size == self._offset:
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode().splitlines():
            kind, flight, at, detail = line.split(" ")
            yield Fact(kind, int(flight), float(at), detail)  # type: ignore[arg-type]  # what `note` wrote
