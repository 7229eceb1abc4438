"""Record classes of the examples, and a way to put one into a table of a test's own."""

from __future__ import annotations

from types import new_class
from typing import TypeVar, cast

from reliable_write import Record

R = TypeVar("R", bound=Record)


def placed(kind: type[R], table: str) -> type[R]:
    """The class, for this table."""
    return cast("type[R]", new_class(kind.__name__, (kind,), {"table": table}))
