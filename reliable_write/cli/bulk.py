"""One deed on many writes: a few at once, at a chosen rate, each under the epoch that was reviewed.

The first Ctrl-C lets what is under way end and stops; so does a service that answers nothing any more. What was done,
what was too late and what remains is always known, and the rest can be taken up where it was left.
"""

from __future__ import annotations

import contextlib
import enum
import math
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol

from reliable_write import limits
from reliable_write.cli.desk import OUTER_THREADS, Desk
from reliable_write.cli.exits import ExitCode
from reliable_write.cli.plans import Plan, Reviewed
from reliable_write.clock import Deadline, TimeSource
from reliable_write.dynamodb import CallFailed
from reliable_write.entry import Entry, State
from reliable_write.errors import EntryNotFoundError, TooLateError, WriteRejectedError
from reliable_write.recovery import Resumed

ROUND_WRITES: Final = 2 * OUTER_THREADS
STEP_SECONDS: Final = 0.1
"""Longest sleep without a look at whether somebody pressed Ctrl-C."""
INTERRUPTED: Final = "interrupted"


class Ended(enum.StrEnum):
    """How a deed on one write ended."""

    DONE = "done"
    TOO_LATE = "too late"
    NOT_FOUND = "not found"
    REFUSED = "refused"
    """It cannot be done to this write, ever."""
    FAILED = "failed"
    """The service did not let us."""


@dataclass(frozen=True, slots=True)
class Result:
    """One write and how the deed on it ended."""

    write_id: str
    ended: Ended
    told: str = ""
    attempt: str | None = None
    """How the attempt made from here ended, where one was asked for."""
    epoch: int | None = None
    """The entry's, as the deed left it."""

    def facts(self) -> dict[str, Any]:
        """For `--json` and `--jsonl`."""
        return {"write_id": self.write_id, "result": self.ended.value, "told": self.told, "attempt": self.attempt}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a deed on many ended."""

    plan: Plan
    results: tuple[Result, ...]
    stopped: str = ""
    """Why it ended before its end: `INTERRUPTED`, or what the service said."""

    @property
    def remaining(self) -> tuple[Reviewed, ...]:
        """What was not begun, or failed for want of the service."""
        settled = {result.write_id for result in self.results if result.ended is not Ended.FAILED}
        return tuple(write for write in self.plan.writes if write.write_id not in settled)

    @property
    def counts(self) -> dict[str, int]:
        """By ending, all named."""
        found = Counter(result.ended for result in self.results)
        return {ended.value: found[ended] for ended in Ended}

    @property
    def exit_code(self) -> ExitCode:
        """DONE only if all was done; one cause for all of them has its own code."""
        endings = {result.ended for result in self.results}
        if not self.remaining and endings <= {Ended.DONE}:
            return ExitCode.DONE
        if len(endings) == 1 and not self.stopped:
            return _CODES.get(endings.pop(), ExitCode.PARTLY)
        if endings == {Ended.FAILED}:
            return ExitCode.SERVICE
        return ExitCode.PARTLY


_CODES: Final = {
    Ended.TOO_LATE: ExitCode.TOO_LATE,
    Ended.NOT_FOUND: ExitCode.NOT_FOUND,
    Ended.REFUSED: ExitCode.USAGE,
    Ended.FAILED: ExitCode.SERVICE,
}


class Pace:
    """At most so many writes a second, from the first one on."""

    def __init__(self, time: TimeSource, per_second: float | None) -> None:
        self._time = time
        self._per_second = per_second
        self._begun_seconds = time.elapsed_seconds()
        self._let_through = 0

    @property
    def round_writes(self) -> int:
        """How many may be begun together without running ahead by more than a second."""
        if self._per_second is None:
            return ROUND_WRITES
        return max(1, min(ROUND_WRITES, int(self._per_second)))

    def wait(self, count: int, stop: threading.Event) -> None:
        """Wait until `count` more are due, in small steps, so that a stop is heard."""
        if self._per_second is not None:
            due_seconds = self._begun_seconds + self._let_through / self._per_second
            while not stop.is_set() and (left := due_seconds - self._time.elapsed_seconds()) > 0:
                self._time.sleep(min(left, STEP_SECONDS))
        self._let_through += count


class Audience(Protocol):
    """Is told how far it is."""

    def begin(self, what: str, count: int) -> None:
        """A step over so many writes, or seconds, begins."""
        ...

    def step(self) -> None:
        """One more in this step, after which more is to be done."""
        ...

    def tell(self, result: Result) -> None:
        """One write has ended."""
        ...


def carry_out(
    desk: Desk, plan: Plan, operator: str, *, pace: Pace, stop: threading.Event, audience: Audience
) -> Outcome:
    """Do the plan's deed to its writes, in their order, until done or stopped."""
    work = _Work(desk, operator, pace, stop, audience)
    if plan.action != "discard":
        return work.do(plan)
    return work.discard(plan)


