"""Processes of the storm: writers that are killed at any moment, and recoverers that race each other and them."""

from __future__ import annotations

import itertools
from collections import Counter
from multiprocessing.connection import Connection
from typing import Literal

from reliable_write import ReliableWriteScope
from tests.chaos.victims import Home

Word = Literal["begin", "done"]


def write_on(home: Home, tables: list[str], name: str, pipe: Connection) -> None:
    """Commit scope after scope, each under a mark of its own that is told before its commit and after it.

    Each also writes the hot item of every table, which all writers write.
    """
    with home.writer(home.client()) as writer:
        for number in itertools.count():
            mark = f"{name}-{number}"
            pipe.send(("begin", mark))
            with ReliableWriteScope(writer) as scope:
                for table in tables:
                    scope.put_items(table, [{"id": mark}, {"id": "hot", "value": mark}])
                scope.commit()
            pipe.send(("done", mark))


def recover_on(home: Home, pipe: Connection) -> None:
    """Recover everything again and again, entries of living writers included, until told to stop; tell the counts."""
    seen: Counter[str] = Counter()
    with home.writer(home.client()) as writer:
        while not pipe.poll():
            seen.update(report.resumed.value for report in writer.recovery.resume_all())
    pipe.send(seen)
