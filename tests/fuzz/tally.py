"""How many inputs each test tries, and the count of those it did.

`RELIABLE_WRITE_FUZZ` is the number of all of them together, about: 3,000 where nothing else is asked.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings

from tests.proof.ledger import VARIABLE, record

LEDGER = os.environ.get(VARIABLE, "")
"""Tests of settings and of command lines clear the environment."""
INPUTS = int(os.environ.get("RELIABLE_WRITE_FUZZ", "3000"))


def share(part: float) -> int:
    """How many inputs a test tries that is to have this part of all."""
    return max(25, round(INPUTS * part))


def tried(part: float, **more: Any) -> Callable[[Any], Any]:
    """Hypothesis's settings for a test with this part of all inputs."""
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    return settings(max_examples=share(part), deadline=None, suppress_health_check=checks, database=None, **more)


@contextmanager
def tally(what: str, *wanted: str) -> Iterator[Counter[str]]:
    """Count inputs and what came of them; at the end each outcome that is wanted must have come, or nothing was tried.

    An exception on the way is a violation and ends the test, so what gets to the ledger has none.
    """
    counts: Counter[str] = Counter()
    yield counts
    assert counts["inputs"], "nothing was tried"
    for name in wanted:
        assert counts[name], f"no input was ever {name}"
    came = {f"outcomes: {what} {name}": count for name, count in counts.items() if name != "inputs"}
    record("fuzz", {f"inputs: {what}": counts["inputs"], **came, "violations": 0}, place=LEDGER)