class _Work:
    def __init__(self, desk: Desk, operator: str, pace: Pace, stop: threading.Event, audience: Audience) -> None:
        self._desk = desk
        self._operator = operator
        self._pace = pace
        self._stop = stop
        self._audience = audience

    def do(self, plan: Plan) -> Outcome:
        self._audience.begin("set aside" if plan.preparing else plan.action, len(plan.writes))
        results: list[Result] = []
        size = self._pace.round_writes
        for begin in range(0, len(plan.writes), size):
            batch = plan.writes[begin : begin + size]
            self._pace.wait(len(batch), self._stop)
            if self._stop.is_set():
                return Outcome(plan, tuple(results), INTERRUPTED)
            ended = self._desk.outer.run_all([partial(_do, self._desk, plan, write, self._operator) for write in batch])
            for result in ended:
                if plan.preparing and result.ended is Ended.DONE:
                    self._audience.step()
                else:
                    self._audience.tell(result)
            results += ended
            if all(result.ended is Ended.FAILED for result in ended):
                return Outcome(plan, tuple(results), ended[-1].told)
        return Outcome(plan, tuple(results))

    def discard(self, plan: Plan) -> Outcome:
        """Pending ones are set aside first and the time of any attempt under way is awaited, once for all of them.

        `Operators.discard` does the same for a single write, and tells why.
        """
        pending = tuple(write for write in plan.writes if write.state == State.PENDING)
        aside = self._set_aside(plan, pending) if pending else Outcome(plan, ())
        epochs = {result.write_id: result.epoch for result in aside.results if result.ended is Ended.DONE}
        settled = {result.write_id: result for result in aside.results if result.ended is not Ended.DONE}
        plan = replace(plan, writes=tuple(_as_left(write, epochs) for write in plan.writes))
        goes = any(write.state == State.QUARANTINED and write.write_id not in settled for write in plan.writes)
        if goes and not aside.stopped:
            self._await_attempts()
        if aside.stopped or self._stop.is_set():
            return Outcome(plan, tuple(settled.values()), aside.stopped or INTERRUPTED)
        rest = self.do(replace(plan, writes=tuple(write for write in plan.writes if write.write_id not in settled)))
        return Outcome(plan, (*settled.values(), *rest.results), rest.stopped)

    def _set_aside(self, plan: Plan, pending: tuple[Reviewed, ...]) -> Outcome:
        reason = f"{plan.reason} (set aside before it is discarded)"
        return self.do(replace(plan, action="quarantine", reason=reason, writes=pending, preparing=True))

    def _await_attempts(self) -> None:
        """A lease, told second by second: nothing else is to be seen meanwhile."""
        seconds = math.ceil(limits.LEASE_SECONDS)
        self._audience.begin("wait for attempts to end, in s", seconds)
        over = Deadline.after(limits.LEASE_SECONDS, self._desk.engine.time)
        while not self._stop.is_set() and not over.passed():
            self._desk.engine.time.sleep(STEP_SECONDS)
            if over.remaining_seconds() < seconds - 1:
                self._audience.step()
                seconds -= 1


def _as_left(write: Reviewed, epochs: dict[str, int | None]) -> Reviewed:
    """The write as we left it, so that the second step, or a plan of what remains, goes on from there."""
    if write.write_id not in epochs:
        return write
    return replace(write, epoch=epochs[write.write_id], state=State.QUARANTINED.value)


def _do(desk: Desk, plan: Plan, write: Reviewed, operator: str) -> Result:
    deed = _deed(desk, plan, write, operator)
    try:
        left = deed()
    except TooLateError as error:
        return Result(write.write_id, Ended.TOO_LATE, error.message)
    except EntryNotFoundError as error:
        return Result(write.write_id, _gone(write), error.message)
    except WriteRejectedError as error:
        return Result(write.write_id, Ended.REFUSED, error.message)
    except CallFailed as failure:
        return Result(write.write_id, Ended.FAILED, _told(failure))
    if plan.action == "retry" and plan.attempt_now:
        return _attempt(desk, write.write_id)
    return Result(write.write_id, Ended.DONE, epoch=left.epoch if isinstance(left, Entry) else None)


def _gone(write: Reviewed) -> Ended:
    """What was there at review and is gone now was finished, or discarded, by somebody else."""
    return Ended.NOT_FOUND if write.epoch is None else Ended.TOO_LATE


def _told(failure: CallFailed) -> str:
    perhaps = "; it may have been done all the same" if failure.ambiguous else ""
    return f"{failure}{perhaps}"


def _deed(desk: Desk, plan: Plan, write: Reviewed, operator: str) -> Callable[[], object]:
    operators = desk.engine.operators
    common: dict[str, Any] = {"operator": operator, "reason": plan.reason, "seen_epoch": write.epoch}
    match plan.action:
        case "retry":
            return partial(operators.retry, write.write_id, **common)
        case "skip":
            return partial(operators.skip, write.write_id, plan.operations, **common)
        case "quarantine":
            return partial(operators.quarantine, write.write_id, **common)
        case "discard":
            return partial(operators.discard, write.write_id, **common, attempts_over=write.epoch is not None)
    raise AssertionError(plan.action)


def _attempt(desk: Desk, write_id: str) -> Result:
    """The attempt itself, with this person's own permissions."""
    try:
        report = desk.engine.recovery.resume(write_id)
    except EntryNotFoundError:
        return Result(write_id, Ended.DONE, "a monitor was quicker", Resumed.FINISHED.value)
    return Result(write_id, Ended.DONE, report.reason, report.resumed.value)


@contextlib.contextmanager
def stopped_by_ctrl_c(tell: Callable[[], None]) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, after which `tell` is called; a second one ends the process as ever."""
    stop = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def on_interrupt(_number: int, _frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)
        tell()

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
