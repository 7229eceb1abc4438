"""Record classes of the examples, and a way to put one into a table of a test's own."""

from __future__ import annotations

from typing import TypeVar

from reliable_write import Record

R = TypeVar("R", bound=Record)


def placed(kind: type[R], table: str) -> type[R]:
    """The class, for this table."""
    made: type[R] = type(kind)(kind.__name__, (kind,), {"__module__": kind.__module__}, table=table)
    return made
