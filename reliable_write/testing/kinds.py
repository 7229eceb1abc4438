"""The kinds of faults that `every_crash_point` tries at a call: each says when it strikes, and at which operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from reliable_write.testing.faults import (
    Call,
    Echo,
    Fault,
    InFlight,
    When,
    collide,
    crash,
    duplicate,
    lose_answer,
    lose_answer_on_the_way,
    refuse_connection,
    server_error,
    throttle,
)

_WRITES: Final = frozenset({"BatchWriteItem", "DeleteItem", "PutItem", "TransactWriteItems", "UpdateItem"})


@dataclass(slots=True)
class Meanwhile:
    """What goes on beside the run that is struck."""

    recover: Callable[[], object]
    """Let time pass and the monitor work, now."""
    landings: list[Callable[[], object]] = field(default_factory=list)
    """To be done after the run and a recovery: requests that arrive only then."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault. `Kind("denied", "before", lambda _: deny)` makes one of your own."""

    name: str
    when: When
    make: Callable[[Meanwhile], Fault] = field(repr=False)
    """Makes the fault, anew for each run."""
    operations: frozenset[str] | None = field(default=None, repr=False)
    """botocore's names of those it strikes; None: all."""

    def strikes(self, call: Call) -> bool:
        """Whether it can befall this call."""
        return self.operations is None or call.operation in self.operations


def _landing_later(meanwhile: Meanwhile) -> Fault:
    late = InFlight()
    meanwhile.landings.append(late.land)
    return late


def _arriving_again(meanwhile: Meanwhile) -> Fault:
    echo = Echo()
    meanwhile.landings.append(echo.land)
    return echo


def _stalled(meanwhile: Meanwhile) -> Fault:
    """A process that stands still and one in which the monitor works at this very place look alike to the tables."""

    def fault(_call: Call) -> None:
        meanwhile.recover()

    return fault


CRASH_BEFORE: Final = Kind("crash before", "before", lambda _: crash)
"""The process dies; the request was not sent."""
CRASH_AFTER: Final = Kind("crash after", "after", lambda _: crash)
"""The process dies; the request was applied."""
ERROR: Final = Kind("internal error at", "before", lambda _: server_error)
REFUSED_CONNECTION: Final = Kind("no connection for", "before", lambda _: refuse_connection)
THROTTLE: Final = Kind("throttling of", "before", lambda _: throttle)
CONFLICT: Final = Kind("transaction conflict at", "before", lambda _: collide, _WRITES - {"BatchWriteItem"})
LOST_REQUEST: Final = Kind("timeout of the unapplied", "before", lambda _: lose_answer)
LOST_ANSWER: Final = Kind("timeout of the applied", "before", lambda _: lose_answer_on_the_way)
LATE_LANDING: Final = Kind("timeout and late landing of", "before", _landing_later, _WRITES)
DUPLICATE: Final = Kind("double arrival of", "before", lambda _: duplicate, _WRITES)
LATE_DUPLICATE: Final = Kind("late second arrival of", "before", _arriving_again, _WRITES)
STALL: Final = Kind("a stall of the process at", "before", _stalled)
"""The process stands still until a monitor has taken over, and then goes on."""

CRASHES: Final = (CRASH_BEFORE, CRASH_AFTER)
EVERY_KIND: Final = (
    *CRASHES,
    *(ERROR, REFUSED_CONNECTION, THROTTLE, CONFLICT, LOST_REQUEST, LOST_ANSWER),
    *(LATE_LANDING, DUPLICATE, LATE_DUPLICATE, STALL),
)
